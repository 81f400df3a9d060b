"""Reads a bounded part of topics: from a group's committed offsets to the end that each partition had at the
start.

Partitions are assigned by hand and offsets committed by hand. No member of a group can then take a partition
away in mid-batch, and two runs at once, or one that was thought dead, only write the same rows twice: a
commit never passes a row that is not stored, and a late one can at worst move the group back, to rows that
are then written again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from airflow_provider_restrack.load.brokers import Brokers
from airflow_provider_restrack.load.client_config import bootstrap_servers, build_consumer_config
from airflow_provider_restrack.load.errors import ConfigurationError, KafkaUnavailableError
from airflow_provider_restrack.load.offsets import Partition
from airflow_provider_restrack.load.positions import Positions, plan_span

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_restrack.load.positions import Span

log = logging.getLogger(__name__)

QUANTUM_S = 0.25  # how long one read may wait; between reads the loop handles acknowledgements and stops
# Events of the client that say nothing of a partition: it goes on by itself, and a stall is noticed by the
# clock. (The names of librdkafka's local errors begin with an underscore; they are public.)
_PASSING = frozenset(
    getattr(KafkaError, name)
    for name in ("_ALL_BROKERS_DOWN", "_TRANSPORT", "_MAX_POLL_EXCEEDED", "_RESOLVE")
)
_PARTITION_EOF = KafkaError._PARTITION_EOF  # noqa: SLF001
_NO_SUCH_OFFSET = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})  # noqa: SLF001


@dataclass(frozen=True, slots=True)
class ReadPolicy:
    """What to read, as whom, and how long to wait for Kafka.

    :ivar connect_timeout_s: for each question to the brokers at the start and the end.
    :ivar stall_timeout_s: without any record or end of partition for so long, the run fails.
    """

    topics: tuple[str, ...]
    group_id: str
    connection: str = "kafka_default"
    connect_timeout_s: float = 20.0
    stall_timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records read together, each partition's in order, and the next offset of each partition they touch."""

    records: list[Any]
    ends: dict[Partition, int]


