"""What of the alerts' table needs no server; the rest is in tests/integration/store."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest

from airflow_provider_restrack.store import alerts
from airflow_provider_restrack.store.alert_rows import InstanceRow, TransitionRow
from airflow_provider_restrack.store.alert_statements import AlertStoreError
from airflow_provider_restrack.store.alert_tables import CLOSED_TTL_S
from airflow_provider_restrack.store.alerts import (
    AlertStore,
    LeaseHeldError,
    LeaseLostError,
    plan_chunks,
    renewing,
)

ID = uuid.UUID(int=7)


def instance(host: str = "a", *, is_open: bool = True) -> InstanceRow:
    return InstanceRow(
        "cpu", host, "", "threshold", is_open, ID, "warning", 1, 2, None, 97.5, "", False, {"s": "x"}
    )


def transition(host: str = "a", at_ms: int = 2) -> TransitionRow:
    return TransitionRow("cpu", host, "", "threshold", at_ms, "fired", ID, "warning", 1, None, 97.5, "")


class FakeTable:
    """Stands for ``Statements``: statements are their texts, what is applied is scripted and recorded."""

    where = "metrics.alerts (scope night)"

    def __init__(self) -> None:
        self.owners: list[str | None] = []
        self.outbox: list[tuple[Any, ...]] = []
        self.outcomes: list[Any] = []
        self.applied: list[tuple[str, tuple[Any, ...]]] = []
        self.batches: list[list[tuple[str, Any]]] = []

    def prepare(self, cql: str) -> str:
        return cql

    def prepare_select(self, columns: Any, where: str) -> str:
        return f"SELECT {columns[0]} WHERE {where}"

    def prepare_insert(self, columns: Any, using: str = "") -> str:
        return f"INSERT {len(columns)} {using}"

    def read(self, statement: str, *_: Any) -> list[tuple[Any, ...]]:
        if "lease_owner" in statement:
            return [("night", self.owners.pop(0))] if self.owners else []
        return self.outbox

    def write(self, *_: Any) -> None:
        raise AssertionError("alerts are never written without a condition")

    def apply(self, statement: str, *values: Any, repeats: Any = ()) -> tuple[Any, ...]:
        self.applied.append((statement.partition(" ")[0], values))
        return self._next(values[1])  # type: ignore[no-any-return]

    def apply_batch(self, parts: Any, repeats: Any) -> bool:
        self.batches.append([(statement.partition(" ")[0], tuple(values)) for statement, values in parts])
        return bool(self._next("")[0])

    def _next(self, token: str) -> Any:
        outcome = self.outcomes.pop(0) if self.outcomes else (True,)
        if isinstance(outcome, Exception):
            raise outcome
        return (False, token) if outcome == "mine" else outcome


class FakeHistory:
    def __init__(self, *_: Any) -> None:
        self.rows: list[TransitionRow] = []

    def write(self, rows: list[TransitionRow]) -> None:
        self.rows += rows


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> FakeTable:
    table = FakeTable()
    monkeypatch.setattr(alerts, "Statements", lambda *_, **__: table)
    monkeypatch.setattr(alerts, "HistoryWriter", FakeHistory)
    return table


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def make(clock: Clock | None = None) -> AlertStore:
    clock = clock or Clock()
    return AlertStore(None, "metrics", "night", sleep=clock.sleep, monotonic=lambda: clock.now)


def test_lease_is_taken_with_a_token_of_its_own_and_let_go(table: FakeTable) -> None:
    for _ in range(2):
        with make().lease("run 1"):
            pass

    (take, first), (release, again), (_, second), _ = table.applied
    assert (take, release) == ("UPDATE", "DELETE")
    assert first[0] == alerts.LEASE_TTL_S
    assert first[1] == again[1] != second[1]
    assert first[1].startswith("run 1 ")


def test_lease_is_let_go_when_the_block_fails(table: FakeTable) -> None:
    with pytest.raises(KeyboardInterrupt), make().lease("run 1"):
        raise KeyboardInterrupt
    assert [verb for verb, _ in table.applied] == ["UPDATE", "DELETE"]


def test_a_release_that_fails_does_not_hide_what_the_block_raised(
    table: FakeTable, caplog: pytest.LogCaptureFixture
) -> None:
    table.outcomes = [(True,), AlertStoreError("no node")]
    with pytest.raises(ZeroDivisionError), make().lease("run 1"):
        raise ZeroDivisionError
    assert "ends by itself: no node" in caplog.text


def test_lease_of_another_is_waited_for(table: FakeTable) -> None:
    clock = Clock()
    table.owners = ["run 0 x", "run 0 x", None]
    with make(clock).lease("run 1", wait_s=5):
        assert clock.now == 2 * alerts.POLL_S


def test_lease_that_another_took_between_look_and_take_is_waited_for(table: FakeTable) -> None:
    table.owners = [None, None]
    table.outcomes = [(False, "run 0 x")]
    with make().lease("run 1", wait_s=5):
        assert len(table.applied) == 2


def test_lease_is_ours_if_the_first_try_took_it_and_the_repeat_found_it(table: FakeTable) -> None:
    table.outcomes = ["mine"]
    with make().lease("run 1"):
        assert len(table.applied) == 1


def test_lease_that_stays_another_s_is_an_error_that_names_the_holder(table: FakeTable) -> None:
    table.owners = ["run 0 x"] * 9
    with (
        pytest.raises(
            LeaseHeldError, match=r"scope night\): run 0 x evaluates .* after 1 s .*max_active_runs"
        ),
        make().lease("run 1", wait_s=1),
    ):
        pass
    assert table.applied == []


def test_each_write_renews_the_lease_and_the_horizon_moves_with_the_last(table: FakeTable) -> None:
    hosts = [f"h{number:03}" for number in range(alerts.BATCH_ROWS)]
    with make().lease("run 1") as lease:
        lease.write([instance(host) for host in hosts], [transition(host) for host in hosts], 99)

    first, second = table.batches
    token = table.applied[0][1][1]
    assert first[0] == second[0] == ("UPDATE", (alerts.LEASE_TTL_S, token, "night", token))
    assert [part for batch in (first, second) for part in batch if part == ("UPDATE", (99, "night"))] == [
        second[-1]
    ]
    assert len(first) + len(second) == 2 * len(hosts) + 3


def test_a_closed_instance_ends_by_itself_and_an_open_one_never(table: FakeTable) -> None:
    with make().lease("run 1") as lease:
        lease.write([instance(), instance("b", is_open=False)])
    ((_, (_, opened), (_, closed)),) = table.batches
    assert (opened[-1], closed[-1]) == (0, CLOSED_TTL_S)


def test_writing_nothing_still_moves_the_horizon(table: FakeTable) -> None:
    with make().lease("run 1") as lease:
        lease.write([], [], 99)
    ((_, horizon),) = table.batches
    assert horizon == ("UPDATE", (99, "night"))


def test_a_lease_that_was_lost_names_who_has_it(table: FakeTable) -> None:
    table.owners = [None, "run 2 y"]
    table.outcomes = [(True,), (False,)]
    with (
        pytest.raises(LeaseLostError, match=r"lease of run 1 .* held by run 2 y\. Run again"),
        make().lease("run 1") as lease,
    ):
        lease.renew()


class Beating:
    """A lease that counts how often it is renewed, and fails at first."""

    def __init__(self) -> None:
        self.renewed = 0
        self.twice = threading.Event()

    def renew(self, repeats: Any) -> None:
        self.renewed += 1
        if self.renewed == 1:
            raise AlertStoreError("no node")
        self.twice.set()


def test_a_lease_is_renewed_from_a_thread_until_the_block_ends(caplog: pytest.LogCaptureFixture) -> None:
    lease: Any = Beating()
    with renewing(lease, 0.001):
        assert lease.twice.wait(30)
    at_end = lease.renewed

    assert "not renewed: no node" in caplog.text
    assert "alert-lease" not in {thread.name for thread in threading.enumerate()}
    assert lease.renewed == at_end


def test_outbox_is_emptied_only_after_the_history_has_it(
    table: FakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TransitionRow, "read", lambda row: row)
    table.outbox = [transition()]
    store = make()
    with store.lease("run 1") as lease:
        monkeypatch.setattr(store.history, "write", _refuse)
        with pytest.raises(AlertStoreError, match="no node"):
            lease.write_history()
        assert table.batches == []
        monkeypatch.undo()


def _refuse(*_: Any) -> None:
    raise AlertStoreError("no node")


def test_an_empty_outbox_costs_no_write(table: FakeTable) -> None:
    with make().lease("run 1") as lease:
        assert lease.write_history() == 0
    assert table.batches == []


def test_chunks_keep_an_instance_and_its_transitions_together() -> None:
    rows = [instance(host) for host in "cab"]
    moves = [transition(host, at) for host in "bca" for at in (1, 2, 3)]

    chunks = plan_chunks(rows, moves, limit=8)

    assert [[row.host for row in put] for put, _ in chunks] == [["a", "b"], ["c"]]
    assert [[(move.host, move.at_ms) for move in append] for _, append in chunks] == [
        [(host, at) for host in "ab" for at in (1, 2, 3)],
        [("c", at) for at in (1, 2, 3)],
    ]


def test_an_instance_of_many_transitions_is_one_chunk() -> None:
    moves = [transition(at_ms=at) for at in range(50)]
    assert plan_chunks([instance()], moves, limit=10) == [([instance()], moves)]


def test_the_same_rows_in_another_order_are_the_same_chunks() -> None:
    rows = [instance(host) for host in "abcdef"]
    assert plan_chunks(rows, [], limit=4) == plan_chunks(reversed(rows), [], limit=4)
    assert plan_chunks([], []) == [([], [])]
