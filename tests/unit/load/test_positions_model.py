"""A run over a partition as a broker could give it: gaps, deletions, ends and records that come meanwhile."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.load.offsets import Partition
from airflow_provider_restrack.load.positions import Positions, plan_span

P = Partition("t", 0)


@dataclass
class Log:
    """A partition: offsets that hold a record between ``low`` and ``high``; others are gaps."""

    records: set[int]
    low: int
    high: int
    deleted: set[int] = field(default_factory=set)

    def delete_below(self, offset: int) -> None:
        self.low = max(self.low, min(offset, self.high))
        self.deleted |= {one for one in self.records if one < self.low}
        self.records -= self.deleted


@st.composite
def logs(draw: st.DrawFn) -> Log:
    low, size = draw(st.integers(0, 20)), draw(st.integers(0, 30))
    offsets = draw(st.sets(st.integers(low, low + size - 1))) if size else set()
    return Log(offsets, low, low + size)


@given(log=logs(), committed=st.none() | st.integers(0, 60), seed=st.integers(0, 2**32))
def test_a_run_ends_and_takes_every_record_of_its_span_that_is_there(
    log: Log, committed: int | None, seed: int
) -> None:
    rng = random.Random(seed)
    span = plan_span(P, committed, log.low, log.high)
    assert log.low <= span.start <= span.end == log.high
    there = {one for one in log.records if one >= (committed or 0) or (committed or 0) > log.high}
    assert {one for one in log.records if span.start <= one < span.end} == there
    positions = Positions([span])
    taken: list[int] = []
    lost, fetch = 0, span.start

    for _ in range(500):
        if not positions.open:
            break
        action = rng.random()
        if action < 0.1:  # another producer's records come meanwhile
            log.high += rng.randrange(1, 4)
            log.records.add(log.high - 1)
        elif action < 0.15:
            log.delete_below(rng.randrange(log.low, log.high + 1))
        elif fetch < log.low:
            lost += positions.skip_to(P, log.low)
            fetch = max(fetch, positions.next_of(P))
        else:
            following = min((one for one in log.records if one >= fetch), default=None)
            if following is None:
                positions.note_end(P, log.high)
            else:
                fetch = following + 1
                if positions.accept(P, following):
                    taken.append(following)
                assert positions.next_of(P) == min(fetch, span.end)

    assert not positions.open
    assert positions.remaining == 0
    assert taken == sorted(set(taken))
    wanted = {one for one in log.records | log.deleted if span.start <= one < span.end}
    assert wanted - log.deleted <= set(taken) <= wanted
    assert lost >= len(wanted - set(taken))
    assert positions.next_of(P) >= span.end


@given(committed=st.none() | st.integers(0, 100), low=st.integers(0, 100), size=st.integers(0, 100))
def test_a_span_is_within_the_log_and_counts_what_is_lost(committed: int | None, low: int, size: int) -> None:
    high = low + size
    span = plan_span(P, committed, low, high)

    assert low <= span.start <= span.end == high
    assert span.lost == (max(0, low - committed) if committed is not None else 0)
    assert span.moved == (span.start != committed)
