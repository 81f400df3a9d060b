"""What a capacity report tells, as data: what fills, when CPUs work, who uses most, and who is silent.

Decisions only: what is read comes from ``gather``, what is drawn from ``plot``, the page from ``page``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from airflow_provider_restrack.store.schema import FIELD_BY_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date

    import pyarrow as pa
    from numpy.typing import NDArray

    from airflow_provider_restrack.capacity.forecast import Forecast
    from airflow_provider_restrack.capacity.rightsize import SizeAdvice

HOURS = 24
# A newest sample that is older says that the host sends none, not that one came late.
SILENT_AFTER = timedelta(hours=24)
Resource = Literal["cpu", "memory"]


@dataclass(frozen=True, slots=True)
class Outlook:
    """A forecast with the days that it was made of, in the metric's unit, oldest first."""

    forecast: Forecast
    unit: str
    days: Sequence[date]
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class HourlyUse:
    """Mean CPU use of hosts × hours of the day (UTC) in %, NaN where there is none.

    The mean of the hours' means over the days from ``since`` to ``until``, both included.
    """

    hosts: Sequence[str]
    usage: NDArray[np.float64]
    since: date
    until: date


@dataclass(frozen=True, slots=True)
class SilentHost:
    """A host that gives no data: when it last sent a sample, and why there is none since, as far as known."""

    host: str
    last_seen: datetime | None
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """All that the page and the pictures show.

    :ivar ranked: forecasts of what is over or fills, the most urgent first.
    :ivar outlooks: the first of them with their history, which are drawn.
    :ivar verdicts: count of forecasts by verdict; ``outdated`` counts those that are not told, because they
        are too old or of a later time than the report.
    :ivar advice: of every host and resource.
    :ivar within_days: what counts as near.
    """

    title: str
    as_of: datetime
    made_at: datetime
    hosts: int
    ranked: Sequence[Forecast]
    outlooks: Sequence[Outlook]
    verdicts: Mapping[str, int]
    outdated: int
    hourly: HourlyUse
    advice: Sequence[SizeAdvice]
    silent: Sequence[SilentHost]
    within_days: float = 30.0
    top: int = 10
    size_days: int = 30

    @property
    def near(self) -> list[Forecast]:
        """Return what is over its limit, or likely to be within ``within_days``."""
        return [one for one in self.ranked if (one.days_likely or 0.0) <= self.within_days]


@dataclass(frozen=True, slots=True)
class Users:
    """The hosts that use most and least of a resource, and how many lie between them."""

    resource: Resource
    most: Sequence[SizeAdvice]
    least: Sequence[SizeAdvice]
    between: int


