"""Makes bound INSERT statements of decoded values, through the driver's public API.

``pack.py`` is faster and gives the same bytes; it is tested against this one, which says what is wrong with a
row and stands in where the driver cannot take packed rows.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import msgspec
from cassandra.query import UNSET_VALUE

from airflow_provider_restrack.load.cql_types import day_of
from airflow_provider_restrack.load.errors import RejectError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_restrack.load.decode import FieldPlan
    from airflow_provider_restrack.load.table import TablePlan
    from airflow_provider_restrack.load.wire import PackedTable

_MAX_KEY_BYTES = 65535  # Cassandra's limit of a partition key and of each clustering value
# What the server counts for a cell beside its value, when it holds a batch against its thresholds: write
# timestamp, TTL and local deletion time (Cell.dataSize of Cassandra 5.0). Unset columns make no cell; a null
# makes a tombstone, which has the same.
CELL_BYTES = 20
_BIND_ERRORS = (TypeError, ValueError, OverflowError, struct.error)


class EncodedRow(msgspec.Struct, gc=False):
    """A row that can be sent: its keys as bytes, when it was true, its size as the server counts it, and the
    bound statement.

    :ivar packed: what makes statements of it, where ``statement`` holds its values as bytes.
    :ivar older: rows of the same key that are not written unless Cassandra refuses this one; None for none.
    """

    partition_key: tuple[bytes, ...]
    primary_key: tuple[bytes, ...]
    write_us: int
    size: int
    statement: Any
    record: Any
    packed: PackedTable | None = None
    older: list[EncodedRow] | None = None


def build_insert(plan: TablePlan, *, with_ttl: bool) -> str:
    """Return the INSERT of a table; write timestamp and TTL are bind markers, as each row has its own."""
    columns = [*(source.column.name for source in plan.sources), *plan.cleared]
    names = ['"' + name.replace('"', '""') + '"' for name in columns]
    markers = ", ".join(["?"] * len(plan.sources) + ["null"] * len(plan.cleared))
    ttl = " AND TTL ?" if with_ttl else ""
    table = f"{plan.target.keyspace}.{plan.target.name}"  # both checked to be plain identifiers
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({markers}) USING TIMESTAMP ?{ttl}"  # noqa: S608


class RowEncoder:
    """Binds the rows of one table.

    :param prepared: the prepared statement of ``build_insert``.
    :param position: where each field stands in the decoder's values.
    """

    def __init__(
        self, plan: TablePlan, prepared: Any, fields: Mapping[str, FieldPlan], position: Mapping[str, int]
    ) -> None:
        self.plan = plan
        self.packed: PackedTable | None = None
        self._prepared = prepared
        self._take = [position[source.field] for source in plan.sources]
        self._millis, self._days, self._fallbacks, self._collections = [], [], [], []
        for index, source in enumerate(plan.sources):
            instant = fields[source.field].is_instant
            if source.column.cql.name == "timestamp":
                self._millis.append(index)
            elif instant:
                self._days.append(index)
            if source.fallback is not None:
                self._fallbacks.append((index, position[source.fallback]))
            # An empty collection that is not frozen is a deletion in Cassandra; absent is not deleted.
            if source.column.cql.arguments and not source.column.cql.frozen:
                self._collections.append(index)
        self._absent = UNSET_VALUE if plan.target.mode == "merge" else None
        self._partition_size, self._key_size = plan.partition_size, plan.key_size

    def encode(self, values: list[Any], write_us: int, ttl_s: int | None, record: Any) -> EncodedRow:
        """Return the bound row.

        :param values: what ``Decoder.decode`` returned.
        :param write_us: write timestamp, microseconds since 1970.
        :param ttl_s: seconds to live, where the statement has a marker for it.
        :param record: carried along, to name it if Cassandra refuses the row.
        :raises RejectError: if a value cannot be bound, or the key is one that Cassandra cannot have.
        """
        row = self._row(values)
        row.append(write_us)
        if ttl_s is not None:
            row.append(ttl_s)
        try:
            bound = self._prepared.bind(row)
        except _BIND_ERRORS as error:
            raise RejectError(f"cannot be bound for {self.plan.target.full_name}: {error}") from error
        encoded = bound.values
        key = tuple(encoded[: self._key_size])
        self.check_key(key)
        sizes = [0 if value is None else len(value) for value in encoded if value is not UNSET_VALUE]
        size = sum(sizes) + CELL_BYTES * (len(sizes) + len(self.plan.cleared))
        return EncodedRow(key[: self._partition_size], key, write_us, size, bound, record)

    def _row(self, values: list[Any]) -> list[Any]:
        row = [values[index] for index in self._take]
        for index in self._millis:
            if row[index] is not None:
                row[index] //= 1000
        for index in self._days:
            if row[index] is not None:
                row[index] = day_of(row[index])
        for index, source in self._fallbacks:
            if row[index] is None and values[source] is not None:
                row[index] = day_of(values[source])
        for index in self._collections:
            row[index] = row[index] or None
        absent = self._absent
        if absent is not None:
            row = [absent if value is None else value for value in row]
        return row

    def check_key(self, key: Sequence[Any]) -> None:
        """Refuse a key that Cassandra cannot have; of the partition key alone, if there is no more.

        :raises RejectError: naming the column.
        """
        for source, value in zip(self.plan.sources, key, strict=False):
            if type(value) is not bytes:
                raise RejectError(
                    f"key column {source.column.name!r} of {self.plan.target.full_name} has no value"
                )
            if len(value) > _MAX_KEY_BYTES:
                raise RejectError(
                    f"key column {source.column.name!r} has {len(value)} bytes; Cassandra takes 65535"
                )
        partition = key[: self._partition_size]
        if self._partition_size == 1 and not partition[0]:
            raise RejectError(f"key column {self.plan.sources[0].column.name!r} is empty")
        if self._partition_size > 1 and sum(len(value) + 3 for value in partition) > _MAX_KEY_BYTES:
            raise RejectError("the partition key is longer than the 65535 bytes that Cassandra takes")
