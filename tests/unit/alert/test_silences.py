from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_restrack.alert.records import Silence
from airflow_provider_restrack.alert.silences import (
    MAX_MS,
    end,
    extend,
    find_window,
    from_silence,
    to_silence,
)

NOW = 1_000_000_000
HOUR = 3_600_000
SILENCE = Silence(uuid.UUID(int=1), NOW - HOUR, NOW + HOUR, "cpu*", "db-?", "", "me", "upgrade")
MOMENT = datetime(1970, 1, 12, 13, 46, 40, tzinfo=UTC)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((None, "2h", None), (NOW, NOW + 2 * HOUR)),
        ((None, None, MOMENT + timedelta(hours=1)), (NOW, NOW + HOUR)),
        ((MOMENT + timedelta(hours=1), 3600, None), (NOW + HOUR, NOW + 2 * HOUR)),
        (("1970-01-12T12:46:40Z", timedelta(hours=3), None), (NOW - HOUR, NOW + 2 * HOUR)),
    ],
    ids=["now", "until", "later", "began-before"],
)
def test_window_of_a_silence(arguments: Any, expected: tuple[int, int]) -> None:
    assert find_window(*arguments, NOW) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, None, None), "either duration or ends"),
        ((None, "2h", MOMENT), "either duration or ends"),
        ((None, "soon", None), "'soon' is not a duration"),
        ((None, None, MOMENT), "end after its start and after now"),
        ((MOMENT - timedelta(hours=2), "1h", None), "end after its start and after now"),
        ((MOMENT + timedelta(hours=2), None, MOMENT + timedelta(hours=1)), "end after its start"),
        ((None, "367d", None), "at most 366 days"),
        (("tomorrow", "1h", None), "tomorrow"),
    ],
)
def test_window_that_makes_no_sense_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_window(*arguments, NOW)


@pytest.mark.parametrize(("ends_ms", "expected"), [(NOW + 2 * HOUR, NOW + 2 * HOUR), (NOW, NOW + HOUR)])
def test_extending_never_shortens(ends_ms: int, expected: int) -> None:
    assert extend(SILENCE, ends_ms, NOW).ends_ms == expected


def test_what_is_over_or_would_last_too_long_cannot_be_extended() -> None:
    with pytest.raises(ValueError, match="is over: set a new one"):
        extend(SILENCE, NOW + 3 * HOUR, NOW + HOUR)
    with pytest.raises(ValueError, match="at most 366 days"):
        extend(SILENCE, NOW + MAX_MS, NOW)


@pytest.mark.parametrize(
    ("now_ms", "window"),
    [
        (NOW, (NOW - HOUR, NOW)),
        (NOW + 2 * HOUR, (NOW - HOUR, NOW + HOUR)),
        (NOW - 2 * HOUR, (NOW - 2 * HOUR, NOW - 2 * HOUR)),
    ],
    ids=["runs", "is-over", "to-come"],
)
def test_ending(now_ms: int, window: tuple[int, int]) -> None:
    ended = end(SILENCE, now_ms)
    assert (ended.starts_ms, ended.ends_ms) == window


def test_a_silence_is_the_same_after_its_row() -> None:
    assert to_silence(from_silence("night", SILENCE)) == SILENCE
    assert from_silence("night", SILENCE).scope == "night"
