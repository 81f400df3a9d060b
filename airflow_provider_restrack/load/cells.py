"""Makes, for a column's type, what packs its values: each as the protocol has it, its length and its bytes.

Values of numbers, texts and the collections of samples are packed here; those of rarer types go through the
driver's own types, which give the same bytes.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from airflow_provider_restrack.load.cql_types import CqlType

    Cell = Callable[[Any], bytes]

# struct's code and the width of the types whose decoded value is packed as it is.
FIXED = {
    "boolean": ("b", 1), "tinyint": ("b", 1), "smallint": ("h", 2), "int": ("i", 4), "bigint": ("q", 8),
    "float": ("f", 4), "double": ("d", 8), "date": ("I", 4), "time": ("q", 8),
}  # fmt: skip
TEXTS = {"text": "utf-8", "varchar": "utf-8", "ascii": "ascii"}
_NUMBERS = frozenset(FIXED) - {"date", "time"}  # those that need no conversion inside a collection either
_MAX_ITEMS = 64  # of the collections for which there are templates
_MAX_TEXT = 512  # characters of a map's keys, or bytes of labels, that are remembered
_MAX_SHAPES = 1000  # sets of keys remembered for a column: a template of two takes 0.5 KB, and 3 µs to make
_MAX_MISSES = 10_000  # maps packed without a template, after which they are learnt anew
_MAX_LABELS = 5000
length = struct.Struct(">i").pack
_LENGTHS = [length(size) for size in range(256)]


class Template:
    """Bytes with gaps for numbers, filled by one call: constants stand in the same struct as the numbers."""

    __slots__ = ("arguments", "pack")

    def __init__(self, constants: Sequence[bytes], codes: Sequence[str], end: bytes = b"") -> None:
        layout = "".join(f"{len(one)}s{code}" for one, code in zip(constants, codes, strict=True))
        self.arguments: list[Any] = [one for constant in constants for one in (constant, None)] + [end]
        self.pack = struct.Struct(f">{layout}{len(end)}s").pack

    def fill(self, numbers: Iterable[Any]) -> bytes:
        """Return the bytes with these numbers in the gaps."""
        arguments = self.arguments
        arguments[1:-1:2] = numbers
        return self.pack(*arguments)


def cell_of(cql: CqlType, kind: Any, version: int) -> Cell:
    """Return what packs a column's values; those of rarer types go through the driver's own type."""
    driver = _driver_cell(kind, version)
    if not is_same(cql, kind):
        return driver
    if cql.arguments:
        return _collection_cell(cql, driver)
    if cql.name in FIXED:
        return number_cell(*FIXED[cql.name])
    if cql.name in TEXTS:
        return _text_cell(TEXTS[cql.name])
    return {"timestamp": number_cell("q", 8), "uuid": _uuid_cell, "timeuuid": _uuid_cell}.get(
        cql.name, driver
    )


def _collection_cell(cql: CqlType, driver: Cell) -> Cell:
    names = [one.name for one in cql.arguments]
    if cql.name == "list" and names[0] in _NUMBERS:
        return _list_cell(*FIXED[names[0]], driver)
    if cql.name == "map" and names[0] in TEXTS and names[1] in _NUMBERS:
        return _map_cell(TEXTS[names[0]], *FIXED[names[1]])
    if cql.name == "map" and names[0] in TEXTS and names[1] in TEXTS:
        return _labels_cell(TEXTS[names[0]], TEXTS[names[1]])
    return driver


def is_same(cql: CqlType, kind: Any) -> bool:
    """Whether the driver has a column's type under the same name as the schema."""
    named = kind.typename == cql.name or {kind.typename, cql.name} == {"text", "varchar"}
    inner = tuple(kind.subtypes)
    return named and len(inner) == len(cql.arguments) and all(map(is_same, cql.arguments, inner))


def number_cell(code: str, width: int) -> Cell:
    """Return what packs numbers of one width."""
    pack = struct.Struct(f">i{code}").pack
    return lambda value: pack(width, value)


