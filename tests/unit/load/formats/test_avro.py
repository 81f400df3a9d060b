from __future__ import annotations

import io
import json
import struct
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.load.errors import ConfigurationError, RejectError, SchemaRegistryError
from airflow_provider_restrack.load.formats.avro import FramedAvro, PlainAvro, compile_reader, open_avro
from tests.unit.load.fakes import Clock

if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLE: dict[str, Any] = {
    "type": "record",
    "name": "Sample",
    "fields": [
        {"name": "host", "type": "string"},
        {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}},
        {"name": "usage", "type": ["null", "double"]},
        {"name": "labels", "type": {"type": "map", "values": "string"}},
        {"name": "cores", "type": {"type": "array", "items": "float"}},
        {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["UP", "DOWN"]}},
    ],
}
ROW = {
    "host": "a",
    "timestamp": datetime(2026, 1, 1, 0, 0, 0, 123456, UTC),
    "day": date(2026, 1, 1),
    "price": Decimal("12.50"),
    "usage": None,
    "labels": {"role": "web"},
    "cores": [1.5, 2.0],
    "state": "DOWN",
}


def encode(row: Any, schema: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), row)
    return out.getvalue()


def framed(row: Any, schema: Any, schema_id: int = 7) -> bytes:
    return struct.pack(">BI", 0, schema_id) + encode(row, schema)


class FakeSchemas:
    """Gives schemas, errors in their place, and counts the questions."""

    def __init__(self, **found: Sequence[Any] | Exception) -> None:
        self.found = found
        self.asked: list[int] = []

    def fetch(self, schema_id: int) -> list[str]:
        self.asked.append(schema_id)
        answer = self.found.get(f"id{schema_id}", RejectError("the schema registry has no such schema"))
        if isinstance(answer, Exception):
            raise answer
        return [json.dumps(one) for one in answer]


def test_a_framed_datum_is_a_row_and_its_schema_is_asked_for_once() -> None:
    schemas = FakeSchemas(id7=[SAMPLE])
    avro = FramedAvro(schemas)

    assert [avro.parse(framed(ROW, SAMPLE), None) for _ in range(3)] == [[ROW]] * 3
    assert schemas.asked == [7]


def test_each_id_has_its_own_schema() -> None:
    other = {"type": "record", "name": "Other", "fields": [{"name": "n", "type": "int"}]}
    avro = FramedAvro(FakeSchemas(id7=[SAMPLE], id4294967295=[other]))

    assert avro.parse(framed(ROW, SAMPLE), None) == [ROW]
    assert avro.parse(framed({"n": 3}, other, 2**32 - 1), None) == [{"n": 3}]


def test_a_schema_may_refer_to_others() -> None:
    inner = {"type": "record", "name": "Inner", "namespace": "x", "fields": [{"name": "n", "type": "int"}]}
    outer = {"type": "record", "name": "Outer", "fields": [{"name": "inner", "type": "x.Inner"}]}
    whole = {"type": "record", "name": "Outer", "fields": [{"name": "inner", "type": inner}]}
    avro = FramedAvro(FakeSchemas(id7=[inner, outer]))

    assert avro.parse(framed({"inner": {"n": 3}}, whole), None) == [{"inner": {"n": 3}}]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"", "begins with nothing: a zero byte"),
        (b"\x00\x00\x00\x00", "begins with 00 00 00 00: a zero byte"),
        (b'{"host": 1}', "begins with 7b 22 68 6f 73: a zero byte"),
        (struct.pack(">BI", 0, 8) + b"\x02a", "schema 8: the schema registry has no such schema"),
        (framed(ROW, SAMPLE)[:-1], "no datum of the schema, at byte "),
        (framed(ROW, SAMPLE) + b"\x00", r"the datum ends at byte \d+ of \d+: it has another schema"),
        (framed(ROW, SAMPLE)[:-1] + b"\x10", "no datum of the schema, at byte "),
    ],
)
def test_what_is_no_datum_is_rejected(value: bytes, words: str) -> None:
    with pytest.raises(RejectError, match=f"^avro: .*{words}"):
        FramedAvro(FakeSchemas(id7=[SAMPLE])).parse(value, None)


def test_an_unknown_id_is_asked_for_once_and_rejects_every_record() -> None:
    schemas = FakeSchemas()
    avro = FramedAvro(schemas)

    for _ in range(3):
        with pytest.raises(RejectError, match="schema 7: the schema registry has no such schema"):
            avro.parse(framed(ROW, SAMPLE), None)
    assert schemas.asked == [7]


