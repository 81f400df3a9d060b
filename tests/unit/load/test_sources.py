from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_restrack.load.decode import Decoder, plan_fields
from airflow_provider_restrack.load.encode import RowEncoder
from airflow_provider_restrack.load.errors import ConfigurationError, RejectError
from airflow_provider_restrack.load.sources import Given, check_type, parse_source, read_metadata
from airflow_provider_restrack.load.table import plan_table
from tests.unit.load.fakes import TARGET, FakeMessage, columns_of, prepare

TYPES = {
    "k": "text", "key": "text", "raw": "blob", "topic": "text", "part": "int", "at": "bigint",
    "came": "timestamp",
    "day": "date", "trace": "uuid", "source": "text", "tags": "list<int>", "since": "timestamp", "of": "date",
}  # fmt: skip
COLUMNS: dict[str, Any] = {
    "key": "__key", "raw": "__key", "topic": "__topic", "part": "__partition", "at": "__offset",
    "came": "__timestamp", "day": "__timestamp", "trace": "header.trace", "source": {"value": "rack 7"},
    "tags": {"value": ["1", 2]}, "since": {"field": "ts", "unit": "s"}, "of": {"day_of": "ts"},
}  # fmt: skip


def stored(message: FakeMessage, mapping: dict[str, Any] = COLUMNS) -> dict[str, Any]:
    columns = columns_of(TYPES, ["k"])
    plan = plan_table(TARGET, columns, mapping, timestamp_field="ts")
    fields = plan_fields([plan], "ts")
    decoder, prepared = Decoder(fields), prepare(columns)
    values = decoder.decode(message.value())
    decoder.add_computed(values, message)
    row = RowEncoder(plan, prepared, fields, decoder.position).encode(values, 1, None, message)
    pairs = zip(prepared.column_metadata[:-1], row.statement.values, strict=False)
    return {
        column.name: column.type.deserialize(value, 5) for column, value in pairs if isinstance(value, bytes)
    }


def test_metadata_constants_and_epoch_times_fill_columns() -> None:
    trace = "8bcd7e34-0f3c-4c4e-9a5e-0a3b1d9c1b2a"
    message = FakeMessage(
        b'{"k": "a", "ts": 1767322800.5}', 7, 3, extra=[("trace", b"x"), ("trace", trace.encode())]
    )

    row = {name: str(value) for name, value in stored(message).items()}

    assert row == {
        "k": "a", "key": "key", "raw": "b'key'", "topic": "t", "part": "3", "at": "7", "trace": trace,
        "came": "2023-11-14 22:13:20", "day": "2023-11-14", "source": "rack 7", "tags": "[1, 2]",
        "since": "2026-01-02 03:00:00.500000", "of": "2026-01-02",
    }  # fmt: skip


def test_what_a_record_lacks_is_absent_and_what_does_not_fit_is_rejected() -> None:
    bare = FakeMessage(b'{"k": "a"}', named=None, moment=(0, -1))

    assert stored(bare).keys() == {"k", "topic", "part", "at", "source", "tags"}
    with pytest.raises(RejectError, match="__key is no UTF-8 text"):
        stored(FakeMessage(b'{"k": "a"}', named=b"\xff"))
    with pytest.raises(RejectError, match=r"header\.trace: Invalid UUID"):
        stored(FakeMessage(b'{"k": "a"}', extra=[("trace", b"x")]))
    with pytest.raises(RejectError, match=r"out of range - at `\$\.ts`"):
        stored(FakeMessage(b'{"k": "a", "ts": 1e30}'))


@pytest.mark.parametrize(
    ("unit", "number"),
    [
        ("s", "1767322800"),
        ("ms", "1767322800000"),
        ("us", '"1767322800000000"'),
        ("ns", "1767322800000000999"),
    ],
)
def test_epoch_times_have_units(unit: str, number: str) -> None:
    message = FakeMessage(b'{"k": "a", "ts": ' + number.encode() + b"}")

    row = stored(message, {"since": {"field": "ts", "unit": unit}})

    assert str(row["since"]) == "2026-01-02 03:00:00"


@pytest.mark.parametrize(
    "given",
    [7, "", {}, {"field": ""}, {"field": "a", "unit": "m"}, {"value": None}, {"day_of": "a", "x": 1}, []],
)
def test_a_source_of_another_form_is_refused(given: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"fills 'c' with .*: it must be a field's name, None, __key"
    ):
        parse_source("c", given)


def test_names_of_fields_are_taken_as_such() -> None:
    assert parse_source("c", "header.") == parse_source("c", {"field": "header."}) == Given(field="header.")
    assert parse_source("c", {"field": "__key"}) == Given(field="__key")
    with pytest.raises(ConfigurationError, match="'c' with a value that is no JSON"):
        parse_source("c", {"value": float("nan")})


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        ("boolean", "__key", "type boolean, with __key"),
        ("double", "__offset", "type double, with __offset: that fills columns of type ascii, bigint"),
        ("int", {"day_of": "ts"}, "with day_of: that fills columns of type date"),
        ("bigint", {"field": "ts", "unit": "s"}, "with a field with unit 's'"),
    ],
)
def test_a_source_that_never_fits_the_columns_type_is_refused(kind: str, given: Any, words: str) -> None:
    source = parse_source("c", given)

    assert source is not None
    with pytest.raises(ConfigurationError, match=words):
        check_type("c", kind, source)


def test_a_constant_that_does_not_fit_and_two_units_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="fills 'part': Expected `int`"):
        stored(FakeMessage(b"{}"), {"part": {"value": "x"}})
    with pytest.raises(ConfigurationError, match="'ts' the units 'ms' and 's'"):
        stored(
            FakeMessage(b"{}"), {"since": {"field": "ts", "unit": "s"}, "came": {"field": "ts", "unit": "ms"}}
        )


def test_a_header_may_be_text_or_missing() -> None:
    assert read_metadata("header.a", FakeMessage(None, extra=[("a", "x")]), as_bytes=False) == "x"  # type: ignore[list-item]
    assert read_metadata("header.b", FakeMessage(None), as_bytes=True) is None
