"""Packs decoded values into the bytes of a statement's values: binding was most of what a row costs.

The driver looks at every value's type again and makes an object of each; here all of it is decided once a
table, from its columns. A full sample takes 12 µs where ``bind`` takes 64; a row of 9 columns takes 2 where
``bind`` takes 11 (``benchmarks/encode.py``).
"""

from __future__ import annotations

import struct
from dataclasses import replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from cassandra.query import UNSET_VALUE

from airflow_provider_restrack.load.cells import FIXED, TEXTS, Template, cell_of, is_same, length, number_cell
from airflow_provider_restrack.load.cql_types import day_of
from airflow_provider_restrack.load.encode import CELL_BYTES, EncodedRow, RowEncoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_provider_restrack.load.cells import Cell
    from airflow_provider_restrack.load.decode import FieldPlan
    from airflow_provider_restrack.load.table import Source, TablePlan
    from airflow_provider_restrack.load.wire import PackedTable

    Getter = Callable[[list[Any]], Any]  # the driver's value of a column, out of the decoded ones

# Types of which equal values have equal bytes; 0.0 and -0.0, or 1.0 and 1.00, have not.
_CACHED_KEYS = frozenset(TEXTS) | {
    "tinyint", "smallint", "int", "bigint", "date", "time", "timestamp", "uuid", "timeuuid",
}  # fmt: skip
_MAX_PATTERNS = 16  # of absent fields in one table; where there are more, columns are packed one by one
_MAX_MISSES = 1000  # rows that no pattern fits, after which they are learnt anew: 21 µs each
_MAX_PARTITIONS = 20_000  # remembered, each a few hundred bytes
_MAX_PARTITION_BYTES = 512
NULL, UNSET = length(-1), length(-2)
_LENGTH_BYTES = 4  # before each value on the wire, also before one that is absent
_write_time = struct.Struct(">iq").pack
_write_time_and_ttl = struct.Struct(">iqii").pack
# Whatever goes wrong here, the driver's own binding says what it is.
_ERRORS = (struct.error, TypeError, ValueError, OverflowError, AttributeError, KeyError)


def arrange(plan: TablePlan) -> TablePlan:
    """Return the plan with columns of fixed width side by side, so that one call packs them all."""
    count = plan.key_size
    rest = sorted(plan.sources[count:], key=lambda source: not _is_plain(source))
    return replace(plan, sources=(*plan.sources[:count], *rest))


def _is_plain(source: Source) -> bool:
    return source.column.cql.name in FIXED and source.fallback is None


def _end_of_run(plan: TablePlan, prepared: Any, fields: Mapping[str, FieldPlan]) -> int:
    """Return the index after the last column, from the key on, whose decoded value is packed as it is."""
    end = plan.key_size
    for source, column in zip(plan.sources[end:], prepared.column_metadata[end:], strict=False):
        if not _is_plain(source) or fields[source.field].is_instant:
            break
        if not is_same(source.column.cql, column.type):
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
        self.packed = packed
        self._reference = RowEncoder(plan, packed.prepared, fields, position)
        self._absent = UNSET if plan.target.mode == "merge" else NULL
        self._has_ttl = len(packed.prepared.column_metadata) == len(plan.sources) + 2
        getters = [_getter(source, fields, position) for source in plan.sources]
        cells = _cells(plan, packed.prepared)
        size, count = plan.partition_size, plan.key_size
        self._partition = _Partition(
            plan.sources[:size], getters[:size], cells[:size], self._reference.check_key
        )
        self._clustering = [
            _taker(source, getter, cell, position)
            for source, getter, cell in zip(
                plan.sources[size:count], getters[size:count], cells[size:count], strict=True
            )
        ]
        self._fixed_key = all(
            source.column.cql.name in FIXED or source.column.cql.name == "timestamp"
            for source in plan.sources[size:count]
        )
        end = _end_of_run(plan, packed.prepared, fields)
        codes = [FIXED[source.column.cql.name] for source in plan.sources[count:end]]
        where = [position[source.field] for source in plan.sources[count:end]]
        self._run = _Run(where, codes, self._absent)
        markers = len(packed.prepared.column_metadata)
        self._overhead = (CELL_BYTES - _LENGTH_BYTES) * markers + CELL_BYTES * len(plan.cleared)
        self._absent_bytes = 0 if self._absent is NULL else CELL_BYTES
        # An empty collection that is not frozen is a deletion in Cassandra; absent is not deleted.
        deletes = [bool(one.column.cql.arguments) and not one.column.cql.frozen for one in plan.sources]
        self._others = list(zip(getters[end:], cells[end:], deletes[end:], strict=True))

    def encode(self, values: list[Any], write_us: int, ttl_s: int | None, record: Any) -> EncodedRow:
        """Return the packed row; parameters and errors are those of ``RowEncoder.encode``."""
        absent = self._absent
        try:
            partition_key, head = self._partition.find(values)
            parts, key = [head], list(partition_key)
            for take in self._clustering:
                packed = take(values)
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
            if ttl_s is not None or self._has_ttl:
                parts.append(self._tail(write_us, ttl_s))
            else:
                parts.append(_write_time(8, write_us))
        except _ERRORS:
            return self._bind(values, write_us, ttl_s, record)
        body = b"".join(parts)
        size = len(body) + self._overhead - self._absent_bytes * missing
        return EncodedRow(partition_key, tuple(key), write_us, size, body, record, self.packed)

    def _tail(self, write_us: int, ttl_s: int | None) -> bytes:
        if not self._has_ttl:
            raise ValueError("the statement has no marker for a time to live")
        return _write_time_and_ttl(8, write_us, 4, ttl_s)

    def _bind(self, values: list[Any], write_us: int, ttl_s: int | None, record: Any) -> EncodedRow:
        """Make the row by the driver's binding, which names the column at fault."""
        row = self._reference.encode(values, write_us, ttl_s, record)
        body = pack_bound(row.statement.values)
        return EncodedRow(row.partition_key, row.primary_key, write_us, row.size, body, record, self.packed)