def test_an_id_that_was_unknown_is_asked_for_again_after_half_a_minute() -> None:
    schemas, clock = FakeSchemas(), Clock()
    avro = FramedAvro(schemas, now=clock)

    for clock.at in (0.0, 29.0, 31.0, 60.0):
        with pytest.raises(RejectError, match="schema 7: the schema registry has no such schema"):
            avro.parse(framed(ROW, SAMPLE), None)
    assert schemas.asked == [7, 7]
    schemas.found["id7"], clock.at = [SAMPLE], 61.0
    assert avro.parse(framed(ROW, SAMPLE), None) == [ROW]
    clock.at = 1000.0
    assert avro.parse(framed(ROW, SAMPLE), None) == [ROW]
    assert schemas.asked == [7, 7, 7]


def test_a_schema_that_cannot_be_used_is_not_asked_for_again() -> None:
    schemas, clock = FakeSchemas(id7=[record_of(["null", "R"])]), Clock()
    avro = FramedAvro(schemas, now=clock)

    for clock.at in (0.0, 1000.0):
        with pytest.raises(RejectError, match="contains itself"):
            avro.parse(b"\x00\x00\x00\x00\x07", None)
    assert schemas.asked == [7]


@pytest.mark.parametrize("error", [SchemaRegistryError("down"), ConfigurationError("login")])
def test_a_registry_that_fails_rejects_nothing_and_is_asked_again(error: Exception) -> None:
    schemas = FakeSchemas(id7=error)
    avro = FramedAvro(schemas)

    with pytest.raises(type(error)):
        avro.parse(framed(ROW, SAMPLE), None)
    schemas.found["id7"] = [SAMPLE]
    assert avro.parse(framed(ROW, SAMPLE), None) == [ROW]


def record_of(kind: Any) -> dict[str, Any]:
    return {"type": "record", "name": "R", "fields": [{"name": "f", "type": kind}]}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (record_of(["null", "R"]), "type R contains itself"),
        (record_of({"type": "map", "values": {"type": "array", "items": "R"}}), "type R contains itself"),
        (record_of({"type": "array", "items": "null"}), "values that take no bytes"),
        (
            record_of({"type": "array", "items": {"type": "record", "name": "E", "fields": []}}),
            "values that take no bytes",
        ),
        (
            record_of({"type": "array", "items": {"type": "fixed", "name": "E", "size": 0}}),
            "values that take no bytes",
        ),
        ("string", "no schema of a record"),
        (record_of("no_such_type"), "no Avro schema: UnknownType"),
        ({"type": "record"}, "no Avro schema: "),
        (5, "no Avro schema: "),
    ],
)
def test_a_schema_that_cannot_be_read_safely_is_refused(schema: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        compile_reader([json.dumps(schema)])
    with pytest.raises(RejectError, match=f"^avro: schema 7: .*{words}"):
        FramedAvro(FakeSchemas(id7=[schema])).parse(b"\x00\x00\x00\x00\x07", None)


def test_a_type_that_is_used_twice_is_no_recursion() -> None:
    inner = {"type": "record", "name": "I", "fields": [{"name": "n", "type": "int"}]}
    schema = record_of(inner)
    schema["fields"].append({"name": "g", "type": ["null", "I"]})
    row = {"f": {"n": 1}, "g": {"n": 2}}

    assert compile_reader([json.dumps(schema)])(io.BytesIO(encode(row, schema))) == row


@pytest.mark.parametrize("schema", [SAMPLE, json.dumps(SAMPLE)])
def test_a_schema_that_is_given_reads_values_without_framing(schema: Any) -> None:
    avro = open_avro({"schema": schema}, {}, connection="k")

    assert isinstance(avro, PlainAvro)
    assert avro.parse(encode(ROW, SAMPLE), None) == [ROW]
    with pytest.raises(RejectError, match=r"^avro: no datum of the schema"):
        avro.parse(b"\xff", None)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"'k' lacks schema\.registry\.url"):
        open_avro({}, {}, connection="k")
    for schema in ("{", 5, {"type": "record"}, {1j}):
        with pytest.raises(ConfigurationError, match="schema of format 'avro': "):
            open_avro({"schema": schema}, {}, connection="k")
    monkeypatch.setitem(sys.modules, "fastavro", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'airflow-provider-restrack\[avro\]'"):
        open_avro({}, {}, connection="k")


@given(st.binary() | st.binary().map(lambda tail: b"\x00\x00\x00\x00\x07" + tail))
def test_whatever_comes_is_a_row_or_rejected(raw: bytes) -> None:
    try:
        [row] = FramedAvro(FakeSchemas(id7=[SAMPLE])).parse(raw, None)
    except RejectError:
        return
    assert set(row) == set(ROW)
