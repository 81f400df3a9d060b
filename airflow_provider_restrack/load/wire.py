"""Puts packed rows into the driver's messages as they are, by its documented ``client_protocol_handler``.

The driver writes a batch by three calls for each value: 11 µs for a full sample, where this takes 2.5, and
2.2 µs for a row of 9 columns, where this takes 0.7. What is not public in it (the attributes of the driver's
messages, and where in a message the values stand) is compared byte by byte with the public way before it is
used; where they differ, rows are bound.
"""

from __future__ import annotations

import logging
import re
import struct
from io import BytesIO
from typing import TYPE_CHECKING, Any

import cassandra
from cassandra import ConsistencyLevel, ProtocolVersion
from cassandra.protocol import BatchMessage, ExecuteMessage
from cassandra.query import UNSET_VALUE, BatchStatement, BatchType, BoundStatement

from airflow_provider_restrack.load.pack import pack_bound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_restrack.load.encode import EncodedRow
    from airflow_provider_restrack.load.table import TablePlan

log = logging.getLogger(__name__)

_VERSIONS = ((3, 30), (4, 0))  # of the driver: from, below
_PROTOCOLS = (ProtocolVersion.V4, ProtocolVersion.V5)
_short = struct.Struct(">H").pack
# What can come of a driver that is made otherwise.
_DIFFERENCES = (AttributeError, TypeError, ValueError, IndexError, struct.error)


class PackedValues:
    """The values of one or more rows as bytes; to the driver it is an empty list of values.

    A session without the handler therefore sends a statement without values, which Cassandra refuses.
    """

    __slots__ = ("count", "rows")

    def __init__(self, rows: Sequence[bytes], count: int) -> None:
        self.rows, self.count = rows, count

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Any:
        return iter(())


class _PackedStatement(BoundStatement):  # type: ignore[misc] # the driver is untyped
    """A bound statement of packed rows; the driver prints ``raw_values``, which only ``bind`` sets."""

    raw_values = "(packed)"


class PackedTable:
    """Makes statements of the packed rows of one table.

    :param prepared: the prepared statement of its INSERT.
    """

    def __init__(self, prepared: Any) -> None:
        self.prepared = prepared
        self._count = len(prepared.column_metadata)

    def statement(self, rows: Sequence[EncodedRow], level: int | None) -> Any:
        """Return one statement that writes rows of one partition: a batch, if there are several.

        :param level: the consistency level; None leaves it to the execution profile.
        """
        statement = _PackedStatement(self.prepared, routing_key=routing_key(rows[0].partition_key))
        statement.values = PackedValues([row.statement for row in rows], self._count)
        if len(rows) == 1:
            if level is not None:
                statement.consistency_level = level
            return statement
        batch = BatchStatement(batch_type=BatchType.UNLOGGED, consistency_level=level)
        # Added once for all rows: 50 times would cost more than to pack them.
        return batch.add(statement)


def routing_key(parts: Sequence[bytes]) -> bytes:
    """Return a partition key as the token is made of it."""
    if len(parts) == 1:
        return parts[0]
    return b"".join([_short(len(part)) + part + b"\0" for part in parts])


def open_packing(session: Any, prepared: Any, plan: TablePlan) -> PackedTable | None:
    """Make a session take packed rows of a table; None, if the driver or the statement does not allow it."""
    base: Any = getattr(session, "client_protocol_handler", None)
    reason = _obstacle(base, prepared, plan)
    if reason is None:
        handler = base if issubclass(base, _PackingHandler) else type("Handler", (_PackingHandler, base), {})
        if _writes_the_same(handler, prepared):
            session.client_protocol_handler = handler
            return PackedTable(prepared)
        reason = "it writes messages otherwise"
    log.info("rows of %s are bound by cassandra-driver, more slowly: %s", plan.target.full_name, reason)
    return None


def is_known_driver() -> bool:
    """Whether the driver is of a version whose private parts are known."""
    version = tuple(map(int, re.findall(r"\d+", cassandra.__version__)[:2]))
    return _VERSIONS[0] <= version < _VERSIONS[1]


