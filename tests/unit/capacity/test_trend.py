"""The trend against series whose slope, shifts and weeks are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_restrack.capacity.trend import (
    find_regime,
    find_season,
    find_shifts,
    fit_trend,
    outgrows,
    sen_interval,
    slope_inflation,
    theil_sen,
)

DAYS = np.arange(738_000.0, 738_060.0)
RNG = np.random.default_rng(7)
NOISE = RNG.normal(0, 0.3, 60)


def test_theil_sen_is_the_median_of_all_pairs() -> None:
    days, values = np.array([0.0, 1.0, 3.0, 4.0]), np.array([0.0, 2.0, 3.0, 8.0])

    # Pairs: 2, 1, 2, 1/2, 2, 5.
    assert theil_sen(days, values) == 2.0


def test_a_quarter_of_wild_points_does_not_move_the_slope() -> None:
    values = 40 + 0.5 * (DAYS - DAYS[0])
    wild = values.copy()
    wild[RNG.choice(60, 15, replace=False)] += 50

    assert theil_sen(DAYS, wild) == pytest.approx(0.5, abs=0.2)


def test_sens_interval_is_that_of_gilberts_example() -> None:
    # Gilbert 1987, 16.4.2: n = 10 gives Var(S) = 125; of 45 slopes the ranks are (45 ∓ 1.96 · 11.18) / 2.
    low, high = sen_interval(np.arange(45.0), 10, 1.96)

    assert (low, high) == (11.0, 34.0)  # the 12th and the 35th


def test_independent_days_need_no_wider_interval_and_days_alike_do() -> None:
    assert slope_inflation(DAYS, 0.0) == pytest.approx(1.0)
    assert slope_inflation(DAYS, 0.5) == pytest.approx(3.0, rel=0.2)  # (1 + ρ) / (1 − ρ) for many days
    assert slope_inflation(DAYS, 0.9) > 10


def test_the_interval_of_days_that_follow_each_other_covers_the_truth_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        level = np.zeros(60)
        for day in range(1, 60):
            level[day] = 0.7 * level[day - 1] + rng.normal(0, 1)
        found = fit_trend(DAYS, 50 + level, scale=1e9, confidence=0.95)
        assert found is not None
        covered += found.low <= 0 <= found.high

    assert covered >= 180  # a plain interval by ranks covers about 130 of 200


def test_growth_has_its_slope_and_stands_where_it_stands() -> None:
    found = fit_trend(DAYS, 40 + 0.5 * (DAYS - DAYS[0]) + NOISE, scale=100, confidence=0.99)

    assert found is not None
    assert found.low < 0.5 < found.high
    assert found.low > 0.4
    assert found.level == pytest.approx(40 + 0.5 * 59, abs=0.5)
    assert (found.start, found.season) == (0, None)


def test_a_resize_starts_the_fit_anew() -> None:
    values = 80 + 0.2 * (DAYS - DAYS[0]) - 30 * (DAYS[40] <= DAYS) + NOISE

    found = fit_trend(DAYS, values, scale=100, confidence=0.99)

    assert found is not None
    assert found.start == 40
    assert found.slope == pytest.approx(0.2, abs=0.05)


def test_too_soon_after_a_resize_there_is_no_trend() -> None:
    values = 80 - 30 * (DAYS[55] <= DAYS) + NOISE

    assert fit_trend(DAYS, values, scale=100, confidence=0.99) is None


def test_a_single_wild_day_is_no_shift() -> None:
    values = 50 + NOISE
    values[30] += 40

    assert find_shifts(DAYS, values, floor=2.0) == []


def test_growth_that_begins_is_a_bend_and_no_shift() -> None:
    values = 50 + 3 * np.maximum(DAYS - DAYS[48], 0) + NOISE

    found = fit_trend(DAYS, values, scale=100, confidence=0.99)

    assert find_shifts(DAYS, values, floor=2.0) == []
    assert found is not None
    assert found.low < 3 < found.high
    assert found.low > 2


def test_a_sawtooth_is_flat_and_its_level_is_its_peak() -> None:
    values = 40 + 4 * ((DAYS - DAYS[0]) % 9) + NOISE

    found = fit_trend(DAYS, values, scale=100, confidence=0.99)

    assert found is not None
    assert found.low < 0 < found.high
    assert found.level == pytest.approx(72, abs=2)


def teeth(slope: float, length: int, rise: float = 0.0, count: int = 60) -> np.ndarray:
    """Teeth that fall back after so many days, each higher than the last by ``rise``."""
    day = np.arange(count)
    return 40 + slope * (day % length) + rise * (day // length) + NOISE[:count]


def test_a_disk_that_was_extended_twice_fills_once_it_outgrows_what_it_was() -> None:
    values = 40 + 1.2 * np.arange(60) - 24 * (DAYS[17] <= DAYS) - 24 * (DAYS[37] <= DAYS) + NOISE

    found = fit_trend(DAYS, values, scale=100, confidence=0.99)

    assert find_regime(DAYS[:55], values[:55], floor=2.0) == (0, True)  # it may yet fall again
    assert find_regime(DAYS, values, floor=2.0) == (37, False)
    assert found is not None
    assert found.low < 1.2 < found.high
    assert found.level == pytest.approx(40 + 1.2 * 59 - 48, abs=1)


@pytest.mark.parametrize("count", range(24, 60))
@pytest.mark.parametrize("rise", [0.0, 3.0])
def test_a_sawtooth_stays_one_also_where_each_tooth_is_higher(count: int, rise: float) -> None:
    values = teeth(3.0, 9, rise, count)

    assert find_regime(DAYS[:count], values, floor=2.0) == (0, True)


def test_weekends_of_a_series_that_grows_are_no_extensions_where_their_end_is_no_shift() -> None:
    days = np.arange(40)
    values = 50 + 0.6 * days - 6.0 * np.isin(days % 7, (5, 6)) + NOISE[:40]

    assert not outgrows(values, [33], floor=2.0)
    assert outgrows(50 + 0.6 * days - 8.0 * (days >= 20), [20], floor=2.0)


def test_a_quiet_weekend_is_taken_out_and_the_level_is_that_of_its_busiest_day() -> None:
    quiet = np.isin(DAYS % 7, (1, 2))
    values = 50 + 0.3 * (DAYS - DAYS[0]) - 15 * quiet + NOISE

    found = fit_trend(DAYS, values, scale=100, confidence=0.99)

    assert found is not None
    assert found.season is not None
    assert min(found.season) < -8
    assert found.slope == pytest.approx(0.3, abs=0.03)
    assert found.level == pytest.approx(50 + 0.3 * 59, abs=1.5)


@pytest.mark.parametrize("count", [10, 13])
def test_no_week_is_seen_in_less_than_two(count: int) -> None:
    assert find_season(DAYS[:count], np.where(DAYS[:count] % 7 == 3, 10.0, 0.0)) is None


def test_chance_is_no_week() -> None:
    found = [
        find_season(DAYS[:28], np.random.default_rng(seed).normal(0, 1, 28)) is not None
        for seed in range(100)
    ]

    assert sum(found) <= 6


@settings(max_examples=100, deadline=None)
@given(
    days=st.lists(st.integers(738_000, 738_090), min_size=7, max_size=60, unique=True).map(sorted),
    data=st.data(),
)
def test_any_series_has_finite_numbers_in_order(days: list[int], data: st.DataObject) -> None:
    values = data.draw(st.lists(st.floats(0, 100), min_size=len(days), max_size=len(days)))

    found = fit_trend(np.array(days, float), np.array(values), scale=100, confidence=0.99)

    if found is not None:
        assert np.isfinite([found.slope, found.low, found.high, found.level, found.line]).all()
        assert found.low <= found.slope <= found.high
        assert 0 <= found.start <= len(days) - 7


@settings(max_examples=50, deadline=None)
@given(shift=st.floats(-50, 50), factor=st.floats(0.1, 10))
def test_the_trend_follows_the_unit(shift: float, factor: float) -> None:
    values = 40 + 0.5 * (DAYS - DAYS[0]) + NOISE
    plain = fit_trend(DAYS, values, scale=100, confidence=0.99)
    scaled = fit_trend(DAYS, values * factor + shift, scale=100 * factor, confidence=0.99)

    assert plain is not None
    assert scaled is not None
    assert scaled.slope == pytest.approx(plain.slope * factor)
    assert scaled.low == pytest.approx(plain.low * factor)
