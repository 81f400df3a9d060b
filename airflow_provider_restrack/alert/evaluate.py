"""Decide from stored samples whether a rule is breached for long enough; pure, so that history decides alone.

A run is broken by a sample that does not breach, never by one that is absent: lost samples delay no alert
as long as enough of the time is covered. Too little data is neither a breach nor its end.
"""

from __future__ import annotations

import math
import operator
from bisect import bisect_right
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import accumulate, pairwise
from statistics import median_low
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_restrack.alert.aggregates import aggregate
from airflow_provider_restrack.alert.durations import format_duration
from airflow_provider_restrack.store.series import SampleColumns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from airflow_provider_restrack.alert.rules import AlertRule

State = Literal["breach", "pending", "ok", "stale", "no_data"]

# Samples reach the store in batches: with a gap limit of a few 10 s intervals, every sample would be too
# old before it is loaded. Three times the usual collection interval of 5 minutes.
MIN_DEFAULT_GAP_S = 900.0
# Two lost samples in a row are still covered by the one before them.
REACH_SPACINGS = 3
# Samples come some seconds early or late: a run of three that are 5 minutes apart lasts 9:58 as often as
# 10:02, and would with ``for: 10m`` be told one interval late, or never. More than this is no jitter.
JITTER_SHARE = 0.1
# With fewer gaps than this the third longest says little of what is usual.
MIN_GAPS_FOR_RANK = 5

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}


@dataclass(frozen=True, slots=True)
class Series:
    """The values of one rule's metric on one host (and device): times in ms since 1970, ascending, each once.

    ``spacing_ms`` is the usual gap between the host's rows, None if there are too few; rows without the
    value count there, because they too say how often the host is looked at.
    """

    host: str
    device: str | None
    times: tuple[int, ...]
    values: tuple[float, ...]
    spacing_ms: int | None


@dataclass(frozen=True, slots=True)
class Gaps:
    """How far a sample vouches for the time after it (``reach_ms``), and the gap that breaks a run."""

    reach_ms: float
    max_gap_ms: float


