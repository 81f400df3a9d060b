"""Keeps a bounded number of writes to Cassandra in flight and retries those that may succeed later.

Everything happens in the loop's own thread: it hands batches in, and whenever it calls ``pump`` what has been
answered is taken and what there is room for is sent. Meanwhile it can make the next rows.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import random
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cassandra import ConsistencyLevel
from cassandra.query import BatchStatement, BatchType

from airflow_provider_restrack.load.batch import next_newest
from airflow_provider_restrack.load.channel import Channel
from airflow_provider_restrack.load.errors import StoreError
from airflow_provider_restrack.load.latency import LatencyHistogram
from airflow_provider_restrack.load.retry import (
    Window,
    WritePolicy,
    is_overload,
    is_refusal,
    is_transient,
    retry_delay,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from airflow_provider_restrack.load.encode import EncodedRow
    from airflow_provider_restrack.load.lanes import Answer
    from airflow_provider_restrack.load.offsets import Ticket
    from airflow_provider_restrack.load.table import TableTarget
    from airflow_provider_restrack.load.wire import PackedTable

log = logging.getLogger(__name__)

_SILENCE_S = 300.0  # the driver's own request timeout answers long before; without one this ends the wait
_TELL_EVERY_S = 1.0
_WAIT_S = 0.5  # how often the loop can do something else while it waits


@dataclass(slots=True)
class _Batch:
    target: TableTarget
    rows: Sequence[EncodedRow]
    ticket: Ticket
    tries: int = 0
    first_failure: float | None = None


@dataclass(slots=True)
class WriteCounts:
    """What has been acknowledged, and what need not be written.

    :ivar superseded: rows that are older than one of the same key; those that are written in its place after
        all are taken off.
    """

    batches: int = 0
    retries: int = 0
    superseded: int = 0
    rows: dict[str, int] = field(default_factory=dict)


class Writer:
    """Sends batches, and settles their tickets when they are stored.

    :param tables: whose packed rows may go directly to their nodes.
    :param on_refused: called with a row that Cassandra refuses for its content, the error and the row's
        ticket; the row is settled when it returns, so it must hold the ticket for whatever it does with the
        record.
    :param while_waiting: called at least each second while the writer waits.
    :param now: the monotonic clock.
    """

    def __init__(
        self,
        session: Any,
        policy: WritePolicy,
        *,
        on_refused: Callable[[EncodedRow, Exception, Ticket], None],
        now: Callable[[], float],
        tables: Sequence[PackedTable | None] = (),
        while_waiting: Callable[[], None] = lambda: None,
    ) -> None:
        self._policy, self._on_refused, self._now = policy, on_refused, now
        self._while_waiting = while_waiting
        self._level = getattr(ConsistencyLevel, policy.consistency) if policy.consistency else None
        self._channel = Channel(session, self._statement, tables, level=self._level, now=now)
        self._window = Window(policy.in_flight)
        self._backlog: deque[_Batch] = deque()
        self._retries: list[tuple[float, int, _Batch]] = []
        self._order = itertools.count()
        self._in_flight = 0
        self._last_answer = now()
        self._told = -_TELL_EVERY_S
        self.counts = WriteCounts()
        self.latency = LatencyHistogram()

    @property
    def is_busy(self) -> bool:
        """Whether as much is in flight as may be."""
        return bool(self._backlog)

    def replicas(self, target: TableTarget, partition_key: Sequence[bytes]) -> Hashable | None:
        """Return what is equal for partitions that one request may write; None if it is not known."""
        return self._channel.replicas(target.keyspace, partition_key)

    def submit(self, target: TableTarget, rows: Sequence[EncodedRow], ticket: Ticket) -> None:
        """Take a batch; the ticket is held until it is acknowledged."""
        ticket.hold()
        self._backlog.append(_Batch(target, rows, ticket))

    def pump(self) -> None:
        """Handle what has been answered and send what there is room for, without waiting.

        :raises StoreError: if a batch failed for good.
        """
        for answer in self._channel.receive():
            self._handle(answer)
        self._channel.reopen()
        self._send_due()
        # What waits for another try counts as in flight: while Cassandra is away, no more is read for it.
        room = self._window.size * self._channel.width - self._in_flight - len(self._retries)
        while room > 0 and self._backlog:
            self._send(self._backlog.popleft())
            room -= 1
        self._channel.flush()

    def make_room(self, deadline: float = math.inf) -> bool:
        """Wait until everything that was submitted has been sent at least once; return whether it has.

        :param deadline: of the clock, after which it is waited for no longer.
        :raises StoreError: if a batch failed for good.
        """
        self.pump()
        while self._backlog and self._now() < deadline:
            self._wait()
        return not self._backlog

    def drain(self, deadline: float = math.inf) -> None:
        """Wait until every batch is acknowledged.

        :param deadline: of the clock, after which it is waited for no longer.
        :raises StoreError: if one failed for good.
        """
        self.pump()
        while (self._backlog or self._in_flight or self._retries) and self._now() < deadline:
            self._wait()

    def close(self) -> None:
        """Close its connections; the tickets of what is not answered stay open."""
        self._channel.close()

    def _wait(self) -> None:
        """Wait for an answer or the time of the next retry, and go on."""
        timeout = _WAIT_S
        if self._retries:
            timeout = min(timeout, self._retries[0][0] - self._now())
        self._channel.wait(timeout)
        self._while_waiting()
        if self._in_flight and self._now() - self._last_answer > _SILENCE_S:
            raise StoreError(
                f"Cassandra (connection {self._policy.connection!r}) left {self._in_flight} writes"
                f" unanswered for {_SILENCE_S:g} s"
            )
        self.pump()

    def _send_due(self) -> None:
        while self._retries and self._retries[0][0] <= self._now():
            self._send(heapq.heappop(self._retries)[2])

    def _send(self, batch: _Batch) -> None:
        if not self._in_flight:
            self._last_answer = self._now()
        batch.tries += 1
        self._in_flight += 1
        # Every other try goes through the driver: it knows of nodes and ways that lanes do not.
        self._channel.send(batch, batch.target.keyspace, batch.rows, directly=batch.tries % 2 == 1)

    def _handle(self, answer: Answer) -> None:
        batch, error = answer.request, answer.error
        self._in_flight -= 1
        self._last_answer = self._now()
        if error is None:
            self.latency.add(answer.seconds)
            self._note_stored(batch)
        elif is_refusal(error):
            self._handle_refusal(batch, error)
        elif is_transient(error):
            self._handle_failure(batch, answer, error)
        else:
            raise self._error(batch, answer.host, error) from error

    def _note_stored(self, batch: _Batch) -> None:
        name = batch.target.full_name
        self.counts.batches += 1
        self.counts.rows[name] = self.counts.rows.get(name, 0) + len(batch.rows)
        self._window.note_success()
        batch.ticket.settle()

    def _handle_refusal(self, batch: _Batch, error: Exception) -> None:
        """Find the row that is refused by sending halves; hand it to the loop, and write what it was to
        supersede.
        """
        if len(batch.rows) > 1:
            for half in self._halve(batch):
                self._send(half)
            return
        [refused] = batch.rows
        self._on_refused(refused, error, batch.ticket)
        instead = next_newest(refused)
        if instead is not None:
            self.counts.superseded -= 1
            self.submit(batch.target, [instead], batch.ticket)
        batch.ticket.settle()

    def _handle_failure(self, batch: _Batch, answer: Answer, error: Exception) -> None:
        """Schedule another try: of halves, and with less in flight, if the server was too slow for it."""
        now = self._now()
        if batch.first_failure is None:
            batch.first_failure = now
        jitter = random.uniform(0.75, 1.25)  # noqa: S311 - no secret
        delay = retry_delay(self._policy, batch.tries, now - batch.first_failure, jitter)
        if delay is None:
            raise self._error(batch, answer.host, error) from error
        if is_overload(error):
            self._window.note_trouble(now)
        self._tell(batch, error, delay, now)
        self.counts.retries += 1
        parts = self._halve(batch) if is_overload(error) and len(batch.rows) > 1 else [batch]
        for part in parts:
            heapq.heappush(self._retries, (now + delay, next(self._order), part))

    def _tell(self, batch: _Batch, error: Exception, delay: float, now: float) -> None:
        """Log a failure; what is in flight fails together, and one line says it."""
        level = logging.WARNING if now - self._told >= _TELL_EVERY_S else logging.DEBUG
        if level == logging.WARNING:
            self._told = now
        log.log(
            level, "a write of %d rows to %s is tried again in %.1f s (try %d; %d writes in flight): %s: %s",
            len(batch.rows), batch.target.full_name, delay, batch.tries + 1, self._in_flight,
            type(error).__name__, error,
        )  # fmt: skip

    @staticmethod
    def _halve(batch: _Batch) -> list[_Batch]:
        middle = len(batch.rows) // 2
        batch.ticket.hold()
        return [
            _Batch(batch.target, rows, batch.ticket, batch.tries, batch.first_failure)
            for rows in (batch.rows[:middle], batch.rows[middle:])
        ]

    def _error(self, batch: _Batch, host: str, error: Exception) -> StoreError:
        level = self._policy.consistency or "the profile's level"
        return StoreError(
            f"Cassandra (connection {self._policy.connection!r}) did not store {len(batch.rows)} rows of"
            f" {batch.target.full_name} at {level}, by {host}, in {batch.tries} tries:"
            f" {type(error).__name__}: {error}"
        )

    def _statement(self, rows: Sequence[EncodedRow]) -> Any:
        return build_statement(rows, self._level)


def build_statement(rows: Sequence[EncodedRow], level: int | None) -> Any:
    """Return the driver's statement that writes rows.

    :param level: the consistency level; None leaves it to the execution profile.
    """
    packed = rows[0].packed
    if packed is not None:
        statement = packed.statement(rows, level)
    elif len(rows) == 1:
        statement = rows[0].statement
        if level is not None:
            statement.consistency_level = level
    else:
        statement = BatchStatement(batch_type=BatchType.UNLOGGED, consistency_level=level)
        for row in rows:
            statement.add(row.statement)
    statement.is_idempotent = True  # the write timestamps are the rows' own: twice is the same as once
    return statement
