"""The samples of a day of hosts, as columns, and what each contender makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from airflow_provider_restrack.capacity.rollup import roll_up
from airflow_provider_restrack.store.tiers import TIERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import polars
    from numpy.typing import NDArray

    Day = tuple[NDArray[np.int64], NDArray[np.float64]]
    # By tier's seconds: count, min, max, sum, last, p95 of series × buckets.
    Made = dict[int, NDArray[np.float64]]

INTERVAL_MS = 10_000
METRICS = 40
START_MS = 1_764_000_000_000 // 86_400_000 * 86_400_000
AGGREGATES = ("count", "min", "max", "sum", "last", "p95")


def make_days(hosts: int, *, absent: float) -> Iterator[Day]:
    """Yield each host's day, times and metrics × samples, with a share of absent values in a quarter."""
    chance = np.random.default_rng(11)
    count = 86_400_000 // INTERVAL_MS
    times = START_MS + np.arange(count) * INTERVAL_MS
    for _ in range(hosts):
        values = chance.gamma(2.0, 20.0, (METRICS, count))
        values[: METRICS // 4][chance.random((METRICS // 4, count)) < absent] = np.nan
        yield times, values


def by_restrack(times: NDArray[np.int64], values: NDArray[np.float64]) -> Made:
    """Reduce a host's day for every tier as the operator does."""
    made = {tier.seconds: roll_up(times, values, tier.seconds) for tier in TIERS}
    return {seconds: np.array([getattr(one, name) for name in AGGREGATES]) for seconds, one in made.items()}


def by_polars(times: NDArray[np.int64], values: NDArray[np.float64]) -> Made:
    """Group a host's day by bucket with polars, for every tier."""
    import polars

    names = [f"m{number}" for number in range(len(values))]
    frame = polars.DataFrame({"t": times, **dict(zip(names, values, strict=True))}, nan_to_null=True)
    return {tier.seconds: _group(frame, names, tier.seconds) for tier in TIERS}


def _group(frame: polars.DataFrame, names: list[str], seconds: int) -> NDArray[np.float64]:
    from polars import col

    wanted: list[Callable[[str], polars.Expr]] = [
        lambda name: col(name).count(),
        lambda name: col(name).min(),
        lambda name: col(name).max(),
        lambda name: col(name).sum(),
        lambda name: col(name).drop_nulls().last(),
        lambda name: col(name).quantile(0.95, "linear"),
    ]
    columns = [make(name).alias(f"{name}_{n}") for n, make in enumerate(wanted) for name in names]
    found = frame.group_by(col("t") // (seconds * 1000), maintain_order=True).agg(columns)
    numbers = found.drop("t").to_numpy().astype(np.float64)
    shaped: NDArray[np.float64] = numbers.T.reshape(len(wanted), len(names), -1)
    return shaped


CONTENDERS: dict[str, Callable[[NDArray[np.int64], NDArray[np.float64]], Made]] = {
    "restrack": by_restrack,
    "polars": by_polars,
}
