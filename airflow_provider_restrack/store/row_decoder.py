"""Rows of numbers as columns, by the standard library: what alerts read, with numpy installed or not.

A row of the CQL native protocol (v3 and later, ``native_protocol_v5.spec`` §4.2.5.2) is one ``[bytes]`` after
the other. Rows of a host differ in their numbers only, so that the layout of one fits those that follow, and
``struct`` unpacks them in one go. 90 rows of 10 columns take 60 µs that way, and no less with numpy, whose
calls cost more than so few numbers; for days of samples at once there is ``store/columns.py``.
"""

from __future__ import annotations

import struct
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow_provider_restrack.store.raw_rows import RawRows

_NUMBERS = {"double": "d", "int": "i", "bigint": "q", "timestamp": "q", "boolean": "?"}
READABLE_TYPES = frozenset({*_NUMBERS, "text", "map<text,double>", "map<text,text>"})
# So many layouts are tried on a row; one that fits none of them gets a new one, which costs some 50 µs.
_TRIED_LAYOUTS = 8


class ColumnKey(NamedTuple):
    """A column of the table; of one that is a map of numbers, one of its devices."""

    name: str
    device: str | None = None


class Columns(NamedTuple):
    """Rows in the order of time, in ms since 1970: their columns, with None where a value is absent."""

    times: tuple[int, ...]
    values: dict[ColumnKey, tuple[Any, ...]]


class RowDecoder:
    """Unpacks rows of a text, such as the host, the time and values; what one row teaches serves the next.

    :param names: the columns in their order, the text left out.
    :param kinds: CQL type of each, without ``frozen``; one of ``READABLE_TYPES``.
    """

    def __init__(self, names: Sequence[str], kinds: Sequence[str]) -> None:
        self._names, self._kinds = tuple(names), tuple(kinds)
        self._layouts: list[_Layout] = []

    def decode(self, pages: Iterable[RawRows]) -> dict[str, list[Columns]]:
        """Return the rows of all pages by their leading text, in runs that ``join_columns`` puts together.

        The times of the rows of one text must differ.

        :raises ValueError: if the bytes are not rows of these columns.
        """
        found: dict[str, list[Columns]] = {}
        try:
            for page in pages:
                for owner, run in self._split(page.body):
                    found.setdefault(owner, []).append(run)
        except (struct.error, UnicodeDecodeError) as error:
            raise ValueError(f"the result is not rows of {', '.join(self._names)}: {error}") from error
        return found

    def _split(self, body: bytes) -> Iterator[tuple[str, Columns]]:
        """Yield the rows of a page, those of one leading text and layout that follow each other together."""
        (count,) = struct.unpack_from(">i", body)
        start = at = 4
        lead, layout = b"", None
        for _ in range(count):
            if layout is None or not (body.startswith(lead, at) and layout.fits(body, at + len(lead))):
                if layout is not None:
                    yield lead[4:].decode(), layout.unpack(body[start:at], len(lead))
                lead, start = _find_lead(body, at), at
                layout = self._find_layout(body, at + len(lead))
            at += len(lead) + layout.size
        if layout is not None:
            yield lead[4:].decode(), layout.unpack(body[start:at], len(lead))

    def _find_layout(self, body: bytes, at: int) -> _Layout:
        for layout in self._layouts:
            if layout.fits(body, at):
                return layout
        layout = _Layout(body, at, self._names, self._kinds)
        self._layouts = [layout, *self._layouts[: _TRIED_LAYOUTS - 1]]
        return layout


def _find_lead(body: bytes, at: int) -> bytes:
    """Return the text that begins a row, with its length before it."""
    (length,) = struct.unpack_from(">i", body, at)
    lead = body[at : at + 4 + length]
    if length < 0 or len(lead) != 4 + length:
        raise struct.error(f"a text of {length} bytes")
    return lead


