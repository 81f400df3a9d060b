"""Packed rows against rows that the driver binds: the same bytes, keys and sizes, or the same reject."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_restrack.load.cql_types import CqlType, parse_cql_type
from airflow_provider_restrack.load.decode import Decoder, plan_fields
from airflow_provider_restrack.load.encode import EncodedRow, RowEncoder
from airflow_provider_restrack.load.errors import RejectError
from airflow_provider_restrack.load.pack import PackedEncoder, arrange, pack_bound
from airflow_provider_restrack.load.table import TableTarget, plan_table
from airflow_provider_restrack.load.wire import PackedTable
from airflow_provider_restrack.store import schema
from tests.unit.load.fakes import columns_of, prepare

SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "text": st.text(max_size=300), "varchar": st.text(max_size=5),
    "ascii": st.text(st.characters(max_codepoint=130), max_size=5), "boolean": st.booleans(),
    "tinyint": st.integers(-129, 127), "smallint": st.integers(-(2**15), 2**15 - 1), "varint": st.integers(),
    "int": st.integers(-(2**31), 2**31 - 1), "bigint": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9),
    "float": st.floats(allow_nan=False, allow_infinity=False, width=32) | st.floats(-4e38, 4e38),
    "decimal": st.decimals(allow_nan=False, allow_infinity=False).map(str),
    "timestamp": st.datetimes().map(lambda at: at.isoformat() + "Z") | st.integers(-(2**40), 2**40),
    "date": st.dates().map(str), "time": st.times().map(str), "uuid": st.uuids().map(str),
    "timeuuid": st.integers(0, 9).map(lambda node: str(uuid.uuid1(node, 7))),
    "inet": st.ip_addresses().map(str),
    "blob": st.binary(max_size=20).map(lambda raw: base64.b64encode(raw).decode()),
}  # fmt: skip
COLLECTIONS = (
    "list<double>", "list<int>", "frozen<list<boolean>>", "list<text>", "list<timestamp>", "list<decimal>",
    "set<text>", "frozen<set<inet>>", "map<text, double>", "frozen<map<text, bigint>>", "map<text, text>",
    "frozen<map<text, text>>", "map<ascii, tinyint>", "map<int, double>", "map<text, date>",
    "map<uuid, float>", "map<text, frozen<list<double>>>", "list<frozen<map<text, float>>>",
)  # fmt: skip
RARER = ("duration", "tuple<int, text, timestamp>", "vector<float, 3>", "list<frozen<tuple<date, double>>>")
TYPES = (*SCALARS, *COLLECTIONS, *RARER)


def values_of(cql: CqlType) -> st.SearchStrategy[Any]:
    if cql.name == "duration":
        return st.integers(0, 999).map(lambda number: f"{number}mo{number}d{number}ns")
    if not cql.arguments:
        return SCALARS[cql.name]
    if cql.name == "vector":
        return st.lists(SCALARS["float"], min_size=3, max_size=3)
    inner = [values_of(one) for one in cql.arguments]
    if cql.name == "map":
        return st.dictionaries(inner[0].map(str), inner[1], max_size=3)
    if cql.name == "tuple":
        return st.tuples(*(one | st.none() for one in inner)).map(list)
    return st.lists(inner[0], max_size=4)


def prepared_of(plan: Any, *, with_ttl: bool = False) -> Any:
    prepared = prepare([source.column for source in plan.sources], with_ttl=with_ttl)
    prepared.routing_key_indexes = list(range(plan.partition_size))
    prepared.result_metadata_id = b"result"
    return prepared


class CountingEncoder(PackedEncoder):
    """Counts the rows that it leaves to the driver."""

    bound = 0

    def _bind(self, *arguments: Any) -> EncodedRow:
        self.bound += 1
        return super()._bind(*arguments)


class Pair:
    """Both encoders of one table."""

    def __init__(
        self, columns: list[Any], mode: Any = "merge", *, with_ttl: bool = False, at: str = "at"
    ) -> None:
        self.plan = arrange(plan_table(TableTarget("ks", "t", mode), columns, {}, timestamp_field=at))
        prepared = prepared_of(self.plan, with_ttl=with_ttl)
        fields = plan_fields([self.plan], at)
        self.decoder = Decoder(fields)
        position = self.decoder.position
        self.bound = RowEncoder(self.plan, prepared, fields, position)
        self.packed = CountingEncoder(self.plan, PackedTable(prepared), fields, position)

    def compare(self, values: list[Any], ttl: int | None = None) -> bool:
        """Check that both give the same; return whether it is a row."""
        bound, packed = (outcome_of(one, values, ttl) for one in (self.bound, self.packed))
        if isinstance(bound, str) or isinstance(packed, str):
            assert packed == bound
            return False
        assert packed.statement == pack_bound(bound.statement.values)
        for name in ("partition_key", "primary_key", "write_us", "size", "record"):
            assert getattr(packed, name) == getattr(bound, name), name
        return True

    def compare_json(self, fields: dict[str, Any], ttl: int | None = None) -> bool:
        """The same of a record; a row of it is made without the driver's binding."""
        try:
            values = self.decoder.decode(json.dumps(fields).encode())
        except RejectError:
            return False
        before = self.packed.bound
        made = self.compare(values, ttl)
        assert not made or self.packed.bound == before
        return made


