"""How far a group has loaded, asked of a real Kafka."""

from __future__ import annotations

import time
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from airflow_provider_restrack.load.lag import LagQuestion, find_oldest_waiting

pytestmark = pytest.mark.kafka


def commit(bootstrap: str, group: str, topic: str, partition: int, offset: int) -> None:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    consumer.commit(offsets=[TopicPartition(topic, partition, offset)], asynchronous=False)
    consumer.close()


def test_the_oldest_record_that_the_group_has_not_loaded(kafka_bootstrap: str, topic: str) -> None:
    base = int(time.time() * 1000) - 60_000
    producer = Producer({"bootstrap.servers": kafka_bootstrap})
    for partition, moments in ((0, (1000, 2000, 3000)), (1, (1500, 2500))):
        for at in moments:
            producer.produce(topic, b"{}", partition=partition, timestamp=base + at)
    assert producer.flush(30) == 0
    config: dict[str, Any] = {"bootstrap.servers": kafka_bootstrap}
    question = LagQuestion((topic,), topic)

    def ask() -> int | None:
        found = find_oldest_waiting(question, config)
        return None if found is None else found - base

    assert ask() == 1000
    commit(kafka_bootstrap, topic, topic, 0, 1)
    assert ask() == 1500
    commit(kafka_bootstrap, topic, topic, 1, 2)
    assert ask() == 2000
    commit(kafka_bootstrap, topic, topic, 0, 3)
    assert ask() is None
