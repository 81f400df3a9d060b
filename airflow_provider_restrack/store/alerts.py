"""The ``alerts`` table: one partition a scope, changed only by the one evaluator that holds its lease.

A transition, the instance's row after it and, with the last of them, how far was evaluated change together in
conditional batches, so that a process killed at any point leaves no half of a change. Transitions go to the
history from an outbox in the same partition: a killed evaluator's are written by the next.
"""

from __future__ import annotations

import logging
import threading
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack import clock
from airflow_provider_restrack.store.alert_history import HistoryWriter
from airflow_provider_restrack.store.alert_rows import (
    INSTANCE_COLUMNS,
    STATE_COLUMNS,
    TRANSITION_COLUMNS,
    InstanceRow,
    ScopeState,
    TransitionRow,
)
from airflow_provider_restrack.store.alert_statements import (
    BATCH_ROWS,
    REPEATS_S,
    AlertStoreError,
    Statements,
    from_timestamp,
    unset_nulls,
)
from airflow_provider_restrack.store.alert_tables import ALERTS, CLOSED_TTL_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

log = logging.getLogger(__name__)

LEASE_TTL_S = 60
POLL_S = 0.5

_INSTANCE, _OUTBOX = "instance", "outbox"
# What rows of instances have in the part of the key that only transitions need.
_NO_TRANSITION = (0, "")
_KEY = ("scope", "kind", "rule", "host", "device", "condition", "at", "transition")


class LeaseHeldError(AlertStoreError):
    """Another evaluator of the scope holds the lease."""


class LeaseLostError(AlertStoreError):
    """The lease ended meanwhile: nothing of what was to be written then is written."""


class AlertStore:
    """The ``alerts`` of one scope, and the only way to write them: a lease.

    :param scope: who evaluates, as a DAG's id: one at a time does.
    :raises AlertStoreError: if a table is not there.
    """

    def __init__(
        self,
        session: Any,
        keyspace: str,
        scope: str,
        *,
        sleep: Callable[[float], None] = clock.sleep,
        monotonic: Callable[[], float] = clock.monotonic,
    ) -> None:
        self.scope = scope
        self.table = Statements(session, keyspace, ALERTS, f"scope {scope}", sleep=sleep)
        self._sleep, self._monotonic = sleep, monotonic
        prepare = self.table.prepare
        self._take = prepare(
            "UPDATE {table} USING TTL ? SET lease_owner = ? WHERE scope = ? IF lease_owner = null"
        )
        self._release = prepare("DELETE lease_owner FROM {table} WHERE scope = ? IF lease_owner = ?")
        self._owner = prepare("SELECT DISTINCT scope, lease_owner FROM {table} WHERE scope = ?")
        self._load = self.table.prepare_select(("kind", "horizon", *INSTANCE_COLUMNS), "scope = ?")
        self._outbox = self.table.prepare_select(TRANSITION_COLUMNS, f"scope = ? AND kind = '{_OUTBOX}'")
        self.history = HistoryWriter(session, keyspace, scope)

    def load(self) -> ScopeState:
        """Return the horizon and all instances, open and closed, in one read.

        For the holder of the lease that is all there is: taking it has finished what others had begun, and
        nobody else writes.

        :raises AlertStoreError: if Cassandra does not answer.
        """
        rows = self.table.read(self._load, self.scope)
        horizon = from_timestamp(rows[0][1]) if rows and rows[0][1] else None
        return ScopeState(horizon, tuple(InstanceRow.read(row[2:]) for row in rows if row[0] == _INSTANCE))

    def read_outbox(self) -> list[TransitionRow]:
        """Return the transitions that are recorded but may not be in the history yet."""
        return [TransitionRow.read(row) for row in self.table.read(self._outbox, self.scope)]

    @contextmanager
    def lease(self, owner: str, wait_s: float = 0.0, ttl_s: int = LEASE_TTL_S) -> Iterator[AlertLease]:
        """Take the scope's lease, waiting for it, and let it go however the block ends.

        A thread renews it in time, however long the block takes. That of an evaluator that was killed, or
        stands still, is ended by Cassandra after ``ttl_s``, by its own clock.

        :param owner: who asks, for those who wait.
        :param wait_s: how long to wait for another's.
        :param ttl_s: how long the lease lasts after it was renewed last.
        :raises LeaseHeldError: if another still holds it after ``wait_s``.
        :raises AlertStoreError: if Cassandra does not answer.
        """
        # Unique, so that nobody, not even a retry of the same task, is taken for the one before.
        token = f"{owner} {uuid.uuid4()}"
        self._acquire(token, wait_s, ttl_s)
        try:
            lease = AlertLease(self, token, ttl_s)
            with renewing(lease, ttl_s / 3):
                yield lease
        finally:
            self._let_go(token)

    def find_owner(self) -> str | None:
        """Return who holds the lease, None if nobody does."""
        rows = self.table.read(self._owner, self.scope)
        return rows[0][1] if rows else None

    def _acquire(self, token: str, wait_s: float, ttl_s: int) -> None:
        until = self._monotonic() + wait_s
        while True:
            holder = self.find_owner()
            if holder is None:
                applied, *current = self.table.apply(self._take, ttl_s, token, self.scope)
                holder = current[-1] if current else None
                if applied or holder == token:  # a repeat finds what the first try did
                    return
            left = until - self._monotonic()
            if left <= 0:
                raise LeaseHeldError(
                    f"Table {self.table.where}: {holder or 'another'} evaluates this scope, also"
                    f" after {wait_s:g} s of waiting. Let one run of a scope end before the next"
                    " (max_active_runs=1) or wait longer; the lease of one that was killed ends by itself"
                    f" within {ttl_s} s."
                )
            self._sleep(min(POLL_S, left))

    def _let_go(self, token: str) -> None:
        try:
            self.table.apply(self._release, self.scope, token, repeats=())
        except AlertStoreError as error:
            log.warning("The lease is not released, it ends by itself: %s", error)


