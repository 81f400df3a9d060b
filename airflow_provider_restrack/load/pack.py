"""Packs decoded values into the bytes of a statement's values: binding was most of what a row costs.

The driver looks at every value's type again, makes an object of each and joins them by 132 small writes; here
all of it is decided once a table, from its columns. A full sample takes 10 µs where ``bind`` takes 60.
"""

from __future__ import annotations

import struct
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from cassandra.query import UNSET_VALUE

from airflow_provider_restrack.load.cql_types import day_of
from airflow_provider_restrack.load.encode import EncodedRow, RowEncoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_provider_restrack.load.cql_types import CqlType
    from airflow_provider_restrack.load.decode import FieldPlan
    from airflow_provider_restrack.load.table import Source, TablePlan
    from airflow_provider_restrack.load.wire import PackedTable

    Cell = Callable[[Any], bytes]  # a value that is there, as the protocol has it: its length, then its bytes
    Getter = Callable[[list[Any]], Any]  # the driver's value of a column, out of the decoded ones

# struct's code and the width of the types whose decoded value is packed as it is.
_FIXED = {
    "boolean": ("b", 1), "tinyint": ("b", 1), "smallint": ("h", 2), "int": ("i", 4), "bigint": ("q", 8),
    "float": ("f", 4), "double": ("d", 8), "date": ("I", 4), "time": ("q", 8),
}  # fmt: skip
_NUMBERS = frozenset(_FIXED) - {"date", "time"}  # those that need no conversion inside a collection either
_TEXTS = {"text": "utf-8", "varchar": "utf-8", "ascii": "ascii"}
# Types of which equal values have equal bytes; 0.0 and -0.0, or 1.0 and 1.00, have not.
_CACHED_KEYS = {
    *_TEXTS,
    "tinyint",
    "smallint",
    "int",
    "bigint",
    "date",
    "time",
    "timestamp",
    "uuid",
    "timeuuid",
}
_MAX_PATTERNS = 16  # of absent fields in one table; where there are more, columns are packed one by one
_MAX_CACHED = 20_000  # partitions and shapes of maps remembered; a few MB
_MAX_CACHED_BYTES = 512
_MAX_CACHED_ITEMS = 64
_length = struct.Struct(">i").pack
_LENGTHS = [_length(size) for size in range(256)]
NULL, UNSET = _length(-1), _length(-2)
_write_time = struct.Struct(">iq").pack
_write_time_and_ttl = struct.Struct(">iqii").pack
# Whatever goes wrong here, the driver's own binding says what it is.
_ERRORS = (struct.error, TypeError, ValueError, OverflowError, AttributeError, KeyError)


def arrange(plan: TablePlan) -> TablePlan:
    """Return the plan with columns of fixed width side by side, so that one call packs them all."""
    count = plan.key_size
    rest = sorted(plan.sources[count:], key=lambda source: not _is_plain(source))
    return type(plan)(plan.target, (*plan.sources[:count], *rest))


def _is_plain(source: Source) -> bool:
    return source.column.cql.name in _FIXED and source.fallback is None


def _end_of_run(plan: TablePlan, prepared: Any, fields: Mapping[str, FieldPlan]) -> int:
    """Return the index after the last column, from the key on, whose decoded value is packed as it is."""
    end = plan.key_size
    for source, column in zip(plan.sources[end:], prepared.column_metadata[end:], strict=False):
        if not _is_plain(source) or fields[source.field].is_instant:
            break
        if not _is_same(source.column.cql, column.type):
            break
        end += 1
    return end


