"""Records that are sent one by one, with a producer that does what it is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from confluent_kafka import KafkaError

from airflow_provider_restrack.load import publish as module
from airflow_provider_restrack.load.errors import ConfigurationError, DeliveryError, RecordError
from airflow_provider_restrack.load.publish import PublishPolicy
from airflow_provider_restrack.load.stream import open_stream
from tests.unit.load.fakes import FakeProducer

CONFIG = {"bootstrap.servers": "b:1"}
POLICY = PublishPolicy("t", headers={"run": "r"}, timeout_s=0.2, connection="my_kafka")


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> FakeProducer:
    made = FakeProducer()
    monkeypatch.setattr(module, "Producer", lambda settings, logger: made)
    return made


def test_each_record_is_sent_at_once_and_all_are_acknowledged_at_the_end(producer: FakeProducer) -> None:
    with open_stream(POLICY, CONFIG) as stream:
        stream.send({"host": "a", "v": 1})
        first: list[Any] = list(producer.sent)
        stream.send({"host": "b"})
        delivered = stream.finish()

    assert (delivered, stream.sent) == (2, 2)
    assert first[0]["key"] == b"a"
    assert json.loads(first[0]["value"]) == {"host": "a", "v": 1}
    assert first[0]["headers"] == [("run", "r")]
    assert not producer.purged


def test_a_record_that_is_none_ends_the_stream(producer: FakeProducer) -> None:
    with pytest.raises(RecordError, match="NaN"), open_stream(POLICY, CONFIG) as stream:
        stream.send({"host": "a", "v": float("nan")})

    assert producer.purged


def test_after_a_refusal_no_more_is_made(producer: FakeProducer) -> None:
    producer.fail_with = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)

    error = "1 of 1 records were not delivered"
    with pytest.raises(DeliveryError, match=error), open_stream(POLICY, CONFIG) as stream:
        stream.send({"host": "a"})

    assert len(producer.sent) == 1


def test_a_record_that_is_never_acknowledged_fails_the_end(producer: FakeProducer) -> None:
    producer.deliver = False

    with open_stream(POLICY, CONFIG) as stream:
        stream.send({"host": "a"})
        stream.send({"host": "b"})
        with pytest.raises(DeliveryError, match="2 of 2 records"):
            stream.finish()


def test_a_stream_that_is_broken_off_lets_go_of_what_is_not_sent(producer: FakeProducer) -> None:
    with pytest.raises(KeyboardInterrupt), open_stream(POLICY, CONFIG):
        raise KeyboardInterrupt

    assert producer.purged


def test_a_topic_that_does_not_exist_is_refused_at_the_start(producer: FakeProducer) -> None:
    error = "'none' does not exist"
    with pytest.raises(ConfigurationError, match=error), open_stream(PublishPolicy("none"), CONFIG):
        raise AssertionError
