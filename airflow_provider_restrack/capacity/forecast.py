"""When a series meets its limit: verdict, early, likely and late time, and what it would have said before."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np

from airflow_provider_restrack.capacity.policy import ForecastPolicy, MetricPolicy
from airflow_provider_restrack.capacity.trend import WEEK, Trend, fit_trend
from airflow_provider_restrack.clock import format_utc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

Verdict = Literal["filling", "flat", "shrinking", "already over", "insufficient data"]
# The newest day may be missing while its rollup is still to be made; an older one is no present.
MAX_AGE_DAYS = 3
# A day with less than this share of the usual samples does not show its maximum. Usual is what the days
# beside it have, so many on either side: samples may be taken more seldom, or more often, from some day on.
MIN_DAY_SHARE = 0.25
_DAYS_BESIDE = 3
BACKTEST_DAYS = (7, 14)


class SeriesKey(NamedTuple):
    """Whose values a series holds; ``device`` is the key of a map metric, such as a mount, else None."""

    host: str
    metric: str
    device: str | None = None


class DailyRow(NamedTuple):
    """The aggregate of one UTC day of a series, in the metric's unit; ``samples`` is its count."""

    day: date
    samples: int
    min: float
    max: float
    sum: float
    last: float
    p95: float


class DailyReader(Protocol):
    """Reads daily rollups."""

    def read_daily(
        self, hosts: Sequence[str] | None, metrics: Sequence[str], since: date, until: date
    ) -> Iterator[tuple[SeriesKey, list[DailyRow]]]:
        """Yield every series of the hosts (None: all that are known), host by host.

        Its rows are the days from ``since`` to ``until``, both included, oldest first.
        """
        ...


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is known of one series. Times to the limit are days after ``as_of``, None where there is no date.

    :ivar current: the newest day's value.
    :ivar slope: units a day, with the bounds of its interval; None without enough data.
    :ivar n: days with data in the fit; ``span_days`` what they lie in; ``since`` the first of them.
    :ivar season: whether a weekly pattern was taken out.
    :ivar backtest_7d: what was forecast for today 7 days ago, minus what came; ``backtest_14d`` likewise.
    """

    host: str
    metric: str
    device: str | None
    as_of: datetime
    limit: float
    verdict: Verdict
    current: float | None = None
    slope: float | None = None
    slope_low: float | None = None
    slope_high: float | None = None
    days_early: float | None = None
    days_likely: float | None = None
    days_late: float | None = None
    n: int = 0
    span_days: int = 0
    coverage: float = 0.0
    since: date | None = None
    season: bool = False
    backtest_7d: float | None = None
    backtest_14d: float | None = None

    def full_at(self, days: float | None) -> str | None:
        """Return a time to the limit as a date, ISO 8601; None if there is none."""
        return None if days is None else (self.as_of + timedelta(days=days)).date().isoformat()

    def to_data(self) -> dict[str, Any]:
        """Return it for JSON and XCom, with the dates of the limit."""
        data = asdict(self)
        data["as_of"] = format_utc(self.as_of)
        data["since"] = self.since.isoformat() if self.since else None
        for name in ("early", "likely", "late"):
            data[f"full_{name}"] = self.full_at(data[f"days_{name}"])
        return data


def forecast_series(
    key: SeriesKey,
    rows: Iterable[DailyRow],
    as_of: datetime,
    metric: MetricPolicy,
    policy: ForecastPolicy | None = None,
) -> Forecast:
    """Forecast one series from its complete days before ``as_of``, and test that on its own past.

    :raises ValueError: if ``as_of`` is naive.
    """
    policy = policy or ForecastPolicy()
    if as_of.tzinfo is None:
        raise ValueError(f"as_of {as_of.isoformat()} has no time zone: give an aware time")
    moment = as_of.astimezone(UTC)
    today = moment.date().toordinal()
    days, values = take_days(rows, today, metric, policy.history_days)
    whole_days = (moment - datetime(moment.year, moment.month, moment.day, tzinfo=UTC)) / timedelta(days=1)
    base = Forecast(*key, as_of=moment, limit=metric.limit, verdict="insufficient data")
    found, trend = _judge(base, days, values, today + whole_days, policy)
    if trend is None or found.current is None:
        return found
    errors = [_backtest(base, days, values, found.current, back, policy) for back in BACKTEST_DAYS]
    return replace(found, backtest_7d=errors[0], backtest_14d=errors[1])


def rank(forecasts: Iterable[Forecast]) -> list[Forecast]:
    """Return what needs care, the most urgent first: what is over, then what fills, by its likely time."""
    urgent = [one for one in forecasts if one.verdict == "already over" or one.days_likely is not None]
    return sorted(urgent, key=lambda one: (one.days_likely or 0.0, one.host, one.metric, one.device or ""))


def describe(forecast: Forecast) -> str:
    """Return one sentence: ``db-1 /var: filesystem_usage 81.2, 100 in 12 days (9 to 17), +1.55 a day``."""
    where = f"{forecast.host} {forecast.device}" if forecast.device else forecast.host
    now = "unknown" if forecast.current is None else f"{forecast.current:.1f}"
    said = f"{where}: {forecast.metric} {now}, {forecast.verdict}"
    if forecast.days_likely is None or forecast.slope is None:
        return said
    early = "" if forecast.days_early is None else f"{forecast.days_early:.0f}"
    late = "later" if forecast.days_late is None else f"{forecast.days_late:.0f}"
    return (
        f"{said}: {forecast.limit:g} in {forecast.days_likely:.0f} days ({early} to {late}),"
        f" {forecast.slope:+.2f} a day"
    )


def take_days(
    rows: Iterable[DailyRow], today: int, metric: MetricPolicy, history_days: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return day numbers and values of a series: the complete days with enough samples, oldest first.

    :param today: day number (``date.toordinal``) of the day that is not over yet.
    """
    by_day = {
        row.day.toordinal(): row
        for row in rows
        if row.samples > 0 and today - history_days <= row.day.toordinal() < today
    }
    present = sorted(by_day.items())
    usual = find_usual([row.samples for _, row in present])
    kept = [
        (day, row)
        for (day, row), samples in zip(present, usual, strict=True)
        if row.samples >= MIN_DAY_SHARE * samples
    ]
    values = [_value(row, metric.aggregate) for _, row in kept]
    return np.array([day for day, _ in kept], dtype=np.float64), np.array(values, dtype=np.float64)


