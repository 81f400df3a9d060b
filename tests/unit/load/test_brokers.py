from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from airflow_provider_restrack import clock
from airflow_provider_restrack.load.brokers import Brokers, Committed, ask_topic_ids
from airflow_provider_restrack.load.errors import ConfigurationError, KafkaUnavailableError
from airflow_provider_restrack.load.offsets import Partition
from tests.unit.load.fakes import FakeConsumer, topics

P = Partition("t", 0)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let time pass only by waiting, and return the waits."""
    waited: list[float] = []
    monkeypatch.setattr(clock, "sleep", waited.append)
    monkeypatch.setattr(clock, "monotonic", lambda: 100.0 + sum(waited))
    return waited


def brokers(consumer: FakeConsumer) -> Brokers:
    return Brokers(
        consumer, servers="b:1", connection="my_kafka", group_id="g", timeout_s=2, commit_timeout_s=9
    )


def failure(code: int) -> KafkaException:
    return KafkaException(KafkaError(code))


def test_partitions_of_all_topics_are_found() -> None:
    consumer = FakeConsumer(metadata=topics(b=1, a=2, other=9))

    assert brokers(consumer).partitions(["a", "b"]) == [
        Partition("a", 0),
        Partition("a", 1),
        Partition("b", 0),
    ]


def test_an_unknown_topic_is_named_with_connection_and_remedy() -> None:
    with pytest.raises(
        ConfigurationError, match=r"'u' does not exist on Kafka b:1 \(connection 'my_kafka'\).*Provision"
    ):
        brokers(FakeConsumer()).partitions(["u"])


def test_a_topic_that_may_not_be_read_is_refused_with_the_brokers_reason() -> None:
    error = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    metadata = SimpleNamespace(topics={"t": SimpleNamespace(error=error, partitions={})})

    with pytest.raises(ConfigurationError, match="authorization failed"):
        brokers(FakeConsumer(metadata=metadata)).partitions(["t"])


def test_offsets_that_the_group_lacks_are_left_out() -> None:
    consumer = FakeConsumer(offsets={("t", 1): 7})

    assert brokers(consumer).committed([P, Partition("t", 1)]) == {Partition("t", 1): Committed(7)}


@pytest.mark.parametrize("code", [KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS])
def test_an_answer_that_means_not_yet_is_asked_for_again(waits: list[float], code: int) -> None:
    consumer = FakeConsumer(failures=[failure(code)] * 3, offsets={("t", 0): 7})

    assert brokers(consumer).committed([P]) == {P: Committed(7)}
    assert len(waits) == 3


def test_patience_ends_with_the_timeout(waits: list[float]) -> None:
    consumer = FakeConsumer(failures=[failure(KafkaError.NOT_COORDINATOR)] * 99)

    with pytest.raises(
        KafkaUnavailableError, match=r"Kafka b:1 \(connection 'my_kafka'\).*offsets of group 'g'.* 2\.0 s"
    ):
        brokers(consumer).committed([P])
    assert sum(waits) <= 2


def test_any_other_failure_is_final(waits: list[float]) -> None:
    consumer = FakeConsumer(failures=[failure(KafkaError._TRANSPORT)])

    with pytest.raises(KafkaUnavailableError):
        brokers(consumer).partitions(["t"])
    assert waits == []


def test_a_refusal_does_not_claim_that_there_was_no_answer(waits: list[float]) -> None:
    consumer = FakeConsumer(failures=[failure(KafkaError.GROUP_AUTHORIZATION_FAILED)])

    with pytest.raises(KafkaUnavailableError, match=r"failed after 0\.0 s: .*[Aa]uthorization failed"):
        brokers(consumer).committed([P])


@pytest.mark.parametrize("code", [KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._WAIT_COORD])
def test_a_commit_waits_for_a_broker_that_restarts(waits: list[float], code: int) -> None:
    consumer = FakeConsumer(failures=[failure(code)] * 30)

    brokers(consumer).commit({P: 5})

    assert consumer.offsets == {("t", 0): 5}
    assert sum(waits) > 2


def test_the_patience_of_a_commit_ends_too(waits: list[float]) -> None:
    consumer = FakeConsumer(failures=[failure(KafkaError._WAIT_COORD)] * 99)

    with pytest.raises(KafkaUnavailableError, match=r"to commit offsets of group 'g'"):
        brokers(consumer).commit({P: 5})
    assert 8 < sum(waits) <= 9


def test_watermarks_that_do_not_come_are_a_failure(waits: list[float]) -> None:
    with pytest.raises(KafkaUnavailableError, match=r"the ends of t\[0\]"):
        brokers(FakeConsumer()).watermarks(P)
    assert 1 < sum(waits) <= 2


@pytest.mark.parametrize("code", [KafkaError._DESTROY_BROKER, KafkaError._TRANSPORT])
def test_watermarks_wait_for_the_leader_that_takes_over(waits: list[float], code: int) -> None:
    class Moving(FakeConsumer):
        def get_watermark_offsets(self, partition: Any, timeout: float) -> tuple[int, int]:
            if len(waits) < 4:
                raise failure(code)
            return 3, 9

    assert brokers(Moving()).watermarks(P) == (3, 9)


def test_a_commit_is_synchronous_and_each_partition_is_checked() -> None:
    class Refusing(FakeConsumer):
        def commit(self, offsets: Any, asynchronous: bool) -> Any:
            super().commit(offsets, asynchronous)
            error = KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)
            return [SimpleNamespace(error=None), SimpleNamespace(error=error)]

    consumer = FakeConsumer()
    brokers(consumer).commit({P: 5})

    assert consumer.named("commit") == [{("t", 0): 5}]
    with pytest.raises(KafkaUnavailableError, match="authorization failed"):
        brokers(Refusing()).commit({P: 5})


GROUP_HAS_MOVED_ON = [
    KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.FENCED_INSTANCE_ID,
]  # fmt: skip


@pytest.mark.parametrize("code", GROUP_HAS_MOVED_ON)
def test_a_group_that_has_members_is_explained_to_one_that_is_none(waits: list[float], code: int) -> None:
    consumer = FakeConsumer(failures=[failure(code)])

    with pytest.raises(KafkaUnavailableError, match=r"has active members.*partitions= needs a group_id"):
        brokers(consumer).commit({P: 5})
    assert waits == []


@pytest.mark.parametrize("code", GROUP_HAS_MOVED_ON)
def test_a_member_is_told_that_the_group_has_moved_on(
    waits: list[float], code: int, caplog: pytest.LogCaptureFixture
) -> None:
    consumer = FakeConsumer(failures=[failure(code)])

    assert brokers(consumer).commit({P: 5}, member=True) is False
    assert (consumer.offsets, waits) == ({}, [])
    assert "did not take offsets" in caplog.text
    assert brokers(consumer).commit({P: 5}, member=True) is True


def test_a_member_that_may_not_commit_fails_all_the_same() -> None:
    consumer = FakeConsumer(failures=[failure(KafkaError.GROUP_AUTHORIZATION_FAILED)])

    with pytest.raises(KafkaUnavailableError):
        brokers(consumer).commit({P: 5}, member=True)


def test_a_commit_tells_which_topic_it_is_of() -> None:
    consumer = FakeConsumer()
    asked = brokers(consumer)
    asked.topic_ids = {"t": "7_gRVdmyTbOLMrgqjfGYVg"}

    asked.commit({P: 5, Partition("unknown", 0): 3})

    assert consumer.metadatas == {("t", 0): "restrack topic-id=7_gRVdmyTbOLMrgqjfGYVg", ("unknown", 0): ""}
    assert asked.committed([P]) == {P: Committed(5, "7_gRVdmyTbOLMrgqjfGYVg")}


@pytest.mark.parametrize("metadata", ["", "NO_METADATA", "restrack topic-id=", "{}", "x restrack topic-id=a"])
def test_what_other_tools_write_beside_an_offset_says_nothing(metadata: str) -> None:
    consumer = FakeConsumer(offsets={("t", 0): 5}, metadatas={("t", 0): metadata})

    assert brokers(consumer).committed([P]) == {P: Committed(5, None)}


class Admin:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def describe_topics(self, topics: Any, request_timeout: float) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return {"t": SimpleNamespace(result=lambda: SimpleNamespace(topic_id=self.answer))}


def test_ids_of_topics_are_asked_for_and_may_be_missing() -> None:
    refused = failure(KafkaError.TOPIC_AUTHORIZATION_FAILED)

    assert ask_topic_ids(Admin("some-id"), ["t"], timeout_s=1) == {"t": "some-id"}
    assert ask_topic_ids(Admin("AAAAAAAAAAAAAAAAAAAAAA"), ["t"], timeout_s=1) == {}
    assert ask_topic_ids(Admin(refused), ["t"], timeout_s=1) == {}
