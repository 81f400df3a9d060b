"""What is counted of the answers, and the aims."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from benchmarks.forecast.contenders import CONTENDERS, OURS, SOON_DAYS
from benchmarks.forecast.series import FIRST_DAY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.forecast.series import Series

AHEAD_DAYS = 3.0
# An alarm so long before is false.
FAR_DAYS = 42.0
ERROR_AT_DAYS = 30.0
AIM_ERROR_PERCENT = 15.0


def judge(contender: str, many: Sequence[Series]) -> dict[str, float]:
    """Return a contender's figures over series of one kind; a figure that does not apply is left out."""
    outcomes = [_judge_one(contender, series) for series in many]
    figures: dict[str, float] = {"series": float(len(many))}
    names = {name: None for outcome in outcomes for name in outcome}
    for name in names:
        values = [outcome[name] for outcome in outcomes if name in outcome]
        figures[name] = (
            statistics.median(values) if name.startswith("error") else 100 * statistics.fmean(values)
        )
    return figures


def _judge_one(contender: str, series: Series) -> dict[str, float]:
    """Return whether it cried wolf or announced in time, as 0 or 1, and the error in percent.

    An alarm is false where nothing fills, and where the disk is full only after six weeks or more.
    """
    full = series.full_day
    outcome: dict[str, float] = {}
    quiet_until = float(series.days[-1]) if full is None else full - FAR_DAYS
    if quiet_until > FIRST_DAY:
        outcome["false_alarm_percent"] = float(_alarms(contender, series, FIRST_DAY, quiet_until))
    if full is None:
        return outcome
    outcome["announced_percent"] = float(_alarms(contender, series, full - SOON_DAYS, full - AHEAD_DAYS))
    at = full - ERROR_AT_DAYS
    if at >= FIRST_DAY and series.kind != "onset of growth":  # which stands still, or has just begun, then
        days = CONTENDERS[contender][0](series, at).days
        outcome["dated_percent"] = float(days is not None)
        if days is not None:
            outcome["error_percent_at_30_days"] = abs(days - ERROR_AT_DAYS) / ERROR_AT_DAYS * 100
    return outcome


def _alarms(contender: str, series: Series, since: float, until: float) -> bool:
    """Return whether it alarms at one of the moments that it looks, after ``since`` and up to ``until``."""
    ask, per_day = CONTENDERS[contender]
    moments = range(int(since * per_day) + 1, int(until * per_day) + 1)
    return any(ask(series, moment / per_day).alarm for moment in moments)


def summarize(figures: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Return each contender's means over the kinds, and the median of its errors."""
    total: dict[str, dict[str, float]] = {}
    for contender in CONTENDERS:
        works = [work[contender] for work in figures.values() if contender in work]
        names = {name: None for work in works for name in work}
        total[contender] = {name: _pool(name, [w[name] for w in works if name in w]) for name in names}
    return total


def list_verdicts(total: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return a line for each aim: what it is, what was measured."""
    ours = total[OURS]
    aims = (
        ("false alarms", "false_alarm_percent", 0.0, False),
        (f"announced {AHEAD_DAYS:g} days ahead", "announced_percent", 100.0, True),
        ("median error at 30 days", "error_percent_at_30_days", AIM_ERROR_PERCENT, False),
    )
    return [
        f"{name}: {ours[figure]:.1f} % (aim: {'≥' if more else '≤'} {aim:g} %)"
        f"{'' if (ours[figure] >= aim if more else ours[figure] <= aim) else ', MISSED'}"
        for name, figure, aim, more in aims
    ]


def _pool(name: str, values: Iterable[float]) -> float:
    if name == "series":
        return sum(values)
    return statistics.median(values) if name.startswith("error") else statistics.fmean(values)
