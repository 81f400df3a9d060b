"""What is kept of alerts, in terms of alerts: records and transitions turned into rows of the store and back.

An evaluation, in short:

    ledger = AlertLedger(session, "metrics", "night_watch")
    with ledger.lease("night_watch manual__1 evaluate try 1", wait_s=90) as lease:
        evaluation = evaluate(..., lease.book)
        lease.record(evaluation.transitions, evaluation.records, horizon_ms)
        lease.write_history()
        for message in plan(lease.book):
            lease.renew()
            send(message)
            lease.mark_told({message.key: {message.receiver: Told("critical", now_ms)}})
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_restrack.alert.records import AlertRecord, Book, InstanceKey, Told
from airflow_provider_restrack.alert.silences import to_silence
from airflow_provider_restrack.store import alerts, silences
from airflow_provider_restrack.store.alert_rows import InstanceRow, TransitionRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from airflow_provider_restrack.alert.records import AlertTransition, Silence


class AlertLedger:
    """The alerts of one scope in Cassandra.

    :param scope: who evaluates, as a DAG's id; one evaluation of a scope runs at a time.
    :raises AlertStoreError: if a table is not there.
    """

    def __init__(self, session: Any, keyspace: str, scope: str) -> None:
        self._store = alerts.AlertStore(session, keyspace, scope)

    def load(self) -> Book:
        """Return what is kept, to look at; what an evaluation starts from is ``lease.book``.

        :raises AlertStoreError: if Cassandra does not answer.
        """
        state = self._store.load()
        records = (to_record(row) for row in state.instances)
        return Book(state.horizon_ms, MappingProxyType({record.key: record for record in records}))

    @contextmanager
    def lease(
        self, owner: str, wait_s: float = 0.0, ttl_s: int = alerts.LEASE_TTL_S
    ) -> Iterator[LedgerLease]:
        """Take the scope for one evaluation, waiting for it, and let it go however the block ends.

        It is renewed by a thread, however long the block takes.

        :param owner: who asks, for those who wait.
        :param wait_s: how long to wait for another's.
        :param ttl_s: after so long the lease of an evaluator that was killed, or stands still, ends.
        :raises LeaseHeldError: if another still holds it after ``wait_s``.
        :raises AlertStoreError: if Cassandra does not answer.
        """
        with self._store.lease(owner, wait_s, ttl_s) as lease:
            yield LedgerLease(lease, self.load())


class LedgerLease:
    """The right to write a scope's alerts; each method raises LeaseLostError when it has ended.

    :ivar book: what is kept of the scope now, what was written with this lease included.
    """

    def __init__(self, lease: alerts.AlertLease, book: Book) -> None:
        self._lease = lease
        self.book = book

    def renew(self) -> None:
        """Make sure that the lease is still ours: before what cannot be taken back, such as telling."""
        self._lease.renew()

    def record(
        self,
        transitions: Iterable[AlertTransition],
        records: Iterable[AlertRecord],
        horizon_ms: int | None = None,
        debts: Mapping[InstanceKey, Mapping[str, Told]] = MappingProxyType({}),
    ) -> None:
        """Record transitions, the new or changed records and how far was evaluated; again is the same.

        ``told`` of the records is not looked at: it stays as it is in ``book``. The horizon never goes back.

        :param debts: what is owed to receivers, or not any more, to be remembered with the alerts.

        :raises ValueError: if a transition's instance is in neither ``records`` nor ``book``.
        :raises AlertStoreError: if Cassandra does not take them.
        """
        kept = self.book.records
        given = {record.key: record for record in records}
        changed = {
            key: merge_told(given[key] if key in given else kept[key], kept.get(key), debts.get(key, {}))
            for key in (*given, *(key for key in debts if key not in given))
        }
        moved = list(transitions)
        if lost := [move.key for move in moved if move.key not in changed and move.key not in kept]:
            raise ValueError(f"transition without a record of its instance: {lost[0]}")
        if horizon_ms is not None:
            horizon_ms = max(horizon_ms, self.book.horizon_ms or 0)
        self._lease.write(map(from_record, changed.values()), map(from_transition, moved), horizon_ms)
        self._update(changed, horizon_ms)

    def write_history(self) -> int:
        """Write what is recorded but not in the history yet, also by evaluators before; return how many.

        :raises AlertStoreError: if Cassandra does not take them; the next evaluation writes them.
        """
        return self._lease.write_history()

    def mark_told(self, told: Mapping[InstanceKey, Mapping[str, Told]]) -> None:
        """Remember what receivers were told of instances; what others were told stays.

        :raises KeyError: if there is no record of an instance.
        :raises AlertStoreError: if Cassandra does not take it.
        """
        changed = {}
        for key, news in told.items():
            record = self.book.records[key]
            changed[key] = merge_told(record, record, news)
        self._lease.write(map(from_record, changed.values()))
        self._update(changed, None)

    def _update(self, changed: Mapping[InstanceKey, AlertRecord], horizon_ms: int | None) -> None:
        records = MappingProxyType({**self.book.records, **changed})
        self.book = Book(self.book.horizon_ms if horizon_ms is None else horizon_ms, records)


def merge_told(record: AlertRecord, kept: AlertRecord | None, news: Mapping[str, Told]) -> AlertRecord:
    """Return a record with what was told of the instance before, and what is new of it."""
    fresh = {name: replace(one, since_ms=one.since_ms or record.since_ms) for name, one in news.items()}
    return replace(record, told=MappingProxyType({**(kept.told if kept else {}), **fresh}))


def read_open_alerts(
    session: Any, keyspace: str, scope: str | None = None
) -> dict[str, tuple[AlertRecord, ...]]:
    """Return what fires now, by scope, sorted by rule and host: one read a scope.

    :param scope: only this one; None: all.
    :raises AlertStoreError: if the table is not there or Cassandra does not answer.
    """
    found = alerts.read_open_alerts(session, keyspace, scope)
    return {name: tuple(map(to_record, rows)) for name, rows in found.items()}


def read_silences(session: Any, keyspace: str, scope: str) -> tuple[Silence, ...]:
    """Return the silences of a scope and those of all; also such as have not begun or are over.

    :raises AlertStoreError: if the table is not there or Cassandra does not answer.
    """
    rows = silences.read_silences(session, keyspace, scope)
    return tuple(map(to_silence, rows))


def from_record(record: AlertRecord) -> InstanceRow:
    """Return the row of a record."""
    return InstanceRow(
        *record.key, record.open, record.alert_id, record.severity, record.since_ms, record.at_ms,
        record.value, record.peak, record.reason, record.flapping,
        {name: f"{told.what}@{told.at_ms}@{told.since_ms}" for name, told in record.told.items()},
    )  # fmt: skip


def to_record(row: InstanceRow) -> AlertRecord:
    """Return the record of a row."""
    told = {name: _parse_told(text) for name, text in row.told.items()}
    return AlertRecord(
        _to_key(row), row.open, cast("Any", row.severity), row.since_ms, row.last_at_ms,
        row.value, row.peak, row.reason, row.flapping, MappingProxyType(told),
    )  # fmt: skip


def from_transition(move: AlertTransition) -> TransitionRow:
    """Return the row of a transition."""
    return TransitionRow(
        *move.key, move.at_ms, move.kind, move.alert_id, move.severity, move.since_ms,
        move.value, move.peak, move.reason,
    )  # fmt: skip


def _to_key(row: InstanceRow) -> InstanceKey:
    rule, host, device, condition = row.key
    return InstanceKey(rule, host, device, cast("Any", condition))


def _parse_told(text: str) -> Told:
    what, at_ms, since_ms = text.split("@")
    return Told(cast("Any", what), int(at_ms), int(since_ms))
