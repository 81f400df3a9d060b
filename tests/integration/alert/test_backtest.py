"""A backtest by command over samples in a real Cassandra, beside evaluations as a DAG makes them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cassandra.concurrent import execute_concurrent_with_args

from airflow_provider_restrack import clock
from airflow_provider_restrack.alert.__main__ import main
from airflow_provider_restrack.alert.backtest_tables import build_data
from airflow_provider_restrack.alert.evaluate import to_ms
from airflow_provider_restrack.alert.fleet import evaluate_fleet
from airflow_provider_restrack.alert.observe import StoreReader
from airflow_provider_restrack.alert.records import Book
from airflow_provider_restrack.alert.rules import parse_rules
from airflow_provider_restrack.store.schema import TABLES, build_create_table
from airflow_provider_restrack.store.session import CassandraPolicy, open_session
from tests.unit.alert.fleet_fakes import carry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

pytestmark = pytest.mark.cassandra

RULES = [
    {
        "name": "cpu",
        "metric": "cpu_usage",
        "op": ">",
        "threshold": {"warning": 80, "critical": 90},
        "for": "10m",
    },
    {"name": "disk", "metric": "filesystem_usage", "op": ">", "threshold": 85, "clear_threshold": 80},
    {"name": "down", "metric": "up", "op": "==", "threshold": False, "severity": "critical"},
]
STEP = timedelta(minutes=2)
# 26 hours, over a midnight wherever they begin.
A: Sequence[float | None] = [
    *[50.0] * 200,
    *[95.0] * 60,
    *[85.0] * 40,
    *[None] * 60,
    *[50.0] * 200,
    *[99.0] * 220,
]
B: Sequence[float | None] = [*[70.0] * 600, *[85.0] * 180]


@pytest.fixture
def filled(cassandra_session: Any, keyspace: str) -> datetime:
    """Store the samples of two hosts and return the time of the first."""
    for table in TABLES:
        cassandra_session.execute(build_create_table(table, keyspace))
    start = clock.utc_now().replace(microsecond=0) - STEP * len(A)
    insert = cassandra_session.prepare(
        f"INSERT INTO {keyspace}.system_metrics (host, day, timestamp, cpu_usage, filesystem_usage, up) "
        "VALUES (?, ?, ?, ?, ?, ?)"
    )
    rows = [
        (
            host,
            (start + STEP * n).date(),
            start + STEP * n,
            value,
            {"/": 60.0 + n / 26, "/boot": 40.0},
            n != 550,
        )
        for host, values in (("db-1", A), ("web-1", B))
        for n, value in enumerate(values)
        if value is not None
    ]
    execute_concurrent_with_args(cassandra_session, insert, rows)
    for host in ("db-1", "web-1"):
        cassandra_session.execute(
            f"INSERT INTO {keyspace}.latest_metrics (host, timestamp) VALUES (%s, %s)",
            [host, clock.utc_now()],
        )
    return start


def evaluate_as_a_dag_does(
    address: tuple[str, int], keyspace: str, start: datetime, every: timedelta
) -> list[Any]:
    rules, book, found = parse_rules(RULES), Book(to_ms(start)), []
    with open_session(CassandraPolicy(contact_points=(address[0],), port=address[1])) as session:
        reader = StoreReader(session, keyspace)
        horizon, end = start, start + STEP * len(A)
        while horizon < end:
            horizon = min(horizon + every, end)
            evaluation = evaluate_fleet(rules, reader, None, book, to_ms(horizon))
            found += evaluation.transitions
            book = carry(book, evaluation)
    return sorted(found, key=lambda one: (one.at_ms, one.key))


def test_the_command_tells_what_a_dag_would_have_recorded_and_what_other_thresholds_would(
    cassandra_address: tuple[str, int],
    keyspace: str,
    filled: datetime,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recorded = evaluate_as_a_dag_does(cassandra_address, keyspace, filled, timedelta(minutes=35))
    host, port = cassandra_address
    rules, data, plot = tmp_path / "rules.yaml", tmp_path / "report.json", tmp_path / "plot.png"
    rules.write_text(json.dumps({"rules": RULES}))
    window = ["--from", (filled - STEP).isoformat(), "--to", (filled + STEP * len(A)).isoformat()]
    store = ["--contact-points", host, "--port", str(port), "--keyspace", keyspace]

    status = main(
        [
            "backtest",
            str(rules),
            *window,
            *store,
            "--thresholds",
            "cpu=60,97",
            "--json",
            str(data),
            "--plot",
            str(plot),
        ]
    )

    assert status == 0
    report = json.loads(data.read_text())
    told = [
        (one["rule"], one["host"], one["device"], one["kind"], one["alert_id"])
        for one in report["transitions"]
    ]
    assert told == [
        (one.key.rule, one.key.host, one.key.device or None, one.kind, str(one.alert_id)) for one in recorded
    ]
    assert {rule for rule, *_ in told} == {"cpu", "disk", "down"}
    cpu = report["rules"][0]
    assert [(one["threshold"], one["alerts"]) for one in cpu["thresholds"]] == [
        (60, 3),
        (80, 3),
        (90, 2),
        (97, 1),
    ]
    assert "cpu: with one threshold alone" in capsys.readouterr().out
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_one_rule_on_some_hosts_as_json_alone(
    cassandra_address: tuple[str, int],
    keyspace: str,
    filled: datetime,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    host, port = cassandra_address
    rules = tmp_path / "rules.yaml"
    rules.write_text(json.dumps({"rules": RULES}))
    arguments = ["--from", "30h", "--rule", "cpu", "--hosts", "web-*", "--thresholds", "none", "--json", "-"]

    status = main(
        [
            "backtest",
            str(rules),
            *arguments,
            "--contact-points",
            host,
            "--port",
            str(port),
            "--keyspace",
            keyspace,
        ]
    )

    report = json.loads(capsys.readouterr().out)
    assert status == 0
    assert report["hosts"] == ["web-1"]
    assert [rule["rule"]["name"] for rule in report["rules"]] == ["cpu"]
    assert report["rules"][0]["thresholds"] == []
    assert report["rules"][0]["alerts"] == 1


def test_a_table_that_is_not_there_is_2_and_says_so(
    cassandra_address: tuple[str, int], keyspace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host, port = cassandra_address
    rules = tmp_path / "rules.yaml"
    rules.write_text(json.dumps({"rules": RULES}))

    status = main(
        [
            "backtest",
            str(rules),
            "--from",
            "1h",
            "--contact-points",
            host,
            "--port",
            str(port),
            "--keyspace",
            keyspace,
        ]
    )

    assert status == 2
    assert f"{keyspace}.latest_metrics cannot be read" in capsys.readouterr().err


def test_the_functions_work_with_a_session_of_ones_own(
    cassandra_session: Any, keyspace: str, filled: datetime
) -> None:
    from airflow_provider_restrack.alert.backtest import backtest

    reader = StoreReader(cassandra_session, keyspace)

    report = backtest(parse_rules(RULES), reader, ["db-1"], filled, filled + STEP * 300)

    assert build_data(report)["rules"][0]["seconds"] == {"critical": (60 - 5) * 120.0, "warning": 40 * 120.0}
