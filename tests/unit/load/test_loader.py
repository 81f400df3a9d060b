"""The loop with stand-ins for both servers: what it commits, and when."""

from __future__ import annotations

import itertools
import json
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from cassandra import InvalidRequest, OperationTimedOut
from confluent_kafka import KafkaError, KafkaException
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.load import assembly, loader, write
from airflow_provider_restrack.load.brokers import Brokers
from airflow_provider_restrack.load.consume import Reader
from airflow_provider_restrack.load.dead_letters import DeadLetterPolicy, DeadLetters
from airflow_provider_restrack.load.errors import (
    DeadLetterLimitError,
    DeliveryError,
    PoisonRecordError,
    SchemaRegistryError,
    StoreError,
)
from airflow_provider_restrack.load.formats.custom import CustomFormat
from airflow_provider_restrack.load.plan import Plan, ReadPolicy
from airflow_provider_restrack.load.policy import LoadPolicy, LoadResult
from airflow_provider_restrack.load.rows import build_row_maker
from tests.unit.load.fakes import (
    Clock,
    FakeConsumer,
    FakeMessage,
    FakeProducer,
    FakeSession,
    end_of_partition,
    gives,
    loses,
    record,
    takes,
    topics,
)
from tests.unit.load.test_rows import FakeSession as SchemaSession

if TYPE_CHECKING:
    from collections.abc import Callable

POLICY = LoadPolicy(topics=["t"], tables=["ks.t"], timestamp_field="made")
POISON = FakeMessage(b"poison")


def never() -> bool:
    return False


class Bench:
    """A run over prepared batches of records."""

    def __init__(
        self,
        *batches: list[FakeMessage],
        session: Any = None,
        producer: Any = None,
        joins: bool = False,
        read: Callable[[bytes], Any] | None = None,
        **changes: Any,
    ) -> None:
        partitions: dict[int, int] = {}
        for batch in batches:
            for message in batch:
                partitions[message.where] = max(partitions.get(message.where, 0), message.at + 1)
        self.consumer = FakeConsumer(
            list(batches),
            metadata=topics(t=max(partitions, default=0) + 1),
            ends={
                ("t", number): (0, partitions.get(number, 0))
                for number in range(max(partitions, default=0) + 1)
            },
        )
        self.session = session or FakeSession()
        self.policy = replace(POLICY, **changes)
        numbers = None if joins else tuple(range(max(partitions, default=0) + 1))
        read_policy = ReadPolicy(("t",), "g", partitions=numbers, follow=self.policy.follow)
        brokers = Brokers(self.consumer, servers="b:1", connection="kafka", group_id="g")
        reader = Reader(self.consumer, brokers, read_policy, Plan(brokers, read_policy), now=Clock())
        letters = None
        if producer is not None:
            letters = DeadLetters(producer, DeadLetterPolicy("dead", "g"), servers="b:1", now=Clock())
        record_format = None if read is None else CustomFormat("mine", lambda value, _record: read(value))
        maker = build_row_maker(self.policy, SchemaSession(), record_format)
        self.run = loader.Run(self.policy, maker, reader, self.session, letters)

    def execute(self, stop: Callable[[], bool] = never) -> LoadResult:
        return self.run.execute(stop)

    @property
    def committed(self) -> dict[int, int]:
        return {number: offset for (_, number), offset in self.consumer.offsets.items()}


def at(record_: FakeMessage, offset: int, partition: int = 0) -> FakeMessage:
    return replace(record_, at=offset, where=partition)


def test_what_is_stored_is_committed_and_counted() -> None:
    bench = Bench([record(0, k="a"), record(1, k="a")], [record(2, k="b")])

    result = bench.execute()

    assert bench.committed == {0: 3}
    assert (result.records, result.rows, result.batches, result.lag_before, result.lag_after) == (
        3,
        3,
        2,
        3,
        0,
    )


def test_a_poison_record_without_dead_letters_ends_the_run_with_what_precedes_it_committed() -> None:
    bench = Bench(
        [
            record(0, k="a"),
            record(0, where=1, k="b"),
            at(POISON, 1),
            record(2, k="c"),
            record(1, where=1, k="d"),
        ]
    )

    with pytest.raises(PoisonRecordError, match=r"t\[0\] offset 1 cannot be stored: .*dead_letter_topic"):
        bench.execute()
    assert bench.committed == {0: 1, 1: 1}
    assert len(bench.session.futures) == 2