@dataclass(slots=True)
class HourlySum:
    """Adds up hours of many reads, so that memory holds two dozen numbers a host and not its history."""

    total: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    count: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def add(self, table: pa.Table) -> None:
        """Take in a table of ``history`` at 1 h."""
        hosts = table.column("host").to_pylist()
        hours = (table.column("timestamp").cast("int64").to_numpy() // 3_600_000) % HOURS
        averages = table.column("avg").to_numpy()
        for host, hour, average in zip(hosts, hours, averages, strict=True):
            if average == average:  # noqa: PLR0124 - not NaN
                self.total.setdefault(host, np.zeros(HOURS))[hour] += average
                self.count.setdefault(host, np.zeros(HOURS))[hour] += 1

    def result(self, since: date, until: date) -> HourlyUse:
        """Return the means of the days, the busiest host first."""
        with np.errstate(invalid="ignore"):
            means = {host: total / self.count[host] for host, total in self.total.items()}
        hosts = sorted(means, key=lambda host: (-float(np.nanmean(means[host])), host))
        usage = np.array([means[host] for host in hosts]).reshape(len(hosts), HOURS)
        return HourlyUse(hosts, usage, since, until)


def find_users(advice: Iterable[SizeAdvice], resource: Resource, top: int) -> Users:
    """Return the hosts whose busiest day's p95 is highest, and, among the others, lowest.

    A host is in one of both lists only; hosts without enough data are in neither.
    """
    known = [one for one in advice if one.resource == resource and one.p95_high is not None]
    known.sort(key=lambda one: (-(one.p95_high or 0.0), one.host))
    most = known[: min(top, (len(known) + 1) // 2)]
    rest = known[len(most) :]
    least = rest[max(0, len(rest) - top) :]
    return Users(resource, most, least, len(rest) - len(least))


def find_silent(latest: Iterable[Mapping[str, Any]], hosts: Iterable[str], now: datetime) -> list[SilentHost]:
    """Return the hosts whose newest sample is missing, old, or says that the host did not answer.

    :param latest: rows of ``latest_metrics``.
    :param hosts: all that should have one.
    """
    newest = {str(row["host"]): row for row in latest}
    found = [_judge_host(host, newest.get(host), now) for host in sorted({*hosts, *newest})]
    return [one for one in found if one is not None]


def _judge_host(host: str, row: Mapping[str, Any] | None, now: datetime) -> SilentHost | None:
    if row is None or row.get("timestamp") is None:
        return SilentHost(host, None, "no sample is stored")
    seen: datetime = row["timestamp"]
    if row.get("up") is False:
        why = ": ".join(str(row[name]) for name in ("outcome", "error") if row.get(name))
        return SilentHost(host, seen, why or "the host did not answer")
    if now - seen > SILENT_AFTER:
        return SilentHost(host, seen, f"no sample for {_tell_days((now - seen) / timedelta(days=1))}")
    return None


def list_resizes(advice: Iterable[SizeAdvice]) -> list[SizeAdvice]:
    """Return the sizes to change: first what is too small, then by what a change gives back."""
    changes = [one for one in advice if one.fitting is not None]
    return sorted(changes, key=lambda one: (one.verdict != "too small", one.resource, _growth(one), one.host))


def sum_spare(advice: Iterable[SizeAdvice], resource: Resource) -> float:
    """Return what would be given back if every host that is too large had the size that fits."""
    return -sum(_growth(one) for one in advice if one.resource == resource and one.verdict == "too large")


def unit_of(metric: str) -> str:
    """Return the unit of a metric."""
    return FIELD_BY_NAME[metric].unit


def describe_size(unit: str, size: float | None) -> str:
    """Return a size as people say it: ``4 CPUs``, ``16 GiB``."""
    if size is None:
        return "–"
    if unit == "bytes":
        gib = size / 2**30
        return f"{gib:.0f} GiB" if gib >= 10 or gib == int(gib) else f"{gib:.1f} GiB"
    return f"{size:.0f} CPU" if size == 1 else f"{size:.0f} {unit}"


def describe_change(one: SizeAdvice) -> str:
    """Return what a host has, and what would fit where that differs."""
    if one.fitting is None:
        return describe_size(one.unit, one.size)
    return f"{describe_size(one.unit, one.size)} → {describe_size(one.unit, one.fitting)}"


def describe_value(unit: str, value: float | None) -> str:
    """Return a value with its unit: ``83 %``, ``12.4 GiB``."""
    if value is None:
        return "–"
    if unit == "bytes":
        return describe_size(unit, value)
    return f"{value:.0f} {unit}" if abs(value) >= 10 or value == int(value) else f"{value:.1f} {unit}"


def describe_day(day: date | datetime | None) -> str:
    """Return a date as ``4 Dec 2026``: words for months are read alike everywhere."""
    return "–" if day is None else f"{day.day} {day:%b %Y}"


def describe_outlook(forecast: Forecast) -> str:
    """Return when a limit is met, with the bounds: ``in 12 days: 6 Dec 2026 (3 Dec to 11 Dec)``."""
    if forecast.verdict == "already over":
        return "at its limit now"
    if forecast.days_likely is None:
        return forecast.verdict
    when = full_day(forecast, forecast.days_likely)
    early, late = (full_day(forecast, days) for days in (forecast.days_early, forecast.days_late))
    bounds = f"{_short(early, when)} to {_short(late, when)}" if late else f"{_short(early, when)} or later"
    return f"in {_tell_days(forecast.days_likely)}: {describe_day(when)} ({bounds})"


def full_day(forecast: Forecast, days: float | None) -> datetime | None:
    """Return the moment so many days after a forecast."""
    return None if days is None else forecast.as_of.astimezone(UTC) + timedelta(days=days)


def _short(day: datetime | None, beside: datetime | None) -> str:
    """Return a date without its year where that is the same."""
    if day is None:
        return "–"
    return f"{day.day} {day:%b}" if beside is not None and day.year == beside.year else describe_day(day)


def _growth(one: SizeAdvice) -> float:
    return 0.0 if one.fitting is None or one.size is None else one.fitting - one.size


def _tell_days(days: float) -> str:
    whole = round(days)
    return "1 day" if whole == 1 else f"{whole} days"
