"""How far a group has loaded, as a time: what was sent before it is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, KafkaError, TopicPartition

from airflow_provider_restrack import clock
from airflow_provider_restrack.load.client_config import build_consumer_config
from airflow_provider_restrack.load.errors import KafkaUnavailableError
from airflow_provider_restrack.load.offsets import Partition
from airflow_provider_restrack.load.open_reader import open_brokers, open_consumer
from airflow_provider_restrack.load.positions import plan_span

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_provider_restrack.load.brokers import Brokers
    from airflow_provider_restrack.load.positions import Span

_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class LagQuestion:
    """Whose lag is asked for.

    :ivar topics: that the group loads.
    :ivar timeout_s: for each answer of Kafka.
    """

    topics: tuple[str, ...]
    group_id: str
    connection: str = "kafka_default"
    timeout_s: float = 20.0


def find_oldest_waiting(question: LagQuestion, config: Mapping[str, Any]) -> int | None:
    """Return when the oldest record that the group has not loaded was sent, in ms since 1970.

    That is Kafka's own time of the record. None if all is loaded. It neither joins the group nor commits.

    :param config: librdkafka settings of the Kafka connection.
    :raises ConfigurationError: if a topic does not exist, or a setting is not valid.
    :raises KafkaUnavailableError: if the brokers do not answer.
    """
    settings = build_consumer_config(config, group_id=question.group_id, connection=question.connection)
    consumer = open_consumer(settings, question.connection)
    try:
        brokers = open_brokers(consumer, config, question, question.timeout_s)
        waiting = [span for span in _find_spans(brokers, question.topics) if span.start < span.end]
        times = read_first_times(consumer, waiting, question.timeout_s, brokers.name) if waiting else []
        return min(times, default=None)
    finally:
        consumer.close()


def _find_spans(brokers: Brokers, topics: Iterable[str]) -> Iterable[Span]:
    partitions = brokers.partitions(list(topics))
    committed = brokers.committed(partitions)
    for partition in partitions:
        known = committed.get(partition)
        yield plan_span(partition, None if known is None else known.offset, *brokers.watermarks(partition))


def read_first_times(consumer: Any, spans: Iterable[Span], timeout_s: float, name: str) -> list[int]:
    """Return Kafka's times of the first record of each span; one of which only gaps are left has none.

    :raises KafkaUnavailableError: if they do not come in time.
    """
    left = {span.partition: span for span in spans}
    consumer.assign([TopicPartition(*span.partition, span.start) for span in left.values()])
    until = clock.monotonic() + timeout_s
    times = []
    while left:
        for message in consumer.consume(_AT_ONCE, max(0.0, min(1.0, until - clock.monotonic()))):
            partition = Partition(message.topic(), message.partition())
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - a public name
                raise KafkaUnavailableError(f"{name} cannot be read: {error.str()}")
            kind, at_ms = message.timestamp()
            is_first = left.pop(partition, None) is not None
            if is_first and error is None and kind != TIMESTAMP_NOT_AVAILABLE:
                times.append(at_ms)
        if left and clock.monotonic() >= until:
            raise KafkaUnavailableError(
                f"{name} gave no record of {', '.join(f'{one.topic}[{one.number}]' for one in left)}"
                f" in {timeout_s:g} s"
            )
    return times
