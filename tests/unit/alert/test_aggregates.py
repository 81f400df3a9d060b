"""Aggregates of a window, held against the standard library and worked examples."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.alert.aggregates import aggregate
from airflow_provider_restrack.alert.rules import AlertRule, parse_rules


def rule(name: str, **changes: Any) -> AlertRule:
    base = {
        "name": "r",
        "metric": "cpu_usage",
        "op": ">",
        "threshold": 0.5,
        "window": "5m",
        "aggregate": name,
    }
    (found,) = parse_rules(base | changes)
    return found


def result(name: str, values: list[float], spacing_s: int = 10, **changes: Any) -> float | None:
    times = [index * spacing_s * 1000 for index in range(len(values))]
    return aggregate(rule(name, **changes), times, values)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_aggregates_are_those_of_the_standard_library(values: list[float]) -> None:
    assert result("avg", values) == pytest.approx(statistics.fmean(values))
    assert result("stddev", values) == pytest.approx(statistics.pstdev(values), abs=1e-6)
    assert result("p50", values) == pytest.approx(statistics.median(values))
    assert (result("min", values), result("max", values)) == (min(values), max(values))
    assert (result("last", values), result("count", values)) == (values[-1], len(values))


@pytest.mark.parametrize(
    ("values", "rate"),
    [
        ([100, 150, 200], 5.0),
        ([100, 100, 100], 0.0),
        ([100, 150, 20, 40], (50 + 20 + 20) / 30),
        ([5, 0, 0, 10], 10 / 30),
        ([100], None),
    ],
)
def test_a_rate_is_what_a_counter_adds_in_a_second_over_resets(
    values: list[float], rate: float | None
) -> None:
    assert result("rate", values) == (None if rate is None else pytest.approx(rate))


@given(st.lists(st.integers(0, 100), min_size=2, max_size=20), st.integers(1, 20))
def test_a_reset_loses_only_what_the_counter_had_before_it(steps: list[int], at: int) -> None:
    """The same growth, with the counter set to 0 at one sample."""
    plain = [sum(steps[: n + 1]) for n in range(len(steps))]
    at = min(at, len(steps) - 1)
    lost = plain[at]
    reset = [value - lost * (index >= at) for index, value in enumerate(plain)]

    assert result("rate", plain) == pytest.approx(
        (result("rate", reset) or 0) + (plain[at] - plain[at - 1]) / (10 * (len(steps) - 1))
    )


@pytest.mark.parametrize(("above", "share"), [(80, 0.5), (79.9, 0.75), (100, 0), ("-1", 1)])
def test_a_fraction_is_of_samples_above_and_not_at_a_number(above: Any, share: float) -> None:
    assert result("fraction_above", [70, 80, 90, 100], above=above) == share