@dataclass(frozen=True, slots=True)
class Breach:
    """A run of breaching samples that is long and dense enough; ``open_start`` if the rows begin in it."""

    rule: AlertRule
    host: str
    device: str | None
    times: tuple[int, ...]
    values: tuple[float, ...]
    coverage: float
    open_start: bool

    @property
    def since(self) -> datetime:
        """Time of the first breaching sample of the run."""
        return from_ms(self.times[0])

    @property
    def at(self) -> datetime:
        """Time of the newest sample, which breaches too."""
        return from_ms(self.times[-1])

    @property
    def duration_seconds(self) -> float:
        """Time from the first to the last sample of the run."""
        return (self.times[-1] - self.times[0]) / 1000


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the samples say of one instance of a rule, and why in words.

    ``closeness`` orders verdicts of a rule by how near they are to a breach. ``open_start``: the run may
    have begun before the samples that were read.
    """

    rule: AlertRule
    host: str
    device: str | None
    state: State
    reason: str
    closeness: float = 0.0
    breach: Breach | None = None
    open_start: bool = False


def evaluate(rule: AlertRule, series: Series, now: datetime) -> Breach | None:
    """Return the breach that holds at ``now``, or None.

    It holds if the newest sample breaches, is at most ``max_gap`` old, and its unbroken run lasts
    ``for``, with ``min_samples`` and with ``min_coverage`` of ``for`` covered. The run may fall short of
    ``for`` by a tenth of the samples' spacing (and of ``for``), as jitter makes it. Samples after ``now``
    are not looked at.
    """
    return assess(rule, series, now).breach


def assess(rule: AlertRule, series: Series, now: datetime) -> Verdict:
    """As :func:`evaluate`, and say why there is no breach; the highest severity that holds counts.

    The rule of the breach is the one of that severity.
    """
    for level in reversed(rule.levels):
        one = replace(rule, severity=level.severity, threshold=level.threshold, thresholds=())
        verdict = _assess_level(one, series, now)
        if verdict.breach:
            break
    return replace(verdict, rule=rule)


def _assess_level(rule: AlertRule, series: Series, now: datetime) -> Verdict:
    gaps = plan_gaps(rule, series.spacing_ms)
    end = bisect_right(series.times, to_ms(now))
    points = iterate_points(rule, series, end, gaps)
    newest = next(points, None)
    if newest is None:
        return _verdict(rule, series, "no_data", _explain_no_data(rule, end))
    age_ms = to_ms(now) - newest[0]
    if age_ms > gaps.max_gap_ms:
        limit = format_duration(gaps.max_gap_ms / 1000)
        reason = (
            f"newest sample is {format_duration(age_ms / 1000)} old, over the {limit} that count as fresh"
        )
        return _verdict(rule, series, "stale", reason)
    if not _breaches(rule, newest[1]):
        closeness = -abs(newest[1] - float(rule.threshold))
        return _verdict(rule, series, "ok", f"newest value {newest[1]:.6g} does not breach", closeness)
    return _judge_run(rule, series, newest, points, gaps)


def build_series(
    rule: AlertRule, host: str, rows: Iterable[Mapping[str, Any]], now: datetime
) -> list[Series]:
    """Turn a host's rows into the series of a rule: one, or for a map field one for each of its keys.

    The order of rows does not matter. A null, NaN or infinite value is an absent sample. Rows after
    ``now`` are left out. Of two values with one timestamp the larger counts, so that the order in which
    they come does not. Rows that are columns are not made into dicts.
    """
    end = to_ms(now)
    if isinstance(rows, SampleColumns):
        return _take_columns(rule, host, rows.up_to(end))
    times: set[int] = set()
    value_of = rule.value_of
    found: dict[str | None, dict[int, float]] = {} if rule.has_devices else {None: {}}
    for row in rows:
        time = to_ms(row["timestamp"])
        if time > end:
            continue
        times.add(time)
        value = value_of(row)
        for device, number in value.items() if isinstance(value, dict) else ((None, value),):
            if number is not None and math.isfinite(number):
                points = found.setdefault(device, {})
                points[time] = max(float(number), points.get(time, -math.inf))
    spacing = find_spacing(sorted(times))
    return [
        Series(host, device, tuple(sorted(points)), tuple(points[t] for t in sorted(points)), spacing)
        for device, points in sorted(found.items(), key=lambda item: item[0] or "")
    ]


def _take_columns(rule: AlertRule, host: str, samples: SampleColumns) -> list[Series]:
    spacing = _find_spacing_once(samples.times)
    if rule.columns == (rule.metric,):
        points = samples.find_points(rule.metric)
    else:
        points = samples.compute_points(rule.columns, rule.value_of, has_devices=rule.has_devices)
    return [Series(host, device, times, values, spacing) for device, times, values in points]


def find_spacing(times: Sequence[int]) -> int | None:
    """Return the usual gap between ascending times, None with fewer than two of them.

    That is the third longest gap: two outages do not pass as usual, while the pause between bursts of
    samples does. With few gaps it is their lower median.
    """
    gaps = sorted(later - earlier for earlier, later in pairwise(times))
    if not gaps:
        return None
    return gaps[-3] if len(gaps) >= MIN_GAPS_FOR_RANK else median_low(gaps)


# All rules of a host ask it of the same times.
_find_spacing_once = lru_cache(maxsize=64)(find_spacing)


def plan_gaps(rule: AlertRule, spacing_ms: int | None) -> Gaps:
    """Return how a rule treats missing samples.

    With ``max_gap`` a sample vouches for as long as that. Without, it vouches for three usual gaps, and a
    run is broken by a gap over the longest of: three usual gaps, 15 minutes, and what ``min_coverage``
    leaves uncovered of ``for`` (or of the window).
    """
    if rule.max_gap_seconds is not None:
        limit = rule.max_gap_seconds * 1000
        return Gaps(limit, limit)
    reach = REACH_SPACINGS * (spacing_ms or 0)
    spare = round((1 - rule.min_coverage) * max(rule.for_seconds, rule.window_seconds) * 1000)
    return Gaps(reach, max(reach, MIN_DEFAULT_GAP_S * 1000, spare))


def to_ms(moment: datetime | str) -> int:
    """Return a time in whole milliseconds since 1970; texts are ISO 8601, naive times are UTC."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def from_ms(time: int) -> datetime:
    """Return the time of milliseconds since 1970."""
    return _EPOCH + timedelta(milliseconds=time)


def _verdict(rule: AlertRule, series: Series, state: State, reason: str, closeness: float = 0.0) -> Verdict:
    return Verdict(rule, series.host, series.device, state, reason, closeness)


def _explain_no_data(rule: AlertRule, samples: int) -> str:
    if not samples:
        return f"no sample has a value of {rule.metric}"
    window = format_duration(rule.window_seconds)
    return f"the {samples} samples cover under {rule.min_coverage:.0%} of {window} for {rule.aggregate}"


def _breaches(rule: AlertRule, value: float) -> bool:
    return COMPARE[rule.op](value, float(rule.threshold))


