from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError

from airflow_provider_restrack.load.brokers import Brokers
from airflow_provider_restrack.load.consume import Reader, ReadPolicy, open_reader, plan_run
from airflow_provider_restrack.load.errors import ConfigurationError, KafkaUnavailableError
from airflow_provider_restrack.load.offsets import Partition
from tests.unit.load.fakes import Clock, FakeConsumer, FakeMessage, end_of_partition, record, topics

P0, P1 = Partition("t", 0), Partition("t", 1)
POLICY = ReadPolicy(("t",), "g", "my_kafka", stall_timeout_s=10)


def reader(consumer: FakeConsumer, clock: Any = None) -> Reader:
    brokers = Brokers(consumer, servers="b:1", connection="my_kafka", group_id="g")
    return Reader(consumer, brokers, POLICY, plan_run(brokers, POLICY), now=clock or Clock())


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

    assert run.lost == 4
    assert run.spans[0].moved
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


def test_settings_that_librdkafka_refuses_are_blamed_on_the_connection() -> None:
    with pytest.raises(ConfigurationError, match=r"'my_kafka' is not valid.*no.such.setting"):
        open_reader(POLICY, {"bootstrap.servers": "b:1", "no.such.setting": 1}, now=Clock())
