"""Labelled series of a filesystem's use: what fills, when it is full, and what only looks like it.

All are made of a seed and known formulas. A series is the use in percent every ten minutes; the truth is
that of the series without its noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np

from airflow_provider_restrack.capacity.forecast import DailyRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Maker = Callable[[np.random.Generator, Numbers], tuple[Numbers, Numbers]]

PER_DAY = 144
DAYS = 150
# Before this day no contender is asked: six weeks of history are there.
FIRST_DAY = 42
LIMIT = 100.0
ORIGIN = date(2026, 1, 5)


@dataclass(frozen=True, slots=True)
class Series:
    """One series: the day of each sample, its value (NaN where it is missing), and the day that it is
    full.
    """

    kind: str
    days: Numbers
    values: Numbers
    full_day: float | None
    daily: tuple[DailyRow, ...]


def make_series(kind: str, seed: int) -> Series:
    """Return the series of a kind and a seed, which ends when it is full."""
    rng = np.random.default_rng([seed, _NUMBERS[kind]])
    days = np.arange(DAYS * PER_DAY) / PER_DAY
    clean, noise = KINDS[kind](rng, days)
    over = np.flatnonzero(clean >= LIMIT)
    end = int(over[0]) if over.size else len(days)
    values = np.clip(clean + noise, 0.0, LIMIT - 0.01)[:end]
    full = float(days[end]) if over.size else None
    return Series(kind, days[:end], values, full, tuple(_roll_up(values)))


def _roll_up(values: Numbers) -> Iterator[DailyRow]:
    """Yield the aggregates of the complete days that have samples."""
    for day in range(len(values) // PER_DAY):
        found = values[day * PER_DAY : (day + 1) * PER_DAY]
        found = found[~np.isnan(found)]
        if len(found):
            low, high, last = float(found.min()), float(found.max()), float(found[-1])
            p95 = float(np.quantile(found, 0.95))
            when = ORIGIN + timedelta(days=day)
            yield DailyRow(when, len(found), low, high, float(found.sum()), last, p95)


def _noise(rng: np.random.Generator, days: Numbers, sigma: float) -> Numbers:
    return rng.normal(0.0, sigma, len(days))


def _wander(rng: np.random.Generator, days: Numbers, sigma: float, decay: float = 0.8) -> Numbers:
    """Return daily deviations that follow each other (AR(1)), ``sigma`` their standard deviation."""
    count = int(days[-1]) + 2
    steps = rng.normal(0.0, sigma * np.sqrt(1 - decay**2), count)
    level = np.zeros(count)
    level[0] = rng.normal(0.0, sigma)
    for day in range(1, count):
        level[day] = decay * level[day - 1] + steps[day]
    return np.asarray(np.interp(days, np.arange(count), level), np.float64)


def _grow(rng: np.random.Generator, days: Numbers, rate: tuple[float, float]) -> Numbers:
    """Return a line that is full between day 80 and day 140 where its rate allows."""
    slope = rng.uniform(*rate)
    full = rng.uniform(80, 140)
    return np.asarray(LIMIT - slope * (full - days))


def _spikes(rng: np.random.Generator, days: Numbers, height: tuple[float, float]) -> Numbers:
    """Return nightly peaks, such as a dump that is made, copied away and deleted: an hour and a half up."""
    start, length = rng.uniform(0.02, 0.2), 0.06
    inside = (days % 1 - start) / length
    top = rng.uniform(*height) * (1 + 0.1 * rng.normal(size=int(days[-1]) + 1))[days.astype(int)]
    return np.where((inside >= 0) & (inside < 1), top * inside, 0.0)


def _saw(rng: np.random.Generator, days: Numbers, height: tuple[float, float]) -> Numbers:
    period, top = rng.uniform(3, 14), rng.uniform(*height)
    return np.asarray(top * ((days + rng.uniform(0, period)) % period) / period)


def _week(rng: np.random.Generator, days: Numbers, height: tuple[float, float]) -> Numbers:
    quiet = np.isin(days.astype(int) % 7, (5, 6))
    week = np.where(quiet, -rng.uniform(*height), 0.0)
    return np.asarray(week + rng.uniform(1, 3) * np.sin(2 * np.pi * days), np.float64)


def _kind_stable(rng: np.random.Generator, days: Numbers) -> tuple[Numbers, Numbers]:
    return np.full(len(days), rng.uniform(20, 92)), _noise(rng, days, 0.2)


def _kind_spikes(rng: np.random.Generator, days: Numbers) -> tuple[Numbers, Numbers]:
    return rng.uniform(30, 65) + _spikes(rng, days, (10, 30)), _noise(rng, days, 0.2)


def _kind_saw(rng: np.random.Generator, days: Numbers) -> tuple[Numbers, Numbers]:
    return rng.uniform(25, 50) + _saw(rng, days, (15, 45)), _noise(rng, days, 0.2)


def _kind_step(rng: np.random.Generator, days: Numbers) -> tuple[Numbers, Numbers]:
    step = rng.uniform(10, 35) * (days >= rng.uniform(45, 130))
    return np.asarray(rng.uniform(25, 60) + step, np.float64), _noise(rng, days, 0.2)


def _kind_deletion(rng: np.random.Generator, days: Numbers) -> tuple[Numbers, Numbers]:
    """Return a disk that grows, is cleaned up, and then stands still."""
    at = rng.uniform(50, 120)
    slope = rng.uniform(0.2, 40 / at)
    grown = np.asarray(rng.uniform(30, 50) + slope * np.minimum(days, at), np.float64)
    return grown - rng.uniform(15, 30) * (days >= at), _noise(rng, days, 0.2)


def _kind_seasonal(rng: np.random.Generator, days: Numbers) -> tuple[Numbers, Numbers]:
    return np.asarray(rng.uniform(45, 85) + _week(rng, days, (4, 20)), np.float64), _noise(rng, days, 0.3)


def _kind_noise(rng: np.random.Generator, days: Numbers) -> tuple[Numbers, Numbers]:
    level, sigma = rng.uniform(40, 80), rng.uniform(1, 3)
    return np.full(len(days), level), _wander(rng, days, sigma) + _noise(rng, days, 0.5)


def _kind_shrinking(rng: np.random.Generator, days: Numbers) -> tuple[Numbers, Numbers]:
    return rng.uniform(75, 92) - rng.uniform(0.05, 0.4) * days, _noise(rng, days, 0.3)


def _kind_slow(rng: np.random.Generator, days: Numbers) -> tuple[Numbers, Numbers]:
    return _grow(rng, days, (0.15, 0.4)), _noise(rng, days, 0.2) + _wander(rng, days, 0.3)


def _kind_medium(rng: np.random.Generator, days: Numbers) -> tuple[Numbers, Numbers]:
    return _grow(rng, days, (0.4, 0.7)), _noise(rng, days, 0.2) + _wander(rng, days, 0.5)


def _kind_growing_week(rng: np.random.Generator, days: Numbers) -> tuple[Numbers, Numbers]:
    return _grow(rng, days, (0.2, 0.6)) + _week(rng, days, (3, 10)), _noise(rng, days, 0.3)


def _kind_growing_spikes(rng: np.random.Generator, days: Numbers) -> tuple[Numbers, Numbers]:
    return _grow(rng, days, (0.2, 0.5)) + _spikes(rng, days, (5, 15)), _noise(rng, days, 0.2)


def _kind_growing_saw(rng: np.random.Generator, days: Numbers) -> tuple[Numbers, Numbers]:
    return _grow(rng, days, (0.2, 0.4)) + _saw(rng, days, (5, 12)), _noise(rng, days, 0.2)


def _kind_onset(rng: np.random.Generator, days: Numbers) -> tuple[Numbers, Numbers]:
    """Return a disk that stands still and then fills within two to six weeks."""
    at, level, within = rng.uniform(50, 90), rng.uniform(35, 70), rng.uniform(14, 45)
    return level + (LIMIT - level) / within * np.maximum(days - at, 0), _noise(rng, days, 0.2)


def _kind_after_step(rng: np.random.Generator, days: Numbers) -> tuple[Numbers, Numbers]:
    before = rng.uniform(10, 25) * (days < rng.uniform(45, 60))
    return _grow(rng, days, (0.3, 0.6)) - before, _noise(rng, days, 0.2)


def _kind_after_deletion(rng: np.random.Generator, days: Numbers) -> tuple[Numbers, Numbers]:
    """Return a disk that grows on after a clean-up, before which it was not near its end either."""
    slope, full, at = rng.uniform(0.35, 0.6), rng.uniform(100, 140), rng.uniform(45, 60)
    cut = rng.uniform(0.2, 0.5) * slope * (full - at)
    return LIMIT - slope * (full - days) + cut * (days < at), _noise(rng, days, 0.2)


def _kind_extended(rng: np.random.Generator, days: Numbers) -> tuple[Numbers, Numbers]:
    """Return a disk that is extended twice, three to four weeks before it would be full, and then no more."""
    slope, full, lasts = rng.uniform(0.5, 0.9), rng.uniform(110, 140), rng.uniform(15, 30)
    second = full - rng.uniform(21, 28) - lasts
    first = second - lasts * rng.uniform(0.95, 1.05)
    before = slope * lasts * ((days < first).astype(int) + (days < second))
    return LIMIT - slope * (full - days) + before, _noise(rng, days, 0.2)


def _kind_gaps(rng: np.random.Generator, days: Numbers) -> tuple[Numbers, Numbers]:
    """Return a disk that fills while a tenth of the days and single hours have no samples."""
    noise = _noise(rng, days, 0.2)
    lost = rng.random(DAYS) < 0.1
    noise[lost[days.astype(int)] | (rng.random(DAYS * 24) < 0.05)[(days * 24).astype(int)]] = np.nan
    return _grow(rng, days, (0.25, 0.6)), noise


KINDS: dict[str, Maker] = {
    "stable": _kind_stable,
    "nightly spikes": _kind_spikes,
    "sawtooth": _kind_saw,
    "step": _kind_step,
    "deletion": _kind_deletion,
    "seasonal": _kind_seasonal,
    "noise": _kind_noise,
    "shrinking": _kind_shrinking,
    "slow growth": _kind_slow,
    "growth": _kind_medium,
    "seasonal growth": _kind_growing_week,
    "growth with spikes": _kind_growing_spikes,
    "growing sawtooth": _kind_growing_saw,
    "onset of growth": _kind_onset,
    "growth after a step": _kind_after_step,
    "growth after a deletion": _kind_after_deletion,
    "growth with gaps": _kind_gaps,
    "extended twice": _kind_extended,
}
# Each kind draws from a chance of its own. One that comes later takes the next number: the others stay.
_LATER = ("extended twice",)
_NUMBERS = {kind: n for n, kind in enumerate([*sorted(KINDS.keys() - set(_LATER)), *_LATER])}