def test_a_poison_record_first_of_all_commits_nothing_past_it() -> None:
    bench = Bench([at(POISON, 0), record(1, k="a")])

    with pytest.raises(PoisonRecordError):
        bench.execute()
    assert bench.committed == {0: 0}
    assert bench.session.futures == []


def test_with_dead_letters_the_run_goes_on_past_the_poison() -> None:
    producer = FakeProducer()
    bench = Bench([record(0, k="a"), at(POISON, 1), record(2, k="c")], producer=producer)

    result = bench.execute()

    assert (result.dead_letters, result.rows, result.records) == (1, 2, 3)
    assert [sent["value"] for sent in producer.sent] == [b"poison"]
    assert bench.committed == {0: 3}


def test_a_dead_letter_that_is_not_delivered_holds_the_commit() -> None:
    producer = FakeProducer()
    producer.fail_with = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
    bench = Bench([record(0, k="a")], [at(POISON, 1), record(2, k="c")], producer=producer)

    with pytest.raises(DeliveryError):
        bench.execute()
    assert bench.committed[0] <= 1


def test_a_failed_write_fails_the_run_and_commits_only_what_precedes_it() -> None:
    bad = record(1, k="bad")

    def answer(statement: Any) -> Any:
        return None if statement.values[0] == b"a" else ValueError("no")

    bench = Bench([record(0, k="a")], [bad], [record(2, k="a")], session=FakeSession(answer))

    with pytest.raises(StoreError):
        bench.execute()
    assert bench.committed == {0: 1}


def test_a_timeout_of_airflow_commits_nothing_more() -> None:
    class AirflowTaskTimeout(BaseException):
        pass

    calls = []

    def answer(_statement: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise AirflowTaskTimeout
        return ...

    bench = Bench([record(0, k="a"), record(1, k="b"), record(2, k="c")], session=FakeSession(answer))

    with pytest.raises(AirflowTaskTimeout):
        bench.execute()
    assert bench.committed == {}


def test_a_stop_is_asked_between_chunks_and_what_was_read_is_kept() -> None:
    answers = iter([False, True])
    bench = Bench([record(0, k="a")], [record(1, k="b")])

    result = bench.execute(lambda: next(answers))

    assert (result.stopped, result.records, result.lag_after) == (True, 1, 1)
    assert bench.committed == {0: 1}


def test_max_records_bounds_what_is_asked_for() -> None:
    bench = Bench([record(0, k="a"), record(1, k="b")], [record(2, k="c")], max_records=2)

    result = bench.execute()

    assert bench.consumer.named("consume") == [2]
    assert (result.records, result.lag_after) == (2, 1)


def test_max_seconds_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(100))
    monkeypatch.setattr(loader.clock, "monotonic", lambda: float(next(times)))
    bench = Bench([record(0, k="a")], [record(1, k="b")], [record(2, k="c")], max_seconds=6)

    result = bench.execute()

    assert 0 < result.records < 3
    assert bench.committed == {0: result.records}


def test_a_gap_at_the_end_is_committed_over() -> None:
    bench = Bench([record(0, k="a"), end_of_partition(4)])

    bench.execute()

    assert bench.committed == {0: 4}


def test_a_new_group_has_an_offset_even_if_there_was_nothing_to_read() -> None:
    bench = Bench()

    assert bench.execute().records == 0
    assert bench.committed == {0: 0}


def test_expired_records_are_counted_and_committed() -> None:
    bench = Bench([record(0, k="a", made=0)], ttl=60)

    result = bench.execute()

    assert (result.expired, result.rows) == (1, 0)
    assert bench.committed == {0: 1}


def test_in_replace_mode_only_the_newest_row_of_a_key_is_written() -> None:
    batch = [record(0, k="a", made=5), record(1, k="a", made=9), record(2, k="a", made=7)]
    bench = Bench(batch, tables=[{"table": "ks.t", "mode": "replace"}])

    result = bench.execute()

    assert (result.rows, result.superseded) == (1, 2)
    assert bench.session.futures[0].statement.values[-1] == (9000).to_bytes(8, "big")
    assert bench.committed == {0: 3}


