from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.load.cql_types import (
    EPOCH,
    CqlType,
    json_type,
    parse_cql_type,
    to_microseconds,
)
from airflow_provider_restrack.load.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("text", CqlType("text")),
        ("list<int>", CqlType("list", (CqlType("int"),))),
        ("frozen<map<text, double>>", CqlType("map", (CqlType("text"), CqlType("double")), frozen=True)),
        (
            "map<text, frozen<set<uuid>>>",
            CqlType("map", (CqlType("text"), CqlType("set", (CqlType("uuid"),), frozen=True))),
        ),
        ("vector<float, 3>", CqlType("vector", (CqlType("float"), CqlType("3")))),
    ],
)
def test_types_are_parsed_as_the_schema_writes_them(text: str, parsed: CqlType) -> None:
    assert parse_cql_type(text) == parsed


@pytest.mark.parametrize("text", ["", "list<", "list<int", "map<text,,int>", "text>", "int int", "a;b"])
def test_what_is_no_type_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_cql_type(text)


@pytest.mark.parametrize(
    "text",
    [
        "counter",
        "frozen<some_udt>",
        "list<counter>",
        "set<frozen<list<int>>>",
    ],
)
def test_types_that_json_cannot_fill_are_named(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be loaded|can only be added to"):
        json_type(parse_cql_type(text))


ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(timezones=ZONES | st.just(UTC)))
def test_times_are_exact_to_the_microsecond_in_every_zone_and_century(moment: datetime) -> None:
    assert to_microseconds(moment) == (moment - EPOCH) // timedelta(microseconds=1)


def test_an_object_becomes_a_user_defined_type_in_the_order_of_its_fields() -> None:
    kind = json_type(CqlType("place", (CqlType("int"), CqlType("date")), fields=("row", "since")))

    made = kind.convert(msgspec.json.decode(b'{"x": 1, "since": "1970-01-01"}', type=kind.python))  # type: ignore[misc]

    assert made == (None, 2**31)
