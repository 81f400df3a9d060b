"""Reads what a capacity report tells from the store: forecasts, daily and hourly rollups, newest samples."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.capacity.daily import StoreDailyReader
from airflow_provider_restrack.capacity.forecast import Forecast, SeriesKey, rank, take_days
from airflow_provider_restrack.capacity.history import HistoryReader
from airflow_provider_restrack.capacity.report import HourlySum, Outlook, Report, find_silent, unit_of
from airflow_provider_restrack.capacity.rightsize import size_hosts
from airflow_provider_restrack.store.forecasts import MAX_AGE, read_forecasts
from airflow_provider_restrack.store.read import read_latest
from airflow_provider_restrack.store.series import batched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_restrack.capacity.forecast import DailyReader
    from airflow_provider_restrack.capacity.policy import ReportPolicy
    from airflow_provider_restrack.capacity.report import HourlyUse

_HOSTS_AT_ONCE = 200


def gather_report(
    session: Any, policy: ReportPolicy, hosts: Sequence[str] | None, as_of: datetime, now: datetime
) -> Report:
    """Read a report as of the end of a day or week.

    :param hosts: only these; None: all that have a newest sample.
    :param as_of: days before it are told of; ``now``: when hosts are judged to be silent.
    :raises CassandraError: if a table is missing or Cassandra does not answer.
    """
    latest = read_latest(session, policy.keyspace, hosts)
    names = sorted(row["host"] for row in latest) if hosts is None else list(dict.fromkeys(hosts))
    daily = StoreDailyReader(session, policy.keyspace)
    until = as_of.astimezone(UTC).date() - timedelta(days=1)
    forecasts = [
        Forecast(**row) for row in read_forecasts(session, policy.keyspace, list(policy.metrics), names)
    ]
    current = [one for one in forecasts if is_current(one, as_of)]
    ranked = rank(current)
    return Report(
        title=policy.title,
        as_of=as_of,
        made_at=now,
        hosts=len(names),
        ranked=ranked,
        outlooks=read_outlooks(daily, ranked[: policy.plots], policy),
        verdicts=dict(Counter(one.verdict for one in current)),
        outdated=len(forecasts) - len(current),
        hourly=_read_hourly(session, policy, names, until, now),
        advice=size_hosts(daily, names, until, policy.size),
        silent=find_silent(latest, names, now),
        within_days=policy.within_days,
        top=policy.top,
        size_days=policy.size.days,
    )


def is_current(forecast: Forecast, as_of: datetime) -> bool:
    """Return whether a report tells a forecast: one of a later time knows what that of a past week cannot."""
    return timedelta(0) <= as_of - forecast.as_of <= MAX_AGE


def read_outlooks(reader: DailyReader, forecasts: Sequence[Forecast], policy: ReportPolicy) -> list[Outlook]:
    """Return forecasts with the days before them, in their order."""
    if not forecasts:
        return []
    hosts = list(dict.fromkeys(one.host for one in forecasts))
    metrics = list(dict.fromkeys(one.metric for one in forecasts))
    until = max(one.as_of for one in forecasts).date() - timedelta(days=1)
    since = min(one.as_of for one in forecasts).date() - timedelta(days=policy.history_days)
    found: dict[SeriesKey, Any] = dict(reader.read_daily(hosts, metrics, since, until))
    return [_build_outlook(one, found.get(_key(one), ()), policy) for one in forecasts]


def _key(forecast: Forecast) -> SeriesKey:
    return SeriesKey(forecast.host, forecast.metric, forecast.device)


def _build_outlook(forecast: Forecast, rows: Any, policy: ReportPolicy) -> Outlook:
    today = forecast.as_of.date().toordinal()
    days, values = take_days(rows, today, policy.metrics[forecast.metric], policy.history_days)
    return Outlook(
        forecast,
        unit_of(forecast.metric),
        [date.fromordinal(int(day)) for day in days],
        [float(value) for value in values],
    )


def _read_hourly(
    session: Any, policy: ReportPolicy, hosts: Sequence[str], until: date, now: datetime
) -> HourlyUse:
    """Return CPU use by hour, some hosts at a time."""
    since = until - timedelta(days=policy.hourly_days - 1)
    start, end = (datetime(day.year, day.month, day.day, tzinfo=UTC) for day in (since, until))
    reader, found = HistoryReader(session, policy.keyspace), HourlySum()
    for chunk in batched(hosts, _HOSTS_AT_ONCE):
        found.add(reader.read(chunk, "cpu_usage", start, end + timedelta(days=1), "1h", now=now))
    return found.result(since, until)
