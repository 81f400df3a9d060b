"""The bytes of rows give the columns that the rows have."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.store.raw_rows import RawRows
from airflow_provider_restrack.store.row_decoder import (
    READABLE_TYPES,
    ColumnKey,
    Columns,
    RowDecoder,
    join_columns,
)
from tests.unit.store.pages import encode_page

TYPES = {
    "timestamp": "timestamp",
    "up": "boolean",
    "cpu_count": "int",
    "memory_total": "bigint",
    "cpu_usage": "double",
    "error": "text",
    "labels": "map<text,text>",
    "filesystem_usage": "map<text,double>",
}
DOUBLES = st.floats(allow_nan=False)
TEXTS = st.sampled_from(["", "db", "é"])
ROWS = st.tuples(
    st.integers(-(1 << 41), 1 << 41),
    st.none() | st.booleans(),
    st.none() | st.integers(-5, 1 << 30),
    st.none() | st.integers(-(1 << 62), 1 << 62),
    st.none() | DOUBLES,
    st.none() | TEXTS,
    st.none() | st.dictionaries(TEXTS, TEXTS, max_size=2),
    st.none() | st.dictionaries(st.sampled_from(["/", "/var", "/é"]), DOUBLES, max_size=3),
)
ROW = (0, True, 4, 1 << 40, 1.5, None, {"role": "db"}, {"/": 1.0})


def decode(*pages: RawRows, decoder: RowDecoder | None = None) -> dict[str, Columns]:
    """Return the columns of each host of the pages."""
    decoder = decoder or make_decoder()
    return {host: join_columns(runs) for host, runs in decoder.decode(pages).items()}


def make_decoder() -> RowDecoder:
    return RowDecoder(tuple(TYPES), tuple(TYPES.values()))


def make_page(*rows: tuple[Any, ...], host: str = "web-1") -> RawRows:
    return encode_page({"host": "text", **TYPES}, [(host, *row) for row in rows])


def expect(rows: list[tuple[Any, ...]]) -> dict[ColumnKey, dict[int, Any]]:
    """Return the values that are there, by column and time."""
    found: dict[ColumnKey, dict[int, Any]] = {}
    for time, *values in rows:
        for name, value in zip(list(TYPES)[1:], values, strict=True):
            inner = value if name == "filesystem_usage" else {None: value}
            for device, one in (inner or {}).items():
                if one is not None:
                    found.setdefault(ColumnKey(name, device), {})[time] = one
    return found


def known(columns: Columns) -> dict[ColumnKey, dict[int, Any]]:
    return {
        key: {time: one for time, one in zip(columns.times, values, strict=True) if one is not None}
        for key, values in columns.values.items()
    }


@given(st.lists(ROWS, max_size=40, unique_by=lambda row: row[0]), st.data())
def test_pages_of_any_rows_give_their_values_in_the_order_of_time(
    rows: list[tuple[Any, ...]], data: st.DataObject
) -> None:
    """Pages come newest first within a day, days oldest first."""
    ordered = sorted(rows, key=lambda row: row[0])
    middle, split = (data.draw(st.integers(0, len(rows))) for _ in range(2))
    pages = [
        make_page(*page)
        for day in (ordered[:middle], ordered[middle:])
        for page in (day[::-1][:split], day[::-1][split:])
    ]

    found = decode(*pages).get("web-1", Columns((), {}))

    assert list(found.times) == [row[0] for row in ordered]
    assert known(found) == expect(rows)


def test_types_of_numbers_stay_and_what_is_read_serves_the_next_page() -> None:
    decoder = make_decoder()
    for number in range(20):  # more layouts than are kept
        row = (number, *ROW[1:-1], {f"/{number}": 1.0})
        page = make_page(row, (number + 1, *row[1:]))
        found = decode(page, decoder=decoder)["web-1"]
        assert found.values[ColumnKey("filesystem_usage", f"/{number}")] == (1.0, 1.0)
        assert [type(found.values[ColumnKey(name)][0]) for name in ("up", "cpu_count", "cpu_usage")] == [
            bool, int, float,
        ]  # fmt: skip


def test_a_row_unlike_its_neighbours_stays_in_its_place() -> None:
    rows = [(time, *ROW[1:]) for time in range(1000)]
    rows[500] = (500, False, None, None, None, "lost", None, {"/": 2.0, "/var": 3.0})

    found = decode(make_page(*rows[::-1]))["web-1"]

    assert found.times == tuple(range(1000))
    assert [n for n, one in enumerate(found.values[ColumnKey("cpu_usage")]) if one is None] == [500]
    assert found.values[ColumnKey("filesystem_usage", "/")][499:502] == (1.0, 2.0, 1.0)
    assert found.values[ColumnKey("filesystem_usage", "/var")][499:502] == (None, 3.0, None)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(struct.pack(">ii2si", 1, 2, b"ab", 8), id="cut-within-a-value"),
        pytest.param(struct.pack(">ii2s", 1, 2, b"ab"), id="cut-before-a-value"),
        pytest.param(struct.pack(">ii2sii", 1, 2, b"ab", 4, 0), id="time-of-four-bytes"),
        pytest.param(struct.pack(">i", 1), id="cut-before-the-host"),
        pytest.param(struct.pack(">ii2s", 1, 3, b"ab"), id="cut-within-the-host"),
        pytest.param(struct.pack(">ii", 1, -1), id="null-for-the-host"),
        pytest.param(struct.pack(">ii", 1, -9), id="length-below-zero"),
        pytest.param(b"", id="no-count"),
        pytest.param(make_page(ROW, ROW).body[:-5], id="cut-within-the-second-row"),
    ],
)
def test_bytes_that_are_no_such_rows_are_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="not rows of timestamp, up, cpu_count"):
        decode(RawRows(body))


def test_no_rows_give_no_columns() -> None:
    assert decode() == decode(make_page()) == {}
    assert join_columns([]) == Columns((), {})


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b", "web-1", "web-2", "é"]), ROWS), max_size=40))
def test_rows_of_several_hosts_go_to_their_hosts(drawn: list[tuple[str, tuple[Any, ...]]]) -> None:
    """Hosts of one length, and of the same bytes as their neighbour's values, are told apart too."""
    rows: dict[str, dict[int, tuple[Any, ...]]] = {}
    for host, row in drawn:
        rows.setdefault(host, {})[row[0]] = row
    every = [(host, *row) for host, of_host in rows.items() for row in of_host.values()]
    for split in (len(every) // 2, len(every)):
        pages = [encode_page({"host": "text", **TYPES}, part) for part in (every[:split], every[split:])]
        found = decode(*pages)
        assert {host: known(columns) for host, columns in found.items()} == {
            host: expect(list(of_host.values())) for host, of_host in rows.items()
        }


def test_all_types_that_are_read_are_tested() -> None:
    assert set(TYPES.values()) == READABLE_TYPES
