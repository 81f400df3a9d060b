"""Forecasts and daily rollups in a real Cassandra: written, read back, written again; and the operator
over both.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_restrack.capacity.daily import StoreDailyReader
from airflow_provider_restrack.capacity.forecast import DailyRow, Forecast
from airflow_provider_restrack.operators.forecast import ForecastOperator
from airflow_provider_restrack.store.forecasts import (
    FORECASTS,
    read_forecasts,
    read_time_to_limit,
    write_forecasts,
)
from airflow_provider_restrack.store.provision import KeyspaceSpec, plan_store, read_state
from airflow_provider_restrack.store.schema import LATEST_METRICS, build_create_table
from airflow_provider_restrack.store.session import CassandraError
from airflow_provider_restrack.store.tiers import TIER_BY_NAME

pytestmark = pytest.mark.cassandra

AS_OF = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
METRIC = "filesystem_usage"
TABLE = TIER_BY_NAME["1d"].table_name
AGGREGATE = "count int, min double, max double, sum double, last double, p95 double"


@pytest.fixture
def table(cassandra_session: Any, keyspace: str) -> str:
    cassandra_session.execute(build_create_table(FORECASTS, keyspace))
    return keyspace


def make(host: str = "a", device: str | None = "/", **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "as_of": AS_OF,
        "limit": 100.0,
        "verdict": "filling",
        "current": 80.0,
        "slope": 1.0,
        "slope_low": 0.9,
        "slope_high": 1.1,
        "days_early": 18.0,
        "days_likely": 20.0,
        "days_late": 22.0,
        "n": 40,
        "span_days": 41,
        "coverage": 0.97,
        "since": date(2026, 1, 5),
        "season": True,
        "backtest_7d": -0.4,
        "backtest_14d": None,
        **changes,
    }
    return asdict(Forecast(host, METRIC, device, **values))


def test_what_is_written_is_read_back_and_writing_it_again_changes_nothing(
    cassandra_session: Any, table: str
) -> None:
    forecasts = [make(), make(device="/var"), make(host="b", device=None)]

    for _ in range(2):
        assert write_forecasts(cassandra_session, table, forecasts, AS_OF + timedelta(minutes=1)) == 3
        assert read_forecasts(cassandra_session, table, [METRIC]) == forecasts


def test_a_new_verdict_takes_the_old_date_away(cassandra_session: Any, table: str) -> None:
    write_forecasts(cassandra_session, table, [make()], AS_OF)
    flat = make(verdict="flat", days_early=None, days_likely=None, days_late=None)

    write_forecasts(cassandra_session, table, [flat], AS_OF + timedelta(seconds=4))

    assert read_forecasts(cassandra_session, table, [METRIC]) == [flat]


def test_a_backfill_of_the_past_does_not_replace_the_present(cassandra_session: Any, table: str) -> None:
    past = make(as_of=AS_OF - timedelta(days=7), days_likely=None, current=3.0)
    write_forecasts(cassandra_session, table, [make()], AS_OF)

    write_forecasts(cassandra_session, table, [past], AS_OF + timedelta(days=1))

    assert read_forecasts(cassandra_session, table, [METRIC]) == [make()]


def test_time_to_limit_of_some_hosts_is_one_read_of_plain_values(cassandra_session: Any, table: str) -> None:
    rows = [
        make(),
        make(host="b", verdict="flat", days_likely=None),
        make(host="c", verdict="already over", days_likely=None),
        make(host="old", as_of=AS_OF - timedelta(days=9)),
        make(host="other"),
    ]
    write_forecasts(cassandra_session, table, rows, AS_OF)

    found = read_time_to_limit(
        cassandra_session, table, [METRIC, "memory_usage"], AS_OF + timedelta(days=5), ["a", "b", "c", "old"]
    )

    assert found == {("a", METRIC, "/"): 15.0, ("b", METRIC, "/"): None, ("c", METRIC, "/"): 0.0}


def test_a_missing_table_is_named_with_its_remedy(cassandra_session: Any, keyspace: str) -> None:
    with pytest.raises(CassandraError, match=r"forecasts cannot be read.*ProvisionOperator"):
        read_forecasts(cassandra_session, keyspace, [METRIC])
    with pytest.raises(CassandraError, match=r"forecasts cannot be written.*ProvisionOperator"):
        write_forecasts(cassandra_session, keyspace, [make()], AS_OF)


def test_provision_finds_the_table_as_it_is_wanted(cassandra_session: Any, table: str) -> None:
    spec = KeyspaceSpec(table, {"datacenter1": 1})

    plan = plan_store(spec, [FORECASTS], read_state(cassandra_session, table, timeout_s=30))

    assert (plan.differences, plan.steps, plan.notes) == ((), (), ())


@pytest.fixture
def rollups(cassandra_session: Any, table: str) -> str:
    """Forty days of a host that fills a disk at 1 % a day, up to 80 %."""
    session = cassandra_session
    session.execute(build_create_table(LATEST_METRICS, table))
    session.execute(f"CREATE TYPE {table}.aggregate ({AGGREGATE})")
    session.execute(
        f"CREATE TABLE {table}.{TABLE} (host text, period text, timestamp timestamp,"
        f" filesystem_usage frozen<map<text,frozen<aggregate>>>, memory_usage frozen<aggregate>,"
        " PRIMARY KEY ((host, period), timestamp))"
    )
    session.execute(f"INSERT INTO {table}.latest_metrics (host) VALUES ('a')")
    for n in range(40):
        day = AS_OF - timedelta(days=n + 1)
        one = f"{{count: 100, min: 0, max: {80 - n + n % 2 / 10}, sum: 100, last: 1, p95: 50}}"
        session.execute(
            f"INSERT INTO {table}.{TABLE} (host, period, timestamp, filesystem_usage, memory_usage) VALUES"
            f" ('a', '{day.year}', %s, {{'/': {one}}}, {one})",
            [day],
        )
    return table


def test_daily_rollups_are_read_over_years_and_within_their_days(
    cassandra_session: Any, rollups: str
) -> None:
    until, since = (AS_OF - timedelta(days=2)).date(), (AS_OF - timedelta(days=30)).date()

    reader = StoreDailyReader(cassandra_session, rollups)
    found = list(reader.read_daily(["a", "unknown"], [METRIC, "memory_usage"], since, until))

    assert [tuple(key) for key, _ in found] == [("a", METRIC, "/"), ("a", "memory_usage", None)]
    for _, rows in found:
        assert (len(rows), rows[0].day, rows[-1].day) == (29, since, until)
        assert rows[-1] == DailyRow(until, 100, 0.0, 79.1, 100.0, 1.0, 50.0)


def test_a_missing_table_of_rollups_is_named_with_its_remedy(cassandra_session: Any, keyspace: str) -> None:
    with pytest.raises(CassandraError, match=rf"{TABLE} cannot be used.*ProvisionOperator"):
        list(StoreDailyReader(cassandra_session, keyspace).read_daily(["a"], [METRIC], AS_OF, AS_OF))


def test_the_operator_forecasts_what_is_in_the_store(
    cassandra_session: Any,
    cassandra_address: tuple[str, int],
    rollups: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host, port = cassandra_address
    value = json.dumps({"conn_type": "cassandra", "host": host, "port": port})
    monkeypatch.setenv("AIRFLOW_CONN_CASSANDRA_DEFAULT", value)
    operator = ForecastOperator(task_id="forecast", metrics=[METRIC, "memory_usage"], keyspace=rollups)
    context: Any = {"data_interval_end": AS_OF}

    first, second = operator.execute(context), operator.execute(context)

    assert first == second
    assert first["verdicts"] == {"filling": 1, "flat": 1}
    (near,) = first["forecasts"]
    assert (near["host"], near["device"], near["verdict"]) == ("a", "/", "filling")
    assert near["days_likely"] == pytest.approx(20, abs=1)
    stored = read_forecasts(cassandra_session, rollups, [METRIC, "memory_usage"])
    assert [row["verdict"] for row in stored] == ["filling", "flat"]
