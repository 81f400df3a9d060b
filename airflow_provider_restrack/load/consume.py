"""Reads a bounded part of topics: from a group's committed offsets to the end that each partition had at the
start; or, following them, for as long as it is let.

A reader joins its group and shares the partitions with the group's other members, or is assigned partitions
by hand. Offsets are committed by hand in both cases. A partition that goes to another member goes with what
is stored of it committed; what is not is read and written again by its next owner, to the same effect.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from airflow_provider_restrack.load.errors import KafkaUnavailableError, OffsetResetError
from airflow_provider_restrack.load.membership import Membership, Others
from airflow_provider_restrack.load.offsets import Partition
from airflow_provider_restrack.load.plan import warn_of_loss
from airflow_provider_restrack.load.positions import Positions, lag_behind

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from airflow_provider_restrack.load.brokers import Brokers
    from airflow_provider_restrack.load.membership import Holder
    from airflow_provider_restrack.load.plan import Plan, ReadPolicy
    from airflow_provider_restrack.load.positions import Span

log = logging.getLogger(__name__)

QUANTUM_S = 0.25  # how long one read may wait; between reads the loop handles acknowledgements and stops
# A loop that waits for the writer longer than this polls for the group's sake. Sooner is of no use to the
# group, and each pause throws away what has been fetched ahead.
_KEEP_ALIVE_S = 1.0
_SLIPPED = 100  # records that one keep-alive takes at most: few are left to come of paused partitions
_ASK_AGAIN_S = 1.0
# Events of the client that say nothing of a partition: it goes on by itself, and a stall is noticed by the
# clock. (The names of librdkafka's local errors begin with an underscore; they are public.)
_PASSING = frozenset(
    getattr(KafkaError, name)
    for name in ("_ALL_BROKERS_DOWN", "_TRANSPORT", "_MAX_POLL_EXCEEDED", "_RESOLVE")
)
_PARTITION_EOF = KafkaError._PARTITION_EOF  # noqa: SLF001
_NO_SUCH_OFFSET = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})  # noqa: SLF001


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records read together, each partition's in order, and the next offset of each partition they touch."""

    records: list[Any]
    ends: dict[Partition, int]


