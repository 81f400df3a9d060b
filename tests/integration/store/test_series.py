"""Samples read as columns from a real Cassandra are those that are read as rows."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cassandra.concurrent import execute_concurrent_with_args

from airflow_provider_restrack.alert.evaluate import build_series
from airflow_provider_restrack.alert.observe import StoreReader
from airflow_provider_restrack.alert.rules import parse_rules
from airflow_provider_restrack.store import read as module
from airflow_provider_restrack.store.read import ReadFailedError, TableUnusableError, read_latest, read_many
from airflow_provider_restrack.store.schema import FIELDS, SYSTEM_METRICS, TABLES, build_create_table
from airflow_provider_restrack.store.series import SampleColumns, SeriesRead, open_read
from airflow_provider_restrack.store.session import CassandraPolicy, open_session

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.cassandra

MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
SINCE, UNTIL = MIDNIGHT - timedelta(minutes=10), MIDNIGHT + timedelta(minutes=10)
# All that a rule can need.
COLUMNS = (*(field.name for field in FIELDS if field.is_metric), "labels", "error")


@pytest.fixture
def session(cassandra_address: tuple[str, int]) -> Iterator[Any]:
    host, port = cassandra_address
    with open_session(CassandraPolicy(contact_points=(host,), port=port)) as opened:
        yield opened


@pytest.fixture
def tables(session: Any, keyspace: str) -> str:
    for table in TABLES:
        session.execute(build_create_table(table, keyspace))
    return keyspace


def make_value(chance: random.Random, kind: str) -> Any:
    """Return a value of a column, or None."""
    if chance.random() < 0.1:
        return None
    makers: dict[str, Any] = {
        "double": lambda: chance.choice([chance.random() * 100, float("nan"), float("inf"), -0.0]),
        "int": lambda: chance.randrange(-(2**31), 2**31),
        "bigint": lambda: chance.randrange(-(2**63), 2**63),
        "boolean": lambda: chance.random() < 0.5,
        "text": lambda: chance.choice(["", "no route", "é"]),
        "map<text,double>": lambda: {name: chance.random() for name in chance.choice([["/"], ["/", "/é"]])},
        "map<text,text>": lambda: {"role": chance.choice(["db", "web"])},
    }
    return makers[kind]()


def fill(session: Any, keyspace: str, hosts: list[str], *, regular: bool) -> None:
    """Write samples of both days; ``regular`` ones lack nothing and have no texts that change."""
    chance = random.Random(7)
    kinds = {field.name: field.type for field in FIELDS}
    names = ("host", "day", "timestamp", *COLUMNS)
    constant = {name: make_value(random.Random(n + 3), kinds[name]) for n, name in enumerate(COLUMNS)}
    rows = []
    for host in hosts:
        for minute in range(-10, 11):
            moment = MIDNIGHT + timedelta(minutes=minute)
            values = constant if regular else {name: make_value(chance, kinds[name]) for name in COLUMNS}
            rows.append((host, moment.date(), moment, *(values[name] for name in COLUMNS)))
    table, marks = f"{keyspace}.{SYSTEM_METRICS.name}", ", ".join("?" for _ in names)
    insert = session.prepare(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})")
    execute_concurrent_with_args(session, insert, rows)


@pytest.mark.parametrize("regular", [True, False])
@pytest.mark.parametrize("page_rows", [4, 2000])
def test_columns_are_the_rows_over_midnight_and_pages(
    session: Any, tables: str, monkeypatch: pytest.MonkeyPatch, page_rows: int, regular: bool
) -> None:
    monkeypatch.setattr(module, "PAGE_ROWS", page_rows)
    hosts = [f"db-{number}" for number in range(20)]
    fill(session, tables, hosts, regular=regular)
    rows = read_many(session, tables, [*hosts, "absent"], SINCE, UNTIL, COLUMNS)
    read = open_read(session, tables, COLUMNS)
    assert isinstance(read, SeriesRead)

    found = read.run([*hosts, "absent"], SINCE, UNTIL)

    assert list(found) == [*hosts, "absent"]
    assert [len(found[host]) for host in found] == [21] * 20 + [0]
    assert repr({host: list(one) for host, one in found.items()}) == repr(rows)


def test_series_of_rules_are_the_same_and_of_the_columns_they_use(session: Any, tables: str) -> None:
    fill(session, tables, ["db-1"], regular=False)
    reader = StoreReader(session, tables)
    for metric in ("cpu_usage", "filesystem_usage", "up", "memory_total", "load_5m / cpu_count"):
        (rule,) = parse_rules(
            {"name": "r", "metric": metric, "op": "==", "threshold": metric != "up" and 1, "for": "1m"}
        )
        (columns,) = reader.fetch(["db-1"], SINCE, UNTIL, rule.columns).values()
        rows = read_many(session, tables, ["db-1"], SINCE, UNTIL, rule.columns)["db-1"]
        assert isinstance(columns, SampleColumns)
        assert columns.names == rule.columns
        assert build_series(rule, "db-1", columns, UNTIL) == build_series(rule, "db-1", rows, UNTIL)


def test_other_statements_of_the_session_return_rows_as_before(session: Any, tables: str) -> None:
    fill(session, tables, ["db-1"], regular=True)
    open_read(session, tables, ["up"]).run(["db-1"], SINCE, UNTIL)
    (row,) = session.execute(f"SELECT count(*) AS samples FROM {tables}.system_metrics")
    assert row.samples == 21


def test_newest_samples_have_the_columns_that_are_wanted(session: Any, tables: str) -> None:
    for host, cpu in (("a", 1.5), ("b", None)):
        session.execute(
            f"INSERT INTO {tables}.latest_metrics (host, timestamp, cpu_usage, up) VALUES (%s, %s, %s, true)",
            (host, MIDNIGHT, cpu),
        )
    reader = StoreReader(session, tables)
    expected = {
        host: {"host": host, "timestamp": MIDNIGHT, "cpu_usage": cpu}
        for host, cpu in (("a", 1.5), ("b", None))
    }
    assert reader.fetch_newest(None, ["cpu_usage"]) == expected
    assert reader.fetch_newest(["b", "absent"], ["cpu_usage"]) == {"b": expected["b"]}
    with pytest.raises(ValueError, match="no field of a sample: 'cpu'"):
        read_latest(session, tables, None, ["cpu"])


def test_what_cannot_be_read_is_said_as_for_rows(session: Any, keyspace: str) -> None:
    with pytest.raises(TableUnusableError, match=rf"^{keyspace}\.\w+ cannot be read: .*ProvisionOperator"):
        open_read(session, keyspace, ["up"])


def test_nodes_that_do_not_answer_fail_the_read(cassandra_address: tuple[str, int], tables: str) -> None:
    host, port = cassandra_address
    policy = CassandraPolicy(contact_points=(host,), port=port, consistency="THREE")
    with open_session(policy) as demanding:
        read = open_read(demanding, tables, ["up"])
        with pytest.raises(ReadFailedError, match=f"Reading {tables}.system_metrics failed"):
            read.run(["db-1"], SINCE, UNTIL)
