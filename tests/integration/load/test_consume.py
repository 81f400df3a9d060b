"""What a run reads on real servers: where it starts, where it ends, and what it says of what is missing."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

import services
from airflow_provider_restrack.load import loader, open_reader
from airflow_provider_restrack.load.brokers import Brokers
from airflow_provider_restrack.load.consume import Reader
from airflow_provider_restrack.load.errors import (
    ConfigurationError,
    KafkaUnavailableError,
    OffsetResetError,
)
from airflow_provider_restrack.load.loader import load
from airflow_provider_restrack.load.plan import ReadPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.kafka, pytest.mark.cassandra]

# The group shares the partitions out, or they are assigned by hand: the ends are the same.
BOTH_WAYS = pytest.mark.parametrize("partitions", [None, [0, 1, 2, 3]], ids=["joined", "by-hand"])


def with_settings(pipeline: Any, **settings: Any) -> Any:
    """Load with these settings in the connection; their names are written with underscores."""
    extra = {name.replace("_", "."): value for name, value in settings.items()}
    return load(pipeline.policy, pipeline.config | extra, pipeline.session)


@pytest.mark.parametrize("partitions", [[0, 3], "[0, 3]"])
def test_only_the_chosen_partitions_are_read(pipeline: Any, sample: Any, partitions: Any) -> None:
    for number in range(4):
        pipeline.send(*[sample(f"web-{number}", age_s=n + 1) for n in range(5)], partition=number)

    first = pipeline.load(partitions=partitions)
    rest = pipeline.load(partitions={pipeline.topic: [2, 1]})

    assert (first.records, first.lag_before, first.lag_after) == (10, 10, 0)
    assert rest.records == 10
    assert pipeline.committed() == dict.fromkeys(range(4), 5)
    assert len(pipeline.rows()) == 20


def test_a_chosen_partition_that_does_not_exist_is_named(pipeline: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"{pipeline.topic}\[4\], which does not exist: .* has 4"):
        pipeline.load(partitions=[0, 4])
    assert pipeline.committed() == {}


def transactions(pipeline: Any, unique: Any) -> Any:
    producer = Producer(pipeline.config | {"transactional.id": unique("tx")})
    producer.init_transactions(30)
    return producer


def produce(producer: Any, pipeline: Any, *samples: Any, partition: int = 0) -> None:
    for one in samples:
        producer.produce(pipeline.topic, value=json.dumps(one), partition=partition)
    assert producer.flush(30) == 0


@BOTH_WAYS
def test_marks_and_aborted_records_of_transactions_end_a_run(
    pipeline: Any, sample: Any, unique: Callable[[str], str], partitions: Any
) -> None:
    producer = transactions(pipeline, unique)
    producer.begin_transaction()
    produce(producer, pipeline, sample(age_s=1), partition=0)
    produce(producer, pipeline, sample(age_s=2), partition=1)
    producer.commit_transaction(30)
    producer.begin_transaction()
    produce(producer, pipeline, *[sample("aborted", age_s=n + 1) for n in range(9)], partition=1)
    produce(producer, pipeline, sample("aborted"), partition=2)
    producer.abort_transaction(30)

    result = pipeline.load(partitions=partitions)

    assert (result.records, result.lag_before, result.lag_after) == (2, 16, 0)
    assert pipeline.committed() == {0: 2, 1: 12, 2: 2, 3: 0}
    assert {row["host"] for row in pipeline.rows()} == {"web-1"}
    assert pipeline.load(partitions=partitions).lag_before == 0


@BOTH_WAYS
def test_an_open_transaction_is_left_to_the_next_run(
    pipeline: Any, sample: Any, unique: Callable[[str], str], partitions: Any
) -> None:
    producer = transactions(pipeline, unique)
    pipeline.send(sample("before"), partition=0)
    producer.begin_transaction()
    produce(producer, pipeline, sample("within"))

    result = pipeline.load(partitions=partitions)

    # Kafka tells readers of committed records no further end than the open transaction.
    assert (result.records, result.lag_after) == (1, 0)
    assert pipeline.committed()[0] == 1
    producer.commit_transaction(30)
    assert pipeline.load(partitions=partitions).records == 1
    assert [row["host"] for row in pipeline.rows()] == ["before", "within"]


@BOTH_WAYS
def test_a_partition_of_which_all_is_deleted_ends_at_once_and_is_counted_once(
    pipeline: Any, sample: Any, kafka_admin: Any, caplog: Any, partitions: Any
) -> None:
    pipeline.send(*[sample(age_s=n + 1) for n in range(8)], partition=0)
    pipeline.load(max_records=3, partitions=partitions)
    [done] = kafka_admin.delete_records([TopicPartition(pipeline.topic, 0, 8)]).values()
    done.result(20)

    result = pipeline.load(partitions=partitions)

    assert (result.lost, result.records, result.lag_after) == (5, 0, 0)
    assert f"5 offsets of {pipeline.topic}[0] were deleted" in caplog.text
    assert pipeline.load(partitions=partitions).lost == 0


@pytest.mark.slow
def test_gaps_of_compaction_do_not_hold_the_end_up(
    pipeline: Any, sample: Any, kafka_admin: Any, unique: Callable[[str], str]
) -> None:
    """The cleaner leaves the newest of each key, and the rest of the offsets as gaps."""
    name = unique("compacted")
    settings = {
        "cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.001",
        "max.compaction.lag.ms": "100",
    }  # fmt: skip
    kafka_admin.create_topics([NewTopic(name, 1, 1, config=settings)])[name].result(20)
    try:
        pipeline.send(*[sample(f"web-{n % 2}", age_s=200 - n) for n in range(100)], topic=name)
        time.sleep(0.2)  # longer than a segment: the next record begins another
        pipeline.send(sample("web-2"), topic=name)
        end = time.monotonic() + 90
        while (left := count_records(pipeline, name)) > 3:
            assert time.monotonic() < end, f"{left} records are left: the cleaner did not come"
            time.sleep(1)

        result = pipeline.load(topics=[name])

        assert (result.records, result.lag_before, result.lag_after) == (left, 101, 0)
        assert pipeline.load(topics=[name]).lag_before == 0
    finally:
        kafka_admin.delete_topics([name])[name].result(20)


def count_records(pipeline: Any, topic: str) -> int:
    """Return how many records a topic of one partition holds, counted by a reader of its own."""
    settings = {"group.id": "counts", "enable.partition.eof": True, "enable.auto.commit": False}
    consumer = Consumer(pipeline.config | settings)
    consumer.assign([TopicPartition(topic, 0, 0)])
    count = 0
    try:
        while True:
            message = consumer.poll(10)
            assert message is not None
            if message.error() is not None:
                return count
            count += 1
    finally:
        consumer.close()


def recreate(pipeline: Any, kafka_admin: Any) -> None:
    """Delete the topic and make it anew."""
    kafka_admin.delete_topics([pipeline.topic])[pipeline.topic].result(20)
    end = time.monotonic() + 20
    while pipeline.topic in kafka_admin.list_topics(timeout=10).topics:
        assert time.monotonic() < end
        time.sleep(0.1)
    kafka_admin.create_topics([NewTopic(pipeline.topic, 4, 1)])[pipeline.topic].result(20)


def read_commits(pipeline: Any) -> Any:
    """Return the group's commit of partition 0, with its metadata."""
    reader = Consumer(pipeline.config | {"group.id": pipeline.policy.group_id})
    try:
        return reader.committed([TopicPartition(pipeline.topic, 0)], timeout=20)
    finally:
        reader.close()


