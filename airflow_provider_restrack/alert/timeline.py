"""The transitions that a history implies: a fold over samples, whenever and however often one looks.

Each severity of a rule is a machine of its own with two states. Inactive, it follows the run of breaching
samples and becomes active when the run lasts ``for`` with enough coverage. Active, it follows the run of
clear samples and becomes inactive when that lasts ``clear_for``. An absent sample is neither a breach nor
clear. The alert is firing at the highest severity that is active; those below it are active, too.

A run depends on the samples alone, and what is active on the last transition. So a fold that begins with a
recorded transition, the anchor, gives the same as one over all samples.
"""

from __future__ import annotations

import uuid
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from airflow_provider_restrack.alert.evaluate import COMPARE, iterate_points, to_ms
from airflow_provider_restrack.alert.pace import Pace
from airflow_provider_restrack.alert.runs import Change, Fold, LevelPlan, fold_level

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from airflow_provider_restrack.alert.evaluate import Series
    from airflow_provider_restrack.alert.no_data import Pause
    from airflow_provider_restrack.alert.records import AlertRecord
    from airflow_provider_restrack.alert.rules import AlertRule, Severity

Kind = Literal["fired", "escalated", "deescalated", "resolved"]
State = Literal["ok", "pending", "firing", "recovering"]

# Names the alerts of this provider among all UUIDv5; made once, at random.
_NAMESPACE = uuid.UUID("5b0f6a0e-6a70-4c62-9a3b-0f6c0e7d9d11")
# Aggregates that never leave the range of the values.
_WITHIN_RANGE = ("avg", "min", "max", "last")


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of an alert, decided by the sample at ``at_ms``.

    ``since_ms`` is the first breaching sample of the run that fired; with rule, host and device it makes the
    alert's identity. ``severity`` is the one after the change, or the last one of an alert that is resolved.
    ``peak`` is the most extreme value since then. Without a value, missing samples decided, and ``reason``
    says so.
    """

    kind: Kind
    at_ms: int
    since_ms: int
    severity: Severity
    value: float | None
    peak: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known of the samples that a fold is given.

    :ivar since_ms: from when on they were read; None: they are all that there are.
    :ivar decided_ms: up to when an evaluation has decided before; None: never.
    :ivar pace: of the host; None: that of the series' own samples.
    :ivar pauses: where missing samples break a run or end the alert (``no_data: ok``), ascending.
    :ivar is_whole: whether all that can be compared is wanted, also where nothing can breach.
    """

    since_ms: int | None = None
    decided_ms: int | None = None
    pace: Pace | None = None
    pauses: tuple[Pause, ...] = ()
    is_whole: bool = False


@dataclass(frozen=True, slots=True)
class Timeline:
    """What happened to one instance of a rule, and how it stands at the end.

    ``since_ms``: of the alert, or of the pending run. ``open_start``: a run that decides may have begun
    before the samples that were read: read further back before anything is recorded. ``peak``: of an open
    alert, and ``newest``: its newest time and compared value. ``points``: times of what was compared.
    """

    transitions: tuple[Transition, ...]
    state: State
    severity: Severity | None
    since_ms: int | None
    open_start: bool
    peak: float | None = None
    newest: tuple[int, float] | None = None
    points: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Points:
    """Times and compared values, oldest first: samples, or aggregates of windows that are covered enough."""

    times: Sequence[int]
    values: Sequence[float]


_NO_POINTS = Points((), ())


def build_alert_id(rule: str, host: str, device: str | None, since_ms: int) -> uuid.UUID:
    """Return the identity of an alert: the same history gives the same id, whoever evaluates it."""
    return uuid.uuid5(_NAMESPACE, "\x00".join((rule, host, device or "", str(since_ms))))


