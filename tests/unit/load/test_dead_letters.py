from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from airflow_provider_restrack.load.dead_letters import DeadLetterPolicy, DeadLetters, build_headers
from airflow_provider_restrack.load.errors import DeliveryError, RejectError
from airflow_provider_restrack.load.offsets import OffsetTracker, Partition, Ticket
from tests.unit.load.fakes import Clock, FakeMessage, FakeProducer

POLICY = DeadLetterPolicy("dead", "g", origin="dag.task", connection="my_kafka", timeout_s=5)
REASON = RejectError("no JSON")


def letters(producer: FakeProducer) -> DeadLetters:
    return DeadLetters(producer, POLICY, servers="b:1", now=Clock())


def ticket() -> Ticket:
    return OffsetTracker().open({Partition("t", 0): 1})


def test_a_record_is_sent_unchanged_with_reason_and_origin() -> None:
    producer = FakeProducer()
    record = FakeMessage(b"\xff", at=7, where=2, named=None, extra=[("a", b"1")], moment=(1, 123))

    letters(producer).send(record, REASON, ticket())

    [sent] = producer.sent
    assert (sent["topic"], sent["value"], sent["key"], sent["timestamp"]) == ("dead", b"\xff", None, 123)
    assert sent["headers"] == [
        ("a", b"1"),
        ("__connect.errors.topic", b"t"),
        ("__connect.errors.partition", b"2"),
        ("__connect.errors.offset", b"7"),
        ("__connect.errors.connector.name", b"g"),
        ("__connect.errors.task.id", b"dag.task"),
        ("__connect.errors.stage", b"VALUE_CONVERTER"),
        ("__connect.errors.exception.class.name", b"airflow_provider_restrack.load.errors.RejectError"),
        ("__connect.errors.exception.message", b"no JSON"),
    ]


def test_a_reason_that_is_no_utf8_or_endless_still_makes_a_header() -> None:
    headers = dict(build_headers(FakeMessage(b""), RejectError("\ud800" + "x" * 9999), POLICY))

    assert headers["__connect.errors.exception.message"] == b"?" + b"x" * 1999


def test_a_record_without_time_gets_none() -> None:
    producer = FakeProducer()

    letters(producer).send(FakeMessage(b"", moment=(0, -1)), REASON, ticket())

    assert "timestamp" not in producer.sent[0]


def test_the_chunk_is_settled_only_when_kafka_has_acknowledged() -> None:
    producer, held = FakeProducer(), ticket()
    producer.deliver = False
    sender = letters(producer)
    sender.send(FakeMessage(b""), REASON, held)
    held.settle()

    assert (held.finished, sender.delivered) == (False, 0)
    producer.deliver = True
    sender.flush()
    assert (held.finished, sender.delivered) == (True, 1)


def test_a_refused_dead_letter_fails_and_leaves_the_chunk_open() -> None:
    producer, held = FakeProducer(), ticket()
    producer.fail_with = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
    sender = letters(producer)

    with pytest.raises(
        DeliveryError, match=r"'dead' on Kafka b:1 \(connection 'my_kafka'\): .*t\[0\] offset 3"
    ):
        sender.send(FakeMessage(b"", at=3), REASON, held)
    held.settle()
    assert (held.finished, sender.delivered) == (False, 0)


def test_a_dead_letter_that_nobody_acknowledges_fails_the_flush() -> None:
    producer = FakeProducer()
    producer.deliver = False
    sender = letters(producer)
    sender.send(FakeMessage(b""), REASON, ticket())

    with pytest.raises(DeliveryError, match="1 were not acknowledged in time"):
        sender.flush()


def test_a_full_queue_is_waited_for() -> None:
    producer = FakeProducer()
    producer.refuse_with = [BufferError(), BufferError()]

    letters(producer).send(FakeMessage(b""), REASON, ticket())

    assert len(producer.sent) == 1


def test_a_queue_that_stays_full_fails_after_the_timeout() -> None:
    producer, clock = FakeProducer(), Clock()

    class Full(FakeProducer):
        def produce(self, *_: Any, **__: Any) -> None:
            clock.at += 1
            raise BufferError

    producer = Full()
    with pytest.raises(DeliveryError, match="stayed full"):
        DeadLetters(producer, POLICY, servers="b:1", now=clock).send(FakeMessage(b""), REASON, ticket())


def test_a_record_that_the_client_refuses_fails() -> None:
    producer = FakeProducer()
    producer.refuse_with = [KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))]

    with pytest.raises(DeliveryError, match="'dead'"):
        letters(producer).send(FakeMessage(b""), REASON, ticket())


def test_closing_drops_what_is_unsent() -> None:
    producer = FakeProducer()

    letters(producer).close()

    assert producer.purged