def test_in_replace_mode_the_next_newest_row_is_written_where_the_newest_is_refused() -> None:
    producer, stored = FakeProducer(), list[int]()

    def answer(statement: Any) -> Any:
        made = int.from_bytes(statement.values[-1], "big") // 1000
        if made >= 8:
            return InvalidRequest("value too large")
        stored.append(made)
        return None

    batch = [record(n, k="a", made=made) for n, made in enumerate((5, 9, 7, 8))]
    bench = Bench(
        batch, tables=[{"table": "ks.t", "mode": "replace"}], session=FakeSession(answer), producer=producer,
        dead_letter_limit=None,
    )  # fmt: skip

    result = bench.execute()

    assert stored == [7]
    assert (result.rows, result.superseded, result.dead_letters) == (1, 1, 2)
    assert bench.committed == {0: 4}


def test_a_commit_that_fails_after_another_error_does_not_hide_it(caplog: Any) -> None:
    bench = Bench([record(0, k="a"), at(POISON, 1)])

    def refuse(offsets: Any, asynchronous: bool) -> Any:
        raise KafkaException(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))

    bench.consumer.commit = refuse  # type: ignore[method-assign]

    with pytest.raises(PoisonRecordError):
        bench.execute()
    assert "offsets were not committed after PoisonRecordError" in caplog.text


@given(st.data())
def test_whatever_fails_the_next_run_finds_every_record_that_is_not_stored(data: st.DataObject) -> None:
    """Runs end in errors at random places; stored rows and commits are compared after each."""
    total = data.draw(st.integers(1, 12))
    messages = [record(number, k=f"k{number}") for number in range(total)]
    for message in messages:
        message.raw = data.draw(st.sampled_from([message.raw] * 4 + [b"poison"]))
    stored: set[bytes] = set()
    producer = FakeProducer()
    position = 0
    for _ in range(6):
        sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=12))
        batches, start = [], position
        for size in sizes:
            if start < total:
                batches.append(messages[start : min(start + size, total)])
                start += size
        if start < total:
            batches.append(messages[start:])
        fails = data.draw(st.sets(st.integers(0, 12)))
        sent = []

        def answer(statement: Any, fails: set[int] = fails, sent: list[int] = sent) -> Any:
            sent.append(1)
            if len(sent) in fails:
                return ValueError("refused for good")
            stored.add(statement.values[0])
            return None

        bench = Bench(*batches, session=FakeSession(answer), producer=producer)
        bench.consumer.offsets = {("t", 0): position}
        with suppress(StoreError):
            bench.execute()
        position = bench.committed[0]
        lost = [
            message.at
            for message in messages[:position]
            if message.raw != b"poison" and f"k{message.at}".encode() not in stored
        ]
        assert lost == []
        dead = sum(message.raw == b"poison" for message in messages[:position])
        assert len(producer.sent) >= dead


def refuse_b(statement: Any) -> Any:
    return InvalidRequest("value too large") if statement.values[0] == b"b" else None


def test_a_row_that_cassandra_refuses_goes_to_the_dead_letters() -> None:
    producer = FakeProducer()
    bench = Bench([record(0, k="a"), record(1, k="b")], session=FakeSession(refuse_b), producer=producer)

    result = bench.execute()

    assert (result.dead_letters, result.rows) == (1, 1)
    assert producer.sent[0]["value"] == b'{"k": "b"}'
    assert bench.committed == {0: 2}


def test_a_record_that_two_tables_refuse_is_one_dead_letter() -> None:
    producer = FakeProducer()
    bench = Bench(
        [record(0, k="b"), record(1, k="a")], tables=["ks.t", "ks.u"], session=FakeSession(refuse_b),
        producer=producer,
    )  # fmt: skip

    result = bench.execute()

    assert (result.dead_letters, len(producer.sent), result.rows) == (1, 1, 2)
    assert bench.committed == {0: 2}


def test_a_row_that_cassandra_refuses_ends_a_run_without_dead_letters() -> None:
    bench = Bench([record(0, k="a")], [record(1, k="b")], session=FakeSession(refuse_b))

    with pytest.raises(PoisonRecordError, match=r"offset 1 .*too large.*only up to what is stored"):
        bench.execute()
    assert bench.committed == {0: 1}


def test_a_driver_error_that_passes_is_retried_inside_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [OperationTimedOut(), None]
    bench = Bench([record(0, k="a")], session=FakeSession(lambda _statement: answers.pop(0)))
    monkeypatch.setattr(bench.run._writer, "_policy", replace(bench.run._writer._policy, backoff_s=0.0))

    result = bench.execute()

    assert (result.rows, result.retries) == (1, 1)


