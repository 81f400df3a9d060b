"""Forecasts get the days before them back, each by its own metric's aggregate."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_restrack.capacity.forecast import DailyRow, Forecast, SeriesKey
from airflow_provider_restrack.capacity.gather import is_current, read_outlooks
from airflow_provider_restrack.capacity.policy import ReportPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

AS_OF = datetime(2026, 11, 24, tzinfo=UTC)
KEYS = [SeriesKey("a", "filesystem_usage", "/"), SeriesKey("b", "memory_usage")]


class Reader:
    def __init__(self) -> None:
        self.asked: list[Any] = []

    def read_daily(
        self, hosts: Sequence[str] | None, metrics: Sequence[str], since: date, until: date
    ) -> Iterator[tuple[SeriesKey, list[DailyRow]]]:
        self.asked.append((hosts, metrics, since, until))
        for key in KEYS:
            days = [until - timedelta(days=n) for n in reversed(range(40))]
            yield key, [DailyRow(day, 96, 1.0, 90.0, 96 * 50.0, 60.0, 80.0) for day in days]


def make(key: SeriesKey, as_of: datetime = AS_OF) -> Forecast:
    return Forecast(*key, as_of, 100.0, "filling", days_likely=5.0)


def test_days_and_values_are_those_that_were_forecast_from() -> None:
    reader, policy = Reader(), ReportPolicy("metrics", history_days=30)

    outlooks = read_outlooks(reader, [make(KEYS[1]), make(KEYS[0])], policy)

    assert reader.asked == [
        (["b", "a"], ["memory_usage", "filesystem_usage"], date(2026, 10, 25), date(2026, 11, 23))
    ]
    assert [(one.forecast.host, one.unit, one.values[0]) for one in outlooks] == [
        ("b", "%", 80.0),
        ("a", "%", 90.0),
    ]
    assert (outlooks[0].days[0], outlooks[0].days[-1]) == (date(2026, 10, 25), date(2026, 11, 23))


@pytest.mark.parametrize(
    ("days", "told"),
    [(0, True), (7, True), (8, True), (8.01, False), (-0.01, False), (-7, False)],
    ids=["same time", "a week", "eight days", "too old", "a moment later", "a week later"],
)
def test_a_report_tells_forecasts_of_its_own_week_only(days: float, told: bool) -> None:
    assert is_current(make(KEYS[0], AS_OF - timedelta(days=days)), AS_OF) is told


def test_a_forecast_whose_days_are_gone_has_none() -> None:
    (outlook,) = read_outlooks(Reader(), [make(SeriesKey("gone", "memory_usage"))], ReportPolicy("metrics"))

    assert (list(outlook.days), list(outlook.values)) == ([], [])


def test_nothing_is_read_for_nothing() -> None:
    reader = Reader()

    assert read_outlooks(reader, [], ReportPolicy("metrics")) == []
    assert reader.asked == []


@pytest.mark.parametrize("name", ["within_days", "top", "history_days", "hourly_days"])
def test_a_policy_that_makes_no_sense_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        ReportPolicy("metrics", **{name: 0})