class Reader:
    """Reads chunks and commits offsets; the only user of the Kafka consumer.

    :param consumer: a confluent-kafka Consumer of ``build_consumer_config``.
    :param spans: what ``plan_run`` found.
    :param now: the monotonic clock.
    """

    def __init__(
        self,
        consumer: Any,
        brokers: Brokers,
        policy: ReadPolicy,
        spans: Sequence[Span],
        *,
        now: Callable[[], float],
    ) -> None:
        self._consumer, self._brokers, self._policy, self._now = consumer, brokers, policy, now
        self.spans = tuple(spans)
        self.positions = Positions(spans)
        self.lost = sum(span.lost for span in spans)
        self.lag_before = sum(span.end - span.start for span in spans)
        self._silent_s = 0.0
        wanted = [
            TopicPartition(*partition, self.positions.next_of(partition)) for partition in self.positions.open
        ]
        if wanted:
            consumer.assign(wanted)

    @property
    def finished(self) -> bool:
        """Whether every partition has reached its end."""
        return not self.positions.open

    def read(self, limit: int, wait_s: float = QUANTUM_S) -> Chunk:
        """Return up to ``limit`` records; none does not mean that there are no more, only ``finished`` does.

        :param wait_s: for as many.
        :raises KafkaUnavailableError: if nothing came for ``stall_timeout_s``, or Kafka refuses to be read.
        """
        count = min(limit, self.positions.remaining)
        asked = self._now()
        messages = self._consumer.consume(count, wait_s) if count > 0 else []
        records: list[Any] = []
        touched: set[Partition] = set()
        for message in messages:
            self._take(message, records, touched)
        self._watch(self._now() - asked, progress=bool(touched))
        done = [partition for partition in touched if not self.positions.is_open(partition)]
        if done:
            self._consumer.pause([TopicPartition(*partition) for partition in done])
        return Chunk(records, {partition: self.positions.next_of(partition) for partition in touched})

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Commit offsets and wait for Kafka to confirm each of them.

        :raises KafkaUnavailableError: if it does not.
        """
        self._brokers.commit(offsets)

    def lag_after(self, committed: Mapping[Partition, int]) -> int:
        """Return how many offsets the group is behind the ends of now, records since the start included."""
        self._consumer.unassign()  # fetches that wait for records would hold the questions up
        lag = 0
        for span in self.spans:
            _, high = self._brokers.watermarks(span.partition)
            lag += max(0, high - committed.get(span.partition, span.start))
        return lag

    def close(self) -> None:
        """Close the consumer; it commits nothing."""
        self._consumer.close()

    def _watch(self, waited_s: float, *, progress: bool) -> None:
        """Add up the time spent waiting for Kafka; what Cassandra takes in between does not count."""
        self._silent_s = 0.0 if progress else self._silent_s + waited_s
        if self._silent_s > self._policy.stall_timeout_s and not self.finished:
            waiting = ", ".join(f"{p.topic}[{p.number}]" for p in sorted(self.positions.open)[:5])
            raise KafkaUnavailableError(
                f"{self._brokers.name} sent nothing for {self._policy.stall_timeout_s:g} s, with records"
                f" still to come of {waiting}"
            )

    def _take(self, message: Any, records: list[Any], touched: set[Partition]) -> None:
        error = message.error()
        if error is not None:
            self._take_event(error, message, touched)
            return
        partition = Partition(message.topic(), message.partition())
        if self.positions.is_open(partition):
            touched.add(partition)
            if self.positions.accept(partition, message.offset()):
                records.append(message)

    def _take_event(self, error: Any, message: Any, touched: set[Partition]) -> None:
        code = error.code()
        if code in _PASSING:
            log.warning("%s: %s", self._brokers.name, error.str())
            return
        if message.topic() is None:
            raise self._read_error(error, "")
        partition = Partition(message.topic(), message.partition())
        if not self.positions.is_open(partition):
            return
        if code == _PARTITION_EOF:
            self.positions.note_end(partition, message.offset())
            touched.add(partition)
        elif code in _NO_SUCH_OFFSET:
            self._skip_deleted(partition)
            touched.add(partition)
        else:
            raise self._read_error(error, f" {partition.topic}[{partition.number}]")

    def _skip_deleted(self, partition: Partition) -> None:
        """Go on at the oldest record, as retention has deleted those that were to be read.

        :raises KafkaUnavailableError: if they are not deleted but the partition now ends before them: asking
            for them again would go on for ever.
        """
        low, high = self._brokers.watermarks(partition)
        wanted = self.positions.next_of(partition)
        if low <= wanted:
            raise KafkaUnavailableError(
                f"{self._brokers.name} no longer has offset {wanted} of"
                f" {partition.topic}[{partition.number}], which now ends at {high}: the topic was made anew"
                " or cut while it was read; the next run starts at what it has"
            )
        lost = self.positions.skip_to(partition, low)
        self.lost += lost
        warn_of_loss(partition, lost, self._policy.group_id)
        if self.positions.is_open(partition):
            self._consumer.seek(TopicPartition(*partition, self.positions.next_of(partition)))

    def _read_error(self, error: Any, where: str) -> KafkaUnavailableError:
        return KafkaUnavailableError(f"{self._brokers.name} cannot be read{where}: {error.str()}")


def open_reader(policy: ReadPolicy, config: Mapping[str, Any], *, now: Callable[[], float]) -> Reader:
    """Return a reader of the topics, positioned; the caller closes it.

    :raises ConfigurationError: if the connection asks for what loses data, or a topic does not exist.
    :raises KafkaUnavailableError: if Kafka does not answer in ``connect_timeout_s``.
    """
    settings = build_consumer_config(config, group_id=policy.group_id, connection=policy.connection)
    try:
        consumer = Consumer(settings, logger=log)
    except (KafkaException, TypeError, ValueError) as error:
        raise ConfigurationError(f"Kafka connection {policy.connection!r} is not valid: {error}") from error
    try:
        brokers = Brokers(
            consumer,
            servers=bootstrap_servers(config),
            connection=policy.connection,
            group_id=policy.group_id,
            timeout_s=policy.connect_timeout_s,
        )
        return Reader(consumer, brokers, policy, plan_run(brokers, policy), now=now)
    except BaseException:
        consumer.close()
        raise


def plan_run(brokers: Brokers, policy: ReadPolicy) -> list[Span]:
    """Ask Kafka for partitions, commits and ends, and return what to read of each partition."""
    partitions = brokers.partitions(policy.topics)
    committed = brokers.committed(partitions)
    spans = []
    for partition in partitions:
        low, high = brokers.watermarks(partition)
        offset = committed.get(partition)
        span = plan_span(partition, offset, low, high)
        if span.lost:
            warn_of_loss(partition, span.lost, policy.group_id)
        if offset is not None and offset > high:
            log.warning(
                "group %s is at offset %d of %s[%d], past its end %d: the topic was made anew;"
                " it is read from %d",
                policy.group_id, offset, *partition, high, low,
            )  # fmt: skip
        spans.append(span)
    return spans


def warn_of_loss(partition: Partition, lost: int, group_id: str) -> None:
    """Log that retention has deleted records before the group read them."""
    log.warning(
        "%d offsets of %s[%d] were deleted by the topic's retention before group %s read them:"
        " raise retention.ms or load more often",
        lost, *partition, group_id,
    )  # fmt: skip