def _judge_run(
    rule: AlertRule, series: Series, newest: tuple[int, float], older: Iterator[tuple[int, float]], gaps: Gaps
) -> Verdict:
    """Follow the run back to its start and say whether it is long and dense enough."""
    run, open_start = [newest], True
    for time, value in older:
        if run[-1][0] - time > gaps.max_gap_ms or not _breaches(rule, value):
            open_start = False
            break
        run.append((time, value))
    run.reverse()
    times, values = tuple(time for time, _ in run), tuple(value for _, value in run)
    duration_ms, hold_ms = times[-1] - times[0], rule.for_seconds * 1000
    due_ms = hold_ms - JITTER_SHARE * min(hold_ms, series.spacing_ms or 0)
    span_ms = min(hold_ms, max(duration_ms, due_ms))
    covered_ms = sum(min(b - a, gaps.reach_ms) for a, b in pairwise(times))
    coverage = min(1.0, covered_ms / span_ms) if span_ms else 1.0
    samples = _count_samples(rule, series, times)
    shortfalls = _find_shortfalls(rule, duration_ms, due_ms, coverage, samples)
    if shortfalls:
        progress = duration_ms / hold_ms if hold_ms else 0.0
        reason = f"breaches ({values[-1]:.6g}), but {' and '.join(shortfalls)}"
        closeness = min(progress, coverage)
        return Verdict(rule, series.host, series.device, "pending", reason, closeness, None, open_start)
    breach = Breach(rule, series.host, series.device, times, values, round(coverage, 4), open_start)
    return Verdict(rule, series.host, series.device, "breach", "", 1.0, breach, open_start)


def _find_shortfalls(
    rule: AlertRule, duration_ms: int, due_ms: float, coverage: float, samples: int
) -> list[str]:
    hold = format_duration(rule.for_seconds)
    shortfalls = []
    if duration_ms < due_ms:
        shortfalls.append(f"for {format_duration(duration_ms / 1000)} of {hold}")
    elif coverage < rule.min_coverage:
        shortfalls.append(f"samples cover {coverage:.0%} of {hold}, under {rule.min_coverage:.0%}")
    if samples < rule.min_samples:
        shortfalls.append(f"samples are {samples} of {rule.min_samples}")
    return shortfalls


def _count_samples(rule: AlertRule, series: Series, run: Sequence[int]) -> int:
    """Return how many samples the decision rests on: the run's, or those that its newest window holds."""
    if rule.aggregate is None:
        return len(run)
    start = run[-1] - rule.window_seconds * 1000
    return bisect_right(series.times, run[-1]) - bisect_right(series.times, start)


def iterate_points(
    rule: AlertRule,
    series: Series,
    end: int,
    gaps: Gaps,
    gaps_at: Callable[[int], Gaps] | None = None,
) -> Iterator[tuple[int, float]]:
    """Yield time and compared value, newest first: samples, or aggregates of windows covered enough.

    :param gaps_at: gives the gaps of each time; None: ``gaps`` are those of all.
    """
    if rule.aggregate is None:
        for index in range(end - 1, -1, -1):
            yield series.times[index], series.values[index]
        return
    times = series.times[:end]
    at = [gaps_at(time) for time in times] if gaps_at else [gaps] * end
    steps = (min(b - a, one.reach_ms) for (a, b), one in zip(pairwise(times), at[1:], strict=True))
    covered = tuple(accumulate(steps, initial=0.0))
    for index in range(end - 1, -1, -1):
        first = _find_window(rule, series, index, at[index], covered)
        if first is None:
            continue
        value = aggregate(rule, times[first : index + 1], series.values[first : index + 1])
        if value is not None:
            yield times[index], value


def _find_window(
    rule: AlertRule, series: Series, index: int, gaps: Gaps, covered: Sequence[float]
) -> int | None:
    """Return where the window that ends with a sample begins, None if too little of it is covered.

    The window is open at its start, as in Prometheus. ``count`` is there to see missing samples: its
    window only has to lie within the samples.

    :param covered: for each sample, how much of the time from the first one to it is covered.
    """
    times = series.times
    start = times[index] - rule.window_seconds * 1000
    first = bisect_right(times, start)
    if rule.aggregate == "count":
        return first if start >= times[0] else None
    inside = covered[index] - covered[first]
    if first:
        inside += max(0.0, min(times[first], times[first - 1] + gaps.reach_ms) - start)
    return first if inside >= rule.min_coverage * rule.window_seconds * 1000 else None
