from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.load.latency import LatencyHistogram


def test_of_nothing_there_is_no_quantile() -> None:
    assert LatencyHistogram().quantile(0.5) is None


@given(
    st.lists(st.floats(0.0001, 4000), min_size=1, max_size=200),
    st.sampled_from([0.0, 0.5, 0.9, 0.99, 0.999, 1.0]),
)
def test_a_quantile_is_within_two_percent_of_the_exact_one(latencies: list[float], q: float) -> None:
    histogram = LatencyHistogram()
    for latency in latencies:
        histogram.add(latency)

    exact = sorted(latencies)[max(1, math.ceil(q * len(latencies))) - 1]

    assert histogram.count == len(latencies)
    assert histogram.quantile(q) == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("micros", [0, 1, 31, 32, 63, 64, 65, 127, 128, 2**20 - 1, 2**20, 2**32 - 1])
def test_every_edge_of_a_bucket_lies_in_it(micros: int) -> None:
    histogram = LatencyHistogram()
    histogram.add((micros + 0.5) / 1e6)

    assert histogram.quantile(0.5) == pytest.approx(micros / 1e6, rel=0.02, abs=1e-7)


def test_what_takes_longer_than_an_hour_counts_as_that() -> None:
    histogram = LatencyHistogram()
    histogram.add(1e9)

    assert histogram.quantile(0.99) == pytest.approx(4295, rel=0.02)
