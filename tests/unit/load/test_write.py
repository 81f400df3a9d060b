from __future__ import annotations

from typing import Any

import pytest
from cassandra import InvalidRequest, OperationTimedOut, Unauthorized, Unavailable, WriteTimeout
from cassandra.cluster import NoHostAvailable
from cassandra.query import BatchStatement, BatchType
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.load import write
from airflow_provider_restrack.load.encode import EncodedRow
from airflow_provider_restrack.load.errors import StoreError
from airflow_provider_restrack.load.offsets import OffsetTracker, Partition, Ticket
from airflow_provider_restrack.load.write import WritePolicy, Writer
from tests.unit.load.fakes import TARGET, Clock, FakeSession, columns_of, prepare

PREPARED = prepare(columns_of({"k": "text"}, ["k"]))
TRANSIENT = [
    OperationTimedOut(),
    WriteTimeout("late", write_type=0),
    Unavailable("down", consistency=6),
    NoHostAvailable("none", {}),
]


def row(name: str = "a") -> EncodedRow:
    return EncodedRow((b"a",), (name.encode(),), 1, 10, PREPARED.bind(["a", 1]), name)


def ticket() -> Ticket:
    return OffsetTracker().open({Partition("t", 0): 1})


def writer(session: Any, clock: Any = None, refused: Any = None, **policy: Any) -> Writer:
    def refuse(one: EncodedRow, error: Exception, _ticket: Ticket) -> None:
        if refused is None:
            raise error
        refused.append(one.record)

    settings = WritePolicy(**{"backoff_s": 0.0, "connection": "my_cassandra"} | policy)
    return Writer(session, settings, on_refused=refuse, now=clock or Clock())


def store(sender: Writer, rows: list[EncodedRow], held: Ticket) -> None:
    sender.submit(TARGET, rows, held)
    sender.drain()


def replies(*answers: Any) -> FakeSession:
    """Return a session that gives these answers in turn, and stores all that follows."""
    queue = list(answers)
    return FakeSession(lambda _statement: queue.pop(0) if queue else None)


def test_rows_are_sent_as_one_unlogged_idempotent_batch_and_counted_when_stored() -> None:
    session, held = FakeSession(), ticket()
    sender = writer(session, consistency="LOCAL_QUORUM")
    sender.submit(TARGET, [row(), row()], held)
    sender.drain()
    held.settle()

    [future] = session.futures
    assert isinstance(future.statement, BatchStatement)
    assert future.statement.batch_type == BatchType.UNLOGGED
    assert (future.statement.consistency_level, future.statement.is_idempotent) == (6, True)
    assert held.finished
    assert (sender.counts.batches, sender.counts.rows) == (1, {"ks.t": 2})


def test_a_single_row_needs_no_batch() -> None:
    session = FakeSession()
    sender = writer(session, consistency="ONE")
    sender.submit(TARGET, [row()], ticket())
    sender.drain()

    assert not isinstance(session.futures[0].statement, BatchStatement)
    assert (session.futures[0].statement.consistency_level, session.futures[0].statement.is_idempotent) == (
        1,
        True,
    )


def test_without_a_consistency_the_sessions_own_is_left_alone() -> None:
    session = FakeSession()
    writer(session).submit(TARGET, [row(), row()], ticket())

    assert session.futures[0].statement.consistency_level is None


def test_a_row_that_is_not_acknowledged_holds_its_chunk() -> None:
    session, held = FakeSession(lambda _statement: ...), ticket()
    sender = writer(session)
    sender.submit(TARGET, [row()], held)
    held.settle()
    sender.poll()

    assert not held.finished
    session.futures[0].callback(None)
    sender.drain()
    assert held.finished


def test_no_more_than_the_limit_is_in_flight() -> None:
    open_futures: list[int] = []

    def answer(_statement: Any) -> Any:
        waiting = [one for one in session.futures[:-1] if not getattr(one, "done", False)]
        open_futures.append(len(waiting))
        if len(waiting) == 2:
            waiting[0].done = True  # type: ignore[attr-defined]
            waiting[0].callback(None)
        return ...

    session = FakeSession(answer)
    sender = writer(session, in_flight=3)
    for _ in range(10):
        sender.submit(TARGET, [row()], ticket())

    assert max(open_futures) == 2


