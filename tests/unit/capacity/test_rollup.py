"""Columnar rollups are what a plain loop over the same samples gives."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.capacity.rollup import roll_up

if TYPE_CHECKING:
    from airflow_provider_restrack.store.rollups import Rollup

NAMES = ("count", "min", "max", "sum", "last", "p95")
VALUES = st.one_of(st.just(math.nan), st.floats(-1e12, 1e12))


def brute_force(times: list[int], series: list[float], bucket_s: int) -> dict[int, tuple[float, ...]]:
    """Start of a bucket → count, min, max, sum, last, p95, by definition."""
    buckets: dict[int, list[float]] = {}
    for time, value in zip(times, series, strict=True):
        inside = buckets.setdefault(time // 1000 // bucket_s * bucket_s, [])
        if math.isfinite(value):
            inside.append(value)
    return {start: aggregate(inside) for start, inside in buckets.items()}


def aggregate(values: list[float]) -> tuple[float, ...]:
    if not values:
        return (0, *[math.nan] * 5)
    ordered = sorted(values)
    rank = 0.95 * (len(values) - 1)
    low = int(rank)
    high = min(low + 1, len(values) - 1)
    p95 = ordered[low] * (1 - (rank - low)) + ordered[high] * (rank - low)
    return (len(values), ordered[0], ordered[-1], math.fsum(values), values[-1], p95)


def roll(times: list[int], rows: list[list[float]], bucket_s: int) -> Rollup:
    return roll_up(
        np.array(times, np.int64), np.array(rows, np.float64).reshape(len(rows), len(times)), bucket_s
    )


@given(st.data(), st.sampled_from([10, 300, 3600]))
def test_rollup_equals_brute_force(data: st.DataObject, bucket_s: int) -> None:
    times = sorted(data.draw(st.sets(st.integers(0, 4_000_000), min_size=1, max_size=60)))
    rows = [data.draw(st.lists(VALUES, min_size=len(times), max_size=len(times))) for _ in range(3)]

    made = roll(times, rows, bucket_s)

    for number, series in enumerate(rows):
        expected = brute_force(times, series, bucket_s)
        assert list(made.starts) == list(expected)
        for name, *wanted in zip(NAMES, *expected.values(), strict=True):
            found = getattr(made, name)[number]
            assert list(found) == pytest.approx(wanted, rel=1e-9, abs=1e-3, nan_ok=True), name


@pytest.mark.parametrize("gap", [False, True], ids=["whole", "gap"])
@pytest.mark.parametrize("beside", [1, 2, 3, 40])
def test_a_bucket_has_the_same_bits_whatever_is_read_beside_it(beside: int, gap: bool) -> None:
    chance = np.random.default_rng(5)
    times = np.arange(0, 7_200_000, 10_000)
    values = chance.normal(size=(40, len(times))) * 1e9
    if gap:  # in a bucket of both, and in one that only the longer span has
        values[0, 40] = values[0, 700] = math.nan
    whole, half = roll_up(times, values, 300), roll_up(times[:360], values[:beside, :360], 300)

    for name in NAMES:
        found, expected = getattr(half, name), getattr(whole, name)[:beside, :12]
        assert np.array_equal(found, expected, equal_nan=True), name


def test_quantile_lies_between_ranks_as_prometheus_has_it() -> None:
    made = roll([0, 1, 2, 3], [[4.0, 1.0, 3.0, 2.0]], 10)
    assert made.p95[0, 0] == pytest.approx(3.85)


def test_infinite_is_absent() -> None:
    made = roll([0, 1], [[math.inf, 1.0]], 10)
    assert (made.count[0, 0], made.max[0, 0], made.last[0, 0]) == (1, 1.0, 1.0)


def test_interval_is_the_usual_distance_and_unknown_for_one_sample() -> None:
    made = roll([0, 10_000, 20_000, 200_000, 300_000], [[1.0] * 5], 300)
    assert list(made.interval) == pytest.approx([10.0, math.nan], nan_ok=True)
    assert list(made.samples) == [4, 1]


def test_nothing_gives_nothing() -> None:
    assert roll([], [[]], 300).starts.size == 0
