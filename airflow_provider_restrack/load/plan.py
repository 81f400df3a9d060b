"""What a run is to read: the ends that its partitions had at the start, and where the group is in each."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_restrack.load.partitions import choose_partitions
from airflow_provider_restrack.load.positions import plan_span

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_provider_restrack.load.brokers import Brokers, Committed
    from airflow_provider_restrack.load.offsets import Partition
    from airflow_provider_restrack.load.partitions import Choice
    from airflow_provider_restrack.load.positions import Reset, Span

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReadPolicy:
    """What to read, as whom, and how long to wait for Kafka.

    :ivar partitions: those to read, by hand; None joins the group.
    :ivar follow: whether to read on past the ends of the start; nothing but its user ends such a run.
    :ivar reset: where a partition is read whose commit is missing or no longer there.
    :ivar connect_timeout_s: for each question to the brokers at the start and the end.
    :ivar stall_timeout_s: without any record or end of partition for so long, the run fails; where none is
        due, it does so if Kafka does not answer a question either.
    :ivar patience_s: for partitions, after a join that gave none.
    :ivar hand_over_s: how long writes of partitions that go to another member are waited for; nobody polls
        meanwhile, and after ``max.poll.interval.ms`` without it the group goes on without this member.
    """

    topics: tuple[str, ...]
    group_id: str
    connection: str = "kafka_default"
    partitions: Choice | None = None
    follow: bool = False
    reset: Reset = "earliest"
    connect_timeout_s: float = 20.0
    stall_timeout_s: float = 60.0
    patience_s: float = 15.0
    hand_over_s: float = 100.0


class Plan:
    """The ends of the start, of all partitions that the run may come to read.

    A member of a group learns only later which of them are its own, and the group's offsets in them move
    until then; the ends do not.
    """

    def __init__(self, brokers: Brokers, policy: ReadPolicy) -> None:
        self._brokers, self._policy = brokers, policy
        found = brokers.partitions(policy.topics)
        wanted = found if policy.partitions is None else choose_partitions(policy.partitions, found)
        self._ends = {partition: brokers.watermarks(partition) for partition in wanted}
        self.at_start = frozenset(wanted)

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """All that the run may read."""
        return tuple(self._ends)

    def spans(self, partitions: Collection[Partition]) -> list[Span]:
        """Return what to read of partitions, from where the group is now.

        :raises OffsetResetError: if that is nowhere, and the connection does not say where to start.
        :raises KafkaUnavailableError: if Kafka does not answer.
        """
        committed = self._brokers.committed(partitions)
        reset = self._policy.reset
        spans = [self._span(partition, committed.get(partition), reset) for partition in partitions]
        for span in spans:
            self._report(span, committed.get(span.partition))
        return spans

    def left(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Return how much the group has still to commit in partitions: their offsets, or the start alone.

        :raises KafkaUnavailableError: if Kafka does not answer.
        """
        committed = self._brokers.committed(partitions)
        spans = [self._span(partition, committed.get(partition), "earliest") for partition in partitions]
        return {span.partition: max(span.end - span.start, int(span.moved)) for span in spans}

    def reached(self) -> bool:
        """Whether the group is at the end of every partition, so that there is nothing to do for anyone."""
        return not any(self.left(self.partitions).values())

    def _span(self, partition: Partition, committed: Committed | None, reset: Reset) -> Span:
        if partition not in self._ends:  # it was added to the topic since the start
            self._ends[partition] = self._brokers.watermarks(partition)
        low, high = self._ends[partition]
        if committed is not None and committed.offset > high:
            # Another member that started later may have come further. What lies behind the end of our own
            # start is no work of ours then; only an offset behind the end of now is a sign.
            low, now = self._brokers.watermarks(partition)
            high = max(high, min(committed.offset, now))
        return plan_span(
            partition,
            committed.offset if committed else None,
            low,
            high,
            reset=reset,
            anew=committed is not None and self._is_anew(partition, committed),
        )

    def _is_anew(self, partition: Partition, committed: Committed) -> bool:
        known = self._brokers.topic_ids.get(partition.topic)
        return None not in (known, committed.topic_id) and known != committed.topic_id

    def _report(self, span: Span, committed: Committed | None) -> None:
        if span.lost:
            warn_of_loss(span.partition, span.lost, self._policy)
        if span.anew and committed is not None:
            log.warning(
                "group %s is at offset %d of %s[%d] as it was before the topic was deleted and made anew:"
                " it is read from %d",
                self._policy.group_id, committed.offset, *span.partition, span.start,
            )  # fmt: skip


def warn_of_loss(partition: Partition, lost: int, policy: ReadPolicy) -> None:
    """Log that records are passed over that the group has not read."""
    skipped = "; auto.offset.reset=latest passes over what is left of them too" * (policy.reset == "latest")
    log.warning(
        "%d offsets of %s[%d] were deleted by the topic's retention before group %s read them:"
        " raise retention.ms or load more often%s",
        lost, *partition, policy.group_id, skipped,
    )  # fmt: skip
