"""An evaluator small enough to know what it must leave in the tables, and what is there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.alert.ledger import AlertLedger
from airflow_provider_restrack.alert.records import AlertRecord, AlertTransition, InstanceKey, Told
from airflow_provider_restrack.store.alert_tables import ALERT_TABLES
from airflow_provider_restrack.store.schema import build_create_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_restrack.alert.records import Book

START_MS = 1_767_225_600_000  # 2026-01-01
MINUTE_MS = 60_000
HORIZON_MS = START_MS + 60 * MINUTE_MS


def create_tables(session: Any, keyspace: str) -> None:
    for table in ALERT_TABLES:
        session.execute(build_create_table(table, keyspace))


@dataclass(frozen=True, slots=True)
class History:
    """What a fleet has gone through: every other host recovered, a few values are not known."""

    transitions: tuple[AlertTransition, ...]
    records: tuple[AlertRecord, ...]

    def after(self, book: Book) -> tuple[list[AlertTransition], list[AlertRecord]]:
        """Return what an evaluation finds beyond the book, as pure as the real one."""
        news = [
            record
            for record in self.records
            if record.key not in book.records or replace(book.records[record.key], told=record.told) != record
        ]
        keys = {record.key for record in news}
        since = {key: book.records[key].at_ms if key in book.records else 0 for key in keys}
        moves = [move for move in self.transitions if move.key in keys and move.at_ms > since[move.key]]
        return moves, news


def make_history(hosts: int) -> History:
    moves, records = [], []
    for number in range(hosts):
        key = InstanceKey("cpu", f"host-{number:04}")
        value = None if number % 5 == 0 else 91.0
        fired = AlertTransition(key, "fired", START_MS + 5 * MINUTE_MS, START_MS, "warning", value, 95.0)
        moves.append(fired)
        if number % 2:
            fired = replace(fired, kind="resolved", at_ms=START_MS + 9 * MINUTE_MS, value=3.0)
            moves.append(fired)
        records.append(
            AlertRecord(
                key, not number % 2, fired.severity, fired.since_ms, fired.at_ms, fired.value, fired.peak
            )
        )
    return History(tuple(moves), tuple(records))


def run_evaluator(
    session: Any, keyspace: str, scope: str, history: History, wait_s: float = 0.0, ttl_s: int = 60
) -> int:
    """Evaluate once: record, write the history, tell; return how many transitions were recorded."""
    ledger = AlertLedger(session, keyspace, scope)
    with ledger.lease("evaluator", wait_s, ttl_s) as lease:
        moves, records = history.after(lease.book)
        lease.record(moves, records, HORIZON_MS)
        lease.write_history()
        untold = [one for one in lease.book.records.values() if one.open and not one.told]
        if untold:
            lease.renew()
            lease.mark_told({one.key: {"0:Log": Told(one.severity, HORIZON_MS)} for one in untold})
    return len(moves)


def read_all(session: Any, keyspace: str, scope: str) -> dict[str, Any]:
    """Return everything that is in the tables, as plain as the driver gives it."""
    rows = [
        row._asdict() for row in session.execute(f"SELECT * FROM {keyspace}.alerts WHERE scope = %s", [scope])
    ]
    return {
        "owner": {row.pop("lease_owner") for row in rows},
        "horizon": {row.pop("horizon") for row in rows},
        "instances": [row for row in rows if row["kind"] == "instance"],
        "outbox": [row for row in rows if row["kind"] == "outbox"],
        "by_host": _sorted(session.execute(f"SELECT * FROM {keyspace}.alert_history"), scope),
        "by_rule": _sorted(session.execute(f"SELECT * FROM {keyspace}.alert_history_by_rule"), scope),
    }


def _sorted(rows: Any, scope: str) -> Sequence[dict[str, Any]]:
    found = [row._asdict() for row in rows if row.scope == scope]
    return sorted(found, key=lambda row: (row["rule"], row["host"], row["at"]))


def check_halves(session: Any, keyspace: str, scope: str, hosts: int) -> None:
    """Check that whatever is recorded is recorded whole, wherever an evaluator ended."""
    history, found = make_history(hosts), read_all(session, keyspace, scope)
    book = AlertLedger(session, keyspace, scope).load()
    on_the_way = {(row["host"], row["transition"]) for row in found["outbox"]}
    for table in ("by_host", "by_rule"):
        there = on_the_way | {(row["host"], row["transition"]) for row in found[table]}
        assert there == {
            (move.key.host, move.kind) for move in history.transitions if move.key in book.records
        }
    assert book.horizon_ms is None or len(book.records) == hosts


def check(session: Any, keyspace: str, scope: str, hosts: int) -> None:
    """Compare all that is in the tables with what one undisturbed evaluation must leave there."""
    history, found = make_history(hosts), read_all(session, keyspace, scope)
    expected = [
        (move.key.host, move.kind, move.alert_id, move.severity, move.value, move.peak)
        for move in history.transitions
    ]
    for table in ("by_host", "by_rule"):
        rows = [
            (row["host"], row["transition"], row["alert_id"], row["severity"], row["value"], row["peak"])
            for row in found[table]
        ]
        assert rows == expected
    book = AlertLedger(session, keyspace, scope).load()
    told = {"0:Log": Told("warning", HORIZON_MS, START_MS)}
    wanted = {record.key: replace(record, told=told) if record.open else record for record in history.records}
    assert dict(book.records) == wanted
    assert book.horizon_ms == HORIZON_MS
    assert (found["outbox"], found["owner"]) == ([], {None})
