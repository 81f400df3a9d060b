"""A packed cell is byte for byte what the driver's own type writes, with its length in front."""

from __future__ import annotations

import struct
import uuid
from typing import Any

import pytest
from cassandra.cqltypes import lookup_casstype
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.load.cells import Template, cell_of, length, number_cell
from airflow_provider_restrack.load.cql_types import parse_cql_type

VERSION = 5
A_UUID = uuid.UUID("6f1d2c3b-4a59-5867-8123-9abcdef01234")


def by_driver(kind: str, value: Any) -> bytes:
    raw = lookup_casstype(kind).serialize(value, VERSION)
    return struct.pack(">i", len(raw)) + raw


def cell(cql: str, kind: str, value: Any) -> bytes:
    return cell_of(parse_cql_type(cql), lookup_casstype(kind), VERSION)(value)


@pytest.mark.parametrize(
    ("cql", "kind", "value"),
    [
        ("boolean", "BooleanType", True),
        ("int", "Int32Type", -(2**31)),
        ("bigint", "LongType", 2**63 - 1),
        ("double", "DoubleType", -0.1),
        ("float", "FloatType", 1.5),
        ("text", "UTF8Type", "ä" * 200),
        ("text", "UTF8Type", ""),
        ("ascii", "AsciiType", "web-1"),
        ("uuid", "UUIDType", A_UUID),
        ("varint", "IntegerType", 10**30),
        ("list<double>", "ListType(DoubleType)", [0.0, 12.5, 100.0]),
        ("list<double>", "ListType(DoubleType)", []),
        ("list<double>", "ListType(DoubleType)", [1.0] * 65),
        ("map<text,double>", "MapType(UTF8Type,DoubleType)", {"/": 40.25, "/srv/ä": 1e300}),
        ("map<text,double>", "MapType(UTF8Type,DoubleType)", {}),
        ("map<text,double>", "MapType(UTF8Type,DoubleType)", {f"/{n}": float(n) for n in range(70)}),
        ("map<text,text>", "MapType(UTF8Type,UTF8Type)", {"role": "web", "": ""}),
        ("set<int>", "SetType(Int32Type)", {1, 2, 3}),
    ],
)
def test_a_cell_is_what_the_driver_writes(cql: str, kind: str, value: Any) -> None:
    expected = by_driver(kind, value)

    assert cell(cql, kind, value) == expected
    assert cell(cql, kind, value) == expected


def test_remembered_keys_and_labels_do_not_leak_into_the_next_value() -> None:
    pack = cell_of(
        parse_cql_type("map<text,double>"), lookup_casstype("MapType(UTF8Type,DoubleType)"), VERSION
    )
    labels = cell_of(parse_cql_type("map<text,text>"), lookup_casstype("MapType(UTF8Type,UTF8Type)"), VERSION)

    for value in ({"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 4.0}, {"b": 4.0, "a": 3.0}, {"a": 5.0}):
        assert pack(value) == by_driver("MapType(UTF8Type,DoubleType)", value)
    for one in ({"role": "web"}, {"role": "db"}, {"role": "web"}):
        assert labels(one) == by_driver("MapType(UTF8Type,UTF8Type)", one)


@pytest.mark.parametrize(("cql", "kind", "value"), [
    ("int", "Int32Type", 2**31),
    ("int", "Int32Type", "7"),
    ("list<double>", "ListType(DoubleType)", [1.0, None]),
    ("map<text,double>", "MapType(UTF8Type,DoubleType)", {"/": None}),
])  # fmt: skip
def test_a_value_that_does_not_fit_raises_and_is_not_packed_as_another(
    cql: str, kind: str, value: Any
) -> None:
    with pytest.raises((struct.error, TypeError, ValueError)):
        cell(cql, kind, value)


def test_a_template_fills_its_gaps_in_order() -> None:
    template = Template([b"<", b"|"], ["i", "h"], b">")

    assert template.fill([1, 2]) == b"<\0\0\0\1|\0\2>"
    assert template.fill((3, 4)) == b"<\0\0\0\3|\0\4>"
    with pytest.raises((struct.error, ValueError)):
        template.fill([5])


def test_a_number_stands_behind_its_width() -> None:
    assert number_cell("q", 8)(-1) == length(8) + b"\xff" * 8


NUMBERS = {
    "boolean": ("BooleanType", st.booleans()),
    "tinyint": ("ByteType", st.integers(-(2**7), 2**7 - 1)),
    "smallint": ("ShortType", st.integers(-(2**15), 2**15 - 1)),
    "int": ("Int32Type", st.integers(-(2**31), 2**31 - 1)),
    "bigint": ("LongType", st.integers(-(2**63), 2**63 - 1)),
    "float": ("FloatType", st.floats(width=32, allow_nan=False)),
    "double": ("DoubleType", st.floats(allow_nan=False)),
}


@pytest.mark.parametrize("name", NUMBERS)
@given(data=st.data())
def test_whatever_came_before_a_template_gives_the_drivers_bytes(name: str, data: st.DataObject) -> None:
    """One cell packs a stream of values, whose keys and lengths come again and change as hosts' do."""
    kind, numbers = NUMBERS[name]
    keys = st.sampled_from(["", "/", "/srv", "ä", "\U0001f600", "x" * 300])
    streams: list[tuple[str, str, st.SearchStrategy[Any]]] = [
        (f"list<{name}>", f"ListType({kind})", st.lists(numbers, max_size=5)),
        (f"map<text,{name}>", f"MapType(UTF8Type,{kind})", st.dictionaries(keys, numbers, max_size=4)),
        ("map<text,text>", "MapType(UTF8Type,UTF8Type)", st.dictionaries(keys, keys, max_size=4)),
        (name, kind, numbers),
    ]
    for cql, driver, values in streams:
        pack = cell_of(parse_cql_type(cql), lookup_casstype(driver), VERSION)
        for value in data.draw(st.lists(values, max_size=8)):
            assert pack(value) == by_driver(driver, value)