def poison(count: int, start: int) -> list[FakeMessage]:
    return [at(POISON, start + number) for number in range(count)]


def test_a_chunk_over_the_dead_letter_limit_ends_the_run_before_it(caplog: Any) -> None:
    producer = FakeProducer()
    bench = Bench(
        [record(0, k="a"), *poison(1, 1)], [*poison(2, 2), record(4, k="b")], producer=producer,
        dead_letter_limit={"count": 2},
    )  # fmt: skip

    with pytest.raises(DeadLetterLimitError, match=r"3 of 5 records.*\(count 2\).*3 times 'JSON is malf"):
        bench.execute()
    assert bench.committed == {0: 2}
    assert [sent["value"] for sent in producer.sent] == [b"poison"]
    assert (bench.run.result.dead_letters, bench.run.result.rows, bench.run.result.lag_after) == (1, 1, 3)


def test_what_is_on_its_way_is_stored_and_committed_before_the_limit_is_told() -> None:
    def answer(_statement: Any) -> Any:
        return ...

    bench = Bench([record(0, k="a")], poison(1, 1), session=FakeSession(answer), producer=FakeProducer(),
                  dead_letter_limit=0)  # fmt: skip
    drain = bench.run._writer.drain

    def answer_and_drain() -> None:
        bench.session.futures[0].callback(None)
        drain()

    bench.run._writer.drain = answer_and_drain  # type: ignore[method-assign]
    with pytest.raises(DeadLetterLimitError):
        bench.execute()
    assert bench.committed == {0: 1}


def test_by_default_a_topic_that_is_mostly_bad_is_not_moved_to_the_dead_letters() -> None:
    producer = FakeProducer()
    bench = Bench([*poison(501, 0), *[record(501 + n, k="a") for n in range(499)]], producer=producer)

    with pytest.raises(DeadLetterLimitError, match="501 of the last 1000 records"):
        bench.execute()
    assert producer.sent == []
    assert bench.committed == {0: 0}


def large(at_: int, of: str) -> FakeMessage:
    """Return a record of much that no column takes, or that nothing takes."""
    good = json.dumps({"k": "a", "ignored": "x" * 90}).encode()
    return FakeMessage(good if of == "good" else b"x" * 100, at_)


@pytest.mark.parametrize("of", ["good", "poison"])
def test_records_that_are_large_are_handed_out_before_memory_is_full(
    of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "MAX_BYTES", 1000)
    monkeypatch.setattr(loader, "SLICE_RECORDS", 3)
    bench = Bench(
        *[[large(3 * chunk + n, of) for n in range(3)] for chunk in range(8)], producer=FakeProducer(),
        dead_letter_limit=None,
    )  # fmt: skip
    handed: list[int] = []
    hand_out = bench.run._hand_out

    def note() -> None:
        handed.append(bench.run._assembly.records)
        hand_out()

    bench.run._hand_out = note  # type: ignore[method-assign]
    bench.execute()

    assert [count for count in handed if count] == [9, 9, 6] if of == "good" else [12, 12]


def test_a_record_of_which_a_format_makes_many_rows_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench([FakeMessage(b"a " * 500)], read=keys)
    sizes: list[int] = []
    gather = bench.run._gather

    def note(part: Any) -> None:
        sizes.append(part.size - sum(row.size for table in part.tables for row in table))
        gather(part)

    monkeypatch.setattr(bench.run, "_gather", note)
    bench.execute()

    assert sizes == [1000]


def test_without_limit_it_is_moved() -> None:
    producer = FakeProducer()
    bench = Bench(poison(1500, 0), producer=producer, dead_letter_limit=None)

    assert bench.execute().dead_letters == 1500
    assert bench.committed == {0: 1500}


def test_rows_that_cassandra_refuses_count_for_the_limit() -> None:
    producer = FakeProducer()
    batches = [[record(0, k="b")], [record(1, k="b"), record(2, k="a")]]
    bench = Bench(*batches, session=FakeSession(refuse_b), producer=producer, dead_letter_limit=1)

    with pytest.raises(DeadLetterLimitError, match=r"2 of 3 records.*2 times .*value too large"):
        bench.execute()
    assert bench.committed == {0: 1}
    assert len(producer.sent) == 1


