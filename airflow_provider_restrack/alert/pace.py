"""How often a host is looked at, told at each of its samples from the samples before it alone.

The spacing of all samples that happen to be read would let a decision depend on how far back one reads, and
so on the schedule of evaluations.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

from airflow_provider_restrack.alert.evaluate import MIN_GAPS_FOR_RANK, plan_gaps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_restrack.alert.evaluate import Gaps
    from airflow_provider_restrack.alert.rules import AlertRule

# Enough for the pauses between bursts of ten samples to count as usual; five minutes of a host that is
# looked at every 10 s.
PACE_GAPS = 30


class Pace:
    """The times of all rows of a host: in ms since 1970, ascending, each once."""

    def __init__(self, rows: Sequence[int]) -> None:
        self.rows = rows
        self._gaps: dict[tuple[float | None, ...], Gaps] = {}

    def spacing_at(self, time: int) -> int:
        """Return the usual gap up to the row at a time (or the one before it); 0 if it is the first."""
        if not self.rows:
            return 0
        found = self._spacing_by_time.get(time)
        return self._spacings[max(bisect_left(self.rows, time) - 1, 0)] if found is None else found

    def gaps_at(self, rule: AlertRule, time: int) -> Gaps:
        """Return how a rule treats missing samples around a time."""
        spacing = self.spacing_at(time)
        key = rule.max_gap_seconds, rule.min_coverage, rule.for_seconds, rule.window_seconds, spacing
        gaps = self._gaps.get(key)
        if gaps is None:
            gaps = self._gaps[key] = plan_gaps(rule, spacing)
        return gaps

    def knows(self, time: int) -> bool:
        """Whether so many rows lie before a time that older ones would change nothing from it on."""
        return bisect_left(self.rows, time) > PACE_GAPS

    @cached_property
    def _spacing_by_time(self) -> dict[int, int]:
        return dict(zip(self.rows, self._spacings, strict=True))

    @cached_property
    def _spacings(self) -> list[int]:
        """For each row: the third longest of the gaps before it; of a few their lower median."""
        gaps = [later - earlier for earlier, later in pairwise(self.rows)]
        window: list[int] = []
        found = [0]
        for index, gap in enumerate(gaps):
            insort(window, gap)
            if index >= PACE_GAPS:
                del window[bisect_left(window, gaps[index - PACE_GAPS])]
            found.append(window[-3] if len(window) >= MIN_GAPS_FOR_RANK else window[(len(window) - 1) // 2])
        return found
