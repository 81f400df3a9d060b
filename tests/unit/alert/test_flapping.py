from __future__ import annotations

import pytest

from airflow_provider_restrack.alert.flapping import follow_flapping, measure_flapping


@pytest.mark.parametrize(
    ("changes", "percent"),
    [
        ([], 0),
        ([False] * 20, 0),
        ([True] * 20, 99),
        ([True] + [False] * 19, 4.0),
        ([False] * 19 + [True], 5.9),
        ([True], 5.9),
        ([True] * 5 + [False] * 20, 0),
        ([False, True] * 10, 50),
    ],
)
def test_newer_changes_weigh_more(changes, percent) -> None:
    """By Icinga's formula: sum of (0.8 + 0.02 n) over 20."""
    assert measure_flapping(changes) == pytest.approx(percent)


def follow(pattern: str, *, after: int = -1, flapping: bool = False) -> bool:
    """One sample a second; ``x`` is one at which the state changed."""
    times = list(range(len(pattern)))
    changed = [n for n, mark in enumerate(pattern) if mark == "x"]
    return follow_flapping(times, changed, after, flapping=flapping)


def test_it_begins_over_30_percent_and_goes_on_to_25() -> None:
    assert not follow("." * 15 + "xxxxx")  # 29
    assert follow("." * 14 + "xxxxxx")  # 34.5
    assert follow("." * 14 + "xxxxxx" + "." * 5)
    assert not follow("." * 14 + "xxxxxx" + "." * 15)


def test_between_the_limits_it_stays_what_it_was() -> None:
    between = "." * 15 + "xxxxx"

    assert follow(between, after=18, flapping=True)
    assert not follow(between, after=18, flapping=False)


def test_a_change_between_samples_counts_at_the_later_one() -> None:
    times = list(range(0, 200, 10))

    assert follow_flapping(times, [131, 141, 151, 161, 171, 181], -1, flapping=False)
    assert not follow_flapping(times, [131, 191], -1, flapping=False)
