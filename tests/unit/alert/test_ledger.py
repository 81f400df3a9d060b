from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_restrack.alert import ledger
from airflow_provider_restrack.alert.ledger import LedgerLease, from_record, from_transition, to_record
from airflow_provider_restrack.alert.records import AlertRecord, AlertTransition, Book, InstanceKey, Told
from airflow_provider_restrack.store.silences import SilenceRow

KEY, OTHER = InstanceKey("cpu", "a"), InstanceKey("disk", "b", "/var", "no_data")
FIRED = AlertTransition(KEY, "fired", 60_000, 1_000, "warning", 91.0, 95.0)
OPEN = AlertRecord(KEY, True, "warning", 1_000, 60_000, 91.0, 95.0)
TOLD = Told("warning", 70_000, 1_000)


class FakeLease:
    def __init__(self) -> None:
        self.written: list[tuple[list[Any], list[Any], int | None]] = []

    def write(self, instances: Any, transitions: Any = (), horizon_ms: int | None = None) -> None:
        self.written.append((list(instances), list(transitions), horizon_ms))


def make(*records: AlertRecord, horizon_ms: int | None = None) -> tuple[LedgerLease, FakeLease]:
    lease: Any = FakeLease()
    return LedgerLease(lease, Book(horizon_ms, {record.key: record for record in records})), lease


@pytest.mark.parametrize(
    "record",
    [
        OPEN,
        replace(OPEN, told={"0:SlackNotifier": TOLD, "1:EmailNotifier": Told("resolved", 5, 4)}),
        AlertRecord(OTHER, False, "critical", 5, 6, None, None, "removed", flapping=True),
    ],
    ids=["open", "told", "closed"],
)
def test_a_record_is_the_same_after_its_row(record: AlertRecord) -> None:
    assert to_record(from_record(record)) == record


def test_rows_carry_the_alert_s_identity() -> None:
    assert from_record(OPEN).alert_id == OPEN.alert_id == from_transition(FIRED).alert_id
    assert from_transition(FIRED)[:6] == ("cpu", "a", "", "threshold", 60_000, "fired")


def test_what_is_recorded_is_in_the_book_and_written_together() -> None:
    lease, store = make()

    lease.record([FIRED], [OPEN], 90_000)

    assert store.written == [([from_record(OPEN)], [from_transition(FIRED)], 90_000)]
    assert lease.book == Book(90_000, {KEY: OPEN})


def test_recording_never_changes_what_was_told() -> None:
    lease, store = make(replace(OPEN, told={"slack": TOLD}))

    lease.record([], [replace(OPEN, peak=99.0, told={"mail": TOLD})])

    assert lease.book.records[KEY] == replace(OPEN, peak=99.0, told={"slack": TOLD})
    assert store.written[0][0] == [from_record(lease.book.records[KEY])]


def test_the_horizon_never_goes_back_and_stays_if_none_is_given() -> None:
    lease, store = make(horizon_ms=100)

    lease.record([], [], 90)
    lease.record([], [OPEN])

    assert [horizon for *_, horizon in store.written] == [100, None]
    assert lease.book.horizon_ms == 100


def test_a_transition_without_record_is_refused_before_anything_is_written() -> None:
    lease, store = make()

    with pytest.raises(ValueError, match="without a record of its instance: InstanceKey"):
        lease.record([FIRED], [replace(OPEN, key=OTHER)], 1)
    assert store.written == []


def test_marks_add_to_what_others_were_told_and_say_of_which_alert() -> None:
    lease, store = make(replace(OPEN, told={"slack": TOLD}))

    lease.mark_told({KEY: {"mail": Told("warning", 80_000), "pager": Told("resolved", 80_000, 500)}})

    assert lease.book.records[KEY].told == {
        "slack": TOLD,
        "mail": Told("warning", 80_000, 1_000),
        "pager": Told("resolved", 80_000, 500),
    }
    assert store.written == [([from_record(lease.book.records[KEY])], [], None)]


def test_a_mark_of_an_unknown_instance_is_refused() -> None:
    lease, _ = make()

    with pytest.raises(KeyError):
        lease.mark_told({KEY: {"mail": TOLD}})


def test_readers_return_records_and_silences(monkeypatch: pytest.MonkeyPatch) -> None:
    row = from_record(OPEN)
    monkeypatch.setattr(ledger.alerts, "read_open_alerts", lambda *_: {"night": [row]})
    monkeypatch.setattr(
        ledger.silences,
        "read_silences",
        lambda *_: [SilenceRow("night", row.alert_id, 1, 2, "cpu", "*", "*", "me", "")],
    )

    assert ledger.read_open_alerts(None, "metrics") == {"night": (OPEN,)}
    (silence,) = ledger.read_silences(None, "metrics", "night")
    assert (silence.id, silence.starts_ms, silence.ends_ms, silence.rule) == (row.alert_id, 1, 2, "cpu")