def find_usual(samples: Sequence[int]) -> list[float]:
    """Return of each day how many samples are usual then: the median of it and the days beside it."""
    return [median(samples[max(0, at - _DAYS_BESIDE) : at + _DAYS_BESIDE + 1]) for at in range(len(samples))]


def _value(row: DailyRow, aggregate: str) -> float:
    return row.sum / row.samples if aggregate == "avg" else float(getattr(row, aggregate))


def _judge(
    base: Forecast,
    days: NDArray[np.float64],
    values: NDArray[np.float64],
    now: float,
    policy: ForecastPolicy,
) -> tuple[Forecast, Trend | None]:
    """Return the forecast of a series as it is at ``now`` (a day number), and the trend it rests on."""
    if not len(days):
        return base, None
    stale = int(now) - days[-1] > MAX_AGE_DAYS
    known = replace(base, current=float(values[-1]), **_extent(days))
    if not stale and values[-1] >= base.limit:
        known = replace(known, verdict="already over")
    trend = None
    if not stale and len(days) >= policy.min_days:
        trend = fit_trend(days, values, scale=base.limit, confidence=policy.confidence)
    if trend is None:
        return known, None
    extent = _extent(days[trend.start :])
    if extent["n"] < policy.min_days or extent["coverage"] < policy.min_coverage:
        return replace(known, **extent), None
    known = replace(
        known,
        slope=trend.slope,
        slope_low=trend.low,
        slope_high=trend.high,
        season=trend.season is not None,
        **extent,
    )
    if known.verdict == "already over":
        return known, trend
    known = replace(known, verdict=_verdict(trend))
    # A day's maximum may have come at any moment of it: the trend's time is the middle of the day.
    return (_add_times(known, trend, now - float(days[-1]) - 0.5, policy) if trend.low > 0 else known), trend


def _extent(days: NDArray[np.float64]) -> dict[str, Any]:
    span = int(days[-1] - days[0]) + 1
    return {
        "n": len(days),
        "span_days": span,
        "coverage": len(days) / span,
        "since": date.fromordinal(int(days[0])),
    }


def _verdict(trend: Trend) -> Verdict:
    if trend.low > 0:
        return "filling"
    return "shrinking" if trend.high < 0 else "flat"


def _add_times(forecast: Forecast, trend: Trend, passed: float, policy: ForecastPolicy) -> Forecast:
    """Add when the limit is met, counted from now, ``passed`` days after the trend's last point."""
    room = max(forecast.limit - trend.level, 0.0)

    def days_to(slope: float) -> float | None:
        days = max(room / slope - passed, 0.0)
        return days if days <= policy.horizon_days else None

    return replace(
        forecast,
        days_early=days_to(trend.high),
        days_likely=days_to(trend.slope),
        days_late=days_to(trend.low),
    )


def _backtest(  # noqa: PLR0917 - private, and the order is the series' own
    base: Forecast,
    days: NDArray[np.float64],
    values: NDArray[np.float64],
    current: float,
    back: int,
    policy: ForecastPolicy,
) -> float | None:
    """Return what was forecast ``back`` days ago for the newest day, minus what came; None if nothing was."""
    newest = float(days[-1])
    before = days <= newest - back
    _, trend = _judge(base, days[before], values[before], newest - back + 1, policy)
    if trend is None:
        return None
    ahead = newest - float(days[before][-1])
    effect = trend.season[int(newest) % WEEK] if trend.season else 0.0
    slope = trend.slope if trend.low > 0 or trend.high < 0 else 0.0
    return trend.line + slope * ahead + effect - current
