from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from cassandra import InvalidRequest, OperationTimedOut, Unauthorized
from cassandra.cluster import NoHostAvailable
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.load.errors import ConfigurationError, RejectError, StoreError
from airflow_provider_restrack.load.policy import LoadPolicy
from airflow_provider_restrack.load.rows import RowMaker, build_row_maker, remaining_ttl
from tests.unit.load.fakes import FakeMessage, columns_of, prepare, record

COLUMNS = columns_of({"k": "text", "v": "int"}, ["k"])
POLICY = LoadPolicy(topics=["t"], tables=["ks.t"], timestamp_field="made", max_ahead=None)
SECOND = 1_000_000


class FakeSession:
    def execute(self, _query: str, arguments: tuple[str, str]) -> list[Any]:
        if arguments[1] == "missing":
            return []
        kinds = {"k": "partition_key", "v": "regular"}
        return [
            SimpleNamespace(column_name=one.name, kind=kinds[one.name], position=0, type=one.cql.name)
            for one in COLUMNS
        ]

    def prepare(self, query: str) -> Any:
        return prepare(COLUMNS, with_ttl="TTL" in query)


class Given:
    """A format that finds the given rows in every record."""

    name = "given"

    def __init__(self, *rows: dict[str, Any]) -> None:
        self.rows = list(rows)

    def parse(self, value: bytes, record: Any) -> list[dict[str, Any]]:
        return self.rows


def maker(record_format: Any = None, **changes: Any) -> RowMaker:
    return build_row_maker(replace(POLICY, **changes), FakeSession(), record_format)


def test_a_record_becomes_a_row_of_each_table_at_the_time_of_its_field() -> None:
    rows = maker(tables=["ks.t", "ks.u"]).make(record(k="a", v=1, made=5), 0)

    assert rows is not None
    assert [row.write_us for row in rows] == [5000, 5000]
    assert [row.primary_key for row in rows] == [(b"a",), (b"a",)]


def test_without_the_field_the_row_is_written_at_kafkas_time() -> None:
    [row] = maker().make(record(k="a"), 0) or []

    assert row.write_us == 1_700_000_000_000_000


def test_a_record_without_any_time_is_rejected() -> None:
    with pytest.raises(RejectError, match="neither the record nor Kafka"):
        maker().make(FakeMessage(b'{"k": "a"}', moment=(0, -1)), 0)


def test_an_expired_record_has_no_row_and_a_fresh_one_the_rest_of_its_time() -> None:
    made = maker(ttl=60)

    assert made.make(record(k="a", made=0), 60 * SECOND) is None
    [row] = made.make(record(k="a", made=0), 45 * SECOND) or []
    assert row.statement.values[-1] == (15).to_bytes(4, "big")


def test_a_record_from_the_far_future_is_rejected() -> None:
    made = maker(max_ahead=60)

    assert made.make(record(k="a", made=60_000), 0)
    with pytest.raises(RejectError, match=r"'made', .* is 60001000 µs .* 60 s ahead .* max_ahead is 60 s"):
        made.make(record(k="a", made=60_001), 0)
    with pytest.raises(RejectError, match="max_ahead"):
        made.make(record(k="a"), 0)  # Kafka's time


@given(st.integers(1, 10**6), st.integers(0, 10**13), st.integers(0, 10**13))
def test_no_row_outlives_its_retention_and_none_is_cut_by_more_than_a_second(
    retention: int, write_us: int, now_us: int
) -> None:
    left = remaining_ttl(retention, write_us, now_us)

    assert left <= retention
    assert now_us + left * SECOND <= max(write_us, now_us) + retention * SECOND
    if write_us <= now_us:
        assert now_us + (left + 1) * SECOND > write_us + retention * SECOND


