"""The time to a limit as a series, so that rules on forecasts are evaluated as those on samples are.

A forecast is made once a day or week, and the limit comes nearer in between: the series has a value every
hour from the forecast on, counted down from it. It is made of the forecast alone, so that whoever evaluates
it, and when, finds the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_restrack.alert.evaluate import Series, build_series, to_ms
from airflow_provider_restrack.store.forecasts import MAX_AGE

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_provider_restrack.alert.rules import AlertRule

# What stands for "no date": forecasts give none beyond two years.
HORIZON_DAYS = 730.0
STEP_MS = 3_600_000
_MAX_AGE_MS = MAX_AGE // timedelta(milliseconds=1)
_DAY_MS = 86_400_000


class DaysToLimit(NamedTuple):
    """The newest forecast of a series: ``days`` after ``at_ms`` (ms since 1970) it is likely at its limit.

    ``math.inf`` where it is not on its way there; a series with too little data has no forecast.
    """

    host: str
    device: str | None
    at_ms: int
    days: float


# By metric and host.
Forecasts = Mapping[tuple[str, str], Sequence[DaysToLimit]]


def build_series_of(
    rule: AlertRule, host: str, rows: Iterable[Mapping[str, Any]], forecasts: Forecasts, until: datetime
) -> list[Series]:
    """Return the series of a rule on a host, from wherever its values come."""
    if rule.forecast_of is None:
        return build_series(rule, host, rows, until)
    return build_days_series(forecasts.get((rule.forecast_of, host), ()), until)


def build_days_series(points: Iterable[DaysToLimit], until: datetime) -> list[Series]:
    """Turn forecasts into series, one for each.

    Values are days, 0 at the limit and ``HORIZON_DAYS`` where there is no date. A forecast after ``until``
    is left out, and none counts for longer than ``MAX_AGE``.
    """
    end = to_ms(until)
    return [_count_down(point, end) for point in sorted(points, key=_order) if point.at_ms <= end]


def _count_down(point: DaysToLimit, end: int) -> Series:
    times = tuple(range(point.at_ms, min(end, point.at_ms + _MAX_AGE_MS) + 1, STEP_MS))
    values = tuple(min(HORIZON_DAYS, max(0.0, point.days - (time - point.at_ms) / _DAY_MS)) for time in times)
    return Series(point.host, point.device, times, values, STEP_MS)


def _order(point: DaysToLimit) -> tuple[str, str]:
    return point.host, point.device or ""
