"""Rules over samples and forecasts of a real Cassandra."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_restrack.alert.evaluate import to_ms
from airflow_provider_restrack.alert.observe import StoreReader, observe
from airflow_provider_restrack.alert.rules import parse_rules
from airflow_provider_restrack.alert.time_to_limit import DaysToLimit
from airflow_provider_restrack.store.forecasts import FORECASTS, MAX_AGE, write_forecasts
from airflow_provider_restrack.store.schema import LATEST_METRICS, SYSTEM_METRICS, build_create_table

pytestmark = pytest.mark.cassandra

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
MADE = NOW - timedelta(hours=12)


@pytest.fixture
def reader(cassandra_session: Any, keyspace: str) -> StoreReader:
    for table in (FORECASTS, SYSTEM_METRICS, LATEST_METRICS):
        cassandra_session.execute(build_create_table(table, keyspace))
    return StoreReader(cassandra_session, keyspace)


def forecast(host: str, device: str, days: float | None, **changes: Any) -> dict[str, Any]:
    row = dict.fromkeys(FORECASTS.columns) | {"host": host, "metric": "filesystem_usage", "device": device}
    row |= {"as_of": MADE, "verdict": "filling" if days is not None else "flat", "days_likely": days}
    return row | {"limit": 100.0} | changes


def test_days_to_the_limit_come_from_forecasts_that_are_new_enough(
    reader: StoreReader, cassandra_session: Any, keyspace: str
) -> None:
    rows = [
        forecast("a", "/", 7.25),
        forecast("a", "/flat", None),
        forecast("a", "/full", None, verdict="already over"),
        forecast("a", "/new", None, verdict="insufficient data"),
        forecast("b", "/", 2.0),
        forecast("c", "/", 2.0, as_of=NOW - MAX_AGE - timedelta(minutes=1)),
        forecast("a", "", 3.0, metric="memory_usage"),
    ]
    write_forecasts(cassandra_session, keyspace, rows, NOW)
    made = to_ms(MADE)

    assert reader.fetch_days_to_limit(["filesystem_usage", "memory_usage"], ["a", "c"], NOW) == {
        ("filesystem_usage", "a"): [
            DaysToLimit("a", "/", made, 7.25),
            DaysToLimit("a", "/flat", made, math.inf),
            DaysToLimit("a", "/full", made, 0.0),
        ],
        ("memory_usage", "a"): [DaysToLimit("a", None, made, 3.0)],
    }


def test_samples_and_forecasts_are_observed_together(
    reader: StoreReader, cassandra_session: Any, keyspace: str
) -> None:
    write_forecasts(cassandra_session, keyspace, [forecast("a", "/", 7.25), forecast("b", "/", 9.0)], NOW)
    for minute in range(20):
        time = NOW - timedelta(minutes=minute)
        cassandra_session.execute(
            f"INSERT INTO {keyspace}.system_metrics (host, day, timestamp, load_5m, cpu_count) "
            "VALUES (%s, %s, %s, %s, %s)",
            ("b", time.date(), time, 9.0, 2),
        )
    rules = parse_rules(
        [
            {"preset": "disk_filling"},
            {"name": "load", "metric": "load_5m / cpu_count", "op": ">", "threshold": 4, "for": "10m"},
        ]
    )

    found = observe(rules, reader, ["a", "b"], NOW).breaches

    assert [(one.rule.name, one.host, one.device) for one in found] == [
        ("disk_filling", "a", "/"),
        ("load", "b", None),
    ]
    assert found[0].since == MADE + timedelta(hours=7)
    assert found[1].values[-1] == 4.5
