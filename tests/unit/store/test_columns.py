"""The bytes of a result and the driver's decoded rows give the same columns."""

from __future__ import annotations

import math
import struct
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.store.columns import Columns, Key, build_columns
from airflow_provider_restrack.store.raw_rows import RawRows
from tests.unit.store.pages import encode_page

TYPES = {
    "timestamp": "timestamp",
    "up": "boolean",
    "cpu_count": "int",
    "memory_total": "bigint",
    "cpu_usage": "double",
    "filesystem_usage": "frozen<map<text,double>>",
    "load_1m": "frozen<aggregate>",
    "device_read": "frozen<map<text, frozen<aggregate>>>",
}

DOUBLES = st.floats(allow_nan=False)
AGGREGATES = st.tuples(st.integers(0, 1 << 30), *[st.none() | DOUBLES] * 5)
DEVICES = st.sampled_from(["/", "/var", "/é"])
ROWS = st.tuples(
    st.integers(0, 1 << 41),
    st.none() | st.booleans(),
    st.none() | st.integers(-5, 1 << 30),
    st.none() | st.integers(-(1 << 52), 1 << 52),
    st.none() | DOUBLES,
    st.none() | st.dictionaries(DEVICES, DOUBLES, max_size=3),
    st.none() | AGGREGATES,
    st.none() | st.dictionaries(DEVICES, AGGREGATES, max_size=2),
)


def page(rows: list[tuple[Any, ...]]) -> RawRows:
    return encode_page(TYPES, rows)


def decoded(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a row as the driver does: a naive time."""
    return (np.datetime64(row[0], "ms").astype(datetime), *row[1:])


def columns(rows: list[Any]) -> Columns:
    return build_columns(rows, tuple(TYPES), TYPES)


def known(found: Columns) -> dict[Key, dict[int, float]]:
    """Return the numbers that are there, by key and place."""
    return {
        key: {n: value for n, value in enumerate(series.tolist()) if not math.isnan(value)}
        for key, series in found.series.items()
        if not np.isnan(series).all()
    }


@given(st.lists(ROWS, max_size=30, unique_by=lambda row: row[0]), st.integers(1, 30))
def test_bytes_give_what_decoded_rows_give(rows: list[tuple[Any, ...]], split: int) -> None:
    raw, plain = columns([page(rows[:split]), page(rows[split:])]), columns([decoded(row) for row in rows])

    assert raw.times.tolist() == plain.times.tolist() == sorted(row[0] for row in rows)
    assert known(raw) == known(plain)


def test_a_thousand_rows_alike_and_one_that_is_not_are_read_in_order() -> None:
    row = (0, True, 4, 1 << 40, 1.5, {"/": 1.0}, None, None)
    rows = [(n, *row[1:]) for n in range(1000)]
    rows[500] = (500, False, None, None, None, {"/": 2.0, "/var": 3.0}, None, None)

    found = columns([page(rows)])

    assert found.times.tolist() == list(range(1000))
    assert np.flatnonzero(np.isnan(found.series[Key("cpu_usage")])).tolist() == [500]
    assert found.series[Key("filesystem_usage", "/")][[499, 500]].tolist() == [1.0, 2.0]
    assert found.series[Key("filesystem_usage", "/var")][500] == 3.0


def test_rows_that_are_none_of_these_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="not rows of timestamp, cpu_usage"):
        build_columns([RawRows(struct.pack(">ii", 1, 8))], ("timestamp", "cpu_usage"), TYPES)
    with pytest.raises(ValueError, match="labels: text is not made of numbers"):
        build_columns([RawRows(struct.pack(">ii", 1, 0))], ("labels",), {"labels": "text"})


def test_nothing_gives_nothing() -> None:
    assert columns([]).times.size == 0


def test_times_are_whole_milliseconds() -> None:
    moment = datetime(2026, 11, 24, 12, 0, 0, 123000, tzinfo=UTC)
    found = columns([decoded((round(moment.timestamp() * 1000), *[None] * 7))])
    assert found.times.tolist() == [round(moment.timestamp() * 1000)]