def pack_bound(values: Iterable[Any]) -> bytes:
    """Return what the driver writes for the values of a bound statement."""
    return b"".join(
        NULL if value is None else UNSET if value is UNSET_VALUE else length(len(value)) + value
        for value in values
    )


class _Partition:
    """Packs partition keys; a fleet has few, so each is packed and checked once (0.3 µs a row; 2.6 anew)."""

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
            if len(found[1]) <= _MAX_PARTITION_BYTES:
                if len(self._known) >= _MAX_PARTITIONS:
                    self._known.clear()
                self._known[key] = found
        return found

    def _pack(self, key: Sequence[Any]) -> tuple[tuple[bytes, ...], bytes]:
        packed = [cell(value) for cell, value in zip(self._cells, key, strict=True)]
        parts = tuple(one[4:] for one in packed)
        self._check(parts)
        return parts, b"".join(packed)


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
            constants.append(waiting + length(width))
            kept.append(code)
            waiting = b""
        self.fill = Template(constants, kept, waiting).fill
        self.present = _items([index for index, missing in zip(where, gone, strict=True) if not missing])
        absent_where = [index for index, missing in zip(where, gone, strict=True) if missing]
        self.absent = _items(absent_where) if absent_where else None
        self.nones = (None,) * self.missing


class _Run:
    """Packs columns of fixed width that stand side by side: 48 of them take 2 µs, one by one they take 10.

    Which fields are absent is the same in nearly all samples of a host, so there is a template for each such
    pattern. Those with more absences come first: none then matches a row of another known pattern.
    """

    def __init__(self, where: Sequence[int], codes: Sequence[tuple[str, int]], absent: bytes) -> None:
        self._where, self._codes, self._absent = where, codes, absent
        self._patterns: list[_Pattern] = []
        self._cells = [number_cell(code, width) for code, width in codes]
        self._misses = 0

    def pack(self, values: list[Any]) -> tuple[bytes, int]:
        """Return the cells, and how many of them are absent."""
        for pattern in self._patterns:
            absent = pattern.absent
            if absent is None or absent(values) == pattern.nones:
                try:
                    return pattern.fill(pattern.present(values)), pattern.missing
                except struct.error:  # a further value is None
                    break
        return self._learn(values)

    def _learn(self, values: list[Any]) -> tuple[bytes, int]:
        gone = tuple([values[index] is None for index in self._where])
        if len(self._patterns) >= _MAX_PATTERNS:
            self._misses += 1
            if self._misses >= _MAX_MISSES:  # what came first need not be what comes often
                self._patterns.clear()
                self._misses = 0
            return self._pack_each(values), sum(gone)
        pattern = _Pattern(self._where, self._codes, self._absent, gone)
        packed = pattern.fill(pattern.present(values))  # an error here is a value's: nothing is learnt of it
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
    if not indices:
        return lambda _values: ()
    [only] = indices
    return lambda values: (values[only],)


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


def _taker(
    source: Source, get: Getter, cell: Cell, position: Mapping[str, int]
) -> Callable[[list[Any]], bytes]:
    """Return what takes and packs a column that must be there."""
    if source.column.cql.name != "timestamp":
        return lambda values: cell(get(values))
    index = position[source.field]
    return lambda values: cell(values[index] // 1000)  # an absent one raises


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
        cell_of(source.column.cql, column.type, prepared.protocol_version)
        for source, column in zip(plan.sources, columns, strict=False)
    ]
