"""Hands writes to Cassandra and collects their answers, whichever way they take, in one thread."""

from __future__ import annotations

import select
import socket
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.load.direct import open_direct
from airflow_provider_restrack.load.lanes import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from airflow_provider_restrack.load.encode import EncodedRow
    from airflow_provider_restrack.load.wire import PackedTable


class Channel:
    """Writes by lanes where there are any, else by the driver's ``execute_async``.

    :param statement_of: makes the driver's statement of rows.
    :param tables: of which rows are packed; None for one of which they are not.
    :param level: consistency level; None leaves it to the session's profile.
    """

    def __init__(
        self,
        session: Any,
        statement_of: Callable[[Sequence[EncodedRow]], Any],
        tables: Sequence[PackedTable | None],
        *,
        level: int | None,
        now: Callable[[], float],
    ) -> None:
        self._session, self._statement_of, self._now = session, statement_of, now
        self._direct = open_direct(session, tables, level=level, now=now) if tables else None
        self._answers: SimpleQueue[Answer] = SimpleQueue()
        self._bell = _Bell() if self._direct is not None else None

    @property
    def width(self) -> int:
        """How many nodes are written to directly, at least 1."""
        return max(1, len(self._direct.lanes)) if self._direct else 1

    def replicas(self, keyspace: str, partition_key: Sequence[bytes]) -> Hashable | None:
        """Return what is equal for partitions that one request may write; None if it is not known."""
        return self._direct.replicas(keyspace, partition_key) or None if self._direct else None

    def send(self, request: Any, keyspace: str, rows: Sequence[EncodedRow], *, directly: bool) -> None:
        """Queue a write; ``flush`` sends what goes by lanes."""
        if not (directly and self._direct and self._direct.send(request, keyspace, rows)):
            self._send_by_driver(request, rows)

    def flush(self) -> None:
        """Send what is queued."""
        if self._direct is not None:
            self._direct.flush()

    def reopen(self) -> None:
        """Try to reach lost nodes again, if it is time for it."""
        if self._direct is not None:
            self._direct.reopen()

    def receive(self) -> list[Answer]:
        """Return the answers that are there, without waiting."""
        answers = self._direct.receive() if self._direct else []
        with suppress(Empty):
            while True:
                answers.append(self._answers.get_nowait())
        return answers

    def wait(self, timeout_s: float) -> None:
        """Wait until something can be received or sent."""
        if self._direct is None or self._bell is None:
            with suppress(Empty):
                self._answers.put(self._answers.get(timeout=max(0.0, timeout_s)))
            return
        poller = select.poll()
        poller.register(self._bell, select.POLLIN)
        for lane in self._direct.lanes:
            poller.register(lane, select.POLLIN | (select.POLLOUT if lane.wants_to_write else 0))
        poller.poll(0 if self._direct.has_answers else max(0.0, timeout_s) * 1000)
        self._bell.silence()

    def close(self) -> None:
        """Close what it opened; answers that are still to come are dropped."""
        if self._direct is not None:
            self._direct.close()
        if self._bell is not None:
            self._bell.close()

    def _send_by_driver(self, request: Any, rows: Sequence[EncodedRow]) -> None:
        sent = self._now()
        future = self._session.execute_async(self._statement_of(rows))
        future.add_callbacks(
            callback=lambda _rows: self._answer(request, future, None, sent),
            errback=lambda error: self._answer(request, future, error, sent),
        )

    def _answer(self, request: Any, future: Any, error: Exception | None, sent: float) -> None:
        host = str(getattr(future, "coordinator_host", None) or "no host")
        self._answers.put(Answer(request, error, self._now() - sent, host))
        if self._bell is not None:
            self._bell.ring()


class _Bell:
    """Ends a wait for sockets from another thread: answers of the driver come on its own."""

    def __init__(self) -> None:
        self._inside, self._outside = socket.socketpair()
        self._inside.setblocking(False)
        self._outside.setblocking(False)

    def fileno(self) -> int:
        return self._inside.fileno()

    def ring(self) -> None:
        with suppress(OSError):  # it is full, so that the wait ends anyhow, or closed
            self._outside.send(b"\0")

    def silence(self) -> None:
        with suppress(BlockingIOError):
            self._inside.recv(4096)

    def close(self) -> None:
        self._outside.close()
        self._inside.close()