class Reader:
    """Reads chunks and commits offsets; the only user of the Kafka consumer.

    It is not thread-safe. Each chunk's ticket must be opened before the next call of ``read`` or
    ``keep_alive``: either can take partitions away, and only tickets that are open then are told.

    :param consumer: a confluent-kafka Consumer of ``build_consumer_config``.
    :param plan: the ends of the start.
    :param now: the monotonic clock.
    """

    def __init__(
        self, consumer: Any, brokers: Brokers, policy: ReadPolicy, plan: Plan, *, now: Callable[[], float]
    ) -> None:
        self._consumer, self._brokers, self._policy, self._plan = consumer, brokers, policy, plan
        self._now = now
        self.positions = Positions(endless=policy.follow)
        self.lost = 0
        self._membership: Membership | None = None
        self._spans: dict[Partition, Span] = {}
        self._lag_before: dict[Partition, int] = {}
        self._paused: set[Partition] = set()  # not for good: until the next read
        self._before: frozenset[Partition] = frozenset()  # held when the call of consume began
        self._regained: set[Partition] = set()  # and given back to us within it
        self._slipped: list[Any] = []
        self._moved = self._polling = self._hurried = self._nothing_left = False
        self._silent_s = 0.0
        self._polled, self._asked = now(), -math.inf
        self._refused: float | None = None

    @property
    def spans(self) -> Collection[Span]:
        """What is ours at the moment."""
        return self._spans.values()

    def start(self, holder: Holder) -> None:
        """Assign the partitions by hand, or join the group if it has anything to do.

        :raises OffsetResetError: if a partition has no usable commit and ``reset`` is ``error``.
        :raises KafkaUnavailableError: if Kafka does not answer in ``connect_timeout_s``.
        """
        self._holder: Holder = holder
        idle = self._policy.partitions is None and not self._policy.follow and self._plan.reached()
        if idle or self._policy.partitions is not None:
            self.take_in(self._plan.partitions)
            starts = self._places(self.positions.open)
            if starts:
                self._consumer.assign(starts)
            return
        self._membership = Membership(self._consumer, self, patience_s=self._policy.patience_s, now=self._now)
        self._others = Others(self._policy.patience_s)
        self._membership.join(self._policy.topics)

    @property
    def lag_before(self) -> int:
        """How many offsets the group was behind the ends of the start, in the partitions that were read."""
        return sum(self._lag_before.values())

    @property
    def finished(self) -> bool:
        """Whether every partition of ours has reached its end, and none is to be expected any more."""
        if self.positions.open or self._policy.follow:
            return False
        if self._membership is None or self._nothing_left:
            return True
        now, share = self._now(), self._membership.share
        if not share.is_complete(now):
            return False
        return share.is_empty_handed or self._has_all or self._others.are_settled(now)

    @property
    def _has_all(self) -> bool:
        return self.positions.held.issuperset(self._plan.partitions)

    def read(self, limit: int, wait_s: float = QUANTUM_S) -> Chunk:
        """Return up to ``limit`` records; none does not mean that there are no more, only ``finished`` does.

        :param wait_s: for as many.
        :raises KafkaUnavailableError: if nothing came for ``stall_timeout_s``, or Kafka refuses to be read.
        """
        self._wake()
        count = min(limit, self.positions.remaining)
        asked = self._now()
        if self._membership is not None:
            count = count or limit  # the group may give partitions, with their first records, in this call
        if count > len(self._slipped):
            self._slipped += self._consume(count - len(self._slipped), wait_s)
        messages, self._slipped = self._slipped[:count], self._slipped[count:]
        records: list[Any] = []
        touched: set[Partition] = set()
        for message in messages:
            self._take(message, records, touched)
        self._watch(self._now() - asked, progress=bool(touched) or self._moved)
        done = [partition for partition in touched if not self.positions.is_open(partition)]
        if done:
            self._consumer.pause([TopicPartition(*partition) for partition in done])
        return Chunk(records, {partition: self.positions.next_of(partition) for partition in touched})

    def keep_alive(self) -> None:
        """Poll, so that the group does not think this member dead; call it often while reading must wait.

        Fetching is paused until the next ``read``, and what slips through is kept for it. Partitions that the
        group takes here are handed over at once, without waiting for their writes: see ``Holder``. Within the
        hand-over of ``read``, which waits for them up to ``hand_over_s``, it does nothing.
        """
        if self._membership is None or self._polling or self._now() - self._polled < _KEEP_ALIVE_S:
            return
        asleep = self.positions.open - self._paused
        if asleep:
            self._consumer.pause([TopicPartition(*partition) for partition in asleep])
            self._paused |= asleep
        self._hurried = True
        try:
            self._slipped += self._consume(_SLIPPED, 0.0)
        finally:
            self._hurried = False

    def commit(self, offsets: Mapping[Partition, int]) -> dict[Partition, int]:
        """Commit offsets, wait for Kafka to confirm each of them, and return those that it has confirmed.

        Offsets of partitions that are another's now are left out. The group may refuse the others while it
        gives its partitions anew; they can be tried again after the next ``read``.

        :raises KafkaUnavailableError: if it does not answer, or has refused for ``stall_timeout_s``.
        """
        held = self.positions.held
        ours = {partition: offset for partition, offset in offsets.items() if partition in held}
        if not ours:
            return {}
        group = self._membership
        if (group is None or group.is_member) and self._brokers.commit(ours, member=group is not None):
            self._refused = None
            return ours
        self._refused = self._refused or self._now()
        if self._now() - self._refused > self._policy.stall_timeout_s:
            raise KafkaUnavailableError(
                f"{self._brokers.name} has refused the offsets of group {self._policy.group_id!r} for"
                f" {self._policy.stall_timeout_s:g} s; what is stored is written again by the next run"
            )
        return {}

    def lag_after(self, committed: Mapping[Partition, int]) -> int | None:
        """Return how many offsets the group is behind the ends of now, records since the start included.

        It is of the partitions that are ours at the end, and of those that another member has but does not
        care for. None if Kafka does not tell: all is stored and committed by now, and no reason to fail.
        """
        try:
            open_ = self._places(self.positions.open)
            if open_:
                self._consumer.pause(open_)  # fetches that wait for records would hold the questions up
            ends = {partition: self._brokers.watermarks(partition)[1] for partition in self._spans}
        except (KafkaUnavailableError, KafkaException) as error:
            log.warning("the lag at the end is not known: %s", error)
            return None
        return lag_behind(self.spans, committed, ends) + self._count_neglected()

    def _count_neglected(self) -> int:
        if self._membership is None or self._nothing_left or self._has_all:
            return 0
        neglected = self._others.neglected
        if neglected:
            log.warning(
                "another member of group %s has %s and has committed nothing of it for %g s: %d offsets are"
                " left there for the next run",
                self._policy.group_id, ", ".join(f"{p.topic}[{p.number}]" for p in sorted(neglected)),
                self._policy.patience_s, sum(neglected.values()),
            )  # fmt: skip
        return sum(neglected.values())

    def close(self) -> None:
        """Leave the group, and close the consumer; it commits nothing."""
        if self._membership is not None:
            self._membership.leaving = True
        self._consumer.close()

    def take_in(self, partitions: Collection[Partition]) -> list[TopicPartition]:
        """Plan partitions that are ours from now on, and return where to start in each."""
        spans = self._plan.spans(partitions)
        self.positions.add(spans)
        for span in spans:
            self._spans[span.partition] = span
            if span.partition in self._plan.at_start:
                self._lag_before.setdefault(span.partition, span.end - span.start)
            self.lost += span.lost
        self._moved = True
        self._holder.on_assigned(spans)
        return self._places(partitions)

    def begin(self, partitions: Collection[Partition]) -> None:
        """Hold back until the next read what was ours, was taken, and is ours again, all within one call."""
        regained = self._before.intersection(partitions)
        if regained:
            self._consumer.pause(self._places(regained))
            self._paused |= regained
            self._regained |= regained

    def hand_over(self, partitions: Collection[Partition]) -> None:
        """Finish with partitions that go to another member as soon as this returns."""
        try:
            self._holder.on_revoked(partitions, settle_s=0.0 if self._hurried else self._policy.hand_over_s)
        finally:
            self._forget(partitions)

    def let_go(self, partitions: Collection[Partition]) -> None:
        """Forget partitions that are another's already, perhaps for long."""
        self._holder.on_lost(partitions)
        self._forget(partitions)
        self._refused = None

    def _forget(self, partitions: Collection[Partition]) -> None:
        self._moved = True
        # librdkafka keeps the pause of a partition that goes, at its end or not, and would read nothing of it
        # when it comes back.
        self._consumer.resume([TopicPartition(*partition) for partition in partitions])
        self.positions.drop(partitions)
        self._paused.difference_update(partitions)
        self._forget_slipped(partitions)
        for partition in partitions:
            self._spans.pop(partition, None)

    def _forget_slipped(self, partitions: Collection[Partition]) -> None:
        self._slipped = [message for message in self._slipped if _place(message) not in partitions]

    def _places(self, partitions: Collection[Partition]) -> list[TopicPartition]:
        return [TopicPartition(*partition, self.positions.next_of(partition)) for partition in partitions]

    def _wake(self) -> None:
        if self._paused:
            self._consumer.resume([TopicPartition(*partition) for partition in self._paused])
            self._paused.clear()

    def _consume(self, count: int, timeout: float) -> list[Any]:
        """Return messages of partitions that are ours before and after the call.

        The group may give and take within it. What is returned of a partition that was taken and given back
        was read before that: from here on it is read from its commit.
        """
        self._before = self.positions.held
        self._regained.clear()
        self._polling, self._moved = True, False
        try:
            messages: list[Any] = self._consumer.consume(count, timeout)
        finally:
            self._polling = False
            self._polled = self._now()
        if not self._regained:
            return messages
        return [message for message in messages if _place(message) not in self._regained]

    def _watch(self, waited_s: float, *, progress: bool) -> None:
        """Add up the time spent waiting for Kafka; what Cassandra takes does not count."""
        self._look_for_work()
        self._silent_s = 0.0 if progress else self._silent_s + waited_s
        if self._silent_s <= self._policy.stall_timeout_s or self.finished:
            return
        if self.positions.open and not self._policy.follow:
            waiting = ", ".join(f"{p.topic}[{p.number}]" for p in sorted(self.positions.open)[:5])
            raise KafkaUnavailableError(
                f"{self._brokers.name} sent nothing for {self._policy.stall_timeout_s:g} s, with records"
                f" still to come of {waiting}"
            )
        self._brokers.watermarks(min(self.positions.held or self._plan.partitions))
        self._silent_s = 0.0

    def _look_for_work(self) -> None:
        """With nothing to read, ask what is left for the others; they need no help if nothing is."""
        if self._membership is None or self._policy.follow or self.positions.open or self._has_all:
            return
        if self._now() - self._asked >= _ASK_AGAIN_S:
            held = self.positions.held
            left = self._plan.left([one for one in self._plan.partitions if one not in held])
            self._nothing_left = not any(left.values())
            self._others.look(left, self._now())
            self._asked = self._now()

    def _take(self, message: Any, records: list[Any], touched: set[Partition]) -> None:
        error = message.error()
        if error is not None:
            self._take_event(error, message, touched)
            return
        partition = _place(message)
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
        partition = _place(message)
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
        """Go on as ``reset`` says, as retention has deleted the records that were to be read.

        :raises OffsetResetError: if it says not to.
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
        if self._policy.reset == "error":
            raise OffsetResetError(partition, wanted, low, high)
        lost = self.positions.skip_to(partition, high if self._policy.reset == "latest" else low)
        self.lost += lost
        warn_of_loss(partition, lost, self._policy)
        if self.positions.is_open(partition):
            self._consumer.seek(TopicPartition(*partition, self.positions.next_of(partition)))

    def _read_error(self, error: Any, where: str) -> KafkaUnavailableError:
        return KafkaUnavailableError(f"{self._brokers.name} cannot be read{where}: {error.str()}")


def _place(message: Any) -> Partition:
    return Partition(message.topic(), message.partition())
