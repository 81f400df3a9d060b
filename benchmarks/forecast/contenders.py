"""Who is asked: our forecast, and the rules that monitoring systems ship, each from its published formula.

All see the same samples. A contender says at a moment how many days are left (None: no date), and whether
it would alarm by its own rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from airflow_provider_restrack.capacity.forecast import SeriesKey, forecast_series
from airflow_provider_restrack.capacity.policy import DEFAULT_METRICS
from benchmarks.forecast.series import LIMIT, ORIGIN, Series

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

OURS = "restrack"
# What "soon" means to us; the others have their own.
SOON_DAYS = 14.0
_KEY = SeriesKey("h", "filesystem_usage", "/")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a contender says at a moment."""

    days: float | None
    alarm: bool


def ask_restrack(series: Series, day: float) -> Answer:
    """Forecast from the daily rollups of the days before."""
    as_of = datetime(ORIGIN.year, ORIGIN.month, ORIGIN.day, tzinfo=UTC) + timedelta(days=day)
    found = forecast_series(_KEY, series.daily, as_of, DEFAULT_METRICS[_KEY.metric])
    days = 0.0 if found.verdict == "already over" else found.days_likely
    return Answer(days, days is not None and days <= SOON_DAYS)


def predict_linear(days: Numbers, values: Numbers, at: float) -> tuple[float, float]:
    """Return slope (a day) and value at ``at``, as Prometheus' ``predict_linear`` finds them: least squares.

    promql/functions.go, linearRegression with the time of evaluation as intercept time.
    """
    x = days - at
    mean_x, mean_y = x.mean(), values.mean()
    square = float(((x - mean_x) ** 2).sum())
    slope = float(((x - mean_x) * (values - mean_y)).sum()) / square if square else 0.0
    return slope, float(mean_y - slope * mean_x)


def ask_node_mixin(series: Series, day: float) -> Answer:
    """Ask NodeFilesystemSpaceFillingUp, the warning: less than 40 % free, and predict_linear(avail[6h],
    24h) < 0.

    prometheus/node_exporter, docs/node-mixin; the ``for: 1h`` is left out, in its favour for early warnings.
    """
    x, used = _window(series, day, 6 / 24)
    if len(x) < 2:
        return Answer(None, alarm=False)
    slope, free = predict_linear(x, LIMIT - used, day)
    alarm = LIMIT - used[-1] < 40 and free + slope < 0
    return Answer(-free / slope if slope < 0 and free > 0 else None, bool(alarm))


def timeleft(series: Series, day: float, window: float) -> float | None:
    """Return Zabbix' ``timeleft(item, window, 100, "linear")`` in days: x = a + b·t by least squares.

    None where it returns the largest number or −1: the line meets the threshold in no future.
    """
    x, used = _window(series, day, window)
    if len(x) < 2:
        return None
    slope, now = predict_linear(x, used, day)
    left = (LIMIT - now) / slope if slope else -1.0
    return left if left >= 0 else None


def ask_zabbix(series: Series, day: float) -> Answer:
    """Ask the warning of Zabbix' Linux templates: used above 80 %, and timeleft(pused, 1h, 100) < 1d."""
    left = timeleft(series, day, 1 / 24)
    _, used = _window(series, day, 1 / 24)
    return Answer(left, left is not None and left < 1 and used[-1] > 80)


def ask_timeleft_of_30_days(series: Series, day: float) -> Answer:
    """Ask timeleft over 30 days with our own idea of soon: the same history to both."""
    left = timeleft(series, day, 30)
    return Answer(left, left is not None and left <= SOON_DAYS)


def ask_netdata(series: Series, day: float) -> Answer:
    """Ask out_of_disk_space_time: the free space now by the rate since the lowest of 60 to 50 minutes ago;
    < 8 h.

    netdata/netdata, src/health/health.d/disks.conf: ``lookup: min -10m at -50m of avail``; the rate is the
    difference over ``$now - $after``, an hour.
    """
    x, used = _window(series, day, 1 / 24)
    then = used[x <= day - 50 / 1440 + 1e-6]
    if not len(then) or x[-1] < day - 20 / 1440:
        return Answer(None, alarm=False)
    free = LIMIT - used[-1]
    rate = float(LIMIT - then.max() - free)
    hours = free / rate if rate > 0 else None
    return Answer(None if hours is None else hours / 24, hours is not None and 0 < hours < 8)


def _window(series: Series, day: float, length: float) -> tuple[Numbers, Numbers]:
    """Return the samples from ``length`` before ``day`` to ``day``, both included."""
    first, last = np.searchsorted(series.days, [day - length - 1e-9, day + 1e-9])
    x, y = series.days[first:last], series.values[first:last]
    kept = ~np.isnan(y)
    return x[kept], y[kept]


# Each with how often a day it looks: the others decide by the minute, and are asked every hour.
CONTENDERS: dict[str, tuple[Callable[[Series, float], Answer], int]] = {
    OURS: (ask_restrack, 1),
    "node-mixin": (ask_node_mixin, 24),
    "zabbix template": (ask_zabbix, 24),
    "timeleft 30d": (ask_timeleft_of_30_days, 24),
    "netdata": (ask_netdata, 24),
}