def outcome_of(encoder: RowEncoder | PackedEncoder, values: list[Any], ttl: int | None) -> EncodedRow | str:
    try:
        return encoder.encode(values, 77, ttl, "record")
    except RejectError as error:
        return str(error)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Any], dict[str, st.SearchStrategy[Any]]]:
    """Draw a table's columns and what can fill each."""
    key = st.sampled_from([name for name in SCALARS if name != "boolean"])
    names = draw(st.lists(st.sampled_from(TYPES), max_size=12))
    types = {f"c{number}": name for number, name in enumerate(names)}
    partition = {
        f"p{number}": name for number, name in enumerate(draw(st.lists(key, min_size=1, max_size=3)))
    }
    clustering = {f"k{number}": name for number, name in enumerate(draw(st.lists(key, max_size=2)))}
    if draw(st.booleans()):
        partition["day"] = "date"
    elif draw(st.booleans()):
        types["day"] = "date"
    types |= partition | clustering | {"at": "timestamp"}
    fills = {name: values_of(parse_cql_type(kind)) for name, kind in types.items()}
    return columns_of(types, partition, clustering), fills


@settings(max_examples=80)
@given(st.data())
def test_packed_rows_of_any_table_have_the_bytes_that_the_driver_binds(data: st.DataObject) -> None:
    columns, fills = data.draw(tables())
    ttl = data.draw(st.none() | st.integers(1, 2**31 - 1))
    pair = Pair(columns, data.draw(st.sampled_from(["merge", "replace"])), with_ttl=ttl is not None)
    for _ in range(data.draw(st.integers(1, 4))):
        absent = data.draw(st.sets(st.sampled_from(list(fills))))
        row = {name: data.draw(fill) for name, fill in fills.items() if name not in absent}
        pair.compare_json(row, ttl)


@pytest.mark.parametrize("mode", ["merge", "replace"])
@pytest.mark.parametrize("kind", TYPES)
@given(data=st.data())
@settings(max_examples=6)
def test_every_type_is_packed_as_it_is_bound(kind: str, mode: str, data: st.DataObject) -> None:
    pair = Pair(columns_of({"k": "int", "v": kind}, ["k"]), mode)
    fill = values_of(parse_cql_type(kind))

    assert pair.compare_json({"k": 1})
    for value in data.draw(st.lists(fill, max_size=4)):
        pair.compare_json({"k": 1, "v": value})


@pytest.mark.parametrize("mode", ["merge", "replace"])
@pytest.mark.parametrize(
    "kind", [name for name in COLLECTIONS if name.count("frozen") == name.startswith("f")]
)
def test_empty_collections_are_packed_as_they_are_bound(kind: str, mode: str) -> None:
    pair = Pair(columns_of({"k": "int", "v": kind}, ["k"]), mode)

    assert pair.compare_json({"k": 1, "v": {} if "map" in kind else []})


SAMPLE = columns_of({one.name: schema.cql_type(one) for one in schema.FIELDS}, ["host", "day"], ["timestamp"])
NUMBERS = [one.name for one in schema.FIELDS if one.type in ("double", "int", "bigint")]


@settings(max_examples=30)
@given(st.lists(st.sets(st.sampled_from(NUMBERS)), min_size=1, max_size=40))
def test_more_patterns_of_absent_fields_than_are_remembered_are_packed_too(absent: list[set[str]]) -> None:
    columns = [one for one in SAMPLE if one.name != "timestamp"]
    pair = Pair(columns)
    for number, gone in enumerate([*absent, *absent]):
        row = dict.fromkeys(set(NUMBERS) - gone, number % 7)

        assert pair.compare_json({"host": "a", "at": number} | row)


def test_keys_that_are_equal_but_have_other_bytes_stay_apart() -> None:
    doubles = Pair(columns_of({"k": "double"}, ["k"]))
    decimals = Pair(columns_of({"k": "decimal", "l": "text"}, ["k", "l"]))

    for value in (0.0, -0.0, 0.0):
        assert doubles.compare_json({"k": value})
    for value in ("1.0", "1.00", "1.0"):
        assert decimals.compare_json({"k": value, "l": ""})


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        pytest.param({}, False, id="none"),
        pytest.param({"p": "x"}, False, id="no-clustering"),
        pytest.param({"p": "", "k": "x"}, False, id="empty-partition"),
        pytest.param({"p": "x", "k": ""}, True, id="empty-clustering"),
        pytest.param({"p": "x" * 65536, "k": "x"}, False, id="long-partition"),
        pytest.param({"p": "x", "k": "y" * 65536}, False, id="long-clustering"),
        pytest.param({"p": "ä" * 600, "k": "ö" * 300}, True, id="neither-is-remembered"),
    ],
)
def test_keys_that_cassandra_cannot_have_are_rejected_alike(fields: dict[str, str], fits: bool) -> None:
    pair = Pair(columns_of({"p": "text", "k": "text", "v": "int"}, ["p"], ["k"]))
    values = [fields.get(name) for name in pair.decoder.position]

    assert [pair.compare(values), pair.compare(values)] == [fits, fits]


