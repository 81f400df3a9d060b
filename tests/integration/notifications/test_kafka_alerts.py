"""Alerts in a real topic: one message each, with its key and its id."""

from __future__ import annotations

import json
from typing import Any

import pytest
from confluent_kafka import Consumer

from airflow_provider_restrack.load.errors import ConfigurationError
from airflow_provider_restrack.notifications.kafka_alerts import KafkaAlertNotifier

pytestmark = pytest.mark.kafka

ALERTS = [{"id": f"id-{n}", "host": f"h{n}", "instance": f"cpu/h{n}", "value": float(n)} for n in range(3)]


@pytest.fixture(autouse=True)
def connection(kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value = json.dumps({"conn_type": "kafka", "extra": {"bootstrap.servers": kafka_bootstrap}})
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_DEFAULT", value)


def read(bootstrap: str, topic: str, count: int) -> list[Any]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    try:
        return consumer.consume(count, 30)
    finally:
        consumer.close()


@pytest.mark.parametrize("key_field", ["host", "instance"])
def test_each_alert_is_a_message_with_its_key_and_its_id(
    kafka_bootstrap: str, topic: str, key_field: str
) -> None:
    KafkaAlertNotifier(topic=topic, key_field=key_field, headers={"team": "ops"}).notify({"alerts": ALERTS})  # type: ignore[typeddict-unknown-key]

    messages = sorted(read(kafka_bootstrap, topic, 3), key=lambda message: message.value())
    assert [json.loads(message.value()) for message in messages] == ALERTS
    assert [message.key().decode() for message in messages] == [alert[key_field] for alert in ALERTS]
    assert [message.headers() for message in messages] == [
        [("team", b"ops"), ("message_id", alert["id"].encode())] for alert in ALERTS
    ]


def test_a_topic_that_does_not_exist_is_an_error_and_no_silence(unique: Any) -> None:
    topic = unique("none")
    with pytest.raises(ConfigurationError, match=topic):
        KafkaAlertNotifier(topic=topic, timeout=10).notify({"alerts": ALERTS})  # type: ignore[typeddict-unknown-key]