class AlertLease:
    """The right to write one scope's alerts, as long as it is renewed; every write renews it."""

    def __init__(self, store: AlertStore, token: str, ttl_s: int) -> None:
        self._store, self._token, self._ttl_s = store, token, ttl_s
        self._table = store.table
        prepare = store.table.prepare
        self._hold = prepare(
            "UPDATE {table} USING TTL ? SET lease_owner = ? WHERE scope = ? IF lease_owner = ?"
        )
        self._move_horizon = prepare("UPDATE {table} USING TTL 0 SET horizon = ? WHERE scope = ?")
        insert = store.table.prepare_insert
        self._put_instance = insert((*_KEY, *STATE_COLUMNS), "USING TTL ?")
        self._put_outbox = insert(("scope", "kind", *TRANSITION_COLUMNS), "USING TTL 0")
        self._empty_outbox = prepare("DELETE FROM {table} WHERE scope = ? AND kind = ?")

    def renew(self, repeats: Sequence[float] = REPEATS_S) -> None:
        """Make sure that the lease is still ours, and renew it.

        :raises LeaseLostError: if it has ended.
        """
        self._commit([], repeats)

    def write(
        self,
        instances: Iterable[InstanceRow],
        transitions: Iterable[TransitionRow] = (),
        horizon_ms: int | None = None,
    ) -> None:
        """Write instances with the transitions that led to them, and then how far was evaluated.

        Each instance and its transitions are written together or not at all. The horizon moves with the
        last of them, so that a run that ends in between is taken up by the next, from the horizon before.
        To write the same again changes nothing.

        :raises LeaseLostError: if the lease has ended; what was written before stays.
        :raises AlertStoreError: if Cassandra does not take them.
        """
        chunks = plan_chunks(instances, transitions)
        for number, (put, append) in enumerate(chunks, start=1):
            parts = [self._instance_part(row) for row in put] + [self._outbox_part(row) for row in append]
            if horizon_ms is not None and number == len(chunks):
                parts.append((self._move_horizon, (horizon_ms, self._store.scope)))
            self._commit(parts)

    def write_history(self) -> int:
        """Write the outbox to the history and empty it; return how many transitions that were.

        :raises LeaseLostError: if the lease has ended; the outbox is then the next one's.
        :raises AlertStoreError: if Cassandra does not take them; the outbox stays.
        """
        rows = self._store.read_outbox()
        if rows:
            self._store.history.write(rows)
            # One tombstone for all, in place of one a row: reading the next outbox passes over no other.
            self._commit([(self._empty_outbox, (self._store.scope, _OUTBOX))])
        return len(rows)

    def _commit(
        self, parts: Sequence[tuple[Any, Sequence[Any]]], repeats: Sequence[float] = REPEATS_S
    ) -> None:
        """Write rows and renew the lease in one batch, if it is still ours."""
        scope, token = self._store.scope, self._token
        hold = (self._hold, (self._ttl_s, token, scope, token))
        if not self._table.apply_batch([hold, *parts], repeats):
            raise LeaseLostError(
                f"Table {self._table.where}: the lease of {token} has ended, it is held by"
                f" {self._store.find_owner() or 'nobody'}. Run again: it goes on from what is recorded."
            )

    def _instance_part(self, row: InstanceRow) -> tuple[Any, Sequence[Any]]:
        key = (self._store.scope, _INSTANCE, *row.key, *_NO_TRANSITION)
        return self._put_instance, (*key, *row[4:], 0 if row.open else CLOSED_TTL_S)

    def _outbox_part(self, row: TransitionRow) -> tuple[Any, Sequence[Any]]:
        return self._put_outbox, (self._store.scope, _OUTBOX, *unset_nulls(row))


