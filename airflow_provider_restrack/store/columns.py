"""Rows of numbers as columns: the bytes of a result go to numpy, without an object for each cell.

A row of the CQL native protocol (v3 and later, ``native_protocol_v5.spec`` §4.2.5.2) is one ``[bytes]`` after
the other. Rows of one host differ in their numbers only, so that where one row's numbers are tells where
those of the next thousand are; the bytes between them (lengths, names of devices) are compared, and a row
that has others gets a layout of its own.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from airflow_provider_restrack.store.raw_rows import RawRows
from airflow_provider_restrack.store.tiers import AGGREGATE, AGGREGATE_FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

_DTYPES = {"double": ">f8", "int": ">i4", "bigint": ">i8", "timestamp": ">i8", "boolean": ">i1"}
# From so many rows on, a stride through them is cheaper than to gather each.
_STRIDE_ROWS = 16
# So many layouts are tried on a row; one that fits none of them gets a new one, which costs some 100 µs.
_TRIED_LAYOUTS = 8


class Key(NamedTuple):
    """What a column of numbers is: a column of the table, of a map its device, of an aggregate its field."""

    column: str
    device: str | None = None
    field: str | None = None


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows as columns, oldest first: ``times`` in ms since 1970, the rest doubles with NaN where absent."""

    times: NDArray[np.int64]
    series: Mapping[Key, NDArray[np.float64]]


def build_columns(rows: Iterable[Any], names: Sequence[str], types: Mapping[str, str]) -> Columns:
    """Return the rows of results as columns.

    :param rows: ``RawRows``, or tuples as the driver decodes them; the first column is the time.
    :param names: the columns in their order.
    :param types: CQL type of each.
    :raises ValueError: if the bytes are not rows of these columns.
    """
    plain: list[tuple[Any, ...]] = []
    parts: list[_Part] = []
    kinds = [types[name].replace(" ", "") for name in names]
    for row in rows:
        if isinstance(row, RawRows):
            parts.append(_read_page(row.body, names, kinds))
        else:
            plain.append(row)
    if plain:
        parts.append(_read_plain(plain, names))
    return _join(parts, names[0])


_Part = tuple[int, dict[Key, "NDArray[np.float64]"], "NDArray[np.int64]"]


def _join(parts: Sequence[_Part], time: str) -> Columns:
    """Put pages one behind the other, in the order of time."""
    if not parts:
        return Columns(np.zeros(0, np.int64), {})
    times = np.concatenate([part[2] for part in parts])
    order = np.argsort(times, kind="stable")
    keys = dict.fromkeys(key for _, series, _ in parts for key in series if key.column != time)
    joined = {
        key: np.concatenate([series.get(key, np.full(count, np.nan)) for count, series, _ in parts])[order]
        for key in keys
    }
    return Columns(times[order], joined)


