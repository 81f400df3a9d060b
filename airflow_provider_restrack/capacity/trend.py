"""The robust trend of a daily series: where its present regime began, its week, its slope and how sure
that is.

The slope is Theil–Sen's: the median of the slopes of all pairs of points (P. K. Sen, "Estimates of the
regression coefficient based on Kendall's tau", JASA 63, 1968), which a third of wild points does not move.
Its interval is Sen's, by ranks, widened for what daily data do to it: today is like yesterday, so that n
days tell less than n independent ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

WEEK = 7
_MIN_POINTS = 7
# Of the median absolute deviation, to be a normal distribution's standard deviation.
_MAD_SCALE = 1.4826
# A change from one day to the next is a level shift if it is so many deviations of the usual change, and at
# least so large a part of the range that the limit leaves.
_SHIFT_DEVIATIONS = 6.0
_SHIFT_FLOOR = 0.02
# Days beside a shift whose medians tell whether it lasts.
_SHIFT_SIDE = 4
# Two shifts in one direction whose sizes differ by less than this factor are one thing that recurs.
_SAME_SIZE = 2.0
# F of a bend in the line. Days that follow each other make bends by chance, so it is far above a table's
# value; what growth begins with is far above that.
_KINK_F = 40.0
_MAX_KINKS = 4
_MIN_BEFORE = 3
# A shift stands out of the changes beside it by this factor; where they are alike, a slope has begun.
_STANDS_OUT = 3.0
# F of the weekday means: about the 1 % point at 3 weeks of data; below it a week's pattern is chance.
_SEASON_F = 5.0
_MAX_CORRELATION = 0.97
_OUTLIER_DEVIATIONS = 4.0
_RECURRING_PEAK = 0.95
# Days whose median says where a series stands now.
_NEWEST = 3


@dataclass(frozen=True, slots=True)
class Trend:
    """A fitted trend. Slopes are in units a day; ``low`` and ``high`` bound the slope.

    :ivar level: what the series stands at on its last day, its week's highest day and recurring peaks
        included.
    :ivar start: index of the first point of the fit: a level shift or a change of slope lies before it.
    :ivar line: the trend's own value on the last day, that a forecast of a value starts from.
    :ivar correlation: of one day's deviation with the next one's.
    """

    slope: float
    low: float
    high: float
    level: float
    line: float
    start: int
    season: tuple[float, ...] | None
    correlation: float


def fit_trend(days: Numbers, values: Numbers, *, scale: float, confidence: float) -> Trend | None:
    """Fit the present regime of a series; None if too few points of it are there yet.

    :param days: day numbers, ascending, each once; gaps are allowed.
    :param scale: the limit's size: what counts as a small change in this unit.
    :param confidence: of the slope's interval, two-sided, such as 0.99.
    """
    start, recurring = find_regime(days, values, floor=_SHIFT_FLOOR * scale)
    if len(days) - start < _MIN_POINTS:
        return None
    season = find_season(days[start:], values[start:])
    plain = values if season is None else values - season[days.astype(int) % WEEK]
    if season is not None and recurring:
        # A quiet weekend is gone with the week; a sawtooth of about a week only seems to be one.
        if find_shifts(days[start:], plain[start:], floor=_SHIFT_FLOOR * scale):
            season, plain = None, values
        else:
            recurring = False
    if not recurring:
        start += _find_kink(days[start:], plain[start:])
    x, y = days[start:], plain[start:]
    slope, low, high, correlation = _fit_slope(x, y, confidence, 0 if season is None else WEEK - 1)
    line = float(np.median(y - slope * x)) + slope * float(x[-1])
    level = _peak_level(x, y, slope) if recurring else float(np.median((y + slope * (x[-1] - x))[-WEEK:]))
    top = 0.0 if season is None else float(season.max())
    weekdays = None if season is None else tuple(float(effect) for effect in season)
    return Trend(slope, low, high, level + top, line, start, weekdays, correlation)


def find_regime(days: Numbers, values: Numbers, *, floor: float) -> tuple[int, bool]:
    """Return the index after the last level shift that stands alone, and whether others recur since then.

    A resize or a clean-up happens once: what was before it says nothing of what comes. Shifts that recur, as
    of logs that are rotated, stairs or a quiet weekend, belong to the series, and a fit must see several
    of them. A disk that was extended twice falls twice, too; it is told from a sawtooth when it outgrows what
    it fell from.
    """
    shifts = find_shifts(days, values, floor=floor)
    alone = [index for index, size in shifts if not _recurs(size, index, shifts)]
    start = alone[-1] if alone else 0
    recurring = [(index, size) for index, size in shifts if index > start]
    if recurring and all(size < 0 for _, size in recurring):
        falls = [index for index, _ in recurring]
        if outgrows(values[start:], [index - start for index in falls], floor=floor):
            return falls[-1], False
    return start, bool(recurring)


def outgrows(values: Numbers, falls: list[int], *, floor: float) -> bool:
    """Return whether the newest values lie above every peak that the series fell from: what recurs does not.

    They have to be above by ``floor``, and by what the peaks differ: those of a sawtooth that grows are
    each higher than the last. A fall half of which is made up within days is a weekend: that of a growing
    series is left for new heights every week.

    :param falls: index of the first point after each fall.
    """
    if len(values) - falls[-1] < _MIN_POINTS or any(_made_up(values, index) for index in falls):
        return False
    peaks = [float(tooth.max()) for tooth in np.split(values, falls)[:-1]]
    highest = max(peaks)
    newest = float(np.median(values[-_NEWEST:]))
    return newest > highest + max(floor, highest - min(peaks))


def find_shifts(days: Numbers, values: Numbers, *, floor: float) -> list[tuple[int, float]]:
    """Return each level shift: the index of the first point after it, and its size.

    A single wild day is none, and the last day alone cannot show that it lasts.
    """
    if len(values) < _MIN_POINTS:
        return []
    steps = np.diff(values)
    rates = steps / np.diff(days)
    usual = float(np.median(rates))
    changes = steps - usual * np.diff(days)
    bound = max(_SHIFT_DEVIATIONS * _deviation(changes), floor)
    found = [
        int(at) for at in np.flatnonzero(np.abs(changes) > bound) if _stands_out(np.abs(changes), int(at))
    ]
    level = values - usual * days
    shifts = [(at + 1, float(changes[at])) for at in found]
    return [(index, size) for index, size in _merge(shifts) if _lasts(level, index, size)]


def find_season(days: Numbers, values: Numbers) -> Numbers | None:
    """Return what each weekday (day number modulo 7) adds, the mean 0; None without two weeks or a clear
    pattern.
    """
    if len(days) < 2 * WEEK or days[-1] - days[0] + 1 < 2 * WEEK:
        return None
    slope = theil_sen(days, values)
    rest = values - slope * days
    rest -= float(np.median(rest))
    weekday = days.astype(int) % WEEK
    if len(np.unique(weekday)) < WEEK:
        return None
    effect = np.array([float(np.median(rest[weekday == day])) for day in range(WEEK)])
    effect -= effect.mean()
    left = _clip(rest - effect[weekday])
    left -= left.mean()
    explained = float((effect[weekday] ** 2).sum())
    freedom = len(days) - WEEK - 1
    clear = explained / (WEEK - 1) > _SEASON_F * float(left @ left) / freedom
    return effect if clear else None


def theil_sen(days: Numbers, values: Numbers) -> float:
    """Return the median of the slopes of all pairs."""
    return float(np.median(_pair_slopes(days, values)))


def sen_interval(slopes: Numbers, n: int, z: float) -> tuple[float, float]:
    """Return Sen's interval of the slope by ranks, for n independent points (Sen 1968; Gilbert 1987, 16.4).

    :param slopes: those of all pairs, sorted.
    """
    spread = z * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    count = len(slopes)
    low = max(0, math.floor((count - spread) / 2))
    high = min(count - 1, math.ceil((count + spread) / 2))
    return float(slopes[low]), float(slopes[high])


def slope_inflation(days: Numbers, correlation: float) -> float:
    """Return how much larger a slope's variance is than n independent points would show.

    For deviations that decay as ``correlation ** days apart`` (AR(1)): the slope's variance beside that of
    independent points, over what the residuals still show of the deviations' own variance, both exact for the
    straight line: t'Rt / t't over tr((I − H)R) / (n − 2).
    """
    t = days - days.mean()
    near: Numbers = correlation ** np.abs(days[:, None] - days[None, :])
    squares = float(t @ t)
    along = float(t @ near @ t) / squares
    shown = (len(days) - float(near.mean()) * len(days) - along) / (len(days) - 2)
    return along / max(shown, 0.05)


def _fit_slope(
    days: Numbers, values: Numbers, confidence: float, lost: int
) -> tuple[float, float, float, float]:
    """Return slope, both ends of its interval, and the correlation of days; ``lost``: the season's
    freedom.
    """
    n = len(days)
    slopes = np.sort(_pair_slopes(days, values))
    slope = float(np.median(slopes))
    correlation = _correlation(days, values - slope * days)
    inflation = slope_inflation(days, correlation)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    low, high = sen_interval(slopes, n, z)
    freedom = max(3.0, n / inflation - 2 - lost)
    wider = math.sqrt(max(1.0, inflation) * n / max(n - lost, 3)) * _student(z, freedom) / z
    return slope, slope - (slope - low) * wider, slope + (high - slope) * wider, correlation


def _correlation(days: Numbers, values: Numbers) -> float:
    """Return the lag-1 autocorrelation of what a line leaves, 0 if it is negative.

    What is left of a line shows too little of it: by (2 + 4ρ) / n (Kendall 1954, with a trend removed), which
    is added here.
    """
    rest = _clip(values - float(np.median(values)))
    rest -= rest.mean()
    next_day = np.diff(days) == 1
    squares, n = float(rest @ rest), len(rest)
    if squares <= 0 or next_day.sum() < 3:
        return 0.0
    shown = float((rest[:-1] * rest[1:])[next_day].mean()) / (squares / n)
    corrected = (shown + 2 / n) / max(1 - 4 / n, 0.25)
    return min(max(corrected, 0.0), _MAX_CORRELATION)


def _find_kink(days: Numbers, values: Numbers) -> int:
    """Return the index that the last change of slope lies at, 0 if one line holds for all.

    A line with a bend at each possible day is compared with the straight one; the best bend counts if its
    F is far beyond chance. What is left after it is asked again.
    """
    start = 0
    smooth = _running_median(values)
    for _ in range(_MAX_KINKS):
        bend = _best_bend(days[start:], smooth[start:])
        if bend is None:
            break
        start += bend
    return start


def _best_bend(days: Numbers, values: Numbers) -> int | None:
    n = len(days)
    at = np.arange(_MIN_BEFORE, n - _MIN_POINTS + 1)
    if not len(at):
        return None
    line, _ = np.linalg.qr(np.column_stack([np.ones(n), days - days.mean()]))
    rest = values - line @ (line.T @ values)
    bends = np.maximum(days[:, None] - days[at][None, :], 0.0)
    bends -= line @ (line.T @ bends)
    gains = (bends.T @ rest) ** 2 / (bends**2).sum(axis=0)
    best = int(np.argmax(gains))
    left = max(float(rest @ rest) - float(gains[best]), 0.0)
    return int(at[best]) if gains[best] * (n - 3) > _KINK_F * left and gains[best] > 0 else None


def _running_median(values: Numbers) -> Numbers:
    """Return medians of three, so that a single wild day bends nothing."""
    windows = np.lib.stride_tricks.sliding_window_view(values, 3)
    return np.concatenate([values[:1], np.median(windows, axis=1), values[-1:]])


def _peak_level(days: Numbers, values: Numbers, slope: float) -> float:
    """Return the height that what recurs reaches on the last day."""
    return float(np.quantile(values - slope * days, _RECURRING_PEAK)) + slope * float(days[-1])


def _recurs(size: float, index: int, shifts: list[tuple[int, float]]) -> bool:
    return any(
        index != other and size * beside > 0 and 1 / _SAME_SIZE < size / beside < _SAME_SIZE
        for other, beside in shifts
    )


def _made_up(values: Numbers, fall: int) -> bool:
    """Whether the days after a fall are back above half of it."""
    return bool(values[fall : fall + _SHIFT_SIDE].max() > (values[fall - 1] + values[fall]) / 2)


def _merge(shifts: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return shifts of days that follow each other, in one direction, as one: it fell within a day."""
    merged: list[tuple[int, float]] = []
    for index, size in shifts:
        if merged and index == merged[-1][0] + 1 and size * merged[-1][1] > 0:
            merged[-1] = (index, size + merged[-1][1])
        else:
            merged.append((index, size))
    return merged