def set_offset(pipeline: Any, offset: int, metadata: str) -> None:
    """Set the group's offset of partition 0, as a tool outside of it does."""
    tool = Consumer(pipeline.config | {"group.id": pipeline.policy.group_id})
    place = TopicPartition(pipeline.topic, 0, offset, metadata=metadata)
    tool.commit(offsets=[place], asynchronous=False)
    tool.close()


@BOTH_WAYS
def test_a_topic_made_anew_is_known_by_its_id_however_far_it_has_grown(
    pipeline: Any, sample: Any, kafka_admin: Any, caplog: Any, partitions: Any
) -> None:
    pipeline.send(*[sample(age_s=n + 1) for n in range(5)], partition=0)
    pipeline.load(partitions=partitions)
    [commit] = read_commits(pipeline)
    recreate(pipeline, kafka_admin)
    pipeline.send(*[sample(f"anew-{n}") for n in range(9)], partition=0)
    # Brokers delete a topic's offsets with it where they can; here they are as where they could not.
    set_offset(pipeline, 5, commit.metadata)

    result = pipeline.load(partitions=partitions)

    assert (result.records, result.lost) == (9, 0)
    assert "at offset 5" in caplog.text
    assert "deleted and made anew" in caplog.text
    assert pipeline.load(partitions=partitions).records == 0


def test_offsets_that_other_tools_have_set_are_taken_as_they_are(pipeline: Any, sample: Any) -> None:
    pipeline.send(*[sample(age_s=n + 1) for n in range(5)], partition=0)
    pipeline.load()
    set_offset(pipeline, 2, '{"by": "another tool"}')

    assert pipeline.load().records == 3


def test_latest_begins_a_new_group_at_the_end(pipeline: Any, sample: Any) -> None:
    pipeline.send(sample("old"), partition=0)

    first = with_settings(pipeline, auto_offset_reset="latest")
    pipeline.send(sample("new"), partition=0)
    second = with_settings(pipeline, auto_offset_reset="latest")

    assert (first.records, first.lost, second.records) == (0, 0, 1)
    assert [row["host"] for row in pipeline.rows()] == ["new"]


def test_latest_passes_over_what_retention_left_and_counts_it(
    pipeline: Any, sample: Any, kafka_admin: Any
) -> None:
    pipeline.send(*[sample(age_s=n + 1) for n in range(8)], partition=0)
    pipeline.load(max_records=3)
    [done] = kafka_admin.delete_records([TopicPartition(pipeline.topic, 0, 6)]).values()
    done.result(20)

    result = with_settings(pipeline, auto_offset_reset="latest")

    assert (result.lost, result.records, result.lag_after) == (5, 0, 0)