class PackedEncoder:
    """Packs the rows of one table; it does what ``RowEncoder`` does, and leaves to it what it cannot.

    It reuses its buffers: one object serves one thread.

    :param packed: what makes statements of the rows.
    """

    def __init__(
        self,
        plan: TablePlan,
        packed: PackedTable,
        fields: Mapping[str, FieldPlan],
        position: Mapping[str, int],
    ) -> None:
        self.plan = plan
        self._packed = packed
        self._reference = RowEncoder(plan, packed.prepared, fields, position)
        self._absent = UNSET if plan.target.mode == "merge" else NULL
        self._has_ttl = len(packed.prepared.column_metadata) == len(plan.sources) + 2
        getters = [_getter(source, fields, position) for source in plan.sources]
        cells = _cells(plan, packed.prepared)
        size, count = plan.partition_size, plan.key_size
        self._partition = _Partition(
            plan.sources[:size], getters[:size], cells[:size], self._reference.check_key
        )
        self._clustering = list(zip(getters[size:count], cells[size:count], strict=True))
        self._fixed_key = all(
            source.column.cql.name in _FIXED or source.column.cql.name == "timestamp"
            for source in plan.sources[size:count]
        )
        end = _end_of_run(plan, packed.prepared, fields)
        codes = [_FIXED[source.column.cql.name] for source in plan.sources[count:end]]
        where = [position[source.field] for source in plan.sources[count:end]]
        self._run = _Run(where, codes, self._absent)
        # An empty collection that is not frozen is a deletion in Cassandra; absent is not deleted.
        deletes = [bool(one.column.cql.arguments) and not one.column.cql.frozen for one in plan.sources]
        self._others = list(zip(getters[end:], cells[end:], deletes[end:], strict=True))

    def encode(self, values: list[Any], write_us: int, ttl_s: int | None, record: Any) -> EncodedRow:
        """Return the packed row; parameters and errors are those of ``RowEncoder.encode``."""
        absent = self._absent
        try:
            partition_key, head = self._partition.find(values)
            parts, key = [head], list(partition_key)
            for get, cell in self._clustering:
                packed = cell(get(values))
                parts.append(packed)
                key.append(packed[4:])
            if not self._fixed_key:
                self._reference.check_key(key)
            packed, missing = self._run.pack(values)
            parts.append(packed)
            for get, cell, deletes in self._others:
                value = get(values)
                if value is None or (deletes and not value):
                    missing += 1
                    parts.append(absent)
                else:
                    parts.append(cell(value))
            parts.append(self._tail(write_us, ttl_s))
        except _ERRORS:
            return self._bind(values, write_us, ttl_s, record)
        body = b"".join(parts)
        size = len(body) - 4 * missing
        return EncodedRow(partition_key, tuple(key), write_us, size, body, record, self._packed)

    def _tail(self, write_us: int, ttl_s: int | None) -> bytes:
        if not self._has_ttl:
            return _write_time(8, write_us)
        return _write_time_and_ttl(8, write_us, 4, ttl_s)

    def _bind(self, values: list[Any], write_us: int, ttl_s: int | None, record: Any) -> EncodedRow:
        """Make the row by the driver's binding, which names the column at fault."""
        row = self._reference.encode(values, write_us, ttl_s, record)
        body = pack_bound(row.statement.values)
        return EncodedRow(row.partition_key, row.primary_key, write_us, row.size, body, record, self._packed)


def pack_bound(values: Iterable[Any]) -> bytes:
    """Return what the driver writes for the values of a bound statement."""
    return b"".join(
        NULL if value is None else UNSET if value is UNSET_VALUE else _length(len(value)) + value
        for value in values
    )


class _Partition:
    """Packs partition keys; a fleet has few, so each is packed and checked once."""

    def __init__(
        self,
        sources: Sequence[Source],
        getters: Sequence[Getter],
        cells: Sequence[Cell],
        check: Callable[[Sequence[Any]], None],
    ) -> None:
        self._getters, self._cells, self._check = getters, cells, check
        self._known: dict[Any, tuple[tuple[bytes, ...], bytes]] | None = None
        if all(source.column.cql.name in _CACHED_KEYS for source in sources):
            self._known = {}
        self._pair = tuple(getters) if len(getters) == 2 else None

    def find(self, values: list[Any]) -> tuple[tuple[bytes, ...], bytes]:
        """Return the parts of the key, and their cells in one."""
        if self._pair is not None:
            first, second = self._pair
            key: Any = (first(values), second(values))
        else:
            key = tuple([get(values) for get in self._getters])
        if self._known is None:
            return self._pack(key)
        found = self._known.get(key)
        if found is None:
            found = self._pack(key)
            if len(found[1]) <= _MAX_CACHED_BYTES:
                if len(self._known) >= _MAX_CACHED:
                    self._known.clear()
                self._known[key] = found
        return found

    def _pack(self, key: Sequence[Any]) -> tuple[tuple[bytes, ...], bytes]:
        packed = [cell(value) for cell, value in zip(self._cells, key, strict=True)]
        parts = tuple(one[4:] for one in packed)
        self._check(parts)
        return parts, b"".join(packed)


