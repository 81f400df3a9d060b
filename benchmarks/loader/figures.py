"""What the runs amount to: medians, and the aims that they are held against."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.loader.clients import Usage

    Figures = Mapping[str, Mapping[str, Mapping[str, float]]]

OURS = "restrack"
# What the table's ratios are to: the way of Go that suits the work.
BASELINES = {"seed": "go-batch", "full": "go-batch", "live": "go-conc"}
Bound = Literal["at least", "at most"]


@dataclass(frozen=True, slots=True)
class Aim:
    """Our figure, as a multiple of a peer's.

    :ivar must: the multiple below which it is not good enough; None if there is none.
    """

    work: str
    figure: str
    peer: str
    bound: Bound
    times: float
    must: float | None = None

    def ratio(self, figures: Figures) -> float | None:
        """Return our figure as a multiple of the peer's; None if one of them was not measured."""
        measured = figures.get(self.work, {})
        if OURS not in measured or self.peer not in measured:
            return None
        return measured[OURS][self.figure] / measured[self.peer][self.figure]

    def meets(self, ratio: float, wanted: float) -> bool:
        """Tell whether a ratio is on the right side of a bound."""
        return ratio >= wanted if self.bound == "at least" else ratio <= wanted

    def fails(self, figures: Figures) -> bool:
        """Tell whether it was measured and misses what it must."""
        ratio = self.ratio(figures)
        return ratio is not None and self.must is not None and not self.meets(ratio, self.must)

    def verdict(self, figures: Figures) -> str:
        """Say in one line what was wanted and what came."""
        ratio = self.ratio(figures)
        must = "" if self.must is None else f", must {self.must:g} ×"
        wanted = f"{self.work}: {self.figure} {self.bound} {self.times:g} × {self.peer}{must}"
        if ratio is None:
            return f"{wanted}: not measured"
        met = "met" if self.meets(ratio, self.times) else "not met"
        missed = " (and not what it must be)" if self.fails(figures) else ""
        return f"{wanted}: {ratio:.2f} ×, {met}{missed}"


AIMS = (
    Aim("seed", "rows_per_second", "go-batch", "at least", 1.0, must=0.8),
    Aim("seed", "rows_per_second", "provider", "at least", 25.0),
    Aim("full", "rows_per_second", "go-batch", "at least", 1.2, must=1.0),
    Aim("full", "cpu_us_per_row", "go-batch", "at most", 0.5),
    Aim("live", "rows_per_second", "go-conc", "at least", 1.0),
    Aim("live", "rows_per_second", "execute-concurrent", "at least", 4.0),
)


def summarize_runs(runs: Sequence[Usage]) -> dict[str, float]:
    """Return the medians of a contender's runs, its highest memory, and how far its rates are apart."""
    rates = [run.rows / run.seconds for run in runs]
    median = statistics.median(rates)
    return {
        "rows_per_second": median,
        "cpu_us_per_row": statistics.median(run.cpu_seconds / run.rows * 1e6 for run in runs),
        "peak_mb": max(run.peak_mb for run in runs),
        "rows": runs[0].rows,
        "runs": len(runs),
        "spread_percent": (max(rates) - min(rates)) / median * 100,
    }
