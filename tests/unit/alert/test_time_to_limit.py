"""Forecasts as series: counted down hour by hour, the same whoever looks and when."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from airflow_provider_restrack.alert.evaluate import assess, from_ms, to_ms
from airflow_provider_restrack.alert.rules import parse_rules
from airflow_provider_restrack.alert.time_to_limit import (
    HORIZON_DAYS,
    DaysToLimit,
    build_days_series,
    build_series_of,
)
from airflow_provider_restrack.store.forecasts import MAX_AGE

MADE = datetime(2026, 5, 4, tzinfo=UTC)
(RULE,) = parse_rules(
    {"name": "filling", "metric": "days_to_limit(filesystem_usage)", "op": "<", "threshold": 7}
)


def point(days: float, device: str | None = "/", host: str = "db-1") -> DaysToLimit:
    return DaysToLimit(host, device, to_ms(MADE), days)


def test_a_forecast_is_counted_down_every_hour() -> None:
    (series,) = build_days_series([point(7.5)], MADE + timedelta(hours=13, minutes=30))

    assert (series.host, series.device, len(series.times)) == ("db-1", "/", 14)
    assert (series.values[0], series.values[12]) == (7.5, 7.0)
    assert from_ms(series.times[12]) == MADE + timedelta(hours=12)


def test_the_limit_is_near_in_the_hour_that_it_comes_near_whenever_one_looks() -> None:
    for hours in (13, 20, 100):
        now = MADE + timedelta(hours=hours)
        (series,) = build_days_series([point(7.5)], now)
        breach = assess(RULE, series, now).breach
        assert breach is not None
        assert breach.since == MADE + timedelta(hours=13)


def test_what_is_not_on_its_way_is_far_and_what_is_there_is_at_0() -> None:
    now = MADE + timedelta(hours=2)
    far, full = build_days_series([point(math.inf, "/a"), point(0.0, "/b")], now)

    assert set(far.values) == {HORIZON_DAYS}
    assert set(full.values) == {0.0}
    assert (assess(RULE, far, now).state, assess(RULE, full, now).state) == ("ok", "breach")


def test_a_forecast_of_the_future_or_of_long_ago_tells_nothing() -> None:
    assert build_days_series([point(1)], MADE - timedelta(seconds=1)) == []
    late = MADE + MAX_AGE + timedelta(hours=4)
    (series,) = build_days_series([point(1)], late)
    assert assess(RULE, series, late).state == "stale"


def test_a_rule_takes_its_series_from_where_its_values_are() -> None:
    (samples,) = parse_rules({"name": "r", "metric": "cpu_usage", "op": ">", "threshold": 1})
    forecasts = {("filesystem_usage", "db-1"): [point(3, "/b"), point(2, "/a")]}
    rows = [{"timestamp": MADE, "cpu_usage": 5.0}]

    assert [one.device for one in build_series_of(RULE, "db-1", rows, forecasts, MADE)] == ["/a", "/b"]
    assert build_series_of(RULE, "db-2", rows, forecasts, MADE) == []
    assert [one.values for one in build_series_of(samples, "db-1", rows, forecasts, MADE)] == [(5.0,)]
