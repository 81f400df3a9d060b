"""Verdicts and times of series whose end is known, as cases and over arbitrary ones."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_restrack.capacity.forecast import (
    DailyRow,
    Forecast,
    SeriesKey,
    describe,
    forecast_series,
    rank,
)
from airflow_provider_restrack.capacity.policy import ForecastPolicy, MetricPolicy

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST = date(2026, 1, 5)
KEY = SeriesKey("db-1", "filesystem_usage", "/var")
NOISE = np.random.default_rng(3).normal(0, 0.2, 120)


def rows(values: Sequence[float | None], samples: int = 144) -> list[DailyRow]:
    return [
        DailyRow(FIRST + timedelta(days=n), samples, value, value, value * samples, value, value)
        for n, value in enumerate(values)
        if value is not None
    ]


def ask(
    values: Sequence[float | None],
    *,
    after: float = 0,
    policy: ForecastPolicy | None = None,
    limit: float = 100,
) -> Forecast:
    end = datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=UTC) + timedelta(days=len(values) + after)
    return forecast_series(KEY, rows(values), end, MetricPolicy(limit), policy)


def line(start: float, slope: float, count: int = 40) -> list[float]:
    return [float(start + slope * n + NOISE[n]) for n in range(count)]


def test_a_disk_that_fills_has_its_day_between_an_early_and_a_late_one() -> None:
    found = ask(line(40, 1, 40))  # 80 at the end of 40 days: 20 more

    assert found.verdict == "filling"
    assert found.days_likely == pytest.approx(20, abs=1.5)
    assert found.days_early is not None
    assert found.days_late is not None
    assert found.days_early < found.days_likely < found.days_late
    assert (found.n, found.span_days, found.coverage, found.since) == (40, 40, 1.0, FIRST)
    assert found.full_at(found.days_likely) in {"2026-03-05", "2026-03-06", "2026-03-07"}


def test_another_limit_is_met_sooner() -> None:
    found = ask(line(40, 1, 40), limit=90)

    assert found.days_likely == pytest.approx(10, abs=1.5)


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        pytest.param(line(60, 0), "flat", id="stable"),
        pytest.param(line(80, -0.5), "shrinking", id="shrinking"),
        pytest.param(line(95, 0.2, 40), "already over", id="over"),
        pytest.param([], "insufficient data", id="nothing"),
        pytest.param(line(50, 1, 6), "insufficient data", id="six days"),
        pytest.param(
            [v if n % 2 else None for n, v in enumerate(line(50, 1))], "insufficient data", id="half"
        ),
        pytest.param([50.0] * 40, "flat", id="the same value every day"),
    ],
)
def test_without_growth_that_is_sure_there_is_no_date(values: list[float | None], verdict: str) -> None:
    found = ask(values)

    assert found.verdict == verdict
    assert (found.days_early, found.days_likely, found.days_late) == (None, None, None)


def test_growth_whose_interval_includes_zero_has_no_date() -> None:
    values = [float(60 + 0.02 * n + 20 * NOISE[n]) for n in range(40)]

    found = ask(values)

    assert found.slope_low is not None
    assert found.slope_high is not None
    assert found.slope_low <= 0 <= found.slope_high
    assert (found.verdict, found.days_likely) == ("flat", None)


def test_a_limit_beyond_the_horizon_has_no_date() -> None:
    found = ask(line(10, 0.1), policy=ForecastPolicy(horizon_days=365))

    assert (found.verdict, found.days_likely) == ("filling", None)


def test_a_series_that_ended_days_ago_says_nothing_of_now() -> None:
    assert ask(line(40, 1), after=2).verdict == "filling"
    assert ask(line(40, 1), after=5).verdict == "insufficient data"


def test_the_day_of_the_forecast_itself_is_not_complete_and_not_used() -> None:
    values = line(60, 0)
    moment = datetime(FIRST.year, FIRST.month, FIRST.day, 12, tzinfo=UTC) + timedelta(days=len(values))

    with_today = forecast_series(KEY, rows([*values, 99.0]), moment, MetricPolicy())

    assert with_today == forecast_series(KEY, rows(values), moment, MetricPolicy())


def test_a_day_of_few_samples_is_left_out() -> None:
    thin = DailyRow(FIRST + timedelta(days=39), 3, 1, 1, 3, 1, 1)

    found = forecast_series(
        KEY, [*rows(line(60, 0, 39)), thin], datetime(2026, 2, 14, tzinfo=UTC), MetricPolicy()
    )

    assert found.current == pytest.approx(60, abs=1)


@pytest.mark.parametrize("days", range(1, 12))
def test_samples_that_are_taken_more_seldom_leave_no_day_out(days: int) -> None:
    values = line(40, 1, 40)
    often, seldom = rows(values[:-days], 8640), rows(values, 1440)[-days:]
    moment = datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=UTC) + timedelta(days=len(values))

    found = forecast_series(KEY, [*often, *seldom], moment, MetricPolicy())

    assert found.verdict == "filling"
    assert found.days_likely == pytest.approx(20, abs=1.5)
    assert found.n >= 40 - (days if days < 3 else 0)  # for two days the new kind is too few to be usual


def test_the_aggregate_is_the_one_that_is_asked_for() -> None:
    day = DailyRow(FIRST, 10, 1.0, 9.0, 40.0, 5.0, 8.0)
    moment = datetime(2026, 1, 6, tzinfo=UTC)

    found = {
        name: forecast_series(KEY, [day], moment, MetricPolicy(100, name)).current
        for name in ("min", "max", "avg", "last", "p95")
    }

    assert found == {"min": 1.0, "max": 9.0, "avg": 4.0, "last": 5.0, "p95": 8.0}


def test_the_backtest_is_small_where_the_line_went_on_and_large_where_it_did_not() -> None:
    steady = ask(line(30, 1, 60))
    stopped = ask([*line(30, 1, 50), *[80.0] * 10])

    assert steady.backtest_7d == pytest.approx(0, abs=0.6)
    assert steady.backtest_14d == pytest.approx(0, abs=0.6)
    assert stopped.backtest_14d == pytest.approx(10, abs=1.5)  # four of the fourteen days it went on


def test_a_series_too_young_to_be_tested_has_no_backtest() -> None:
    found = ask(line(30, 1, 16))

    assert found.backtest_7d is not None
    assert found.backtest_14d is None


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        forecast_series(KEY, [], datetime(2026, 1, 1), MetricPolicy())  # noqa: DTZ001 - what is refused


def test_the_most_urgent_comes_first_and_what_has_no_date_is_no_matter() -> None:
    soon, later = ask(line(40, 1.2)), ask(line(40, 0.8))
    over = ask(line(95, 0.2))

    assert rank([ask(line(60, 0)), later, soon, over]) == [over, soon, later]


def test_a_sentence_says_what_when_and_how_sure() -> None:
    found = describe(ask(line(40, 1, 40)))

    assert found == "db-1 /var: filesystem_usage 78.7, filling: 100 in 20 days (20 to 21), +1.00 a day"
    assert describe(ask([])) == "db-1 /var: filesystem_usage unknown, insufficient data"


@settings(max_examples=80, deadline=None)
@given(
    values=st.lists(st.one_of(st.none(), st.floats(0, 120)), max_size=70),
    after=st.floats(0, 5),
)
def test_any_series_gives_json_with_finite_times_in_order(values: list[float | None], after: float) -> None:
    found = ask(values, after=after)

    data = json.loads(json.dumps(found.to_data(), allow_nan=False))
    times = [data[name] for name in ("days_early", "days_likely", "days_late") if data[name] is not None]
    assert times == sorted(times)
    assert all(math.isfinite(time) and time >= 0 for time in times)
    assert not times or (found.verdict == "filling" and found.slope_low is not None and found.slope_low > 0)