class _Template:
    """Bytes with gaps for numbers, filled by one call: constants stand in the same struct as the numbers."""

    __slots__ = ("_arguments", "_pack")

    def __init__(self, constants: Sequence[bytes], codes: Sequence[str], end: bytes = b"") -> None:
        layout = "".join(f"{len(one)}s{code}" for one, code in zip(constants, codes, strict=True))
        self._arguments: list[Any] = [one for constant in constants for one in (constant, None)] + [end]
        self._pack = struct.Struct(f">{layout}{len(end)}s").pack

    def fill(self, numbers: Iterable[Any]) -> bytes:
        arguments = self._arguments
        arguments[1:-1:2] = numbers
        return self._pack(*arguments)


class _Pattern:
    """The columns of a run with the same ones absent."""

    def __init__(
        self, where: Sequence[int], codes: Sequence[tuple[str, int]], absent: bytes, gone: tuple[bool, ...]
    ) -> None:
        self.gone, self.missing = gone, sum(gone)
        constants, kept, waiting = [], [], b""
        for (code, width), missing in zip(codes, gone, strict=True):
            if missing:
                waiting += absent
                continue
            constants.append(waiting + _length(width))
            kept.append(code)
            waiting = b""
        self.fill = _Template(constants, kept, waiting).fill
        self.present = _items([index for index, missing in zip(where, gone, strict=True) if not missing])
        self.absent = _items([index for index, missing in zip(where, gone, strict=True) if missing])
        self.nones = (None,) * self.missing


class _Run:
    """Packs columns of fixed width that stand side by side: 48 of them take 2 µs, one by one they take 8.

    Which fields are absent is the same in nearly all samples of a host, so there is a template for each such
    pattern. Those with more absences come first: none then matches a row of another known pattern.
    """

    def __init__(self, where: Sequence[int], codes: Sequence[tuple[str, int]], absent: bytes) -> None:
        self._where, self._codes, self._absent = where, codes, absent
        self._patterns: list[_Pattern] = []
        self._cells = [_number_cell(code, width) for code, width in codes]

    def pack(self, values: list[Any]) -> tuple[bytes, int]:
        """Return the cells, and how many of them are absent."""
        for pattern in self._patterns:
            if pattern.absent(values) == pattern.nones:
                try:
                    return pattern.fill(pattern.present(values)), pattern.missing
                except struct.error:  # a further value is None
                    break
        return self._learn(values)

    def _learn(self, values: list[Any]) -> tuple[bytes, int]:
        gone = tuple(values[index] is None for index in self._where)
        if len(self._patterns) >= _MAX_PATTERNS or any(one.gone == gone for one in self._patterns):
            return self._pack_each(values), sum(gone)
        pattern = _Pattern(self._where, self._codes, self._absent, gone)
        packed = pattern.fill(pattern.present(values))
        self._patterns.append(pattern)
        self._patterns.sort(key=lambda one: -one.missing)
        return packed, pattern.missing

    def _pack_each(self, values: list[Any]) -> bytes:
        pairs = zip(self._where, self._cells, strict=True)
        return b"".join(
            [self._absent if values[index] is None else cell(values[index]) for index, cell in pairs]
        )


def _items(indices: Sequence[int]) -> Callable[[list[Any]], tuple[Any, ...]]:
    if len(indices) > 1:
        return itemgetter(*indices)
    return lambda values: tuple([values[index] for index in indices])


def _getter(source: Source, fields: Mapping[str, FieldPlan], position: Mapping[str, int]) -> Getter:
    """Return what takes the driver's value of a column, or None, from the decoded values."""
    index, instant = position[source.field], fields[source.field].is_instant
    if source.column.cql.name == "timestamp":
        return lambda values: None if (value := values[index]) is None else value // 1000
    if source.fallback is not None:
        return _derived_day(index, position[source.fallback], instant=instant)
    if instant:
        return lambda values: None if (value := values[index]) is None else day_of(value)
    return itemgetter(index)


def _derived_day(index: int, fallback: int, *, instant: bool) -> Getter:
    def get(values: list[Any]) -> int | None:
        day: int | None = values[index]
        if day is not None:
            return day_of(day) if instant else day
        moment = values[fallback]
        return None if moment is None else day_of(moment)

    return get


def _cells(plan: TablePlan, prepared: Any) -> list[Cell]:
    columns = prepared.column_metadata
    return [
        _cell(source.column.cql, column.type, prepared.protocol_version)
        for source, column in zip(plan.sources, columns, strict=False)
    ]


