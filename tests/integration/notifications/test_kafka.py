"""Notifications in a real topic, and what happens when there is none."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import Consumer

from airflow_provider_restrack.load.errors import ConfigurationError, KafkaUnavailableError
from airflow_provider_restrack.notifications.kafka import KafkaNotifier

pytestmark = pytest.mark.kafka


def context() -> dict[str, Any]:
    return {
        "ti": SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=1, state="failed")
    }


@pytest.fixture
def connection(kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value = json.dumps({"conn_type": "kafka", "extra": {"bootstrap.servers": kafka_bootstrap}})
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_DEFAULT", value)


def read_one(bootstrap: str, topic: str) -> Any:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    try:
        return consumer.poll(30)
    finally:
        consumer.close()


@pytest.mark.usefixtures("connection")
def test_a_failed_task_is_told_in_the_topic(kafka_bootstrap: str, topic: str) -> None:
    notifier = KafkaNotifier(topic=topic, message="{{ ti.task_id }} failed", headers={"kind": "failure"})
    notifier(context())
    message = read_one(kafka_bootstrap, topic)
    record = json.loads(message.value())
    assert (message.key(), message.headers()) == (b"d", [("kind", b"failure")])
    assert (record["task_id"], record["state"], record["text"]) == ("t", "failed", "t failed")


@pytest.mark.usefixtures("connection")
def test_a_topic_that_does_not_exist_is_named(unique: Any) -> None:
    topic = unique("none")
    with pytest.raises(ConfigurationError, match=topic):
        KafkaNotifier(topic=topic, timeout=10)(context())


def test_a_broker_that_is_not_there_is_named_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    value = json.dumps({"conn_type": "kafka", "extra": {"bootstrap.servers": "127.0.0.1:9"}})
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_DEFAULT", value)
    with pytest.raises(KafkaUnavailableError, match=r"127\.0\.0\.1:9"):
        KafkaNotifier(topic="alerts", timeout=2)(context())
