from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_restrack.load.decode import Decoder, plan_fields
from airflow_provider_restrack.load.encode import RowEncoder
from airflow_provider_restrack.load.errors import ConfigurationError, RejectError
from airflow_provider_restrack.load.table import plan_table
from airflow_provider_restrack.store import schema
from tests.unit.load.fakes import TARGET, columns_of, prepare

SAMPLE_COLUMNS = columns_of(
    {one.name: schema.cql_type(one) for one in schema.FIELDS}, ["host", "day"], ["timestamp"]
)
SAMPLE_PLAN = plan_table(TARGET, SAMPLE_COLUMNS, {}, timestamp_field="timestamp")
SAMPLE_FIELDS = plan_fields([SAMPLE_PLAN], "timestamp")
DECODER = Decoder(SAMPLE_FIELDS)
ENCODER = RowEncoder(SAMPLE_PLAN, prepare(SAMPLE_COLUMNS), SAMPLE_FIELDS, DECODER.position)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def decode_and_encode(raw: bytes | None) -> bool:
    """Return whether a row came of it; anything but a reject passes through and fails the test."""
    try:
        ENCODER.encode(DECODER.decode(raw), 1, None, None)
    except RejectError:
        return False
    return True


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_row_or_a_reject(raw: bytes) -> None:
    decode_and_encode(raw)


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from([one.name for one in schema.FIELDS]), anything, max_size=6))
def test_fields_with_arbitrary_values_are_a_row_or_a_reject(fields: dict[str, Any]) -> None:
    whole = {"host": "a", "timestamp": "2026-01-02T03:04:05Z"} | fields

    decode_and_encode(json.dumps(whole).encode("utf-8", "surrogatepass"))


@given(st.data())
def test_a_damaged_sample_is_a_row_or_a_reject(data: st.DataObject) -> None:
    raw = bytearray(
        json.dumps({"host": "a", "timestamp": "2026-01-02T03:04:05Z", "labels": {"x": "y"}}).encode()
    )
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))

    decode_and_encode(bytes(raw))


def test_a_whole_sample_becomes_a_row() -> None:
    assert decode_and_encode(b'{"host": "a", "timestamp": "2026-01-02T03:04:05Z"}')


@pytest.mark.parametrize("raw", [b"[" * 100_000, b'{"new": ' + b"[" * 100_000, b'{"labels":' * 10_000])
def test_deep_nesting_is_rejected(raw: bytes) -> None:
    assert not decode_and_encode(raw)


def test_two_tables_share_the_fields_that_have_one_type() -> None:
    other = plan_table(
        TARGET, columns_of({"host": "text", "up": "boolean"}, ["host"]), {}, timestamp_field="timestamp"
    )

    fields = plan_fields([SAMPLE_PLAN, other], "timestamp")

    assert set(fields) == {one.name for one in schema.FIELDS}
    assert fields["host"].required


def test_a_field_that_two_columns_want_in_different_types_is_refused() -> None:
    other = plan_table(
        TARGET, columns_of({"host": "text", "up": "text"}, ["host"]), {}, timestamp_field="timestamp"
    )

    with pytest.raises(
        ConfigurationError, match=r"'up' fills 'up' and 'up' of ks\.t, which have different types"
    ):
        plan_fields([SAMPLE_PLAN, other], "timestamp")


def test_a_time_field_that_fills_a_column_of_another_type_is_refused() -> None:
    plan = plan_table(
        TARGET, columns_of({"k": "text", "timestamp": "text"}, ["k"]), {}, timestamp_field="timestamp"
    )

    with pytest.raises(ConfigurationError, match=r"'timestamp' of ks\.t has type text"):
        plan_fields([plan], "timestamp")