def _text_cell(encoding: str) -> Cell:
    def cell(value: str) -> bytes:
        raw = value.encode(encoding)
        size = len(raw)
        return (_LENGTHS[size] if size < 256 else length(size)) + raw

    return cell


def _uuid_cell(value: Any) -> bytes:
    raw: bytes = value.int.to_bytes(16, "big")  # as its property ``bytes``, without that call
    return b"\x00\x00\x00\x10" + raw


def _driver_cell(kind: Any, version: int) -> Cell:
    def cell(value: Any) -> bytes:
        if value is None:
            raise ValueError("no value")
        raw: bytes = kind.serialize(value, version)
        return length(len(raw)) + raw

    return cell


def _list_cell(code: str, width: int, driver: Cell) -> Cell:
    """Return what packs lists of numbers, by a template for each number of items (0.3 µs for four; 1.4
    through the driver).
    """
    known: dict[int, Template] = {}

    def cell(items: list[Any]) -> bytes:
        count = len(items)
        template = known.get(count)
        if template is None:
            if not 0 < count <= _MAX_ITEMS:
                return driver(items)
            starts = [length(width)] * count
            starts[0] = length(4 + count * (4 + width)) + length(count) + starts[0]
            template = known[count] = Template(starts, code * count)
        template.arguments[1:-1:2] = items
        return template.pack(*template.arguments)

    return cell


def _map_cell(encoding: str, code: str, width: int) -> Cell:
    """Return what packs maps of text to numbers: one host's mounts or devices are the same in every sample,
    so that a template for its keys holds all but the numbers (0.6 µs for two; 1.6 through the driver).
    """
    known: dict[tuple[str, ...], Template] = {}
    one_by_one = _item_cell(_text_cell(encoding), number_cell(code, width))
    misses = 0

    def learn(keys: tuple[str, ...]) -> Template | None:
        nonlocal misses
        misses += 1
        if misses >= _MAX_MISSES:  # a large fleet's names come and go
            known.clear()
            misses = 0
        if len(known) >= _MAX_SHAPES or not 0 < len(keys) <= _MAX_ITEMS or len("".join(keys)) > _MAX_TEXT:
            return None
        known[keys] = template = _map_template([key.encode(encoding) for key in keys], code, width)
        return template

    def cell(items: dict[str, Any]) -> bytes:
        keys = tuple(items)
        template = known.get(keys) or learn(keys)
        if template is None:
            return one_by_one(items)
        template.arguments[1:-1:2] = items.values()
        return template.pack(*template.arguments)

    return cell


def _map_template(keys: Sequence[bytes], code: str, width: int) -> Template:
    size = 4 + sum(8 + width + len(key) for key in keys)
    starts = [length(len(key)) + key + length(width) for key in keys]
    starts[0] = length(size) + length(len(keys)) + starts[0]
    return Template(starts, code * len(keys))


def _item_cell(of_key: Cell, of_value: Cell) -> Cell:
    def cell(items: dict[Any, Any]) -> bytes:
        parts = [packed for key, value in items.items() for packed in (of_key(key), of_value(value))]
        body = b"".join(parts)
        return length(4 + len(body)) + length(len(items)) + body

    return cell


def _labels_cell(key_encoding: str, encoding: str) -> Cell:
    """Return what packs maps of text to text; a host's labels are the same in every sample (0.25 µs for two;
    1.6 through the driver).
    """
    known: dict[tuple[tuple[str, str], ...], bytes] = {}
    one_by_one = _item_cell(_text_cell(key_encoding), _text_cell(encoding))

    def cell(items: dict[str, str]) -> bytes:
        key = tuple(items.items())
        found = known.get(key)
        if found is None:
            found = one_by_one(items)
            if len(found) <= _MAX_TEXT:
                if len(known) >= _MAX_LABELS:
                    known.clear()
                known[key] = found
        return found

    return cell
