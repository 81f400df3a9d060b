"""The row that must come of a record, by the readings of ``readings.py`` and the rules of the loader."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.fuzz.readings import RefusedError, day_number, parse, read_instant, reader_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_restrack.load.cql_types import CqlType
    from tests.fuzz.readings import Pairs


@dataclass
class TableSpec:
    """A table of the tests.

    :ivar fields: column → field, where a column is filled from a field of another name.
    :ivar day: whether its column ``day`` is the day of the record's time where the record has none.
    """

    name: str
    mode: str
    types: dict[str, CqlType]
    partition: list[str]
    clustering: list[str]
    fields: dict[str, str] = field(default_factory=dict)
    day: bool = False

    @property
    def key(self) -> list[str]:
        return [*self.partition, *self.clustering]

    def field_of(self, column: str) -> str:
        return self.fields.get(column, column)


@dataclass
class Expected:
    """What must come of a record.

    :ivar rows: of each table the value of each column, or None; none at all if the record is expired.
    :ivar doubtful: whether a stricter reader may reject it, for what it has beside the values.
    """

    rows: list[dict[str, Any]] | None
    write_us: int
    ttl: int | None
    doubtful: bool


class Reference:
    """Reads records for a set of tables."""

    def __init__(
        self, tables: Sequence[TableSpec], time_field: str, retention_s: int | None, ahead_s: int | None
    ) -> None:
        self._ahead_s = ahead_s
        self._tables, self._time, self._retention_s = tables, time_field, retention_s
        self._readers: dict[str, Callable[[Any], Any]] = {}
        self._needed: set[str] = set()
        self._times = {time_field}
        for table in tables:
            for column, cql in table.types.items():
                name = table.field_of(column)
                self._readers[name] = reader_of(cql)
                if cql.name == "timestamp":
                    self._times.add(name)
                if column in table.key and not (column == "day" and table.day):
                    self._needed.add(name)
        self._readers |= dict.fromkeys(self._times, read_instant)

    def read(self, raw: bytes | None, kafka_time: tuple[int, int], now_us: int) -> Expected:
        """Return what must come of a record's value.

        :raises RefusedError: if it must be rejected.
        :raises LeftOpenError: if that cannot be said.
        """
        pairs, doubtful = parse(raw)
        values, refused_before = self._take(pairs)
        write_us = values.get(self._time)
        if write_us is None:
            write_us = kafka_us(kafka_time)
        if self._ahead_s is not None and write_us - now_us > self._ahead_s * 10**6:
            raise RefusedError("the write time is too far ahead")
        ttl = None
        if self._retention_s is not None:
            age_s = -((write_us - now_us) // 10**6)  # in whole seconds, begun ones included
            ttl = self._retention_s - max(0, age_s)
            if ttl <= 0:
                return Expected(None, write_us, ttl, doubtful or refused_before)
        if not -(2**63) <= write_us < 2**63:
            raise RefusedError("the write time does not fit")
        rows = [self._row(table, values) for table in self._tables]
        return Expected(rows, write_us, ttl, doubtful or refused_before)

    def _take(self, pairs: Pairs) -> tuple[dict[str, Any], bool]:
        """Return the values of the fields, the last one where a field is there twice."""
        values: dict[str, Any] = {}
        refused_before: set[str] = set()
        refused: dict[str, RefusedError] = {}
        for name, value in pairs:
            read = self._readers.get(name)
            if read is None:
                continue
            if name in refused:
                refused_before.add(name)
            refused.pop(name, None)
            try:
                values[name] = None if value is None and name not in self._needed else read(value)
            except RefusedError as error:
                refused[name] = error
        for error in refused.values():
            raise error
        for name in self._needed:
            if name not in values:
                raise RefusedError(f"no {name}")
        return values, bool(refused_before)

    def _row(self, table: TableSpec, values: Mapping[str, Any]) -> dict[str, Any]:
        row = {}
        for column, cql in table.types.items():
            name = table.field_of(column)
            value = values.get(name)
            if name in self._times and value is not None:
                value = value // 1000 if cql.name == "timestamp" else day_number(value)
            if column == "day" and table.day and value is None and values.get(self._time) is not None:
                value = day_number(values[self._time])
            if cql.arguments and not cql.frozen and not value:
                value = None  # for Cassandra an empty collection is none
            row[column] = value
        check_key(table, row)
        return row


def check_key(table: TableSpec, row: Mapping[str, Any]) -> None:
    """Refuse a key that Cassandra cannot have."""
    sizes = {}
    for column in table.key:
        if row[column] is None:
            raise RefusedError(f"no {column}")
        sizes[column] = size_of(table.types[column], row[column])
        if sizes[column] > 65535:
            raise RefusedError(f"{column} is too long")
    partition = [sizes[column] for column in table.partition]
    if partition == [0]:
        raise RefusedError("the partition key is empty")
    if len(partition) > 1 and sum(partition) + 3 * len(partition) > 65535:
        raise RefusedError("the partition key is too long")


def size_of(cql: CqlType, value: Any) -> int:
    """Return how many bytes a key's value has in Cassandra."""
    if cql.name in ("text", "ascii"):
        return len(value.encode())
    if cql.name == "blob":
        return len(value)
    if cql.name == "inet":
        return len(value.packed)
    if cql.name == "decimal":
        digits = int("".join(map(str, value.as_tuple().digits)))
        return 5 + digits.bit_length() // 8
    return 16 if cql.name == "uuid" else 8


def kafka_us(kafka_time: tuple[int, int]) -> int:
    kind, millis = kafka_time
    if kind == 0 or millis <= 0:
        raise RefusedError("no time")
    return millis * 1000
