"""Offsets to commit, under any order of work, answers and commits."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from airflow_provider_restrack.load.offsets import OffsetTracker, Partition

PARTITIONS = [Partition("t", 0), Partition("t", 1), Partition("u", 0)]


class Tracking(RuleBasedStateMachine):
    """Chunks of several partitions with gaps between their offsets; each has its own pieces of work."""

    def __init__(self) -> None:
        super().__init__()
        self.tracker = OffsetTracker()
        self.ends = dict.fromkeys(PARTITIONS, 0)
        self.chunks: list[tuple[Any, dict[Partition, int], dict[Partition, int]]] = []
        self.work: list[int] = []
        self.committed: dict[Partition, int] = {}

    @rule(sizes=st.dictionaries(st.sampled_from(PARTITIONS), st.integers(1, 9), min_size=1))
    def open(self, sizes: dict[Partition, int]) -> None:
        starts = {partition: self.ends[partition] for partition in sizes}
        ends = {partition: self.ends[partition] + size for partition, size in sizes.items()}
        self.ends |= ends
        self.chunks.append((self.tracker.open(ends), starts, ends))
        self.work.append(1)

    def _unsettled(self) -> list[int]:
        return [index for index, left in enumerate(self.work) if left]

    @precondition(lambda self: self._unsettled())
    @rule(data=st.data(), count=st.integers(1, 4))
    def hold(self, data: st.DataObject, count: int) -> None:
        index = data.draw(st.sampled_from(self._unsettled()))
        self.chunks[index][0].hold(count)
        self.work[index] += count

    @precondition(lambda self: self._unsettled())
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        index = data.draw(st.sampled_from(self._unsettled()))
        self.chunks[index][0].settle()
        self.work[index] -= 1

    @rule(confirmed=st.booleans())
    def commit(self, confirmed: bool) -> None:
        """A commit that Kafka does not confirm is offered again."""
        offsets = self.tracker.committable()
        if confirmed:
            self.tracker.note_committed(offsets)
            self.committed |= offsets

    @rule()
    def settle_all(self) -> None:
        for index, (ticket, _, _) in enumerate(self.chunks):
            while self.work[index]:
                ticket.settle()
                self.work[index] -= 1
        offered = self.committed | self.tracker.committable()
        assert offered == {partition: end for partition, end in self.ends.items() if end}
        assert self.tracker.unsettled == 0

    @invariant()
    def no_offset_passes_unsettled_work_or_goes_back(self) -> None:
        offered = self.tracker.committable()
        assert all(offset > self.committed.get(partition, -1) for partition, offset in offered.items())
        for index in self._unsettled():
            _, starts, _ = self.chunks[index]
            for partition, start in starts.items():
                assert offered.get(partition, 0) <= start
        assert self.tracker.committed == self.committed


Tracking.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestTracking = Tracking.TestCase
