"""Decides where a run over a partition starts and ends, from offsets alone: it needs no client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from airflow_provider_restrack.load.errors import OffsetResetError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from airflow_provider_restrack.load.offsets import Partition

Reset = Literal["earliest", "latest", "error"]
_NEVER = 2**63  # beyond every offset


@dataclass(frozen=True, slots=True)
class Span:
    """The part of a partition that one run reads: offsets from ``start`` up to, not including, ``end``.

    :ivar lost: offsets after the group's own that are not read, because retention deleted them or
        ``auto.offset.reset`` skips them.
    :ivar moved: whether the group has no offset yet or another than ``start``; it is then committed even if
        there is nothing to read, so that a loss is reported once, and the first one is noticed at all.
    :ivar anew: whether the topic was deleted and made again since the group's commit.
    """

    partition: Partition
    start: int
    end: int
    lost: int = 0
    moved: bool = False
    anew: bool = False


def plan_span(
    partition: Partition,
    committed: int | None,
    low: int,
    high: int,
    *,
    reset: Reset = "earliest",
    anew: bool = False,
) -> Span:
    """Decide where a partition's run starts and ends.

    A commit that the partition still has, or its end, is where the run starts. Without one, and with one
    below the oldest record, because retention was faster than the loader, ``reset`` decides as in Kafka's own
    consumers; what is then passed over after a commit counts as lost. A topic that was made anew is read from
    its oldest record, with ``latest`` too: the group has seen none of it.

    :param anew: whether the topic is known to be another than the commit's; a commit above the end says the
        same.
    :raises OffsetResetError: if ``reset`` is ``error`` and the commit is missing or not usable.
    """
    anew = anew or (committed is not None and committed > high)
    if committed is not None and not anew and committed >= low:
        return Span(partition, committed, high)
    if reset == "error":
        raise OffsetResetError(partition, committed, low, high)
    start = high if reset == "latest" and not anew else low
    lost = 0 if committed is None or anew else start - committed
    return Span(partition, start, high, lost=lost, moved=True, anew=anew)


def lag_behind(
    spans: Iterable[Span], committed: Mapping[Partition, int], ends: Mapping[Partition, int] | None = None
) -> int:
    """Return how many offsets lie between what is committed and the ends: given, or the spans' own."""
    return sum(
        max(0, (ends[span.partition] if ends else span.end) - committed.get(span.partition, span.start))
        for span in spans
    )


class Positions:
    """How far each partition has been read: the one place that decides that a run has reached its end.

    It is decided by offsets and by the broker's own word that a partition has no more, never by an empty
    read: a slow broker and an empty topic look the same from there.

    :param endless: whether partitions are read past the ends of their spans, and never closed.
    """

    def __init__(self, spans: Iterable[Span] = (), *, endless: bool = False) -> None:
        self._endless = endless
        self._next: dict[Partition, int] = {}
        self._end: dict[Partition, int] = {}
        self._open: set[Partition] = set()
        self.add(spans)

    def add(self, spans: Iterable[Span]) -> None:
        """Take partitions in."""
        for span in spans:
            end = _NEVER if self._endless else span.end
            self._next[span.partition], self._end[span.partition] = span.start, end
            if span.start < end:
                self._open.add(span.partition)

    def drop(self, partitions: Collection[Partition]) -> None:
        """Forget partitions that are another's now."""
        for partition in partitions:
            self._next.pop(partition, None)
            self._end.pop(partition, None)
        self._open.difference_update(partitions)

    @property
    def held(self) -> frozenset[Partition]:
        """All partitions, read to their end or not."""
        return frozenset(self._next)

    @property
    def open(self) -> frozenset[Partition]:
        """Partitions that have not reached their end."""
        return frozenset(self._open)

    def is_open(self, partition: Partition) -> bool:
        """Whether a partition has not reached its end."""
        return partition in self._open

    @property
    def remaining(self) -> int:
        """Upper bound of the records still to come: gaps in the offsets hold none."""
        return sum(self._end[partition] - self._next[partition] for partition in self._open)

    def next_of(self, partition: Partition) -> int:
        """Return the next offset to read."""
        return self._next[partition]

    def accept(self, partition: Partition, offset: int) -> bool:
        """Note a record of an open partition; return whether it belongs to this run and is new to it."""
        if offset < self._next[partition]:
            return False
        end = self._end[partition]
        # A record past the end proves that nothing below it is still to come: the end may lie in a gap.
        self._move(partition, min(offset + 1, end))
        return offset < end

    def note_end(self, partition: Partition, offset: int) -> None:
        """Note that the broker has no record from ``offset`` on.

        The offset may be past this run's end, and is where the next run starts: below it there are only gaps.
        """
        self._next[partition] = max(self._next[partition], offset)
        if not self._endless:
            self._open.discard(partition)

    def skip_to(self, partition: Partition, offset: int) -> int:
        """Go on at ``offset`` after retention deleted what precedes it; return how many offsets are lost."""
        lost = max(0, min(offset, self._end[partition]) - self._next[partition])
        self._move(partition, max(self._next[partition], min(offset, self._end[partition])))
        return lost

    def _move(self, partition: Partition, offset: int) -> None:
        self._next[partition] = offset
        if offset >= self._end[partition]:
            self._open.discard(partition)