def join_columns(runs: Iterable[Columns]) -> Columns:
    """Return runs of rows, none of which overlap, as one in the order of time."""
    runs = sorted((run for run in runs if run.times), key=lambda run: run.times[0])
    if len(runs) == 1:
        return runs[0]
    keys = dict.fromkeys(key for run in runs for key in run.values)
    values = {
        key: tuple(chain.from_iterable(run.values.get(key) or repeat(None, len(run.times)) for run in runs))
        for key in keys
    }
    return Columns(tuple(chain.from_iterable(run.times for run in runs)), values)


class _Layout:
    """Where the numbers of a row are, and what the bytes between them must be: lengths, devices, texts.

    :ivar size: bytes of a row.
    """

    def __init__(self, body: bytes, start: int, names: Sequence[str], kinds: Sequence[str]) -> None:
        walk = _Walk(body, start)
        for name, kind in zip(names, kinds, strict=True):
            walk.take_value(ColumnKey(name), kind)
        self._keys, self._constants = walk.keys, walk.constants
        self._format = walk.format
        self._structs: dict[int, struct.Struct] = {}
        self.size = struct.calcsize(f">{walk.format}")
        self._fixed = int.from_bytes(walk.mask, "little")
        self._pattern = int.from_bytes(body[start : start + self.size], "little") & self._fixed

    def fits(self, body: bytes, at: int) -> bool:
        """Whether the row that begins at a place has this layout."""
        return int.from_bytes(body[at : at + self.size], "little") & self._fixed == self._pattern

    def unpack(self, rows: bytes, skipped: int) -> Columns:
        """Return rows that all have this layout, after so many bytes that are skipped."""
        if skipped not in self._structs:
            self._structs[skipped] = struct.Struct(f">{skipped}x{self._format}")
        unpacked = list(self._structs[skipped].iter_unpack(rows))
        if unpacked[0][0] > unpacked[-1][0]:
            unpacked.reverse()
        times, *numbers = zip(*unpacked, strict=True)
        values: dict[ColumnKey, tuple[Any, ...]] = dict(zip(self._keys[1:], numbers, strict=True))
        for key, value in self._constants.items():
            values[key] = (value,) * len(times)
        return Columns(times, values)


class _Walk:
    """Goes through one row, value by value, and notes its layout.

    :ivar keys: of the numbers, in their order.
    :ivar constants: the texts, and maps of them: another text makes another layout.
    :ivar mask: of the row's bytes, set where they are no numbers.
    """

    def __init__(self, body: bytes, at: int) -> None:
        self._body, self._at = body, at
        self.keys: list[ColumnKey] = []
        self.constants: dict[ColumnKey, Any] = {}
        self.format = ""
        self.mask = bytearray()

    def take_value(self, key: ColumnKey, kind: str) -> None:
        """Take in one value with its length."""
        (length,) = struct.unpack(">i", self._take_fixed(4))
        if length < 0:
            return
        if kind in _NUMBERS:
            self._take_number(key, _NUMBERS[kind], length)
        elif kind == "text":
            self.constants[key] = self._take_fixed(length).decode()
        elif kind == "map<text,text>":
            self.constants[key] = {name: self._take_text() for name in self._take_names()}
        else:
            for device in self._take_names():
                self.take_value(key._replace(device=device), "double")

    def _take_names(self) -> Iterator[str]:
        """Yield the names of a map; whoever asks for the next has taken in the value."""
        (count,) = struct.unpack(">i", self._take_fixed(4))
        for _ in range(count):
            yield self._take_text()

    def _take_text(self) -> str:
        (length,) = struct.unpack(">i", self._take_fixed(4))
        return self._take_fixed(length).decode()

    def _take_number(self, key: ColumnKey, code: str, length: int) -> None:
        if length != struct.calcsize(f">{code}"):
            raise struct.error(f"a {key.name} of {length} bytes")
        self._at += length
        self.keys.append(key)
        self.format += code
        self.mask += bytes(length)

    def _take_fixed(self, length: int) -> bytes:
        taken = self._body[self._at : self._at + length]
        if len(taken) != length:
            raise struct.error(f"{length} bytes are missing")
        self._at += length
        self.format += f"{length}x"
        self.mask += b"\xff" * length
        return taken
