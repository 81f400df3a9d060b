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
    store(writer(session), [row(), row()], ticket())

    assert session.futures[0].statement.consistency_level is None


def test_a_row_that_is_not_acknowledged_holds_its_chunk() -> None:
    session, held = FakeSession(lambda _statement: ...), ticket()
    sender = writer(session)
    sender.submit(TARGET, [row()], held)
    held.settle()
    sender.pump()

    assert not held.finished
    session.futures[0].callback(None)
    sender.drain()
    assert held.finished


def test_a_batch_is_taken_without_waiting_and_sent_by_the_next_pump() -> None:
    session = FakeSession(lambda _statement: ...)
    sender = writer(session)
    sender.submit(TARGET, [row()], ticket())
    assert (session.futures, sender.is_busy) == ([], True)

    sender.pump()
    assert (len(session.futures), sender.is_busy) == (1, False)


def test_no_more_than_the_limit_is_in_flight_and_each_answer_makes_room() -> None:
    session = FakeSession(lambda _statement: ...)
    sender = writer(session, in_flight=3)
    for _ in range(10):
        sender.submit(TARGET, [row()], ticket())
    for answered in range(10):
        sender.pump()
        sender.pump()
        assert len(session.futures) == min(10, answered + 3)
        assert sender.is_busy is (answered + 3 < 10)
        session.futures[answered].callback(None)
    sender.drain()

    assert sender.counts.batches == 10


def test_batches_are_sent_in_the_order_in_which_they_came() -> None:
    session = FakeSession()
    sender, made = writer(session, in_flight=2), [row(str(number)) for number in range(7)]
    for one in made:
        sender.submit(TARGET, [one], ticket())
    sender.drain()

    assert [future.statement for future in session.futures] == [one.statement for one in made]


def test_room_is_there_once_all_is_sent_however_little_is_answered() -> None:
    session = FakeSession(lambda _statement: ...)
    waits: list[int] = []

    def answer_one() -> None:
        session.futures[len(waits)].callback(None)
        waits.append(len(session.futures))

    sender = Writer(
        session, WritePolicy(in_flight=2), on_refused=lambda *_: None, now=Clock(),
        while_waiting=answer_one,
    )  # fmt: skip
    sender._channel.wait = lambda _timeout: None  # type: ignore[method-assign]
    for _ in range(5):
        sender.submit(TARGET, [row()], ticket())
    sender.make_room()

    assert len(session.futures) == 5
    assert len(waits) == 3
    assert sender.counts.batches == 3


def test_trouble_halves_what_is_in_flight() -> None:
    session = FakeSession(lambda _statement: ...)
    sender = writer(session, in_flight=8)
    for _ in range(30):
        sender.submit(TARGET, [row()], ticket())
    sender.pump()
    assert len(session.futures) == 8

    session.futures[0].errback(OperationTimedOut())
    for future in session.futures[1:8]:
        future.callback(None)
    sender.pump()
    # The failed one is tried again at once, and the window of 4 has grown by at most one since.
    assert 4 <= len(session.futures) - 8 <= 6


def test_a_batch_that_is_too_much_is_tried_again_in_halves() -> None:
    session = replies(WriteTimeout("late", write_type=0))
    held = ticket()
    sender = writer(session)
    store(sender, [row(str(number)) for number in range(5)], held)
    held.settle()

    sizes = [
        len(future.statement._statements_and_parameters)
        for future in session.futures
        if isinstance(future.statement, BatchStatement)
    ]
    assert sizes == [5, 2, 3]
    assert held.finished
    assert sender.counts.rows == {"ks.t": 5}
    assert (sender.counts.batches, sender.counts.retries) == (2, 1)


def test_a_batch_that_lacks_nodes_is_tried_again_whole() -> None:
    session = replies(Unavailable("down", consistency=6))
    store(writer(session), [row(), row()], ticket())

    assert len(session.futures) == 2
    assert all(isinstance(future.statement, BatchStatement) for future in session.futures)


def test_a_retry_waits_for_its_time_and_others_go_on() -> None:
    clock, session = Clock(), replies(Unavailable("down", consistency=6))
    sender = writer(session, clock, backoff_s=4.0, max_backoff_s=4.0)
    sender.submit(TARGET, [row()], ticket())
    for _ in range(3):
        sender.pump()
    assert (len(session.futures), sender.counts.retries) == (1, 1)

    sender.submit(TARGET, [row()], ticket())
    sender.pump()
    assert len(session.futures) == 2
    clock.at += 2.9  # of 4 s less a quarter at most
    sender.pump()
    assert len(session.futures) == 2
    clock.at += 2.2
    sender.pump()
    assert len(session.futures) == 3
    sender.drain()
    assert sender.counts.batches == 2