def test_few_refusals_of_a_large_gathering_end_no_run() -> None:
    """A fifth is refused, twice as many as half of the last 1,000 records."""
    records = [record(n, k="b" if n % 5 == 0 else f"k{n}") for n in range(5000)]
    slices = [records[start : start + 1000] for start in range(0, 5000, 1000)]
    session = FakeSession(lambda _statement: ...)
    bench = Bench(*slices, session=session, producer=FakeProducer(), batch_rows=1)
    pump = bench.run._writer.pump

    def pump_and_answer() -> None:
        pump()
        if bench.run._reader.finished:  # until then nothing is answered
            for future in session.futures:
                error = refuse_b(future.statement)
                future.errback(error) if error else future.callback(None)
            session.futures.clear()

    bench.run._writer.pump = pump_and_answer  # type: ignore[method-assign]

    result = bench.execute()

    assert (result.dead_letters, result.rows) == (1000, 4000)
    assert bench.committed == {0: 5000}


def test_without_dead_letters_the_first_poison_record_is_told_and_no_limit() -> None:
    with pytest.raises(PoisonRecordError):
        Bench(poison(1, 0), dead_letter_limit=0).execute()


def test_progress_is_told_every_ten_seconds_of_a_long_run(
    monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    clock = Clock()
    monkeypatch.setattr(loader.clock, "monotonic", clock)
    bench = Bench(*[[record(number, k="a")] for number in range(30)])

    def stop() -> bool:
        clock.at += 1
        return False

    with caplog.at_level("INFO", loader.log.name):
        bench.execute(stop)
    lines = [line.getMessage() for line in caplog.records if line.getMessage().startswith("Loading: ")]
    assert lines == [
        f"Loading: {read} records as {stored} rows, 1 rows/s now, 1 on average; lag left {30 - stored}{left};"
        " dead letters 0, retries 0"
        for read, stored, left in ((10, 9, ", about 21 s"), (20, 19, ", about 11 s"), (30, 29, ", about 1 s"))
    ]


def test_what_was_done_is_known_after_an_error_too() -> None:
    bench = Bench([record(0, k="a")], [record(1, k="b"), record(2, k="a")], session=FakeSession(refuse_b))

    with pytest.raises(PoisonRecordError):
        bench.execute()
    done = bench.run.result
    assert (done.records, done.rows, done.lag_before, done.lag_after) == (3, 1, 3, 2)
    assert done.write_p50_ms is not None


def test_without_writes_there_are_no_times_of_them() -> None:
    assert (Bench().execute().write_p50_ms, Bench().execute().write_p99_ms) == (None, None)


def member(*batches: list[FakeMessage], events: list[Any], **arguments: Any) -> Bench:
    """Return a run that has joined its group, in which this happens within each read."""
    bench = Bench(*batches, joins=True, **arguments)
    bench.consumer.events = [*events]
    return bench


TWO = ([], [record(0, k="a"), record(0, where=1, k="b")], [record(1, k="c"), record(1, where=1, k="d")])


def test_a_member_stores_and_commits_what_it_was_given() -> None:
    bench = member(*TWO, events=[[gives(0, 1)]])

    result = bench.execute()

    assert (result.records, result.rows, result.lag_before, result.lag_after) == (4, 4, 4, 0)
    assert bench.committed == {0: 2, 1: 2}


def test_what_was_read_of_a_revoked_partition_is_stored_and_committed_before_it_goes() -> None:
    bench = member(*TWO, events=[[gives(0, 1)], [], [takes(1)], [gives()]])
    bench.run._reader._policy = replace(bench.run._reader._policy, patience_s=0)
    committed_at_handover = []
    bench.consumer.incremental_unassign = lambda _wanted: committed_at_handover.append(bench.committed)  # type: ignore[method-assign]

    result = bench.execute()

    assert committed_at_handover == [{0: 1, 1: 1}]
    assert bench.committed == {0: 2, 1: 1}
    assert result.records == 3


@pytest.mark.parametrize("batch_rows", [1, 50])
def test_a_partition_goes_without_what_cassandra_does_not_store_in_time(
    batch_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether rows wait for room or for their answer: they are stored later, and not committed."""
    ticks, session, producer = itertools.count(), FakeSession(lambda _statement: ...), FakeProducer()
    monkeypatch.setattr(loader.clock, "monotonic", lambda: next(ticks) / 10)
    monkeypatch.setattr(write, "_WAIT_S", 0.0)
    monkeypatch.setattr(loader, "WritePolicy", partial(loader.WritePolicy, in_flight=1))

    def answer(_fake: FakeConsumer) -> None:
        session.answer = lambda _statement: None
        for future in session.futures:
            future.callback(None)

    bench = member(
        *TWO, events=[[gives(0, 1)], [], [takes(1), answer], [gives()]], session=session, producer=producer,
        batch_rows=batch_rows,
    )  # fmt: skip
    bench.run._reader._policy = replace(bench.run._reader._policy, patience_s=0, hand_over_s=20.0)
    handed_over_at = []
    bench.consumer.incremental_unassign = lambda _wanted: handed_over_at.append(next(ticks) / 10)  # type: ignore[method-assign]

    result = bench.execute()

    assert len(handed_over_at) == 1
    assert handed_over_at[0] > 20.0
    assert bench.committed == {0: 2, 1: 0}
    assert result.rows == 3


def test_what_is_in_flight_of_a_lost_partition_is_never_committed() -> None:
    waiting: list[Any] = []

    def answer(statement: Any) -> Any:
        if statement.values[0] == b"b":
            waiting.append(statement)
            return ...
        return None

    session = FakeSession(answer)

    def lose(fake: FakeConsumer) -> None:
        loses(1)(fake)
        session.futures[1].callback(None)

    bench = member(*TWO, events=[[gives(0, 1)], [], [lose], [gives()]], session=session)
    bench.run._reader._policy = replace(bench.run._reader._policy, patience_s=0)

    bench.execute()

    assert len(waiting) == 1
    assert bench.committed == {0: 2}


def test_offsets_that_a_rebalance_refuses_are_committed_after_it() -> None:
    bench = member(*TWO, events=[[gives(0, 1)]])
    refusals = [KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION]
    commit = bench.consumer.commit

    def refuse_first(offsets: Any, asynchronous: bool) -> Any:
        if refusals:
            raise KafkaException(KafkaError(refusals.pop()))
        return commit(offsets, asynchronous)

    bench.consumer.commit = refuse_first  # type: ignore[method-assign]

    assert bench.execute().lag_after == 0
    assert bench.committed == {0: 2, 1: 2}


def test_following_ends_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(1000))
    monkeypatch.setattr(loader.clock, "monotonic", lambda: float(next(times)))
    bench = Bench([record(0, k="a")], [record(1, k="b")], follow=True, max_seconds=60)

    result = bench.execute()

    assert (result.records, result.stopped) == (2, False)
    assert bench.committed == {0: 2}


def keys(value: bytes) -> list[dict[str, Any]]:
    return [{"k": name} for name in value.decode().split()]


def test_a_format_gives_the_rows_and_a_record_counts_once() -> None:
    values = [b"a b c", b"", b"d"]
    bench = Bench([FakeMessage(value, at) for at, value in enumerate(values)], read=keys)

    result = bench.execute()

    assert (result.records, result.rows, bench.committed) == (3, 4, {0: 3})


def test_expired_rows_of_a_format_are_counted_one_by_one() -> None:
    bench = Bench(
        [FakeMessage(b"x")], read=lambda _value: [{"k": "a", "made": 0}, {"k": "b", "made": 1}], ttl=60
    )

    result = bench.execute()

    assert (result.records, result.rows, result.expired) == (1, 0, 2)


def test_a_record_with_one_bad_row_is_a_dead_letter_and_none_of_its_rows_is_written() -> None:
    producer = FakeProducer()
    bench = Bench(
        [FakeMessage(b"a", 0), FakeMessage(b"b bad", 1)],
        producer=producer,
        read=lambda value: [{"k": None if name == "bad" else name} for name in value.decode().split()],
    )

    result = bench.execute()

    assert (result.records, result.rows, result.dead_letters) == (2, 1, 1)
    assert [one["value"] for one in producer.sent] == [b"b bad"]
    assert bench.committed == {0: 2}


def test_a_registry_that_is_down_fails_the_run_with_what_precedes_committed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    producer = FakeProducer()
    bench = Bench([FakeMessage(b"a", 0)], [FakeMessage(b"b", 1)], producer=producer, read=keys)
    parse = CustomFormat.parse

    def parse_or_fail(self: CustomFormat, value: bytes, message: Any) -> Any:
        if value == b"b":
            raise SchemaRegistryError("down")
        return parse(self, value, message)

    monkeypatch.setattr(CustomFormat, "parse", parse_or_fail)

    with pytest.raises(SchemaRegistryError):
        bench.execute()
    assert producer.sent == []
    assert bench.committed == {0: 1}
