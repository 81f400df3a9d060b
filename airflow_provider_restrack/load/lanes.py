"""A lane is a connection to one node over which writes go without the driver's own machinery.

The driver makes the connection: address, TLS, login and the preparing of statements are its code. After
that it has no part in it: its ``execute_async`` costs 150 µs a request, most of it in handing work between
threads that want the same interpreter lock, where a lane takes 6 in the caller's own thread.
"""

from __future__ import annotations

import logging
import socket
import ssl
import time
from collections import deque
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from cassandra import OperationTimedOut
from cassandra.connection import Connection, ConnectionException, ConnectionShutdown
from cassandra.protocol import (
    RESULT_KIND_VOID,
    ErrorMessage,
    PreparedQueryNotFound,
    PrepareMessage,
    ProtocolHandler,
)

from airflow_provider_restrack.load.native import (
    HEADER_BYTES,
    MAX_STREAMS,
    VERSION,
    WriteFrames,
    split_frames,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from airflow_provider_restrack.load.native import Frame
    from airflow_provider_restrack.load.wire import PackedTable

log = logging.getLogger(__name__)

_RECEIVE_BYTES = 1 << 18
_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Answer(NamedTuple):
    """What became of a request, and by which node; ``error`` is None if it is stored.

    :ivar seconds: from sending to answer.
    """

    request: Any
    error: Exception | None
    seconds: float
    host: str


class Lane:
    """An open connection and the requests on it that are not answered yet.

    :param connection: a socket that is connected and logged in; it is made non-blocking.
    :param frames: what builds requests of each table, with the node's own statement ids.
    """

    def __init__(self, host: Any, connection: Any, frames: dict[PackedTable, WriteFrames]) -> None:
        self.host, self.frames = host, frames
        self._socket = connection
        self._socket.setblocking(False)
        with suppress(OSError):  # no TCP: a Unix socket
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._streams = deque(range(MAX_STREAMS))
        self._pending: dict[int, tuple[Any, float]] = {}
        self._out = bytearray()
        self._in = b""
        self.closed = self._warned = False

    @property
    def in_flight(self) -> int:
        """How many requests are not answered yet."""
        return len(self._pending)

    @property
    def wants_to_write(self) -> bool:
        """Whether bytes wait for the socket to take them."""
        return bool(self._out)

    def fileno(self) -> int:
        """Return what to wait on."""
        return int(self._socket.fileno())

    def send(self, request: Any, table: PackedTable, rows: Sequence[bytes], now: float) -> None:
        """Queue a request; ``flush`` sends it."""
        stream = self._streams.popleft()
        self._pending[stream] = (request, now)
        self._out += self.frames[table].build(stream, rows)

    def flush(self) -> list[Answer]:
        """Send what is queued, as far as the socket takes it; return answers if the connection is lost."""
        try:
            while self._out:
                sent = self._socket.send(self._out)
                del self._out[:sent]
        except _WOULD_BLOCK:
            pass
        except OSError as error:
            return self.close(error)
        return []

    def receive(self, now: float) -> list[Answer]:
        """Return the answers that have arrived, without waiting."""
        answers: list[Answer] = []
        try:
            received, ended = self._read()
            used = 0
            for frame in split_frames(received):
                used += HEADER_BYTES + len(frame.body)
                answers += self._answers_of(frame, now)
            self._in = received[used:]
            if ended:
                raise ConnectionResetError("the node closed it")  # noqa: TRY301
        except Exception as error:  # noqa: BLE001 - whatever a node sends, its requests are answered
            answers += self.close(error)
        return answers

    def expire(self, now: float, timeout_s: float) -> list[Answer]:
        """Give the connection up if its oldest request is older than a time limit."""
        oldest = next(iter(self._pending.values()), None)
        if oldest is None or now - oldest[1] <= timeout_s:
            return []
        return self.close(OperationTimedOut({self.host.endpoint: f"no answer in {timeout_s:g} s"}))

    def close(self, error: Exception | None = None) -> list[Answer]:
        """Close the connection; return an answer, with the error, for each request that was on it."""
        self.closed = True
        self._socket.close()
        pending, self._pending = list(self._pending.values()), {}
        if error is not None and not isinstance(error, (OperationTimedOut, ConnectionException)):
            error = ConnectionShutdown(f"the connection was lost: {error}", self.host.endpoint)
        return [Answer(request, error, 0.0, str(self.host.endpoint)) for request, _ in pending]

    def _read(self) -> tuple[bytes, bool]:
        """Return what is there to be read, and whether the node has closed the connection."""
        parts = [self._in]
        try:
            while True:
                data = self._socket.recv(_RECEIVE_BYTES)
                parts.append(data)
                if not data:
                    return b"".join(parts), True
                if len(data) < _RECEIVE_BYTES and not isinstance(self._socket, ssl.SSLSocket):
                    break
        except _WOULD_BLOCK:
            pass
        return b"".join(parts), False

    def _answers_of(self, frame: Frame, now: float) -> Iterable[Answer]:
        if frame.stream not in self._pending:
            return []
        error = None if frame.is_done else self._read_error(frame)
        request, sent = self._pending.pop(frame.stream)
        self._streams.append(frame.stream)
        answer = Answer(request, error, now - sent, str(self.host.endpoint))
        if isinstance(error, PreparedQueryNotFound):  # the node was restarted, or has forgotten it
            lost = ConnectionShutdown("the node no longer has the prepared statement", self.host.endpoint)
            return [answer._replace(error=lost), *self.close(lost)]
        return [answer]

    def _read_error(self, frame: Frame) -> Exception | None:
        """Return the error that a frame carries; None, if it only warns.

        :raises Exception: the driver's own, or ValueError, if it is no answer to a write.
        """
        message = ProtocolHandler.decode_message(
            VERSION, {}, frame.stream, frame.flags, frame.opcode, frame.body, None, None
        )
        if message.warnings and not self._warned:  # once: the others say the same
            self._warned = True
            log.warning("%s warns of a write: %s", self.host.endpoint, "; ".join(message.warnings))
        if isinstance(message, ErrorMessage):
            found: Exception = message.to_exception()
            return found
        if getattr(message, "kind", None) != RESULT_KIND_VOID:
            raise ValueError(f"the node answered a write with {message}")
        return None


class _Opening(Connection):  # type: ignore[misc] # the driver is untyped
    """The driver's connection while it is being made, in the caller's thread: its handshake, our reading."""

    _socket: Any

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._connect_socket()
        self._send_options_message()

    def push(self, data: bytes) -> None:
        """Send what the driver wants sent."""
        self._socket.sendall(data)

    def close(self) -> None:
        """Close the socket; the driver calls it when the handshake fails."""
        self.is_closed = True
        if self._socket is not None:
            self._socket.close()

    def complete(self, deadline: float, now: Callable[[], float]) -> None:
        """Go through the handshake.

        :raises Exception: the driver's own, if it fails.
        """
        while not self.connected_event.is_set():
            self.advance(deadline, now)
        if self.last_error is not None:
            raise self.last_error

    def advance(self, deadline: float, now: Callable[[], float]) -> None:
        """Read once, and let the driver handle it."""
        left = deadline - now()
        if left <= 0:
            raise OperationTimedOut({self.endpoint: "the node did not answer while a connection was made"})
        self._socket.settimeout(left)
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except TimeoutError:
            return
        if not data:
            raise ConnectionShutdown("the node closed the connection", self.endpoint)
        self._iobuf.write(data)
        self.process_io_buffer()

    def release(self) -> Any:
        """Hand the socket over."""
        connection, self._socket = self._socket, None
        return connection


def open_lane(
    session: Any,
    host: Any,
    tables: Iterable[PackedTable],
    *,
    level: int,
    timeout_s: float,
    now: Callable[[], float] = time.monotonic,
) -> Lane:
    """Connect to a node as the session does, and prepare the tables' INSERTs there.

    :raises Exception: the driver's own, of whatever fails.
    """
    deadline = now() + timeout_s
    options = session.cluster._make_connection_kwargs(  # noqa: SLF001 - the session's own TLS and login
        host.endpoint, {"protocol_version": VERSION, "compression": False, "connect_timeout": timeout_s}
    )
    opening = _Opening(host.endpoint, **options)
    with ExitStack() as stack:
        stack.callback(opening.close)
        opening.complete(deadline, now)
        frames = {table: _prepare(opening, table, level, deadline, now) for table in tables}
        stack.pop_all()
    return Lane(host, opening.release(), frames)


def _prepare(
    opening: _Opening, table: PackedTable, level: int, deadline: float, now: Callable[[], float]
) -> WriteFrames:
    answers: list[Any] = []
    message = PrepareMessage(query=table.prepared.query_string)
    with opening.lock:
        stream = opening.get_request_id()
    opening.send_msg(message, stream, answers.append)
    while not answers:
        opening.advance(deadline, now)
    [answer] = answers
    if isinstance(answer, ErrorMessage):
        raise answer.to_exception()
    if isinstance(answer, Exception):
        raise answer
    if _columns(table.prepared.column_metadata) != _columns(answer.bind_metadata):
        raise ConnectionException("its table differs from the session's", opening.endpoint)
    return WriteFrames(answer.query_id, len(answer.bind_metadata), level)


def _columns(metadata: Iterable[Any]) -> list[tuple[str, str]]:
    return [(column.name, column.type.cql_parameterized_type()) for column in metadata]