def _obstacle(base: Any, prepared: Any, plan: TablePlan) -> str | None:
    if not is_known_driver():
        return f"its version {cassandra.__version__} is not known"
    if not isinstance(base, type) or not hasattr(base, "encode_message"):
        return "its session has no client_protocol_handler"
    if prepared.protocol_version not in _PROTOCOLS:
        return f"protocol version {prepared.protocol_version} is not known"
    if getattr(prepared, "column_encryption_policy", None) is not None:
        return "columns are encrypted"
    if list(prepared.routing_key_indexes or ()) != list(range(plan.partition_size)):
        return "the partition key is not the first columns"
    return None


def _writes_the_same(handler: Any, prepared: Any) -> bool:
    """Whether both ways give the same bytes, of one row and of two."""
    count = len(prepared.column_metadata)
    rows = [[b"value", None, UNSET_VALUE, b""] + [b"x"] * count, [b"y"] * count]
    rows = [row[:count] for row in rows]
    packed = [pack_bound(row) for row in rows]
    level, version = ConsistencyLevel.LOCAL_QUORUM, prepared.protocol_version

    def execute(values: Any) -> Any:
        return ExecuteMessage(
            prepared.query_id, values, level, fetch_size=5000, timestamp=1,
            result_metadata_id=prepared.result_metadata_id,
        )  # fmt: skip

    def batch(values: Sequence[Any]) -> Any:
        queries = [(True, prepared.query_id, one) for one in values]
        return BatchMessage(BatchType.UNLOGGED, queries, level, timestamp=1, keyspace=_keyspace(prepared))

    try:
        pairs = [
            (execute(PackedValues(packed[:1], count)), execute(rows[0])),
            (batch([PackedValues(packed, count)]), batch(rows)),
        ]
        return all(_encode(handler, one, version) == _encode(handler, other, version) for one, other in pairs)
    except _DIFFERENCES:
        return False


def _keyspace(prepared: Any) -> str | None:
    uses = ProtocolVersion.uses_keyspace_flag(prepared.protocol_version)
    return prepared.column_metadata[0].keyspace_name if uses else None


def _encode(handler: Any, message: Any, version: int) -> bytes:
    message.tracing, message.custom_payload = False, None
    encoded: bytes = handler.encode_message(
        message, 1, version, compressor=None, allow_beta_protocol_version=False
    )
    return encoded


class _PackingHandler:
    """Writes messages of packed rows; all others are the driver's own."""

    @classmethod
    def encode_message(cls, msg: Any, *arguments: Any, **options: Any) -> Any:
        return super().encode_message(_packed(msg), *arguments, **options)  # type: ignore[misc]


def _packed(message: Any) -> Any:
    if type(message) is ExecuteMessage:
        if type(message.query_params) is PackedValues:
            return _PackedExecute(message)
    elif type(message) is BatchMessage and message.queries and type(message.queries[0][2]) is PackedValues:
        return _PackedBatch(message)
    return message


class _PackedMessage:
    """A message as the handler takes it; the driver's own is left as it is, since it is sent again."""

    def __init__(self, message: Any) -> None:
        self._message = message
        self.opcode, self.tracing = message.opcode, message.tracing
        self.custom_payload = message.custom_payload

    def _without_values(self, protocol_version: int) -> bytes:
        written = BytesIO()
        self._message.send_body(written, protocol_version)
        return written.getvalue()


class _PackedExecute(_PackedMessage):
    """EXECUTE: id, (from protocol 5 on) id of the result, consistency, flags, count of values, values, …"""

    def send_body(self, f: Any, protocol_version: int) -> None:
        message, body = self._message, self._without_values(protocol_version)
        at = 2 + len(message.query_id)
        if ProtocolVersion.uses_prepared_metadata(protocol_version):
            at += 2 + len(message.result_metadata_id)
        at += 2 + (4 if ProtocolVersion.uses_int_query_flags(protocol_version) else 1)
        values = message.query_params
        f.write(b"".join([body[:at], _short(values.count), values.rows[0], body[at + 2 :]]))


class _PackedBatch(_PackedMessage):
    """BATCH: type, count of statements, of each: kind, id, count of values, values; then consistency, …"""

    def send_body(self, f: Any, protocol_version: int) -> None:
        body = self._without_values(protocol_version)
        _, query_id, values = self._message.queries[0]
        end = 3 + 1 + 2 + len(query_id)
        start = body[3:end] + _short(values.count)
        f.write(
            b"".join([body[:1], _short(len(values.rows)), start, start.join(values.rows), body[end + 2 :]])
        )