def test_the_timestamp_field_is_decoded_even_if_no_column_takes_it() -> None:
    plan = plan_table(TARGET, columns_of({"k": "text"}, ["k"]), {}, timestamp_field="at")
    decoder = Decoder(plan_fields([plan], "at"))

    values = decoder.decode(b'{"k": "x", "at": "1970-01-01T00:00:00.000001Z"}')

    assert values[decoder.position["at"]] == 1
    assert decoder.decode(b'{"k": "x"}')[decoder.position["at"]] is None


def test_field_names_may_be_any_text() -> None:
    columns = columns_of({"k": "text", "v": "int"}, ["k"])
    plan = plan_table(TARGET, columns, {"k": "a key", "v": "über-wert"}, timestamp_field="timestamp")
    decoder = Decoder(plan_fields([plan], "timestamp"))

    values = decoder.decode('{"a key": "x", "über-wert": 3}'.encode())

    assert (values[decoder.position["a key"]], values[decoder.position["über-wert"]]) == ("x", 3)


def test_a_record_that_is_read_already_has_the_same_values() -> None:
    columns = columns_of({"k": "text", "v": "int", "n": "varint", "b": "blob", "d": "double"}, ["k"])
    decoder = Decoder(plan_fields([plan_table(TARGET, columns, {}, timestamp_field="at")], "at"))
    moment = datetime(2026, 1, 2, tzinfo=UTC)

    values = decoder.decode_mapping(
        {"k": 7, "v": "3", "n": 2**70, "b": b"\x00", "d": math.nan, "at": moment, "other": object()}
    )

    taken = {name: values[index] for name, index in decoder.position.items()}
    assert taken == {"k": "7", "v": 3, "n": 2**70, "b": b"\x00", "d": None, "at": 1_767_312_000_000_000}


def test_a_mapping_that_is_no_record_is_rejected() -> None:
    nested: list[Any] = []
    nested.append(nested)

    with pytest.raises(RejectError, match=r"missing required field `timestamp`"):
        DECODER.decode_mapping({})
    for wrong in (object(), "\ud800", nested):
        with pytest.raises(RejectError, match=r"^its values cannot be written as JSON"):
            DECODER.decode_mapping({"host": wrong})


MIXED = columns_of(
    {
        "k": "text", "note": "text", "raw": "blob", "names": "list<text>", "raws": "map<text, blob>",
        "inner": "text", "inner_raw": "blob", "n": "int",
    },
    ["k"],
)  # fmt: skip


def decoded(mapping: dict[str, Any]) -> dict[str, Any]:
    """Return the values that a format's row has for the columns of ``MIXED``."""
    nested = {"inner": "meta.note", "inner_raw": "meta.raw"}
    decoder = Decoder(plan_fields([plan_table(TARGET, MIXED, nested, timestamp_field="at")], "at"))
    values = decoder.decode_mapping(mapping)
    return {name: values[index] for name, index in decoder.position.items() if values[index] is not None}


def test_bytes_of_a_format_are_text_where_no_blob_takes_them() -> None:
    found = decoded(
        {
            "k": b"a", "note": "\u00e4".encode(), "raw": b"\xff", "names": [b"x", "y"],
            "raws": {"z": b"\xfe"}, "meta": {"note": b"n", "raw": b"\xfd"}, "n": b"12", "unknown": b"\xff",
        }
    )  # fmt: skip

    assert found == {
        "k": "a", "note": "\u00e4", "raw": b"\xff", "names": ["x", "y"], "raws": {"z": b"\xfe"},
        "meta.note": "n", "meta.raw": b"\xfd", "n": 12,
    }  # fmt: skip


@pytest.mark.parametrize(
    "mapping", [{"note": b"\xff"}, {"names": [b"\xff"]}, {"meta": {"note": b"\xff"}}, {"n": b"\xff"}]
)
def test_bytes_that_are_no_text_are_rejected_where_a_column_takes_text(mapping: dict[str, Any]) -> None:
    with pytest.raises(RejectError, match=r"are no UTF-8 text: .*0xff"):
        decoded({"k": "a"} | mapping)