class _Layout:
    """Where the numbers of a row are, and what the bytes between them must be."""

    def __init__(self, body: bytes, start: int, names: Sequence[str], kinds: Sequence[str]) -> None:
        self.slots: list[tuple[Key, int, str]] = []
        self._body, at = body, start
        for name, kind in zip(names, kinds, strict=True):
            at = self._walk(kind, Key(name), at)
        self.size = at - start
        self.slots = [(key, offset - start, dtype) for key, offset, dtype in self.slots]
        fixed = np.ones(self.size, bool)
        for _, offset, dtype in self.slots:
            fixed[offset : offset + int(dtype[2])] = False
        self.fixed = np.flatnonzero(fixed)
        self.bytes = np.frombuffer(body, np.uint8, self.size, start)[self.fixed]
        self.starts: list[int] = []
        self.rows: list[int] = []

    def _walk(self, kind: str, key: Key, at: int) -> int:
        """Take in one value, and return where it ends."""
        length: int = struct.unpack_from(">i", self._body, at)[0]
        at += 4
        if length < 0:
            return at
        if kind.startswith("frozen<"):
            kind = kind[len("frozen<") : -1]
        end: int = at + length
        if kind in _DTYPES:
            if length:
                self.slots.append((key, at, _DTYPES[kind]))
        elif kind == AGGREGATE:
            for name, inner in AGGREGATE_FIELDS.items():
                if at < end:
                    at = self._walk(inner, key._replace(field=name), at)
        else:
            self._walk_map(kind, key, at)
        return end

    def _walk_map(self, kind: str, key: Key, at: int) -> None:
        if not kind.startswith("map<text,"):
            raise ValueError(f"column {key.column}: {kind} is not made of numbers")
        inner = kind[len("map<text,") : -1]
        (count,) = struct.unpack_from(">i", self._body, at)
        at += 4
        for _ in range(count):
            (length,) = struct.unpack_from(">i", self._body, at)
            at += 4
            device = self._body[at : at + length].decode()
            at = self._walk(inner, key._replace(device=device), at + length)

    def count_alike(self, data: NDArray[np.uint8], at: int, most: int) -> int:
        """Return how many rows from here on have this layout, up to ``most``."""
        alike, step = 0, 1
        most = min(most, (len(data) - at) // self.size)
        while alike < most:
            taken = min(step, most - alike)
            start = at + alike * self.size
            block = data[start : start + taken * self.size].reshape(taken, self.size)
            same = (block[:, self.fixed] == self.bytes).all(axis=1)
            if not same.all():
                return alike + int(np.argmin(same))
            alike, step = alike + taken, min(step * 8, 1024)
        return alike


def _read_page(body: bytes, names: Sequence[str], kinds: Sequence[str]) -> _Part:
    """Return a page as columns; the time is apart, as whole numbers."""
    try:
        (count,) = struct.unpack_from(">i", body)
        page = _Page(body, count, names[0])
        page.read(names, kinds)
    except (struct.error, UnicodeDecodeError, IndexError) as error:
        raise ValueError(f"the result is not rows of {', '.join(names)}: {error}") from error
    return count, page.series, page.times


class _Page:
    """Columns that are filled layout by layout."""

    def __init__(self, body: bytes, count: int, time: str) -> None:
        self._body, self._count, self._time = body, count, time
        self._data = np.frombuffer(body, np.uint8)
        self.series: dict[Key, NDArray[np.float64]] = {}
        self.times = np.zeros(count, np.int64)

    def read(self, names: Sequence[str], kinds: Sequence[str]) -> None:
        layouts: list[_Layout] = []
        at, row = 4, 0
        while row < self._count:
            for number, layout in enumerate(layouts[:_TRIED_LAYOUTS]):
                if alike := layout.count_alike(self._data, at, self._count - row):
                    layouts.insert(0, layouts.pop(number))
                    break
            else:
                layout = _Layout(self._body, at, names, kinds)
                layouts.insert(0, layout)
                alike = max(1, layout.count_alike(self._data, at, self._count - row))
            if alike >= _STRIDE_ROWS:
                self._stride(layout, at, row, alike)
            else:
                layout.starts += range(at, at + alike * layout.size, layout.size)
                layout.rows += range(row, row + alike)
            at, row = at + alike * layout.size, row + alike
        for layout in layouts:
            self._gather(layout)

    def _stride(self, layout: _Layout, at: int, row: int, alike: int) -> None:
        for key, offset, dtype in layout.slots:
            found: NDArray[Any] = np.ndarray(alike, dtype, self._body, at + offset, (layout.size,))
            self._column(key)[row : row + alike] = found

    def _gather(self, layout: _Layout) -> None:
        if not layout.rows:
            return
        starts = np.array(layout.starts)[:, None]
        for key, offset, dtype in layout.slots:
            cells = self._data[starts + np.arange(offset, offset + int(dtype[2]))]
            self._column(key)[layout.rows] = cells.view(dtype)[:, 0]

    def _column(self, key: Key) -> NDArray[Any]:
        if key.column == self._time:
            return self.times
        if key not in self.series:
            self.series[key] = np.full(self._count, np.nan)
        return self.series[key]


def _read_plain(rows: Sequence[tuple[Any, ...]], names: Sequence[str]) -> _Part:
    """Return decoded rows as columns."""
    times = np.array([np.datetime64(row[0], "ms").astype(np.int64) for row in rows], np.int64)
    series: dict[Key, NDArray[np.float64]] = {}
    for number, row in enumerate(rows):
        for name, value in zip(names[1:], row[1:], strict=True):
            for key, found in _flatten(Key(name), value):
                series.setdefault(key, np.full(len(rows), np.nan))[number] = found
    return len(rows), series, times


def _flatten(key: Key, value: Any) -> Iterator[tuple[Key, float]]:
    if value is None:
        return
    if hasattr(value, "items"):
        for device, inner in value.items():
            yield from _flatten(key._replace(device=device), inner)
    elif isinstance(value, tuple):
        for name, inner in zip(AGGREGATE_FIELDS, value, strict=True):
            yield from _flatten(key._replace(field=name), inner)
    else:
        yield key, float(value)
