"""Tracks which offsets may be committed: only the prefix of each partition whose records are all settled.

A record is settled when each of its rows is acknowledged by Cassandra, or its dead letter by Kafka. A commit
past an unsettled record would lose it when the task dies; a commit short of a settled one only repeats an
idempotent write.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


class Partition(NamedTuple):
    """One partition of a topic."""

    topic: str
    number: int


class Ticket:
    """The unsettled work of one chunk of records; ``hold`` before handing a piece of work out, ``settle``
    after.

    A new ticket holds itself once, so that it cannot look finished while its work is still being handed out.
    """

    __slots__ = ("_ends", "_open")

    def __init__(self, ends: Mapping[Partition, int]) -> None:
        self._ends = dict(ends)
        self._open = 1

    @property
    def ends(self) -> Mapping[Partition, int]:
        """The next offset after the chunk, of each partition that it touches."""
        return self._ends

    @property
    def finished(self) -> bool:
        """Whether all of its work is settled."""
        return self._open == 0

    def drop(self, partitions: Collection[Partition]) -> None:
        """Take partitions out of what the ticket stands for; their work is still held and settled."""
        for partition in partitions:
            self._ends.pop(partition, None)

    def hold(self, count: int = 1) -> None:
        """Note ``count`` more pieces of work.

        :raises RuntimeError: if the ticket is finished already: its offsets may be committed by now.
        """
        if self.finished:
            raise RuntimeError("work was added to a finished chunk")
        self._open += count

    def settle(self) -> None:
        """Note that one piece of work is stored or delivered.

        :raises RuntimeError: if more is settled than was held.
        """
        if self.finished:
            raise RuntimeError("a chunk was settled more often than it was held")
        self._open -= 1


class OffsetTracker:
    """Keeps the tickets of the chunks in the order in which they were read, and gives the offsets to commit.

    It is not thread-safe: acknowledgements cross threads in a queue, and the loop alone touches tickets.
    """

    def __init__(self) -> None:
        self._tickets: deque[Ticket] = deque()
        self._settled: dict[Partition, int] = {}
        self._committed: dict[Partition, int] = {}

    def open(self, ends: Mapping[Partition, int]) -> Ticket:
        """Return the ticket of the next chunk.

        :param ends: the next offset after the chunk, per partition. Gaps that compaction, transaction markers
            or retention leave lie below it, so that no commit waits for an offset that cannot come.
        """
        ticket = Ticket(ends)
        self._tickets.append(ticket)
        return ticket

    def drop(self, partitions: Collection[Partition]) -> None:
        """Forget partitions that are another's now: what is still unsettled of them is never committed."""
        for ticket in self._tickets:
            ticket.drop(partitions)
        for partition in partitions:
            self._settled.pop(partition, None)
            self._committed.pop(partition, None)

    @property
    def unsettled(self) -> int:
        """How many chunks wait for an acknowledgement."""
        self._advance()
        return len(self._tickets)

    def committable(self) -> dict[Partition, int]:
        """Return the offsets to commit that are not yet committed: the next offset to read, per partition."""
        self._advance()
        return {
            partition: offset
            for partition, offset in self._settled.items()
            if self._committed.get(partition) != offset
        }

    def note_committed(self, offsets: Mapping[Partition, int]) -> None:
        """Note offsets that Kafka has confirmed."""
        self._committed.update(offsets)

    @property
    def committed(self) -> Mapping[Partition, int]:
        """The offsets that Kafka has confirmed during this run."""
        return self._committed

    def _advance(self) -> None:
        while self._tickets and self._tickets[0].finished:
            self._settled.update(self._tickets.popleft().ends)


def ends_of(records: Sequence[Any]) -> dict[Partition, int]:
    """Return the offset after the last of each partition's records, which come in their order."""
    return {Partition(record.topic(), record.partition()): record.offset() + 1 for record in records}
