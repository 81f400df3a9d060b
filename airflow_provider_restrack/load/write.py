"""Keeps a bounded number of writes to Cassandra in flight and retries those that may succeed later.

Acknowledgements arrive on the driver's thread; they cross in a queue, and all state changes in the loop's own
thread.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import random
import re
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from cassandra import (
    ConsistencyLevel,
    InvalidRequest,
    OperationTimedOut,
    Unavailable,
    WriteFailure,
    WriteTimeout,
)
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionException
from cassandra.protocol import IsBootstrappingErrorMessage, OverloadedErrorMessage, ServerError
from cassandra.query import BatchStatement, BatchType

from airflow_provider_restrack.load.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_restrack.load.encode import EncodedRow
    from airflow_provider_restrack.load.offsets import Ticket
    from airflow_provider_restrack.load.table import TableTarget

log = logging.getLogger(__name__)

# Answers that another try can change: the cluster is slow, busy, or lacks nodes for now.
_TRANSIENT = (
    OperationTimedOut, WriteTimeout, WriteFailure, Unavailable, NoHostAvailable, ConnectionException,
    OverloadedErrorMessage, IsBootstrappingErrorMessage, ServerError,
)  # fmt: skip
# What an InvalidRequest says of a row's content; any other (a dropped table, a guardrail) concerns every row,
# and must not empty a topic into the dead letters.
_CONTENT = re.compile(
    r"too large|too long|longer than|exceeds allowed maximum|oversized mutation"
    r"|key may not be empty|invalid \w+ (value|data)|expected \d+|not a valid",
    re.IGNORECASE,
)
_BEAT_S = 1.0  # between two calls of while_waiting
_SILENCE_S = 300.0  # the driver's own request timeout answers long before; without one this ends the wait


@dataclass(frozen=True, slots=True)
class WritePolicy:
    """How rows are written.

    :ivar consistency: a name such as ``LOCAL_QUORUM``; None leaves it to the session's execution profile.
    :ivar in_flight: batches sent and not yet acknowledged; more only queue up in the server.
    :ivar retries: further tries of a batch after a passing error.
    :ivar retry_seconds: no try starts later than this after a batch's first failure.
    """

    consistency: str | None = None
    in_flight: int = 32
    retries: int = 6
    retry_seconds: float = 30.0
    backoff_s: float = 0.25
    connection: str = "cassandra_default"


@dataclass(slots=True)
class _Batch:
    target: TableTarget
    rows: Sequence[EncodedRow]
    ticket: Ticket
    tries: int = 0
    first_failure: float | None = None


@dataclass(slots=True)
class WriteCounts:
    """What has been acknowledged."""

    batches: int = 0
    retries: int = 0
    rows: dict[str, int] = field(default_factory=dict)


class Writer:
    """Sends batches of one partition each.

    :param on_refused: called with a row that Cassandra refuses for its content, the error and the row's
        ticket; the row is settled when it returns, so it must hold the ticket for whatever it does with the
        record.
    :param while_waiting: called at least once a second while the caller is made to wait.
    :param now: the monotonic clock.
    """

    def __init__(
        self,
        session: Any,
        policy: WritePolicy,
        *,
        on_refused: Callable[[EncodedRow, Exception, Ticket], None],
        while_waiting: Callable[[], None] = lambda: None,
        now: Callable[[], float],
    ) -> None:
        self._session, self._policy, self._on_refused, self._now = session, policy, on_refused, now
        self._while_waiting = while_waiting
        self._level = getattr(ConsistencyLevel, policy.consistency) if policy.consistency else None
        self._answers: SimpleQueue[tuple[_Batch, Any, Exception | None]] = SimpleQueue()
        self._waiting: list[tuple[float, int, _Batch]] = []
        self._order = itertools.count()
        self._in_flight = 0
        self.counts = WriteCounts()

    def submit(self, target: TableTarget, rows: Sequence[EncodedRow], ticket: Ticket) -> None:
        """Send a batch, after waiting for room; the ticket is held until it is acknowledged.

        :raises StoreError: if an earlier batch failed for good.
        """
        ticket.hold()
        while self._in_flight + len(self._waiting) >= self._policy.in_flight:
            self._step()
        self._send(_Batch(target, rows, ticket))
        self.poll()

    def poll(self) -> None:
        """Handle the acknowledgements and retries that are due, without waiting.

        :raises StoreError: if a batch failed for good.
        """
        self._send_due()
        while True:
            try:
                answer = self._answers.get_nowait()
            except Empty:
                return
            self._handle(*answer)

    def drain(self) -> None:
        """Wait until every batch is acknowledged.

        :raises StoreError: if one failed for good.
        """
        while self._in_flight or self._waiting:
            self._step()

    def _step(self) -> None:
        """Wait for one answer, or for the time of the next retry."""
        self._send_due()
        timeout = max(0.0, self._waiting[0][0] - self._now()) if self._waiting else _SILENCE_S
        answer = None
        while answer is None and timeout > 0:
            self._while_waiting()
            with suppress(Empty):
                answer = self._answers.get(timeout=min(timeout, _BEAT_S))
            timeout -= _BEAT_S
        if answer is None:
            if not self._waiting:
                raise StoreError(
                    f"Cassandra (connection {self._policy.connection!r}) left {self._in_flight} writes"
                    f" unanswered for {_SILENCE_S:g} s"
                )
            return
        self._handle(*answer)

    def _send_due(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._now():
            self._send(heapq.heappop(self._waiting)[2])

    def _send(self, batch: _Batch) -> None:
        batch.tries += 1
        self._in_flight += 1
        future = self._session.execute_async(build_statement(batch.rows, self._level))
        answers = self._answers
        future.add_callbacks(
            callback=lambda _rows: answers.put((batch, future, None)),
            errback=lambda error: answers.put((batch, future, error)),
        )

    def _handle(self, batch: _Batch, future: Any, error: Exception | None) -> None:
        self._in_flight -= 1
        if error is None:
            name = batch.target.full_name
            self.counts.batches += 1
            self.counts.rows[name] = self.counts.rows.get(name, 0) + len(batch.rows)
            batch.ticket.settle()
        elif isinstance(error, InvalidRequest) and _CONTENT.search(str(error)):
            self._handle_refusal(batch, error)
        elif isinstance(error, _TRANSIENT) and self._may_retry(batch):
            self._schedule(batch, error)
        else:
            raise self._error(batch, future, error) from error

    def _handle_refusal(self, batch: _Batch, error: Exception) -> None:
        """Find the row that is refused by sending each alone; hand it to the loop."""
        if len(batch.rows) > 1:
            batch.ticket.hold(len(batch.rows) - 1)
            for row in batch.rows:
                self._send(_Batch(batch.target, [row], batch.ticket))
            return
        self._on_refused(batch.rows[0], error, batch.ticket)
        batch.ticket.settle()

    def _may_retry(self, batch: _Batch) -> bool:
        now = self._now()
        if batch.first_failure is None:
            batch.first_failure = now
        return batch.tries <= self._policy.retries and now - batch.first_failure < self._policy.retry_seconds

    def _schedule(self, batch: _Batch, error: Exception) -> None:
        delay = self._policy.backoff_s * 2 ** (batch.tries - 1) * random.uniform(0.75, 1.25)  # noqa: S311 - jitter
        log.warning(
            "a write of %d rows to %s is tried again in %.1f s (try %d of %d): %s",
            len(batch.rows), batch.target.full_name, delay, batch.tries + 1, self._policy.retries + 1, error,
        )  # fmt: skip
        self.counts.retries += 1
        heapq.heappush(self._waiting, (self._now() + delay, next(self._order), batch))

    def _error(self, batch: _Batch, future: Any, error: Exception) -> StoreError:
        host = getattr(future, "coordinator_host", None) or "no host"
        level = self._policy.consistency or "the profile's level"
        return StoreError(
            f"Cassandra (connection {self._policy.connection!r}) did not store {len(batch.rows)} rows of"
            f" {batch.target.full_name} at {level}, by {host}, in {batch.tries} tries:"
            f" {type(error).__name__}: {error}"
        )


def build_statement(rows: Sequence[EncodedRow], level: int | None) -> Any:
    """Return the statement that writes rows of one partition.

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
