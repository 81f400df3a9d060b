from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from cassandra.concurrent import execute_concurrent_with_args

from airflow_provider_restrack.alert.observe import StoreReader
from airflow_provider_restrack.store import read as module
from airflow_provider_restrack.store.read import (
    ReadFailedError,
    TableUnusableError,
    read_hosts,
    read_latest,
    read_many,
    read_samples,
)
from airflow_provider_restrack.store.schema import (
    FIELDS,
    LATEST_METRICS,
    SYSTEM_METRICS,
    TABLES,
    build_create_table,
)
from airflow_provider_restrack.store.session import CassandraPolicy, open_session

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.cassandra

MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
VALUES: dict[str, Any] = {
    "text": "ok",
    "double": 12.5,
    "int": 2**31 - 1,
    "bigint": 2**53 + 1,
    "boolean": False,
    "uuid": uuid.UUID(int=7),
    "map<text,text>": {"role": "db", "b": ""},
    "map<text,double>": {"/": 91.25, "/var": 0.0},
    "list<double>": [1.0, 0.0, 99.5],
}


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


def _insert(session: Any, table: str, row: dict[str, Any]) -> None:
    marks = ", ".join("?" for _ in row)
    session.execute(
        session.prepare(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})"), list(row.values())
    )


def _sample(session: Any, keyspace: str, host: str, moment: datetime, **values: Any) -> None:
    row = {"host": host, "day": moment.date(), "timestamp": moment, **values}
    _insert(session, f"{keyspace}.{SYSTEM_METRICS.name}", row)


def _full_row(moment: datetime) -> dict[str, Any]:
    row = {field.name: VALUES.get(field.type) for field in FIELDS}
    return {**row, "host": "db-1", "timestamp": moment, "day": moment.date()}


def _same_row_in_plain_python(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "id": str(row["id"])}


def test_every_type_of_the_schema_comes_back_as_plain_python(session: Any, tables: str) -> None:
    moment = MIDNIGHT + timedelta(hours=1, milliseconds=123)
    row = _full_row(moment)
    assert None not in row.values()
    _insert(session, f"{tables}.{SYSTEM_METRICS.name}", row)
    _insert(session, f"{tables}.{LATEST_METRICS.name}", row)
    (found,) = read_samples(session, tables, "db-1", moment, moment, row)
    (latest,) = read_latest(session, tables)
    assert found == _same_row_in_plain_python(row)
    assert latest == _same_row_in_plain_python(row)
    plain = {str, float, int, bool, dict, list, datetime, date}
    assert {type(value) for value in found.values()} == {type(value) for value in latest.values()} == plain
    assert found["timestamp"].tzinfo is UTC


def test_window_over_midnight_is_read_from_both_days_oldest_first(session: Any, tables: str) -> None:
    moments = [MIDNIGHT + timedelta(minutes=5 * step) for step in range(-3, 4)]
    for step, moment in enumerate(moments):
        _sample(session, tables, "db-1", moment, cpu_usage=float(step))
    found = read_samples(session, tables, "db-1", moments[1], moments[-2], ["cpu_usage"])
    assert found == [
        {"timestamp": moment, "cpu_usage": float(step)} for step, moment in list(enumerate(moments))[1:-1]
    ]


def test_unset_values_are_none_and_other_hosts_stay_out(session: Any, tables: str) -> None:
    _sample(session, tables, "db-1", MIDNIGHT, up=False, error="no route")
    _sample(session, tables, "db-2", MIDNIGHT, up=True)
    found = read_samples(
        session, tables, "db-1", MIDNIGHT, MIDNIGHT, ["up", "cpu_usage", "labels", "id", "error"]
    )
    assert found == [
        {
            "timestamp": MIDNIGHT,
            "up": False,
            "cpu_usage": None,
            "labels": None,
            "id": None,
            "error": "no route",
        }
    ]


