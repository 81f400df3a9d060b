"""Runs the cases of ``cases/*.json``: the bytes of a record become a row, or are rejected with a reason."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_restrack.load.decode import Decoder, plan_fields
from airflow_provider_restrack.load.encode import RowEncoder
from airflow_provider_restrack.load.errors import RejectError
from airflow_provider_restrack.load.table import plan_table
from tests.unit.load.fakes import TARGET, columns_of, prepare

FILES = sorted((Path(__file__).parent / "cases").glob("*.json"))
CASES = [
    pytest.param(table, case, id=f"{path.stem}-{case['name']}")
    for path in FILES
    for table in [json.loads(path.read_text(encoding="utf-8"))]
    for case in table["cases"]
]


def make_row(table: dict[str, Any], raw: bytes | None) -> dict[str, Any]:
    """Return the values that would be stored, read back from the bytes that the driver would send."""
    columns = columns_of(table["columns"], table["partition_key"], table["clustering"])
    plan = plan_table(TARGET, columns, {}, timestamp_field="timestamp")
    fields = plan_fields([plan], "timestamp")
    decoder, prepared = Decoder(fields), prepare(columns)
    encoder = RowEncoder(plan, prepared, fields, decoder.position)
    bound = encoder.encode(decoder.decode(raw), 1, None, None).statement
    pairs = zip(prepared.column_metadata[:-1], bound.values, strict=False)
    return {
        column.name: show(column.type.deserialize(value, 5))
        for column, value in pairs
        if isinstance(value, bytes)
    }


def show(value: Any) -> Any:
    """Return a value in the form in which the cases write it."""
    if hasattr(value, "items"):
        return {str(key): show(one) for key, one in value.items()}
    if isinstance(value, (bool, int, float, str)):
        return value
    if hasattr(value, "isoformat"):
        text: str = value.isoformat(timespec="milliseconds")
        return text.removesuffix(".000")
    if hasattr(value, "__iter__") and not isinstance(value, bytes):
        return [show(one) for one in value]
    return str(value)


@pytest.mark.parametrize(("table", "case"), CASES)
def test_bytes_become_a_row_or_a_reject(table: dict[str, Any], case: dict[str, Any]) -> None:
    value = case.get("value")
    raw = base64.b64decode(case["base64"]) if "base64" in case else None if value is None else value.encode()
    if "row" in case:
        assert make_row(table, raw) == case["row"]
        return
    with pytest.raises(RejectError) as reject:
        make_row(table, raw)
    assert case["reject"] in str(reject.value)


def test_there_are_cases_of_both_kinds() -> None:
    assert {"row" in case.values[1] for case in CASES} == {True, False}
