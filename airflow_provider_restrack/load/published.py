"""What a run has published already, told by the topic itself: a retry of a task then goes on where it ended.

The topic is the one memory that has it right. XCom is cleared before a retry, and whatever is written beside
the topic says something else after a crash between the two.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from confluent_kafka import KafkaException, TopicPartition

from airflow_provider_restrack import clock
from airflow_provider_restrack.load.brokers import Brokers
from airflow_provider_restrack.load.client_config import bootstrap_servers, build_consumer_config
from airflow_provider_restrack.load.consume import Reader
from airflow_provider_restrack.load.errors import KafkaUnavailableError
from airflow_provider_restrack.load.headers import headers_of
from airflow_provider_restrack.load.offsets import Partition
from airflow_provider_restrack.load.open_reader import open_consumer
from airflow_provider_restrack.load.plan import Plan, ReadPolicy
from airflow_provider_restrack.load.positions import Span

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from confluent_kafka import KafkaError


log = logging.getLogger(__name__)

RUN_HEADER = "restrack_run"
# No offset is committed, so no such group comes to be; the client will not read without a name.
_GROUP = "restrack-published"
_READ = 1000


@dataclass(frozen=True, slots=True)
class PublishedPolicy:
    """Which run's records to look for.

    :ivar run: what they have as header ``restrack_run``.
    :ivar since: none of them is older.
    """

    topic: str
    run: str
    since: datetime
    connection: str = "kafka_default"
    timeout_s: float = 60.0


class _Sample(msgspec.Struct):
    """The two fields of a sample that matter here."""

    host: str
    up: bool | None = None


def count_published(policy: PublishedPolicy, config: Mapping[str, Any]) -> dict[str, int]:
    """Return how many samples with ``up`` of each host a run has published to a topic.

    :param config: librdkafka settings of the Kafka connection.
    :raises ConfigurationError: if the topic does not exist, or the settings are not valid.
    :raises KafkaUnavailableError: if it cannot be read in time.
    """
    settings = build_consumer_config(config, group_id=_GROUP, connection=policy.connection)
    consumer = open_consumer(settings, policy.connection)
    try:
        brokers = Brokers(
            consumer,
            servers=bootstrap_servers(config),
            connection=policy.connection,
            group_id=_GROUP,
            timeout_s=policy.timeout_s,
        )
        return _count(consumer, brokers, policy)
    finally:
        consumer.close()


def count_hosts(records: Iterable[Any], run: str) -> Counter[str]:
    """Return how many records of each host belong to a run and have ``up``; what is no sample is passed
    over.
    """
    wanted, decoder = (RUN_HEADER, run.encode()), msgspec.json.Decoder(_Sample)
    found: Counter[str] = Counter()
    for record in records:
        if wanted not in headers_of(record):
            continue
        try:
            sample = decoder.decode(record.value())
        except (msgspec.MsgspecError, TypeError):
            continue
        found[sample.host] += bool(sample.up)
    return +found


class _Since(Plan):
    """Reads all partitions from a time on, whatever the group has committed."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._known = {span.partition: span for span in spans}
        self.at_start = frozenset(self._known)

    @property
    def partitions(self) -> tuple[Partition, ...]:
        return tuple(self._known)

    def spans(self, partitions: Collection[Partition]) -> list[Span]:
        return [self._known[partition] for partition in partitions]


class _Onlooker:
    """Holds nothing: what is read here is only looked at."""

    def on_assigned(self, spans: Sequence[Span]) -> None:
        """Commit nothing."""

    def on_revoked(self, partitions: Collection[Partition], *, settle_s: float) -> None:
        """Commit nothing."""

    def on_lost(self, partitions: Collection[Partition]) -> None:
        """Commit nothing."""


def _count(consumer: Any, brokers: Brokers, policy: PublishedPolicy) -> dict[str, int]:
    plan = _Since(_plan_spans(consumer, brokers, policy))
    read = ReadPolicy(
        (policy.topic,), _GROUP, policy.connection,
        partitions=tuple(number for _, number in plan.partitions), stall_timeout_s=policy.timeout_s,
    )  # fmt: skip
    reader = Reader(consumer, brokers, read, plan, now=clock.monotonic)
    reader.start(_Onlooker())
    found: Counter[str] = Counter()
    while not reader.finished:
        found += count_hosts(reader.read(_READ).records, policy.run)
    return dict(found)


def _plan_spans(consumer: Any, brokers: Brokers, policy: PublishedPolicy) -> list[Span]:
    partitions = brokers.partitions((policy.topic,))
    starts = _find_starts(consumer, brokers, partitions, policy)
    spans = []
    for partition in partitions:
        low, high = brokers.watermarks(partition)
        start = starts[partition]
        # A negative offset says that there is no record so new.
        spans.append(Span(partition, high if start < 0 else min(high, max(low, start)), high))
    return spans


def _find_starts(
    consumer: Any, brokers: Brokers, partitions: Sequence[Partition], policy: PublishedPolicy
) -> dict[Partition, int]:
    moment = int(policy.since.timestamp() * 1000)
    wanted = [TopicPartition(*partition, moment) for partition in partitions]
    try:
        entries = consumer.offsets_for_times(wanted, timeout=policy.timeout_s)
    except KafkaException as error:
        raise _explain(brokers, policy, error.args[0]) from error
    for entry in entries:
        if entry.error is not None:
            raise _explain(brokers, policy, entry.error)
    return {Partition(entry.topic, entry.partition): entry.offset for entry in entries}


def _explain(brokers: Brokers, policy: PublishedPolicy, error: KafkaError) -> KafkaUnavailableError:
    return KafkaUnavailableError(
        f"{brokers.name} was asked what was published to {policy.topic!r} since {policy.since:%H:%M:%S}"
        f" and failed: {error.str()}"
    )
