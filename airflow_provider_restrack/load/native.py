"""The frames of CQL's native protocol that a loader needs: EXECUTE and BATCH out, acknowledgements in.

Source: native_protocol_v4.spec of Apache Cassandra. Version 4 is spoken by every server from 2.2 on, and has
no checksummed segments around its frames.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

VERSION = 4
HEADER_BYTES = 9
MAX_STREAMS = 1 << 15
_EXECUTE, _BATCH, _RESULT = 0x0A, 0x0D, 0x08
_UNLOGGED, _PREPARED, _WITH_VALUES, _NO_FLAGS = b"\x01", b"\x01", b"\x01", b"\x00"
_VOID = b"\x00\x00\x00\x01"
_RESPONSE = 0x80
_header = struct.Struct(">BBhBi")
_short = struct.Struct(">H").pack


class Frame(NamedTuple):
    """A response: on which stream, of which kind, and what it says."""

    stream: int
    flags: int
    opcode: int
    body: bytes

    @property
    def is_done(self) -> bool:
        """Whether it says that a write is done, and nothing else."""
        return self.opcode == _RESULT and self.body == _VOID and not self.flags


class WriteFrames:
    """Builds the requests that write rows of one table.

    :param query_id: of the prepared INSERT, as the node at hand has named it.
    :param count: values of a row.
    :param level: consistency level, as the protocol numbers it.
    """

    def __init__(self, query_id: bytes, count: int, level: int) -> None:
        named = _short(len(query_id)) + query_id
        self._execute = named + _short(level) + _WITH_VALUES + _short(count)
        self._start = _PREPARED + named + _short(count)
        self._end = _short(level) + _NO_FLAGS

    def build(self, stream: int, rows: Sequence[bytes]) -> bytes:
        """Return the request that writes packed rows: an unlogged batch, if there are several."""
        if len(rows) == 1:
            opcode, body = _EXECUTE, self._execute + rows[0]
        else:
            start = self._start
            opcode = _BATCH
            body = b"".join([_UNLOGGED, _short(len(rows)), start, start.join(rows), self._end])
        return _header.pack(VERSION, 0, stream, opcode, len(body)) + body


def split_frames(data: bytes) -> Iterator[Frame]:
    """Yield the whole frames that bytes begin with; the rest is what follows the sum of their lengths.

    :raises ValueError: if the bytes are no response of version 4.
    """
    at, size = 0, len(data)
    while size - at >= HEADER_BYTES:
        version, flags, stream, opcode, length = _header.unpack_from(data, at)
        if version != VERSION | _RESPONSE or length < 0:
            raise ValueError(f"the node sent a frame of version {version:#04x} and length {length}")
        end = at + HEADER_BYTES + length
        if end > size:
            return
        yield Frame(stream, flags, opcode, data[at + HEADER_BYTES : end])
        at = end
