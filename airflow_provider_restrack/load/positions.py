"""Decides where a run over a partition starts and ends, from offsets alone: it needs no client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_restrack.load.offsets import Partition


@dataclass(frozen=True, slots=True)
class Span:
    """The part of a partition that one run reads: offsets from ``start`` up to, not including, ``end``.

    :ivar lost: offsets after the group's own that retention deleted before they were read.
    :ivar moved: whether the group has no offset yet or another than ``start``; it is then committed even if
        there is nothing to read, so that a loss is reported once, and the first one is noticed at all.
    """

    partition: Partition
    start: int
    end: int
    lost: int = 0
    moved: bool = False


def plan_span(partition: Partition, committed: int | None, low: int, high: int) -> Span:
    """Decide where a partition's run starts and ends.

    Without a committed offset it starts at the oldest record. A commit below the oldest record means that
    retention was faster than the loader: what lies between is lost and counted. A commit above the end means
    that the topic was made anew: it is read from its start, as skipping what is there could lose it.
    """
    if committed is None or committed > high:
        return Span(partition, low, high, moved=True)
    if committed < low:
        return Span(partition, low, high, lost=low - committed, moved=True)
    return Span(partition, committed, high)


class Positions:
    """How far each partition has been read: the one place that decides that a run has reached its end.

    It is decided by offsets and by the broker's own word that a partition has no more, never by an empty
    read: a slow broker and an empty topic look the same from there.
    """

    def __init__(self, spans: Iterable[Span]) -> None:
        self._next = {span.partition: span.start for span in spans}
        self._end = {span.partition: span.end for span in spans}
        self._open = {partition for partition, end in self._end.items() if self._next[partition] < end}

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
        """Note a record of an open partition; return whether it belongs to this run."""
        end = self._end[partition]
        # A record past the end proves that nothing below it is still to come: the end may lie in a gap.
        self._move(partition, min(offset + 1, end))
        return offset < end

    def note_end(self, partition: Partition, offset: int) -> None:
        """Note that the broker has no record from ``offset`` on.

        The offset may be past this run's end, and is where the next run starts: below it there are only gaps.
        """
        self._next[partition] = max(self._next[partition], offset)
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
