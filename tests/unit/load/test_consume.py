from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from airflow_provider_restrack.load.brokers import Brokers
from airflow_provider_restrack.load.consume import Reader
from airflow_provider_restrack.load.errors import (
    KafkaUnavailableError,
    OffsetResetError,
)
from airflow_provider_restrack.load.offsets import Partition
from airflow_provider_restrack.load.plan import Plan, ReadPolicy
from tests.unit.load.fakes import (
    Clock,
    FakeConsumer,
    FakeMessage,
    end_of_partition,
    gives,
    loses,
    record,
    takes,
    topics,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from airflow_provider_restrack.load.positions import Span

P0, P1 = Partition("t", 0), Partition("t", 1)
POLICY = ReadPolicy(("t",), "g", "my_kafka", stall_timeout_s=10)


class Holding:
    """Notes what it is told, and may do something when partitions are taken."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.when_taken: Callable[[], object] = lambda: None

    def on_assigned(self, spans: Sequence[Span]) -> None:
        self.told.append(("assigned", {span.partition.number: span.start for span in spans}))

    def on_revoked(self, partitions: Collection[Partition], *, settle_s: float) -> None:
        self.told.append(("revoked", [partition.number for partition in partitions], settle_s))
        self.when_taken()

    def on_lost(self, partitions: Collection[Partition]) -> None:
        self.told.append(("lost", [partition.number for partition in partitions]))


def reader(
    consumer: FakeConsumer,
    clock: Any = None,
    *,
    joins: bool = False,
    holder: Holding | None = None,
    **changes: Any,
) -> Reader:
    """Return a reader that has started, by hand or by joining the group."""
    numbers = None if joins else tuple(consumer.metadata.topics["t"].partitions)
    policy = replace(POLICY, partitions=numbers, **changes)
    brokers = Brokers(consumer, servers="b:1", connection="my_kafka", group_id="g")
    made = Reader(consumer, brokers, policy, Plan(brokers, policy), now=clock or Clock())
    made.start(holder or Holding())
    return made


def consumer(*batches: list[FakeMessage], ends: tuple[int, int] = (0, 3), **fields: Any) -> FakeConsumer:
    return FakeConsumer(list(batches), ends={("t", 0): ends}, **fields)


def offsets(chunk: Any) -> list[int]:
    return [one.offset() for one in chunk.records]


def test_a_run_reads_from_the_commit_to_the_end_of_the_start() -> None:
    fake = consumer([record(1), record(2), record(3)], offsets={("t", 0): 1})
    run = reader(fake)

    chunk = run.read(100)

    assert fake.named("assign") == [{("t", 0): 1}]
    assert fake.named("consume") == [2]
    assert (offsets(chunk), chunk.ends, run.finished) == ([1, 2], {P0: 3}, True)
    assert (run.lag_before, run.lost) == (2, 0)


def test_a_partition_that_has_reached_its_end_is_read_no_further() -> None:
    fake = FakeConsumer(
        [[record(0), record(0, where=1)], [record(1, where=1)]],
        metadata=topics(t=2), ends={("t", 0): (0, 1), ("t", 1): (0, 2)},
    )  # fmt: skip
    run = reader(fake)

    run.read(9)

    assert fake.named("pause") == [[("t", 0)]]
    assert not run.finished
    run.read(9)
    assert run.finished


def test_an_empty_read_is_not_the_end() -> None:
    run = reader(consumer([], [record(0), record(1), record(2)]))

    assert offsets(run.read(9)) == []
    assert not run.finished
    run.read(9)
    assert run.finished


def test_an_end_in_a_gap_is_where_the_next_run_starts() -> None:
    run = reader(consumer([record(0), end_of_partition(5)], ends=(0, 4)))

    chunk = run.read(9)

    assert (offsets(chunk), chunk.ends, run.finished) == ([0], {P0: 5}, True)


def test_nothing_to_read_assigns_nothing() -> None:
    fake = consumer(ends=(2, 2), offsets={("t", 0): 2})
    run = reader(fake)

    assert run.finished
    assert run.read(9).ends == {}
    assert fake.named("assign") == fake.named("consume") == []


def test_records_that_retention_deletes_during_the_run_are_counted_and_skipped(caplog: Any) -> None:
    gone = FakeMessage(None, 0, failure=KafkaError(KafkaError._AUTO_OFFSET_RESET))
    fake = consumer([gone], [record(2)])
    run = reader(fake)
    fake.ends[("t", 0)] = (2, 3)

    chunk = run.read(9)

    assert (run.lost, chunk.ends, fake.named("seek")) == (2, {P0: 2}, [("t", 0, 2)])
    assert "2 offsets of t[0]" in caplog.text
    assert offsets(run.read(9)) == [2]


def test_a_topic_that_is_made_anew_during_the_run_ends_it_instead_of_asking_for_ever() -> None:
    gone = FakeMessage(None, 5, failure=KafkaError(KafkaError._AUTO_OFFSET_RESET))
    fake = consumer([gone], ends=(0, 9), offsets={("t", 0): 5})
    run = reader(fake)
    fake.ends[("t", 0)] = (0, 2)

    with pytest.raises(KafkaUnavailableError, match=r"my_kafka.* offset 5 of t\[0\], which now ends at 2"):
        run.read(9)
    assert fake.named("seek") == []


def test_records_lost_before_the_run_are_logged_and_counted(caplog: Any) -> None:
    run = reader(consumer(ends=(7, 9), offsets={("t", 0): 3}))

    assert (run.lost, run.lag_before) == (4, 2)
    assert "4 offsets of t[0] were deleted" in caplog.text


def test_a_stalled_kafka_fails_the_run_by_the_time_spent_waiting_for_it() -> None:
    clock = Clock()

    class Slow(FakeConsumer):
        def consume(self, count: int, timeout: float) -> list[FakeMessage]:
            clock.at += 4
            return super().consume(count, timeout)

    down = FakeMessage(None, of=None, failure=KafkaError(KafkaError._ALL_BROKERS_DOWN))  # type: ignore[arg-type]
    run = reader(Slow([[], [], [record(0)], [down], [down]], ends={("t", 0): (0, 3)}), clock)
    for _ in range(5):
        run.read(9)
        clock.at += 1000

    with pytest.raises(
        KafkaUnavailableError, match=r"sent nothing for 10 s, with records still to come of t\[0\]"
    ):
        run.read(9)


def test_passing_troubles_of_the_client_are_logged_and_survived(caplog: Any) -> None:
    down = FakeMessage(None, of=None, failure=KafkaError(KafkaError._ALL_BROKERS_DOWN))  # type: ignore[arg-type]
    run = reader(consumer([down], [record(0)]))

    assert run.read(9).ends == {}
    assert "All broker connections are down" in caplog.text
    assert offsets(run.read(9)) == [0]


@pytest.mark.parametrize("topic", ["t", None])
def test_any_other_error_ends_the_run(topic: Any) -> None:
    refused = FakeMessage(None, of=topic, failure=KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    run = reader(consumer([refused]))

    with pytest.raises(KafkaUnavailableError, match=r"my_kafka.*cannot be read.*authorization failed"):
        run.read(9)


def test_the_lag_at_the_end_counts_what_has_come_since() -> None:
    fake = consumer([record(0), record(1), record(2)])
    run = reader(fake)
    run.read(9)
    fake.ends[("t", 0)] = (0, 10)

    assert run.lag_after({P0: 3}) == 7
    assert run.lag_after({}) == 10


def test_a_lag_that_kafka_does_not_tell_fails_nothing(caplog: Any) -> None:
    fake = consumer([record(0), record(1), record(2)])
    run = reader(fake)
    run.read(9)
    fake.failures = [KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))]

    assert run.lag_after({P0: 3}) is None
    assert "lag at the end is not known" in caplog.text


def gone(at: int = 0) -> FakeMessage:
    return FakeMessage(None, at, failure=KafkaError(KafkaError._AUTO_OFFSET_RESET))


def test_with_latest_what_retention_leaves_is_passed_over_and_counted(caplog: Any) -> None:
    fake = consumer([gone()], offsets={("t", 0): 0})
    run = reader(fake, reset="latest")
    fake.ends[("t", 0)] = (2, 9)

    assert run.read(9).ends == {P0: 3}
    assert (run.lost, run.finished) == (3, True)
    assert "auto.offset.reset=latest" in caplog.text


def test_with_error_a_deleted_record_ends_the_run() -> None:
    fake = consumer([gone()], offsets={("t", 0): 0})
    run = reader(fake, reset="error")
    fake.ends[("t", 0)] = (2, 3)

    with pytest.raises(OffsetResetError, match=r"at offset 0 of t\[0\], which holds 2 to 3"):
        run.read(9)


def group(*batches: list[FakeMessage], events: Any, ends: int = 3, **fields: Any) -> FakeConsumer:
    """Return the consumer of a group on two partitions with so many records each."""
    return FakeConsumer(
        list(batches), metadata=topics(t=2), ends={("t", 0): (0, ends), ("t", 1): (0, ends)},
        events=list(events), **fields,
    )  # fmt: skip


def test_a_member_reads_what_the_group_gives_it_from_the_groups_commit() -> None:
    fake = group([], [record(2)], events=[[gives(0)]], offsets={("t", 0): 2})
    holder, clock = Holding(), Clock()
    run = reader(fake, clock, joins=True, holder=holder)

    assert not run.finished
    assert run.read(9).records == []
    assert (fake.named("gained"), fake.named("pause")) == ([{("t", 0): 2}], [])
    assert not run.finished
    assert offsets(run.read(9)) == [2]
    assert not run.finished
    fake.offsets[("t", 1)] = 3  # by the member that has the other partition
    clock.at += 1
    run.read(9)
    assert run.finished
    assert holder.told == [("assigned", {0: 2})]
    assert (run.lag_before, run.lag_after({P0: 3})) == (1, 0)


def test_a_group_that_is_at_all_ends_is_not_joined() -> None:
    fake = group(events=[], offsets={("t", 0): 3, ("t", 1): 3})
    run = reader(fake, joins=True)

    assert run.finished
    assert fake.named("subscribe") == fake.named("assign") == []
    assert run.lag_after({}) == 0


def test_records_read_before_a_partition_was_given_anew_are_not_taken_for_new_ones() -> None:
    late = [record(1), record(2)]
    fake = group([], late, [record(0)], events=[[gives(0)], [loses(0), gives(0)]])
    run = reader(fake, joins=True)

    run.read(9)
    assert run.read(9).records == []
    assert fake.paused == {("t", 0)}
    assert offsets(run.read(9)) == [0]
    assert fake.paused == set()


def test_records_that_come_in_the_same_read_as_their_partition_are_taken() -> None:
    run = reader(group([record(0)], events=[[gives(0)]]), joins=True)

    assert offsets(run.read(9)) == [0]


def test_a_partition_that_is_taken_is_finished_with_first_and_then_not_read() -> None:
    fake = group([], [record(0), record(0, where=1)], [record(1), record(1, where=1)],
                 events=[[gives(0, 1)], [], [takes(1)]])  # fmt: skip
    holder = Holding()
    run = reader(fake, joins=True, holder=holder)
    holder.when_taken = lambda: holder.told.append(("given up so far", fake.named("given up")))
    for _ in range(2):
        run.read(9)

    chunk = run.read(9)

    assert [(one.where, one.at) for one in chunk.records] == [(0, 1)]
    assert chunk.ends == {P0: 2}
    assert holder.told[1:] == [("revoked", [1], 100.0), ("given up so far", [])]
    assert fake.named("given up") == [[("t", 1)]]
    assert run.commit({P0: 1, P1: 1}) == {P0: 1}
    assert fake.offsets == {("t", 0): 1}


def test_a_hand_over_that_fails_gives_the_partition_up_and_ends_the_run() -> None:
    fake = group([], [], events=[[gives(0, 1)], [takes(1)]])
    holder = Holding()
    run = reader(fake, joins=True, holder=holder)
    run.read(9)

    def fail() -> None:
        raise ValueError("not stored")

    holder.when_taken = fail
    with pytest.raises(ValueError, match="not stored"):
        run.read(9)
    assert run.commit({P1: 1}) == {}


def test_lost_partitions_are_committed_no_more() -> None:
    fake = group([], [record(0)], [], events=[[gives(0, 1)], [], [loses(0, 1)]])
    holder = Holding()
    run = reader(fake, joins=True, holder=holder)
    for _ in range(3):
        run.read(9)

    assert holder.told[-1] == ("lost", [0, 1])
    assert run.commit({P0: 1}) == {}
    assert fake.named("commit") == []
    assert not run.finished


@pytest.mark.parametrize("goes", [loses, takes])
def test_a_partition_that_was_read_to_its_end_is_read_again_when_it_comes_back(goes: Any) -> None:
    whole = [record(at) for at in range(3)]
    fake = group([], whole, [], [], whole, events=[[gives(0)], [], [goes(0)], [gives(0)]])
    run = reader(fake, joins=True)
    run.read(9)
    assert offsets(run.read(9)) == [0, 1, 2]
    assert fake.paused == {("t", 0)}

    run.read(9)
    run.read(9)

    assert fake.paused == set()
    assert offsets(run.read(9)) == [0, 1, 2]


def test_a_partition_that_is_lost_while_the_writer_is_waited_for_is_read_when_it_comes_back() -> None:
    clock = Clock()
    fake = group([], [], [], [record(0)], events=[[gives(0)], [loses(0)], [gives(0)]])
    run = reader(fake, clock, joins=True)
    run.read(9)
    clock.at += 2
    run.keep_alive()

    run.read(9)

    assert fake.paused == set()
    assert offsets(run.read(9)) == [0]


def test_a_member_without_an_id_commits_nothing() -> None:
    fake = group([], events=[[gives(0)]])
    run = reader(fake, joins=True)
    run.read(9)
    fake.member = ""

    assert run.commit({P0: 1}) == {}
    assert fake.named("commit") == []


def test_a_group_that_refuses_for_ever_ends_the_run() -> None:
    clock = Clock()
    fake = group([], events=[[gives(0)]])
    run = reader(fake, clock, joins=True)
    run.read(9)
    fake.failures = [KafkaException(KafkaError(KafkaError.ILLEGAL_GENERATION))] * 3

    assert run.commit({P0: 1}) == {}
    clock.at += 9
    assert run.commit({P0: 1}) == {}
    clock.at += 9
    with pytest.raises(KafkaUnavailableError, match=r"refused the offsets of group 'g' for 10 s"):
        run.commit({P0: 1})


def test_a_member_with_empty_hands_waits_until_nothing_is_left_for_anyone() -> None:
    clock = Clock()
    fake = group(events=[[gives()]])
    run = reader(fake, clock, joins=True)

    run.read(9)
    assert not run.finished
    fake.offsets = {("t", 0): 3, ("t", 1): 3}
    clock.at += 1
    run.read(9)
    assert run.finished


def test_a_member_with_empty_hands_waits_no_longer_than_its_patience() -> None:
    clock = Clock()
    run = reader(group(events=[[gives()]]), clock, joins=True, patience_s=15)
    run.read(9)

    clock.at += 14
    assert not run.finished
    clock.at += 1
    assert run.finished


def has_read_its_own(clock: Clock, **changes: Any) -> tuple[FakeConsumer, Reader]:
    """Return a member that has read one of two partitions to its end; the other is another member's."""
    fake = group([], [record(at) for at in range(3)], events=[[gives(0)]])
    run = reader(fake, clock, joins=True, **changes)
    for _ in range(2):
        run.read(9)
    fake.offsets[("t", 0)] = 3
    assert not run.finished
    return fake, run


def test_a_member_ends_when_another_commits_in_what_is_not_its_own() -> None:
    clock = Clock()
    fake, run = has_read_its_own(clock)
    clock.at += 1
    run.read(9)
    assert not run.finished
    fake.offsets[("t", 1)] = 1
    clock.at += 1
    run.read(9)

    assert run.finished
    assert run.lag_after({P0: 3}) == 0


def test_a_partition_of_a_dead_member_is_waited_for_and_read() -> None:
    clock = Clock()
    fake, run = has_read_its_own(clock)
    clock.at += 1
    run.read(9)
    fake.events = [[gives(1)]]
    fake.batches = [[record(0, where=1)], [record(1, where=1), record(2, where=1)]]
    run.read(9)

    assert not run.finished
    assert offsets(run.read(9)) == [1, 2]
    assert run.finished
    assert run.lag_after({P0: 3, P1: 3}) == 0


def test_what_nobody_commits_is_left_after_the_patience_and_counts_as_lag(caplog: Any) -> None:
    clock = Clock()
    _fake, run = has_read_its_own(clock, patience_s=15)
    for _ in range(15):
        assert not run.finished
        clock.at += 1
        run.read(9)

    assert run.finished
    assert run.lag_after({P0: 3}) == 3
    assert "has committed nothing of it for 15 s: 3 offsets are left" in caplog.text


def test_keeping_alive_pauses_and_keeps_what_slips_through() -> None:
    clock = Clock()
    fake = group([], [record(0)], [record(1)], [record(2)], events=[[gives(0)]])
    run = reader(fake, clock, joins=True)
    run.read(9)
    run.read(9)
    fake.calls.clear()

    run.keep_alive()
    assert fake.calls == []
    clock.at += 1
    run.keep_alive()
    clock.at += 1
    run.keep_alive()

    assert fake.named("pause") == [[("t", 0)]]
    assert fake.named("resume") == []
    assert offsets(run.read(9)) == [1, 2]
    assert fake.named("resume") == [[("t", 0)]]


def test_what_slips_through_counts_for_the_limit_and_is_kept_beyond_it() -> None:
    clock = Clock()
    fake = group([], [record(0), record(1), record(2)], [], events=[[gives(0)]])
    run = reader(fake, clock, joins=True)
    run.read(9)
    clock.at += 1
    run.keep_alive()

    assert offsets(run.read(2)) == [0, 1]
    assert offsets(run.read(2)) == [2]


def test_a_partition_taken_while_the_writer_is_waited_for_is_handed_over_at_once() -> None:
    clock = Clock()
    fake = group([], [record(0), record(0, where=1)], [], events=[[gives(0, 1)], [], [takes(1)]])
    holder = Holding()
    run = reader(fake, clock, joins=True, holder=holder)
    run.read(9)
    clock.at += 1
    run.keep_alive()
    clock.at += 1
    run.keep_alive()

    assert holder.told[-1] == ("revoked", [1], 0.0)
    assert run.read(9).ends == {P0: 1}


def test_keeping_alive_within_a_hand_over_does_nothing() -> None:
    clock = Clock()
    fake = group([], [], events=[[gives(0, 1)], [takes(1)]])
    holder = Holding()
    run = reader(fake, clock, joins=True, holder=holder)
    run.read(9)

    def wait() -> None:
        clock.at += 100
        run.keep_alive()

    holder.when_taken = wait
    run.read(9)
    assert len(fake.named("consume")) == 2


def test_partitions_assigned_by_hand_need_no_polling() -> None:
    clock = Clock()
    fake = consumer([record(0)])
    run = reader(fake, clock)
    clock.at += 1000

    run.keep_alive()
    assert fake.named("consume") == fake.named("pause") == []


def test_leaving_the_group_hands_over_without_a_word() -> None:
    fake = group([], events=[[gives(0, 1)], [takes(0, 1)]])
    holder = Holding()
    run = reader(fake, joins=True, holder=holder)
    run.read(9)

    run.close()
    fake.consume(1, 0)
    assert fake.named("given up") == [[("t", 0), ("t", 1)]]
    assert holder.told == [("assigned", {0: 0, 1: 0})]


def test_following_reads_past_the_ends_of_the_start_and_is_never_finished() -> None:
    fake = consumer([record(0), record(1), record(2), end_of_partition(3)], [record(3), end_of_partition(5)])
    run = reader(fake, follow=True)

    assert run.read(9).ends == {P0: 3}
    assert not run.finished
    assert run.read(9).ends == {P0: 5}
    assert (run.finished, run.lag_before, fake.named("pause")) == (False, 3, [])


class Waiting(FakeConsumer):
    """Lets time pass with each read."""

    clock = Clock()

    def consume(self, count: int, timeout: float) -> list[FakeMessage]:
        self.clock.at += 4
        return super().consume(count, timeout)


def test_following_an_idle_topic_is_no_stall_while_kafka_answers() -> None:
    fake = Waiting(ends={("t", 0): (0, 0)})
    run = reader(fake, fake.clock, follow=True)
    for _ in range(10):
        run.read(9)
    fake.failures = [KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))]

    with pytest.raises(KafkaUnavailableError, match=r"the ends of t\[0\]"):
        [run.read(9) for _ in range(3)]


def test_a_join_that_takes_its_time_is_no_stall_while_kafka_answers() -> None:
    fake = Waiting(ends={("t", 0): (0, 3)})
    run = reader(fake, fake.clock, joins=True)
    for _ in range(10):
        run.read(9)
    fake.failures = [KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))]

    with pytest.raises(KafkaUnavailableError):
        [run.read(9) for _ in range(3)]


def test_an_error_of_the_group_ends_the_run_before_anything_is_given() -> None:
    refused = FakeMessage(
        None,
        of=None,
        failure=KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED),  # type: ignore[arg-type]
    )
    run = reader(group([refused], events=[]), joins=True)

    with pytest.raises(KafkaUnavailableError, match=r"[Gg]roup authorization failed"):
        run.read(9)
