"""A member of a consumer group: what Kafka gives it and takes from it, and when its share is complete.

``Share`` and ``Others`` decide, from events and times alone. ``Membership`` is subscribed to the topics and
passes the events on; librdkafka calls it from within ``consume``, in the thread that reads.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_restrack.load.offsets import Partition

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from confluent_kafka import TopicPartition

    from airflow_provider_restrack.load.positions import Span

log = logging.getLogger(__name__)


class Desk(Protocol):
    """Where partitions come in and go out: the reader."""

    def take_in(self, partitions: Collection[Partition]) -> Sequence[TopicPartition]:
        """Plan partitions that are ours from now on, and return where to start in each."""

    def begin(self, partitions: Collection[Partition]) -> None:
        """Do what is to be done once the client has them."""

    def hand_over(self, partitions: Collection[Partition]) -> None:
        """Finish with partitions that go to another member as soon as this returns."""

    def let_go(self, partitions: Collection[Partition]) -> None:
        """Forget partitions that are another member's already, perhaps for long."""


class Holder(Protocol):
    """Who works on what is read, and is told of partitions that come and go.

    The reader calls it from within ``start``, ``read`` and ``keep_alive``, in their thread.
    """

    def on_assigned(self, spans: Sequence[Span]) -> None:
        """Note where partitions start; a span that ``moved`` is to be committed."""

    def on_revoked(self, partitions: Collection[Partition], *, settle_s: float) -> None:
        """Commit what is stored of partitions, and commit nothing of them after that.

        :param settle_s: how long to wait first until all that was read of them is stored: the group waits for
            us. It is zero within ``keep_alive``: the writer is being waited for already, perhaps with half of
            a chunk still to be handed to it.
        """

    def on_lost(self, partitions: Collection[Partition]) -> None:
        """Commit nothing more of partitions: they have another owner."""


class Share:
    """Whether a member has got what it is to get: it must not end before, nor wait for what never comes.

    A task that joins while others read is first given nothing: the others hand over at their next heartbeat,
    and once they have stored what they have read. A task of which there are more than partitions is given
    nothing for good. Nobody tells the two apart, so that one with empty hands waits for ``patience_s``.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._given: float | None = None
        self._had_some = False

    def given(self, count: int, now: float) -> None:
        """Note an assignment; it may be empty."""
        self._had_some = self._had_some or count > 0
        if self._given is None:
            self._given = now

    def taken(self) -> None:
        """Note that partitions were taken; another assignment follows, and may be empty."""
        self._given = None

    def lost(self) -> None:
        """Note that the group has gone on without this member: it begins anew."""
        self._given, self._had_some = None, False

    @property
    def is_empty_handed(self) -> bool:
        """Whether it has been given nothing yet, and may still be."""
        return self._given is not None and not self._had_some

    def is_complete(self, now: float) -> bool:
        """Whether no more is to be waited for."""
        if self._given is None:
            return False
        return self._had_some or now - self._given >= self._patience_s


class Others:
    """Whether the partitions of other members are cared for: none may be left to a member that is dead.

    A member that was killed, or that only the group still believes in because its connection was lost while
    it joined, keeps its partitions until its session ends; then they come to us. One that works commits.
    Nobody tells the two apart: a partition in which nothing is committed is waited for ``patience_s``.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._seen: dict[Partition, tuple[int, float]] = {}
        self._cared_for: set[Partition] = set()
        self._looked = False

    def look(self, left: Mapping[Partition, int], now: float) -> None:
        """Note how many offsets are left to commit in each partition that others have."""
        for partition, count in left.items():
            before, _ = self._seen.setdefault(partition, (count, now))
            if count < before or not count:
                self._cared_for.add(partition)
        for gone in self._seen.keys() - left.keys():
            del self._seen[gone]
            self._cared_for.discard(gone)
        self._looked = True

    def are_settled(self, now: float) -> bool:
        """Whether none of them is to be waited for."""
        return self._looked and all(
            partition in self._cared_for or now - since >= self._patience_s
            for partition, (_, since) in self._seen.items()
        )

    @property
    def neglected(self) -> dict[Partition, int]:
        """The partitions in which nothing was committed since the first look, and what is left in each."""
        return {one: count for one, (count, _) in self._seen.items() if one not in self._cared_for}


class Membership:
    """One membership in a group, from ``join`` to the consumer's close.

    The group gives partitions cooperatively: ``assign`` and ``revoke`` name only what comes and goes.
    """

    def __init__(self, consumer: Any, desk: Desk, *, patience_s: float, now: Callable[[], float]) -> None:
        self._consumer, self._desk, self._now = consumer, desk, now
        self.share = Share(patience_s)
        self.leaving = False

    def join(self, topics: Sequence[str]) -> None:
        """Subscribe; partitions come with later calls of ``consume``."""
        self._consumer.subscribe(
            list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    @property
    def is_member(self) -> bool:
        """Whether the group counts it as one; a commit by one that is not could move the group back."""
        return bool(self._consumer.memberid())

    def _on_assign(self, consumer: Any, entries: list[TopicPartition]) -> None:
        if self.leaving:  # it comes late, from within close, and is taken back at once
            consumer.incremental_assign(entries)
            return
        partitions = _partitions(entries)
        log.info("the group gives %s", _names(partitions))
        consumer.incremental_assign(self._desk.take_in(partitions))
        self._desk.begin(partitions)
        self.share.given(len(partitions), self._now())

    def _on_revoke(self, consumer: Any, entries: list[TopicPartition]) -> None:
        if not self.leaving:
            partitions = _partitions(entries)
            log.info("the group takes %s", _names(partitions))
            self.share.taken()
            self._desk.hand_over(partitions)
        consumer.incremental_unassign(entries)

    def _on_lost(self, consumer: Any, entries: list[TopicPartition]) -> None:
        if not self.leaving:
            partitions = _partitions(entries)
            log.warning("the group has gone on without this task, and has taken %s", _names(partitions))
            self.share.lost()
            self._desk.let_go(partitions)
        consumer.incremental_unassign(entries)


def _partitions(entries: Sequence[TopicPartition]) -> list[Partition]:
    return [Partition(entry.topic, entry.partition) for entry in entries]


def _names(partitions: Sequence[Partition]) -> str:
    return ", ".join(f"{topic}[{number}]" for topic, number in sorted(partitions)) or "no partition"
