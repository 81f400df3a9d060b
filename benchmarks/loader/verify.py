"""Whether a table holds what was sent: counts its rows and compares their bytes, through a sum of hashes.

The sum does not depend on the order in which rows are read. What is expected is encoded here and not by the
loader's encoder, and what is found is taken from the wire as it is: no error of one hides in the other.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cassandra.cluster import EXEC_PROFILE_DEFAULT
from cassandra.protocol import ResultMessage, _ProtocolHandler
from cassandra.query import SimpleStatement

from airflow_provider_restrack.store.schema import FIELD_BY_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_PAGE_BYTES = 1_000_000  # a page of results should stay about there
_READ_TIMEOUT_S = 60.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_OF_DAY = 86_400
_DAY_ZERO = 1 << 31  # of CQL's date
_LENGTH = struct.Struct(">i")
_NULL = _LENGTH.pack(-1)
_PACKERS: dict[str, Callable[[Any], bytes]] = {
    "text": str.encode,
    "uuid": lambda value: uuid.UUID(value).bytes,
    "double": struct.Struct(">d").pack,
    "int": struct.Struct(">i").pack,
    "bigint": struct.Struct(">q").pack,
    "boolean": struct.Struct(">?").pack,
    "timestamp": struct.Struct(">q").pack,
    "date": struct.Struct(">I").pack,
}


@dataclass(slots=True)
class Contents:
    """How many rows there are, and the sum of their hashes."""

    rows: int = 0
    checksum: int = 0

    def add(self, row: bytes) -> None:
        """Count a row, given as the bytes of its cells."""
        self.add_hash(hash_row(row))

    def add_hash(self, value: int) -> None:
        """Count a row, given as its hash."""
        self.rows += 1
        self.checksum = (self.checksum + value) & 0xFFFFFFFFFFFFFFFF

    def __str__(self) -> str:
        return f"{self.rows} rows with checksum {self.checksum:016x}"


def hash_row(row: bytes) -> int:
    """Return 64 bits of a row's cells."""
    return int.from_bytes(hashlib.blake2b(row, digest_size=8).digest())


class RowPacker:
    """Makes of a sample the cells that Cassandra sends for its row, each with its length before it."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._packers = [(name, _packer(FIELD_BY_NAME[name].type)) for name in columns]
        self._days: dict[str, tuple[int, int]] = {}

    def pack(self, sample: dict[str, Any]) -> bytes:
        """Return the cells, in the order of the columns."""
        millis, day = self._times(sample["timestamp"])
        values = {**sample, "timestamp": millis, "day": day}
        cells = []
        for name, pack in self._packers:
            value = values[name]
            cells.append(_NULL if value is None else _with_length(pack(value)))
        return b"".join(cells)

    def _times(self, timestamp: str) -> tuple[int, int]:
        """Return milliseconds since 1970 and the CQL date; few times are shared by many hosts."""
        known = self._days.get(timestamp)
        if known is None:
            seconds = (datetime.fromisoformat(timestamp) - _EPOCH).total_seconds()
            known = round(seconds * 1000), int(seconds // _SECONDS_OF_DAY) + _DAY_ZERO
            self._days[timestamp] = known
        return known


def _packer(type_name: str) -> Callable[[Any], bytes]:
    kind, _, arguments = type_name.rstrip(">").partition("<")
    if kind == "map":
        of_key, of_value = (_PACKERS[name] for name in arguments.split(","))
        return lambda value: _pack_map(value, of_key, of_value)
    if kind == "list":
        of_item = _PACKERS[arguments]
        return lambda value: _LENGTH.pack(len(value)) + b"".join(_with_length(of_item(v)) for v in value)
    return _PACKERS[kind]


def _pack_map(
    value: dict[str, Any], of_key: Callable[[Any], bytes], of_value: Callable[[Any], bytes]
) -> bytes:
    """Cassandra keeps the entries of a map sorted by key."""
    entries = sorted((of_key(key), of_value(item)) for key, item in value.items())
    packed = (_with_length(key) + _with_length(item) for key, item in entries)
    return _LENGTH.pack(len(entries)) + b"".join(packed)


def _with_length(cell: bytes) -> bytes:
    return _LENGTH.pack(len(cell)) + cell


def hash_page(page: bytes, columns: int) -> list[int]:
    """Return the hash of each row of a page of results: the number of rows, then the cells of each."""
    (count,) = _LENGTH.unpack_from(page)
    read_length = _LENGTH.unpack_from
    hashes, start = [], 4
    for _ in range(count):
        end = start
        for _ in range(columns):
            (length,) = read_length(page, end)
            end += 4 + max(length, 0)
        hashes.append(hash_row(page[start:end]))
        start = end
    return hashes


class _HashedRows(ResultMessage):  # type: ignore[misc] # the driver is untyped
    """Leaves rows as they came, but for their hashes: decoding them took longer than loading them."""

    def recv_results_rows(
        self, stream: Any, _version: int, user_type_map: Any, result_metadata: Any, _policy: Any
    ) -> None:
        self.recv_results_metadata(stream, user_type_map)
        described = self.column_metadata or result_metadata
        self.column_names = [column[2] for column in described]
        self.column_types = [column[3] for column in described]
        self.parsed_rows = hash_page(stream.read(), len(described))


class _HashedRowsHandler(_ProtocolHandler):  # type: ignore[misc] # the driver is untyped
    message_types_by_opcode: dict[int, Any] = {  # noqa: RUF012 - the driver's own way
        **_ProtocolHandler.message_types_by_opcode,
        ResultMessage.opcode: _HashedRows,
    }


def read_contents(session: Any, table: str, columns: Sequence[str]) -> Contents:
    """Read a whole table and return what it holds.

    :param session: its protocol handler is changed for good: give one of its own.
    """
    session.client_protocol_handler = _HashedRowsHandler
    profile = session.execution_profile_clone_update(
        EXEC_PROFILE_DEFAULT, row_factory=lambda _names, hashes: hashes
    )
    page_rows = max(100, _PAGE_BYTES // (30 * len(columns)))
    statement = SimpleStatement(f"SELECT {', '.join(columns)} FROM {table}", fetch_size=page_rows)
    found = Contents()
    for value in session.execute(statement, timeout=_READ_TIMEOUT_S, execution_profile=profile):
        found.add_hash(value)
    return found


def describe_difference(expected: Contents, found: Contents) -> str:
    """Say what is wrong with a table's contents; empty if nothing is."""
    if expected == found:
        return ""
    return f"holds {found}, and not {expected}"


def summarize(samples: Iterable[dict[str, Any]], columns: Sequence[str]) -> Contents:
    """Return what a table of these samples holds."""
    packer, contents = RowPacker(columns), Contents()
    for sample in samples:
        contents.add(packer.pack(sample))
    return contents