def replay(
    rule: AlertRule,
    series: Series,
    until: datetime,
    anchor: AlertRecord | None = None,
    reading: Reading | None = None,
) -> Timeline:
    """Return the transitions of one instance up to a time that come after those that are recorded.

    :param anchor: the instance's last transition; None: there was none. Nothing up to it is decided again.
    """
    known = reading or Reading()
    pace = known.pace or Pace(series.times)
    is_whole = known.is_whole or (anchor is not None and anchor.open)
    points = read_points(rule, series, until, pace, known.since_ms, is_whole=is_whole)
    points = _drop_before_cut(points, anchor)
    folds = [
        fold_level(_plan_level(rule, index, anchor, known, pace), points.times, points.values)
        for index in range(len(rule.levels))
    ]
    changes = sorted((change for fold in folds for change in fold.changes), key=_order_change)
    transitions = tuple(_combine(rule, changes, anchor, points))
    timeline = _conclude(rule, folds, transitions, anchor, points)
    return replace(timeline, open_start=True) if _misses_windows(rule, series, known) else timeline


def read_points(
    rule: AlertRule,
    series: Series,
    until: datetime,
    pace: Pace,
    since_ms: int | None = None,
    *,
    is_whole: bool = False,
) -> Points:
    """Return what a rule compares up to a time.

    Windows that begin before the samples that were read have no value. Nor have any, if no value breaches
    and not all are wanted: most hosts are well, and a maximum tells that faster than all windows.
    """
    end = bisect_right(series.times, to_ms(until))
    if rule.aggregate is None:
        return Points(series.times[:end], series.values[:end])
    if not end or (not is_whole and _is_well(rule, series.values[:end])):
        return _NO_POINTS
    gaps = pace.gaps_at(rule, series.times[0])
    found = list(iterate_points(rule, series, end, gaps, lambda time: pace.gaps_at(rule, time)))
    found.reverse()
    window = round(rule.window_seconds * 1000)
    if since_ms is not None:
        found = found[bisect_left(found, since_ms + window, key=lambda point: point[0]) :]
    if rule.min_samples > 1 and rule.aggregate != "count":
        found = [point for point in found if _holds(series.times, point[0], window) >= rule.min_samples]
    return Points([time for time, _ in found], [value for _, value in found])


def _holds(times: Sequence[int], end: int, window_ms: int) -> int:
    """Return how many samples the window up to one holds."""
    return bisect_right(times, end) - bisect_right(times, end - window_ms)


def find_peak(rule: AlertRule, values: Sequence[float]) -> float | None:
    """Return the most extreme value in the direction of the rule's comparison; None if there is none."""
    if not values:
        return None
    if rule.op in {">", ">="}:
        return max(values)
    if rule.op in {"<", "<="}:
        return min(values)
    return max(values, key=lambda value: abs(value - float(rule.threshold)))


def is_cut(anchor: AlertRecord | None) -> bool:
    """Whether an alert ended without evidence: what came before it then counts no more."""
    return anchor is not None and not anchor.open and bool(anchor.reason)


def _misses_windows(rule: AlertRule, series: Series, reading: Reading) -> bool:
    """Whether windows count nothing because no sample before them was read, where older ones may lie."""
    if rule.aggregate != "count" or reading.since_ms is None or not series.times:
        return False
    first = series.times[0]
    last = first + rule.window_seconds * 1000
    return first > reading.since_ms and (reading.decided_ms is None or last > reading.decided_ms)


def _is_well(rule: AlertRule, values: Sequence[float]) -> bool:
    """Whether no aggregate of the values can breach."""
    name = str(rule.aggregate)
    if rule.op not in {">", ">=", "<", "<="} or (name not in _WITHIN_RANGE and not name.startswith("p")):
        return False
    worst = max(values) if rule.op in {">", ">="} else min(values)
    return not COMPARE[rule.op](worst, float(rule.levels[0].threshold))


def _drop_before_cut(points: Points, anchor: AlertRecord | None) -> Points:
    if anchor is None or not is_cut(anchor):
        return points
    first = bisect_right(points.times, anchor.at_ms)
    return Points(points.times[first:], points.values[first:])