def test_lanes_and_the_driver_take_turns_with_the_tries_of_a_batch() -> None:
    sender = writer(replies(*[Unavailable("down", consistency=6)] * 4))
    ways: list[bool] = []
    send = sender._channel.send

    def note(request: Any, keyspace: str, rows: Any, *, directly: bool) -> None:
        ways.append(directly)
        send(request, keyspace, rows, directly=directly)

    sender._channel.send = note  # type: ignore[method-assign]
    store(sender, [row()], ticket())

    assert ways == [True, False, True, False, True]


def test_a_write_that_nothing_ever_answers_ends_the_run() -> None:
    clock = Clock()

    def pass_time() -> None:
        clock.at += 60

    sender = Writer(
        FakeSession(lambda _statement: ...), WritePolicy(connection="my_cassandra"),
        on_refused=lambda *_: None, now=clock, while_waiting=pass_time,
    )  # fmt: skip
    sender._channel.wait = lambda _timeout: None  # type: ignore[method-assign]

    with pytest.raises(StoreError, match=r"'my_cassandra'\) left 1 writes unanswered for 300 s"):
        store(sender, [row()], ticket())


def test_what_fails_together_is_told_once(caplog: Any) -> None:
    caplog.set_level("DEBUG", "airflow_provider_restrack")
    session = replies(*[Unavailable("down", consistency=6)] * 20)
    sender = writer(session)
    for _ in range(20):
        sender.submit(TARGET, [row()], ticket())
    sender.drain()

    told = [entry.levelname for entry in caplog.records if "is tried again" in entry.message]
    assert told == ["WARNING"] + ["DEBUG"] * 19


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


def test_retries_end_by_time_with_table_level_host_and_reason() -> None:
    clock, held = Clock(), ticket()

    def answer(_statement: Any) -> Exception:
        clock.at += 4
        return WriteTimeout("late", write_type=0)

    sender = writer(FakeSession(answer), clock, retry_seconds=10, consistency="QUORUM")
    words = (
        r"'my_cassandra'.* 1 rows of ks\.t at QUORUM, by 10\.0\.0\.1:9042, in 4 tries: WriteTimeout: .*late"
    )

    with pytest.raises(StoreError, match=words):
        store(sender, [row()], held)
    held.settle()
    assert not held.finished


def test_halves_have_the_time_of_the_batch_that_they_were() -> None:
    clock = Clock()

    def answer(_statement: Any) -> Exception:
        clock.at += 4
        return OperationTimedOut()

    with pytest.raises(StoreError, match=r"1 rows .*in 3 tries"):
        store(writer(FakeSession(answer), clock, retry_seconds=10), [row(), row()], ticket())


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
    sender = writer(replies(*answers), refused=refused, in_flight=3)
    tickets = [ticket() for _ in plans]
    for number, held in enumerate(tickets):
        sender.submit(TARGET, [row(str(number)) for _ in range(1 + number % 3)], held)
        held.settle()
    sender.drain()

    assert all(held.finished for held in tickets)
    stored = sum(sender.counts.rows.values())
    assert stored + len(refused) == sum(1 + number % 3 for number in range(len(plans)))


def test_the_latency_is_that_of_the_try_that_stored_until_the_drivers_thread_had_the_answer() -> None:
    clock, session = Clock(), FakeSession(lambda _statement: ...)
    sender, held = writer(session, clock), ticket()
    sender.submit(TARGET, [row()], held)
    sender.pump()
    clock.at += 100
    session.futures[0].errback(OperationTimedOut())
    sender.pump()
    sender.pump()
    clock.at += 2
    session.futures[1].callback(None)
    clock.at += 50  # the loop is busy with another chunk
    sender.pump()

    assert sender.latency.count == 1
    assert sender.latency.quantile(0.5) == pytest.approx(2, rel=0.02)


def test_the_caller_is_called_back_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "_WAIT_S", 0.01)
    session, calls = FakeSession(lambda _statement: ...), []

    def wait() -> None:
        calls.append(1)
        if len(calls) == 3:
            session.futures[0].callback(None)

    sender = Writer(session, WritePolicy(), on_refused=lambda *_: None, while_waiting=wait, now=Clock())
    store(sender, [row()], ticket())

    assert len(calls) == 3


def test_no_more_is_sent_while_as_much_waits_for_another_try() -> None:
    session = FakeSession(lambda _statement: NoHostAvailable("all are down", {}))
    sender = writer(session, in_flight=4, backoff_s=60.0, max_backoff_s=60.0)
    for _ in range(20):
        sender.submit(TARGET, [row()], ticket())
    for _ in range(10):
        sender.pump()

    assert len(session.futures) == 4
    assert sender.is_busy