@pytest.mark.parametrize("error", TRANSIENT, ids=lambda error: type(error).__name__)
def test_a_passing_error_is_tried_again(error: Exception, caplog: Any) -> None:
    held = ticket()
    sender = writer(replies(error, error))
    sender.submit(TARGET, [row()], held)
    sender.drain()
    held.settle()

    assert held.finished
    assert (sender.counts.retries, sender.counts.batches) == (2, 1)
    assert "1 rows to ks.t is tried again" in caplog.text


def test_retries_end_by_count_with_table_level_host_and_reason() -> None:
    held = ticket()
    sender = writer(
        FakeSession(lambda _statement: WriteTimeout("late", write_type=0)), retries=2, consistency="QUORUM"
    )
    words = (
        r"'my_cassandra'.* 1 rows of ks\.t at QUORUM, by 10\.0\.0\.1:9042, in 3 tries: WriteTimeout: .*late"
    )

    with pytest.raises(StoreError, match=words):
        store(sender, [row()], held)
    held.settle()
    assert not held.finished


def test_retries_end_by_time() -> None:
    clock = Clock()

    def answer(_statement: Any) -> Exception:
        clock.at += 4
        return OperationTimedOut()

    sender = writer(FakeSession(answer), clock, retries=99, retry_seconds=10)

    with pytest.raises(StoreError, match="in 4 tries"):
        store(sender, [row()], ticket())


@pytest.mark.parametrize(
    "error",
    [InvalidRequest("unconfigured table t"), Unauthorized("no"), ValueError("?")],
    ids=str,
)
def test_what_concerns_every_row_fails_at_once(error: Exception) -> None:
    refused: list[Any] = []
    sender = writer(FakeSession(lambda _statement: error), refused=refused)

    with pytest.raises(StoreError, match="in 1 tries"):
        store(sender, [row(), row()], ticket())
    assert refused == []


def test_of_a_refused_batch_only_the_row_at_fault_is_refused() -> None:
    bad = row("bad")

    def answer(statement: Any) -> Any:
        too_large = isinstance(statement, BatchStatement) or statement is bad.statement
        return InvalidRequest("Mutation too large") if too_large else None

    refused: list[Any] = []
    held = ticket()
    sender = writer(FakeSession(answer), refused=refused)
    sender.submit(TARGET, [row("a"), bad, row("b")], held)
    sender.drain()
    held.settle()

    assert refused == ["bad"]
    assert held.finished
    assert sender.counts.rows == {"ks.t": 2}


@pytest.mark.parametrize(
    "reason",
    [
        "CQL Message of size 3000359 bytes exceeds allowed maximum of 2621440 bytes",
        "Rejected an oversized mutation (3000359/2621440) for keyspace: ks. Top keys are: t.web-1",
        "Key length of 70000 is longer than maximum of 65535",
    ],
)
def test_what_cassandra_says_of_one_rows_size_refuses_that_row(reason: str) -> None:
    refused: list[Any] = []
    held = ticket()
    sender = writer(FakeSession(lambda _statement: InvalidRequest(reason)), refused=refused)
    sender.submit(TARGET, [row("bad")], held)
    sender.drain()
    held.settle()

    assert refused == ["bad"]
    assert held.finished


@given(st.lists(st.lists(st.sampled_from(["ok", "retry", "refuse"]), min_size=1, max_size=3), max_size=12))
def test_every_chunk_is_settled_exactly_once_whatever_the_answers(plans: list[list[str]]) -> None:
    outcome = {"ok": None, "retry": OperationTimedOut(), "refuse": InvalidRequest("too large")}
    answers = [outcome[one] for plan in plans for one in plan]
    refused: list[Any] = []
    sender = writer(replies(*answers), refused=refused, retries=99)
    tickets = [ticket() for _ in plans]
    for number, held in enumerate(tickets):
        sender.submit(TARGET, [row(str(number)) for _ in range(1 + number % 3)], held)
        held.settle()
    sender.drain()

    assert all(held.finished for held in tickets)
    stored = sum(sender.counts.rows.values())
    assert stored + len(refused) == sum(1 + number % 3 for number in range(len(plans)))


def test_the_caller_is_called_back_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "_BEAT_S", 0.01)
    session, calls = FakeSession(lambda _statement: ...), []

    def wait() -> None:
        calls.append(1)
        if len(calls) == 3:
            session.futures[0].callback(None)

    sender = Writer(session, WritePolicy(), on_refused=lambda *_: None, while_waiting=wait, now=Clock())
    store(sender, [row()], ticket())

    assert len(calls) == 3
