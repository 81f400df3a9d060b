from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cassandra import InvalidRequest
from confluent_kafka import KafkaError, KafkaException

from airflow_provider_restrack.load.dead_letters import DeadLetterPolicy, DeadLetters, build_headers
from airflow_provider_restrack.load.errors import DeliveryError, RejectError
from airflow_provider_restrack.load.offsets import OffsetTracker, Partition, Ticket
from tests.unit.load.fakes import Clock, FakeMessage, FakeProducer, UnreadableHeaders

POLICY = DeadLetterPolicy("dead", "g", origin="dag.task", connection="my_kafka", timeout_s=5)
REASON = RejectError("no JSON")
ORIGIN = ("topic", "partition", "offset")


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
        ("__connect.errors.class.name", b"airflow_provider_restrack.load.rows.RowMaker"),
        ("__connect.errors.exception.class.name", b"airflow_provider_restrack.load.errors.RejectError"),
        ("__connect.errors.exception.message", b"no JSON"),
    ]


def test_headers_that_cannot_be_read_are_absent_and_one_says_so() -> None:
    record = UnreadableHeaders(b"x", at=7, where=2)

    first, second = build_headers(record, REASON, POLICY), build_headers(record, REASON, POLICY)

    assert first == second
    assert [name for name, _ in first[:2]] == ["__restrack.headers.unreadable", "__connect.errors.topic"]
    assert b"invalid start byte" in (first[0][1] or b"")


def test_a_row_that_cassandra_refuses_is_of_the_stage_that_puts() -> None:
    headers = dict(build_headers(FakeMessage(b""), InvalidRequest("too large"), POLICY))

    assert headers["__connect.errors.stage"] == b"TASK_PUT"
    assert headers["__connect.errors.class.name"] == b"airflow_provider_restrack.load.write.Writer"
    assert headers["__connect.errors.exception.class.name"] == b"cassandra.InvalidRequest"


def test_a_letter_rejected_again_keeps_its_origin_and_has_one_reason() -> None:
    first = build_headers(FakeMessage(b"", at=7, where=2, extra=[("a", b"1"), ("a", None)]), REASON, POLICY)
    again = replace(POLICY, topic="dead_2", group_id="replay", origin="replay.task")
    letter = FakeMessage(b"", at=99, of="dead", extra=first)

    second = build_headers(letter, RejectError("still no JSON"), again)

    assert len(second) == len(first)
    assert second[:5] == [
        ("a", b"1"),
        ("a", None),
        ("__connect.errors.topic", b"t"),
        ("__connect.errors.partition", b"2"),
        ("__connect.errors.offset", b"7"),
    ]
    assert dict(second)["__connect.errors.connector.name"] == b"replay"
    assert dict(second)["__connect.errors.exception.message"] == b"still no JSON"


def test_of_reasons_that_others_have_piled_up_the_first_is_the_origin() -> None:
    piled = [(f"__connect.errors.{name}", raw) for raw in (b"1", b"2") for name in ORIGIN]

    headers = build_headers(FakeMessage(b"", extra=piled), REASON, POLICY)

    assert headers[:3] == piled[:3]
    assert len(headers) == len({name for name, _ in headers})


@pytest.mark.parametrize("missing", range(3))
def test_a_place_that_is_not_whole_is_not_taken_for_an_origin(missing: int) -> None:
    given: list[tuple[str, bytes | None]] = [(f"__connect.errors.{name}", b"1") for name in ORIGIN]
    given[missing] = (given[missing][0], None)

    headers = build_headers(FakeMessage(b"", at=7, extra=given), REASON, POLICY)  # type: ignore[arg-type]

    assert [raw for _, raw in headers[:3]] == [b"t", b"0", b"7"]


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
