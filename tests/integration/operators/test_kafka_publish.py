"""``KafkaPublishOperator`` with a connection of Airflow and a real Kafka."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer

from airflow_provider_restrack.hooks.kafka import KafkaClientHook
from airflow_provider_restrack.load.brokers import Brokers
from airflow_provider_restrack.load.errors import ConfigurationError, RecordError
from airflow_provider_restrack.operators.kafka_publish import KafkaPublishOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.kafka]


@pytest.fixture(autouse=True)
def connection(kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"bootstrap.servers": kafka_bootstrap, "group.id": "somebody"}
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_DEFAULT", json.dumps({"conn_type": "kafka", "extra": extra}))


@pytest.fixture
def count_records(kafka_bootstrap: str, topic: str) -> Iterator[Callable[[], int]]:
    """Return a counter of the records in the topic."""
    consumer = Consumer({"bootstrap.servers": kafka_bootstrap, "group.id": topic})
    brokers = Brokers(consumer, servers=kafka_bootstrap, connection="test", group_id=topic)
    yield lambda: sum(brokers.watermarks(partition)[1] for partition in brokers.partitions([topic]))
    consumer.close()


def test_records_are_delivered_and_counted(topic: str, count_records: Callable[[], int]) -> None:
    records = [[{"host": "a", "v": 1.5}, {"host": "b", "v": None}], [], [{"host": "c"}]]

    result = KafkaPublishOperator(task_id="publish", topic=topic, records=records).execute({})

    assert result == {"topic": topic, "delivered": 3}
    assert count_records() == 3


def test_one_bad_record_keeps_all_from_being_sent(topic: str, count_records: Callable[[], int]) -> None:
    records = [{"host": "a"}, {"host": "b", "v": float("nan")}]

    with pytest.raises(RecordError, match=r"record 1 \(host 'b'\): field v"):
        KafkaPublishOperator(task_id="publish", topic=topic, records=records).execute({})
    assert count_records() == 0


def test_an_unknown_topic_fails_with_remedy() -> None:
    with pytest.raises(ConfigurationError, match="no_such_topic"):
        KafkaPublishOperator(task_id="publish", topic="no_such_topic", records=[{"host": "a"}]).execute({})


def test_the_hooks_test_of_the_connection_lists_topics(topic: str, kafka_bootstrap: str) -> None:
    ok, message = KafkaClientHook().test_connection()

    assert ok
    assert message.startswith(f"Kafka {kafka_bootstrap} has ")