def test_a_missing_table_and_an_unknown_column_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"ks\.missing does not exist"):
        maker(tables=["ks.missing"])
    with pytest.raises(ConfigurationError, match="'w', which is no column"):
        maker(columns={"w": "v"})


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidRequest("Cannot directly modify a materialized view"), ConfigurationError),
        (Unauthorized("no MODIFY permission on <table ks.t>"), ConfigurationError),
        (OperationTimedOut(), StoreError),
        (NoHostAvailable("down", {}), StoreError),
    ],
    ids=lambda one: one.__name__ if isinstance(one, type) else type(one).__name__,
)
@pytest.mark.parametrize(
    ("question", "words"), [("execute", "read the columns"), ("prepare", "prepare the writes")]
)
def test_what_fails_before_the_first_record_names_connection_and_table(
    error: Exception, kind: type[Exception], question: str, words: str
) -> None:
    class Failing(FakeSession):
        pass

    def fail(*_arguments: Any) -> Any:
        raise error

    setattr(Failing, question, fail)

    with pytest.raises(kind, match=rf"'my_cassandra'\) was asked to {words} (of|to) ks\.t and .*{error}"):
        build_row_maker(replace(POLICY, cassandra_connection="my_cassandra"), Failing())


def test_a_format_gives_any_number_of_rows_a_record_each_with_its_time() -> None:
    message = FakeMessage(b"any")
    made = maker(Given({"k": "a", "v": 1, "made": 5}, {"k": "b"}), tables=["ks.t", "ks.u"]).make_all(
        message, 0
    )

    assert [[row.write_us for row in rows or []] for rows in made] == [
        [5000, 5000],
        [1_700_000_000_000_000, 1_700_000_000_000_000],
    ]
    assert [[row.primary_key for row in rows or []] for rows in made] == [[(b"a",)] * 2, [(b"b",)] * 2]
    assert all(row.record is message for rows in made for row in rows or [])
    assert maker(Given()).make_all(message, 0) == []


def test_without_a_format_all_is_the_one_row_of_the_json() -> None:
    [rows] = maker().make_all(record(k="a", made=5), 0)

    assert [row.primary_key for row in rows or []] == [(b"a",)]


def test_an_expired_row_leaves_the_others_of_its_record() -> None:
    made = maker(Given({"k": "a", "made": 0}, {"k": "b", "made": 59_000}), ttl=60)

    [old, fresh] = made.make_all(FakeMessage(b""), 60 * SECOND)
    assert old is None
    assert [row.primary_key for row in fresh or []] == [(b"b",)]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"v": 1}, "missing required field `k`"),
        ({"k": "a", "v": "x"}, r"Expected `int.*\$\.v"),
        ({"k": "a", "v": 2**70}, r"\$\.v"),
        ({"k": "a", "v": object()}, "cannot be written as JSON"),
        ({"k": "a", "v": {(1, 2): 3}}, "cannot be written as JSON"),
        ({"k": "\ud800"}, "cannot be written as JSON"),
    ],
)
def test_a_bad_row_rejects_its_record_and_is_numbered(row: dict[str, Any], words: str) -> None:
    with pytest.raises(RejectError, match=f"^given, row 2 of 2: .*{words}"):
        maker(Given({"k": "a"}, row)).make_all(FakeMessage(b""), 0)


def test_values_that_no_column_takes_may_be_anything() -> None:
    [rows] = maker(Given({"k": "a", "other": object()})).make_all(FakeMessage(b""), 0)

    assert [row.primary_key for row in rows or []] == [(b"a",)]


def test_a_row_that_contains_itself_and_a_tombstone_are_rejected() -> None:
    row: dict[str, Any] = {"k": "a"}
    row["v"] = row

    with pytest.raises(RejectError, match="row 1 of 1: its values cannot be written as JSON"):
        maker(Given(row)).make_all(FakeMessage(b""), 0)
    with pytest.raises(RejectError, match="a tombstone"):
        maker(Given({"k": "a"})).make_all(FakeMessage(None), 0)
