from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.alert.evaluate import find_spacing
from airflow_provider_restrack.alert.pace import PACE_GAPS, Pace
from airflow_provider_restrack.alert.rules import parse_rules

GAPS = st.lists(st.sampled_from([10, 10, 10, 20, 300, 5000]), max_size=80)


def times_of(gaps: list[int]) -> list[int]:
    return [1000 + sum(gaps[:n]) for n in range(len(gaps) + 1)]


@given(GAPS)
def test_it_is_the_spacing_of_the_samples_before(gaps) -> None:
    times = times_of(gaps)
    pace = Pace(times)

    for index, time in enumerate(times):
        before = times[max(0, index - PACE_GAPS) : index + 1]
        assert pace.spacing_at(time) == (find_spacing(before) or 0)


@given(GAPS, GAPS)
def test_older_rows_change_nothing_where_enough_are_known(older, newer) -> None:
    times = times_of(older + newer)
    near = Pace(times[len(older) :])

    for time in times[len(older) :]:
        if near.knows(time):
            assert near.spacing_at(time) == Pace(times).spacing_at(time)


@pytest.mark.parametrize(("time", "spacing"), [(1000, 0), (1005, 0), (1010, 10), (1015, 10), (9999, 10)])
def test_between_rows_the_one_before_tells_it(time, spacing) -> None:
    assert Pace([1000, 1010, 1020]).spacing_at(time) == spacing


def test_without_rows_nothing_is_known() -> None:
    assert Pace([]).spacing_at(5) == 0
    assert not Pace([]).knows(5)


def test_a_rule_without_max_gap_takes_three_spacings() -> None:
    (rule,) = parse_rules({"name": "r", "metric": "cpu_usage", "op": ">", "threshold": 1})

    assert Pace([0, 60_000]).gaps_at(rule, 60_000).reach_ms == 180_000