@contextmanager
def renewing(lease: AlertLease, every_s: float) -> Iterator[None]:
    """Renew a lease from a thread until the block ends; if it is lost, the block's next write finds that."""
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(every_s):
            try:
                lease.renew(repeats=())
            except AlertStoreError as error:
                log.warning("The lease is not renewed: %s", error)

    thread = threading.Thread(target=renew, name="alert-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


Chunk = tuple[list[InstanceRow], list[TransitionRow]]


def plan_chunks(
    instances: Iterable[InstanceRow], transitions: Iterable[TransitionRow], limit: int = BATCH_ROWS
) -> list[Chunk]:
    """Split rows into batches of about ``limit``; an instance and its transitions stay together.

    There is always one, if only to move the horizon.
    """
    units: dict[tuple[str, ...], Chunk] = {}
    for row in instances:
        units.setdefault(row.key, ([], []))[0].append(row)
    for moved in transitions:
        units.setdefault(moved.key, ([], []))[1].append(moved)
    chunks: list[Chunk] = [([], [])]
    for _, (put, append) in sorted(units.items()):
        last = chunks[-1]
        if len(last[0]) + len(last[1]) + len(put) + len(append) > limit and any(last):
            last = ([], [])
            chunks.append(last)
        last[0].extend(put)
        last[1].extend(append)
    return chunks


def read_open_alerts(session: Any, keyspace: str, scope: str | None = None) -> dict[str, list[InstanceRow]]:
    """Return what fires now by scope, sorted: one read a scope.

    :param scope: only this one; None: all.
    :raises AlertStoreError: if the table is not there or Cassandra does not answer.
    """
    table = Statements(session, keyspace, ALERTS, "all scopes" if scope is None else f"scope {scope}")
    where = f"scope = ? AND kind = '{_INSTANCE}' AND open = true ALLOW FILTERING"
    select = table.prepare_select(INSTANCE_COLUMNS, where)
    scopes = [scope] if scope is not None else _list_scopes(table)
    return {one: sorted(InstanceRow.read(row) for row in table.read(select, one)) for one in scopes}


def _list_scopes(table: Statements) -> list[str]:
    return sorted(row[0] for row in table.read(table.prepare("SELECT DISTINCT scope FROM {table}")))