@pytest.mark.parametrize("value", ["no number", 2**70, [1], {"a": 1}], ids=str)
@pytest.mark.parametrize(
    "kind", ["int", "double", "boolean", "uuid", "date", "list<double>", "map<text, int>"]
)
def test_values_that_no_decoder_gives_are_bound_or_rejected_alike(kind: str, value: Any) -> None:
    pair = Pair(columns_of({"k": "int", "u": "int", "v": kind}, ["k"]))

    made = pair.compare([{"k": 1, "v": value}.get(name) for name in pair.decoder.position])

    assert made == ((kind, value) in [("list<double>", [1]), ("map<text, int>", {"a": 1}), ("double", 2**70)])


@given(st.integers(1, 200), st.integers(0, 3))
def test_large_maps_and_lists_are_packed_as_they_are_bound(size: int, shift: int) -> None:
    pair = Pair(
        columns_of({"k": "int", "m": "map<text, double>", "l": "list<double>", "t": "map<text, text>"}, ["k"])
    )
    numbers = [float(number + shift) for number in range(size)]
    names = {f"name {number}" * (1 + shift): value for number, value in enumerate(numbers)}

    for _ in range(2):
        assert pair.compare_json({"k": 1, "m": names, "l": numbers, "t": {name: name for name in names}})


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_restrack.load.pack._MAX_PARTITIONS", 40)
    monkeypatch.setattr("airflow_provider_restrack.load.cells._MAX_SHAPES", 2)
    monkeypatch.setattr("airflow_provider_restrack.load.cells._MAX_MISSES", 5)
    monkeypatch.setattr("airflow_provider_restrack.load.cells._MAX_LABELS", 2)
    pair = Pair(columns_of({"k": "text", "m": "map<text, int>", "t": "map<text, text>"}, ["k"]))
    for number in range(100):
        name = str(number % 60)

        assert pair.compare_json({"k": name, "m": {name: number}, "t": {name: name}})
    assert len(pair.packed._partition._known or ()) <= 40


def test_columns_of_fixed_width_stand_side_by_side_after_the_key() -> None:
    types = {
        "k": "text",
        "a": "text",
        "b": "int",
        "c": "map<text, int>",
        "d": "double",
        "day": "date",
        "at": "timestamp",
    }
    plan = plan_table(
        TableTarget("ks", "system_metrics", "merge"), columns_of(types, ["k"]), {}, timestamp_field="at"
    )

    assert [source.column.name for source in arrange(plan).sources] == ["k", "b", "d", "a", "c", "day", "at"]
    assert arrange(arrange(plan)) == arrange(plan)


def test_patterns_are_learnt_anew_when_others_come_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_restrack.load.pack._MAX_PATTERNS", 2)
    monkeypatch.setattr("airflow_provider_restrack.load.pack._MAX_MISSES", 3)
    pair = Pair(columns_of(dict.fromkeys("kabcd", "int"), ["k"]))

    for number in range(40):
        row = {name: number for name in "abcd" if name != "abcd"[number // 10]}
        assert pair.compare_json({"k": 1} | row)
    assert (False, False, False, True) in [one.gone for one in pair.packed._run._patterns]
    assert len(pair.packed._run._patterns) <= 2


FUZZED = Pair([one for one in SAMPLE if one.name != "timestamp"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=60)
@given(
    st.dictionaries(st.sampled_from([one.name for one in schema.FIELDS]), ANYTHING, min_size=1, max_size=6)
)
def test_fields_with_arbitrary_values_are_packed_or_rejected_as_bound(fields: dict[str, Any]) -> None:
    FUZZED.compare_json({"host": "a", "at": 1} | fields)
    assert FUZZED.compare_json({"host": "a", "at": 1})


def test_a_pattern_within_another_is_learnt_once() -> None:
    pair = Pair(columns_of(dict.fromkeys("kabc", "int"), ["k"]))
    for number in range(9):
        row = dict.fromkeys("abc"[: 3 - number % 3], number)
        assert pair.compare_json({"k": 1} | row)

    assert len(pair.packed._run._patterns) == 3


def test_a_day_that_is_the_time_field_itself_is_its_utc_day() -> None:
    pair = Pair(columns_of({"k": "text", "day": "date"}, ["k", "day"]), at="day")

    assert pair.compare_json({"k": "a", "day": "2026-01-02T03:04:05+04:00"})
    assert not pair.compare_json({"k": "a"})


def test_other_letters_that_reach_an_ascii_column_are_rejected_alike() -> None:
    pair = Pair(columns_of({"k": "text", "v": "ascii"}, ["k"]))

    assert not pair.compare([{"k": "a", "v": "\u00e4"}.get(name) for name in pair.decoder.position])