def _plan_level(
    rule: AlertRule, index: int, anchor: AlertRecord | None, reading: Reading, pace: Pace
) -> LevelPlan:
    floor = -1 if anchor is None else anchor.at_ms
    start_known = reading.since_ms is not None and is_cut(anchor) and reading.since_ms <= floor
    return LevelPlan(
        rule=rule,
        index=index,
        active=index <= _reached(rule, anchor),
        after_ms=floor,
        decided_ms=max(floor, -1 if reading.decided_ms is None else reading.decided_ms),
        start_known=start_known,
        can_read_more=reading.since_ms is not None,
        pace=pace,
        pauses=reading.pauses,
    )


def _reached(rule: AlertRule, anchor: AlertRecord | None) -> int:
    """Return the highest level that is active after the anchor, -1 if none is."""
    if anchor is None or not anchor.open:
        return -1
    order = [one.severity for one in rule.levels]
    return order.index(anchor.severity) if anchor.severity in order else 0


def _order_change(change: Change) -> tuple[int, int]:
    """Order changes of one sample so that severities rise from below and fall from above."""
    return change.at_ms, change.level if change.active else -change.level


def _combine(
    rule: AlertRule, changes: Iterable[Change], anchor: AlertRecord | None, points: Points
) -> list[Transition]:
    """Turn the changes of levels into those of the alert, one a sample."""
    active = set(range(_reached(rule, anchor) + 1))
    since = anchor.since_ms if anchor else 0
    found: list[Transition] = []
    grouped: dict[int, list[Change]] = {}
    for change in changes:
        grouped.setdefault(change.at_ms, []).append(change)
    for time, group in grouped.items():
        before = max(active, default=-1)
        for change in group:
            (active.add if change.active else active.discard)(change.level)
        after = max(active, default=-1)
        if before < 0 <= after:
            since = min(change.since_ms for change in group if change.active)
        kind = _name_kind(before, after)
        if kind is not None:
            severity = rule.levels[after if after >= 0 else before].severity
            peak = _peak_between(rule, points, since, time, anchor)
            value, reason = group[-1].value, "" if group[-1].value is not None else "no_data"
            found.append(Transition(kind, time, since, severity, value, peak, reason))
    return found


def _name_kind(before: int, after: int) -> Kind | None:
    if before == after:
        return None
    if before < 0:
        return "fired"
    if after < 0:
        return "resolved"
    return "escalated" if after > before else "deescalated"


def _peak_between(
    rule: AlertRule, points: Points, since: int, until: int, anchor: AlertRecord | None
) -> float | None:
    """Return the peak of an alert up to a time, what was recorded of it before included."""
    first, end = bisect_left(points.times, since), bisect_right(points.times, until)
    values = list(points.values[first:end])
    if anchor is not None and anchor.since_ms == since and anchor.peak is not None:
        values.append(anchor.peak)
    return find_peak(rule, values)


def _conclude(
    rule: AlertRule,
    folds: Sequence[Fold],
    transitions: tuple[Transition, ...],
    anchor: AlertRecord | None,
    points: Points,
) -> Timeline:
    lowest, open_start = folds[0], any(fold.open_start for fold in folds)
    highest = max((n for n, fold in enumerate(folds) if fold.active), default=-1)
    if highest < 0:
        state: State = "ok" if lowest.run_ms is None else "pending"
        return Timeline(transitions, state, None, lowest.run_ms, open_start, points=points.times)
    since = transitions[-1].since_ms if transitions else (anchor.since_ms if anchor else 0)
    peak = _peak_between(rule, points, since, points.times[-1] if points.times else since, anchor)
    state = "firing" if lowest.run_ms is None else "recovering"
    newest = (points.times[-1], points.values[-1]) if points.times else None
    severity = rule.levels[highest].severity
    return Timeline(transitions, state, severity, since, open_start, peak, newest, points.times)