def _stands_out(sizes: Numbers, at: int) -> bool:
    """Whether a change is far larger than those on either side: growth that begins is large every day."""
    sides = (sizes[max(0, at - 3) : at], sizes[at + 1 : at + 4])
    return all(sizes[at] > _STANDS_OUT * np.median(side) for side in sides if len(side))


def _lasts(level: Numbers, index: int, size: float) -> bool:
    after, before = level[index : index + _SHIFT_SIDE], level[max(0, index - _SHIFT_SIDE) : index]
    if len(after) < 2:
        return False
    return bool((np.median(after) - np.median(before)) / size > 0.5)


def _pair_slopes(days: Numbers, values: Numbers) -> Numbers:
    i, j = np.triu_indices(len(days), 1)
    slopes: Numbers = (values[j] - values[i]) / (days[j] - days[i])
    return slopes


def _deviation(values: Numbers) -> float:
    return _MAD_SCALE * float(np.median(np.abs(values - np.median(values))))


def _clip(rest: Numbers) -> Numbers:
    """Return deviations with wild ones cut: they are no part of how one day follows another."""
    bound = _OUTLIER_DEVIATIONS * _deviation(rest)
    return np.clip(rest, -bound, bound) if bound > 0 else rest


def _student(z: float, freedom: float) -> float:
    """Return Student's quantile for the normal one, by its expansion (Abramowitz & Stegun 26.7.5)."""
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