def test_error_fails_a_run_that_has_nowhere_to_begin(pipeline: Any, sample: Any, kafka_admin: Any) -> None:
    pipeline.send(*[sample(age_s=n + 1) for n in range(8)], partition=0)
    with pytest.raises(OffsetResetError, match=r"the group has no offset of "):
        with_settings(pipeline, auto_offset_reset="error")
    pipeline.load(max_records=3)
    [done] = kafka_admin.delete_records([TopicPartition(pipeline.topic, 0, 6)]).values()
    done.result(20)

    with pytest.raises(OffsetResetError, match=rf"at offset 3 of {pipeline.topic}\[0\], which holds 6 to 8"):
        with_settings(pipeline, auto_offset_reset="error")
    assert pipeline.committed()[0] == 3


def test_following_reads_what_comes_and_partitions_that_are_added(
    pipeline: Any, sample: Any, kafka_admin: Any
) -> None:
    pipeline.send(sample("before"), partition=0)
    policy = replace(pipeline.policy, follow=True, max_seconds=60)
    seen: list[set[str]] = [set()]

    def stop() -> bool:
        return {"before", "while", "added"} <= seen[0]

    with ThreadPoolExecutor(1) as pool:
        refresh = {"topic.metadata.refresh.interval.ms": 300}
        run = pool.submit(load, policy, pipeline.config | refresh, pipeline.session, stop=stop)
        end = time.monotonic() + 50
        sent = []
        while not run.done():
            assert time.monotonic() < end
            seen[0] = {row["host"] for row in pipeline.rows("latest_metrics")}
            if "before" in seen[0] and not sent:
                pipeline.send(sample("while"), partition=2)
                more = kafka_admin.create_partitions([NewPartitions(pipeline.topic, 6)])
                more[pipeline.topic].result(20)
                pipeline.send(sample("added"), partition=5)
                sent.append(True)
            time.sleep(0.1)
        result = run.result()

    assert (result.records, result.lag_before, result.lag_after, result.stopped) == (3, 1, 0, True)


@BOTH_WAYS
def test_following_ends_with_its_time(pipeline: Any, sample: Any, partitions: Any) -> None:
    pipeline.send(sample())

    result = pipeline.load(follow=True, max_seconds=3, partitions=partitions)

    assert (result.records, result.stopped, result.lag_after) == (1, False, 0)
    assert sum(pipeline.committed().values()) == 1


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[Any]:
    """A Kafka that a test may stop."""
    kafka, controller, *others = services.find_free_ports(8)
    ports = services.Ports(kafka, controller, *others[:3], tuple(others[3:]))
    server = services.Instance("own", tmp_path / "own", ports, services.instance("test").jars).kafka
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def own_pipeline(pipeline: Any, own_kafka: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A pipeline over a Kafka that a test may stop, and a loader that waits little for it."""
    monkeypatch.setattr(loader, "ReadPolicy", partial(ReadPolicy, connect_timeout_s=2, stall_timeout_s=2))
    monkeypatch.setattr(open_reader, "Brokers", partial(Brokers, commit_timeout_s=2))
    admin = AdminClient({"bootstrap.servers": own_kafka.bootstrap})
    admin.create_topics([NewTopic(pipeline.topic, 4, 1)])[pipeline.topic].result(30)
    return replace(pipeline, bootstrap=own_kafka.bootstrap)


@pytest.mark.slow
def test_a_kafka_that_goes_after_the_last_commit_fails_no_run(
    own_pipeline: Any, own_kafka: Any, sample: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:  # fmt: skip
    own_pipeline.send(sample())
    ask = Reader.lag_after

    def stop_and_ask(self: Any, committed: Any) -> Any:
        own_kafka.stop()
        return ask(self, committed)

    monkeypatch.setattr(Reader, "lag_after", stop_and_ask)

    result = own_pipeline.load()

    assert (result.records, result.lag_after) == (1, None)
    assert "lag at the end is not known" in caplog.text
    assert json.loads(json.dumps(result.as_dict()))["lag_after"] is None


@pytest.mark.slow
@BOTH_WAYS
def test_following_a_kafka_that_is_gone_ends_in_bounded_time(
    own_pipeline: Any, own_kafka: Any, sample: Any, partitions: Any
) -> None:
    own_pipeline.send(sample())
    began: list[float] = []

    def stop() -> bool:
        if not began and own_pipeline.rows():
            own_kafka.stop()
            began.append(time.monotonic())
        return False

    policy = replace(own_pipeline.policy, follow=True, max_seconds=300, partitions=partitions)
    with pytest.raises(KafkaUnavailableError, match=rf"{own_kafka.bootstrap}"):
        load(policy, own_pipeline.config, own_pipeline.session, stop=stop)
    assert time.monotonic() - began[0] < 90