def _cell(cql: CqlType, kind: Any, version: int) -> Cell:
    """Return what packs a column's values; those of rarer types go through the driver's own type."""
    driver = _driver_cell(kind, version)
    if not _is_same(cql, kind):
        return driver
    if cql.arguments:
        return _collection_cell(cql, driver)
    if cql.name in _FIXED:
        return _number_cell(*_FIXED[cql.name])
    if cql.name in _TEXTS:
        return _text_cell(_TEXTS[cql.name])
    return {"timestamp": _number_cell("q", 8), "uuid": _uuid_cell, "timeuuid": _uuid_cell}.get(
        cql.name, driver
    )


def _collection_cell(cql: CqlType, driver: Cell) -> Cell:
    names = [one.name for one in cql.arguments]
    if cql.name == "list" and names[0] in _NUMBERS:
        return _list_cell(*_FIXED[names[0]], driver)
    if cql.name == "map" and names[0] in _TEXTS and names[1] in _NUMBERS:
        return _map_cell(_TEXTS[names[0]], *_FIXED[names[1]], driver)
    if cql.name == "map" and names[0] in _TEXTS and names[1] in _TEXTS:
        return _labels_cell(driver)
    return driver


def _is_same(cql: CqlType, kind: Any) -> bool:
    """Whether the driver has a column's type under the same name as the schema."""
    named = kind.typename == cql.name or {kind.typename, cql.name} == {"text", "varchar"}
    inner = tuple(kind.subtypes)
    return named and len(inner) == len(cql.arguments) and all(map(_is_same, cql.arguments, inner))


def _number_cell(code: str, width: int) -> Cell:
    pack = struct.Struct(f">i{code}").pack
    return lambda value: pack(width, value)


def _text_cell(encoding: str) -> Cell:
    def cell(value: str) -> bytes:
        raw = value.encode(encoding)
        size = len(raw)
        return (_LENGTHS[size] if size < 256 else _length(size)) + raw

    return cell


def _uuid_cell(value: Any) -> bytes:
    raw: bytes = value.int.to_bytes(16, "big")  # as its property ``bytes``, without that call
    return b"\x00\x00\x00\x10" + raw


def _driver_cell(kind: Any, version: int) -> Cell:
    def cell(value: Any) -> bytes:
        if value is None:
            raise ValueError("no value")
        raw: bytes = kind.serialize(value, version)
        return _length(len(raw)) + raw

    return cell


def _list_cell(code: str, width: int, driver: Cell) -> Cell:
    """Return what packs lists of numbers, by a template for each number of items."""
    known: dict[int, _Template] = {}

    def cell(items: list[Any]) -> bytes:
        count = len(items)
        template = known.get(count)
        if template is None:
            if not 0 < count <= _MAX_CACHED_ITEMS:
                return driver(items)
            starts = [_length(width)] * count
            starts[0] = _length(4 + count * (4 + width)) + _length(count) + starts[0]
            template = known[count] = _Template(starts, code * count)
        return template.fill(items)

    return cell


def _map_cell(encoding: str, code: str, width: int, driver: Cell) -> Cell:
    """Return what packs maps of text to numbers: one host's mounts or devices are the same in every sample,
    so that a template holds all but the numbers (0.7 µs a map; 4 through the driver).
    """
    known: dict[tuple[str, ...], _Template] = {}

    def learn(keys: tuple[str, ...]) -> _Template | None:
        raw = [key.encode(encoding) for key in keys]
        size = 4 + sum(8 + width + len(key) for key in raw)
        if not 0 < len(raw) <= _MAX_CACHED_ITEMS or size > _MAX_CACHED_BYTES * 8:
            return None
        starts = [_length(len(key)) + key + _length(width) for key in raw]
        starts[0] = _length(size) + _length(len(raw)) + starts[0]
        if len(known) >= _MAX_CACHED // 20:
            known.clear()
        known[keys] = template = _Template(starts, code * len(raw))
        return template

    def cell(items: dict[str, Any]) -> bytes:
        keys = tuple(items)
        template = known.get(keys) or learn(keys)
        return driver(items) if template is None else template.fill(items.values())

    return cell


def _labels_cell(driver: Cell) -> Cell:
    """Return what packs maps of text to text; a host's labels are the same in every sample."""
    known: dict[tuple[tuple[str, str], ...], bytes] = {}

    def cell(items: dict[str, str]) -> bytes:
        key = tuple(items.items())
        found = known.get(key)
        if found is None:
            found = driver(items)
            if len(found) <= _MAX_CACHED_BYTES:
                if len(known) >= _MAX_CACHED // 4:
                    known.clear()
                known[key] = found
        return found

    return cell
