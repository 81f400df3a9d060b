"""Durations are read as people write them, and written as people read them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.alert.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("10m", 600.0),
        ("90s", 90.0),
        ("1h30m", 5400.0),
        ("2d", 172800.0),
        ("1.5s", 1.5),
        (" 5m ", 300.0),
        ("45", 45.0),
        (0, 0.0),
        (2.5, 2.5),
        (timedelta(minutes=3), 180.0),
    ],
)
def test_a_duration_is_read_in_seconds(written: object, seconds: float) -> None:
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    "written", ["", "m", "10 minutes", "30m1h", "-5m", -1, float("nan"), float("inf"), True, None, [10]]
)
def test_anything_else_is_refused_and_quoted(written: object) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_duration(written)

    assert repr(written) in str(caught.value)


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "0 s"),
        (0.25, "0.25 s"),
        (59.94, "59.9 s"),
        (60, "1 min"),
        (600, "10 min"),
        (5400, "1 h 30 min"),
        (3605, "1 h"),
        (187200, "2 d 4 h"),
    ],
)
def test_a_duration_is_written_in_its_two_largest_units(seconds: float, written: str) -> None:
    assert format_duration(seconds) == written


@given(st.integers(0, 100), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_every_combination_of_units_adds_up(days: int, hours: int, minutes: int, seconds: int) -> None:
    expected = ((days * 24 + hours) * 60 + minutes) * 60 + seconds

    assert parse_duration(f"{days}d{hours}h{minutes}m{seconds}s") == expected
