"""Publishing to a real Kafka."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from confluent_kafka.admin import NewTopic

from airflow_provider_restrack.load.errors import ConfigurationError, DeliveryError, KafkaUnavailableError
from airflow_provider_restrack.load.publish import PublishPolicy, publish

pytestmark = [pytest.mark.kafka]


def test_every_record_arrives_with_key_headers_and_order(
    kafka_bootstrap: str, topic: str, read_topic: Any
) -> None:
    records = [{"host": f"web-{n % 3}", "n": n} for n in range(300)]
    policy = PublishPolicy(topic, headers={"source": "a_dag"})

    assert publish(records, policy, {"bootstrap.servers": kafka_bootstrap}) == 300

    found = read_topic(topic, 300)
    assert sorted(json.loads(message.value())["n"] for message in found) == list(range(300))
    assert {tuple(message.headers()) for message in found} == {(("source", b"a_dag"),)}
    for host in ("web-0", "web-1", "web-2"):
        of_host = [message for message in found if message.key() == host.encode()]
        assert len({message.partition() for message in of_host}) == 1
        numbers = [json.loads(message.value())["n"] for message in of_host]
        assert numbers == sorted(numbers)


def test_an_unknown_topic_fails_fast_and_is_not_made(kafka_bootstrap: str, kafka_admin: Any) -> None:
    started = time.monotonic()

    with pytest.raises(ConfigurationError, match=r"'no_such_topic' does not exist.*ProvisionOperator"):
        publish([{"host": "a"}], PublishPolicy("no_such_topic"), {"bootstrap.servers": kafka_bootstrap})
    assert time.monotonic() - started < 10
    assert "no_such_topic" not in kafka_admin.list_topics(timeout=10).topics


def test_an_unreachable_broker_fails_within_the_timeout_and_is_named() -> None:
    started = time.monotonic()

    with pytest.raises(KafkaUnavailableError, match=r"127\.0\.0\.1:1 \(connection 'kafka_default'\)"):
        publish([{"host": "a"}], PublishPolicy("t", timeout_s=2), {"bootstrap.servers": "127.0.0.1:1"})
    assert time.monotonic() - started < 5


def test_a_record_that_the_topic_refuses_is_named_and_the_others_arrive(
    kafka_bootstrap: str, kafka_admin: Any, unique: Any, read_topic: Any
) -> None:
    name = unique("small")
    new = NewTopic(name, num_partitions=1, replication_factor=1, config={"max.message.bytes": "2000"})
    kafka_admin.create_topics([new])[name].result(20)
    noise = "".join(chr(33 + (n * 7919 + n * n) % 90) for n in range(20_000))
    config = {"bootstrap.servers": kafka_bootstrap, "linger.ms": 0, "compression.type": "none"}

    with pytest.raises(DeliveryError, match=r"of 1 records .*first reason: record 0 \(host 'big'\): .*size"):
        publish([{"host": "big", "v": noise}], PublishPolicy(name, timeout_s=10), config)
    publish([{"host": "small"}], PublishPolicy(name), config)

    assert [message.key() for message in read_topic(name, 1)] == [b"small"]
    kafka_admin.delete_topics([name])[name].result(20)