def test_many_hosts_are_read_at_once_and_each_has_its_own_rows(
    session: Any, tables: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE_ROWS", 7)  # so that a partition takes several pages
    hosts = [f"web-{number}" for number in range(20)]
    moments = [MIDNIGHT + timedelta(minutes=step) for step in range(-10, 10)]
    for number, host in enumerate(hosts):
        for moment in moments:
            _sample(session, tables, host, moment, process_count=number)
    found = read_many(session, tables, [*hosts, "absent"], moments[0], moments[-1], ["host", "process_count"])
    assert found == {
        "absent": [],
        **{
            host: [{"timestamp": moment, "host": host, "process_count": number} for moment in moments]
            for number, host in enumerate(hosts)
        },
    }


def test_latest_rows_are_all_hosts_or_the_given_ones(session: Any, tables: str) -> None:
    for host in ("b", "a", "c"):
        _insert(session, f"{tables}.{LATEST_METRICS.name}", {"host": host, "timestamp": MIDNIGHT, "up": True})
    assert read_hosts(session, tables) == ["a", "b", "c"]
    assert [row["host"] for row in read_latest(session, tables)] == ["a", "b", "c"]
    chosen = read_latest(session, tables, ["c", "missing", "a", "a"])
    assert [(row["host"], row["up"], row["cpu_usage"]) for row in chosen] == [
        ("a", True, None),
        ("c", True, None),
    ]
    assert read_latest(session, tables, []) == []


def test_a_large_fleet_that_is_down_is_still_listed(session: Any, tables: str) -> None:
    """Every field that a newest sample lacks is a tombstone, and Cassandra fails a page of too many."""
    row = {**dict.fromkeys(field.name for field in FIELDS), "timestamp": MIDNIGHT, "up": False}
    table = f"{tables}.{LATEST_METRICS.name}"
    marks = ", ".join("?" for _ in row)
    insert = session.prepare(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})")
    hosts = [f"web-{number:04}" for number in range(1700)]
    rows = [list({**row, "host": host}.values()) for host in hosts]
    execute_concurrent_with_args(session, insert, rows, concurrency=64)
    assert read_hosts(session, tables) == hosts
    assert [latest["host"] for latest in read_latest(session, tables)] == hosts


def test_without_the_default_partitioner_all_hosts_are_found_in_one_scan(session: Any, tables: str) -> None:
    for number in range(70):
        row = {"host": f"web-{number:02}", "timestamp": MIDNIGHT, "up": True}
        _insert(session, f"{tables}.{LATEST_METRICS.name}", row)
    other = CountingSession(session)
    other.cluster = SimpleNamespace(metadata=SimpleNamespace(partitioner="org.apache.RandomPartitioner"))

    assert read_hosts(other, tables) == read_hosts(session, tables) == [f"web-{n:02}" for n in range(70)]
    assert other.prepared == [f"SELECT host FROM {tables}.latest_metrics"]


class CountingSession:
    """A real session that records what is prepared."""

    def __init__(self, session: Any) -> None:
        self.session, self.cluster = session, session.cluster
        self.prepared: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def prepare(self, cql: str) -> Any:
        self.prepared.append(cql)
        return self.session.prepare(cql)


def test_rules_prepare_a_read_once_a_session(session: Any, tables: str) -> None:
    _sample(session, tables, "db-1", MIDNIGHT, up=True)
    counting = CountingSession(session)
    reader = StoreReader(counting, tables)
    for _ in range(3):
        (rows,) = reader.fetch(["db-1"], MIDNIGHT, MIDNIGHT, ("up",)).values()
        assert list(rows) == [{"timestamp": MIDNIGHT, "up": True}]
    assert len(counting.prepared) == 1


def test_columns_of_the_user_s_own_are_not_returned(session: Any, tables: str) -> None:
    session.execute(f"ALTER TABLE {tables}.{LATEST_METRICS.name} ADD rack text")
    _insert(session, f"{tables}.{LATEST_METRICS.name}", {"host": "a", "rack": "r1", "up": True})
    (row,) = read_latest(session, tables)
    assert set(row) == {field.name for field in FIELDS}


def test_table_of_an_older_version_still_gives_its_latest_rows(session: Any, tables: str) -> None:
    session.execute(f"ALTER TABLE {tables}.{LATEST_METRICS.name} DROP pressure_io")
    _insert(session, f"{tables}.{LATEST_METRICS.name}", {"host": "a", "up": True})
    (row,) = read_latest(session, tables)
    assert row["up"] is True
    assert "pressure_io" not in row


def test_missing_table_is_named_with_the_operator_that_makes_it(session: Any, keyspace: str) -> None:
    for read in (
        lambda: read_hosts(session, keyspace),
        lambda: read_latest(session, keyspace),
        lambda: read_samples(session, keyspace, "a", MIDNIGHT, MIDNIGHT, ["up"]),
    ):
        with pytest.raises(
            TableUnusableError, match=rf"^{keyspace}\.\w+ cannot be read: .*ProvisionOperator"
        ):
            read()


def test_missing_column_is_named(session: Any, tables: str) -> None:
    session.execute(f"ALTER TABLE {tables}.{SYSTEM_METRICS.name} DROP pressure_io")
    with pytest.raises(TableUnusableError, match=r"pressure_io.*add_missing_columns=True"):
        read_samples(session, tables, "a", MIDNIGHT, MIDNIGHT, ["pressure_io"])


def test_consistency_that_the_nodes_cannot_give_is_a_failed_read(
    cassandra_address: tuple[str, int], tables: str
) -> None:
    host, port = cassandra_address
    policy = CassandraPolicy(contact_points=(host,), port=port, consistency="THREE")
    with (
        open_session(policy) as demanding,
        pytest.raises(ReadFailedError, match=f"Reading {tables}.latest_metrics"),
    ):
        read_latest(demanding, tables)
