"""Maintenance windows: when they are open, whatever the clocks do."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.alert.maintenance import DAYS, is_in_maintenance, read_window, read_windows
from airflow_provider_restrack.alert.rules import parse_rules

VIENNA = "Europe/Vienna"
WEEKEND = {"days": ["sat", "sun"], "from": "22:00", "to": "02:00", "timezone": VIENNA}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "inside"),
    [
        ("2026-05-01T19:59:59.999", False),
        ("2026-05-01T20:00", True),
        ("2026-05-01T21:59:59.999", True),
        ("2026-05-01T22:00", False),
    ],
)
@pytest.mark.parametrize(
    "window",
    [
        {"start": "2026-05-01T20:00:00Z", "end": "2026-05-01T22:00:00Z"},
        {"start": "2026-05-01T20:00", "end": "2026-05-02T00:00+02:00"},
        {"start": "2026-05-01T22:00", "end": "2026-05-02", "timezone": VIENNA},
        yaml.safe_load("{start: 2026-05-01T20:00:00Z, end: 2026-05-01 22:00:00}"),
    ],
)
def test_a_fixed_window_is_open_from_its_start_until_before_its_end(
    window: Any, moment: str, inside: bool
) -> None:
    assert read_window(window).contains(at(moment)) is inside


@pytest.mark.parametrize(
    ("moment", "inside"),
    [
        ("2026-01-03T20:59", False),  # Saturday, 21:59 in Vienna
        ("2026-01-03T21:00", True),
        ("2026-01-04T00:59", True),  # Sunday, 01:59
        ("2026-01-04T01:00", False),
        ("2026-01-04T21:00", True),
        ("2026-01-05T00:59", True),  # Monday, but the window began on Sunday
        ("2026-01-05T01:00", False),
        ("2026-01-05T21:30", False),
        ("2026-01-03T00:30", False),  # Saturday, but the window would be Friday's
        ("2026-07-04T20:00", True),  # in summer an hour earlier
        ("2026-07-04T19:59", False),
    ],
)
def test_a_weekly_window_follows_the_clock_and_belongs_to_the_day_it_starts_on(
    moment: str, inside: bool
) -> None:
    assert read_window(WEEKEND).contains(at(moment)) is inside


def hours_open(window: dict[str, Any], day: str) -> list[tuple[str, str]]:
    """The times in UTC, to 5 minutes, at which a window opens and closes around a day."""
    found, start = [], at(day) - timedelta(days=1)
    opened = None
    for step in range(3 * 24 * 12):
        moment = start + step * timedelta(minutes=5)
        if read_window(window).contains(moment):
            opened = opened or moment
        elif opened:
            found.append((f"{opened:%d %H:%M}", f"{moment:%d %H:%M}"))
            opened = None
    return found


@pytest.mark.parametrize(
    ("start", "end", "spring", "autumn"),
    [
        # On 29 March 02:00-03:00 is skipped; on 25 October 02:00-03:00 comes twice.
        ("22:00", "02:00", ("28 21:00", "29 01:00"), ("24 20:00", "25 01:00")),
        ("02:00", "03:00", ("29 01:00", "29 02:00"), ("25 00:00", "25 02:00")),
        ("02:30", "02:45", ("29 01:30", "29 01:45"), ("25 00:30", "25 01:45")),
        ("01:30", "02:30", ("29 00:30", "29 01:30"), ("24 23:30", "25 01:30")),
        ("02:30", "03:15", ("29 01:30", "29 02:15"), ("25 00:30", "25 02:15")),
        ("02:30", "04:00", ("29 01:30", "29 02:00"), ("25 00:30", "25 03:00")),
        ("00:00", "24:00", ("28 23:00", "29 22:00"), ("24 22:00", "25 23:00")),
    ],
)
def test_a_weekly_window_on_the_days_that_the_clocks_change(
    start: str, end: str, spring: tuple[str, str], autumn: tuple[str, str]
) -> None:
    for day, expected in (("2026-03-29", spring), ("2026-10-25", autumn)):
        name = DAYS[(date.fromisoformat(day) - timedelta(days=end < start)).weekday()]
        window = {"days": [name], "from": start, "to": end, "timezone": VIENNA}
        assert hours_open(window, day) == [expected], day


MOMENTS = st.integers(0, 366 * 1440).map(lambda minute: at("2026-01-01") + timedelta(minutes=minute))


@given(MOMENTS)
def test_a_window_of_every_whole_day_is_always_open(moment: datetime) -> None:
    assert read_window({"from": "00:00", "timezone": VIENNA}).contains(moment)
    assert read_window({"from": "07:30", "to": "07:30", "timezone": VIENNA}).contains(moment)


@given(
    MOMENTS,
    st.integers(0, 1439),
    st.integers(0, 1440),
)
def test_in_a_zone_without_changes_a_window_is_what_its_clock_says(
    moment: datetime, start: int, end: int
) -> None:
    window = {
        "from": f"{start // 60:02}:{start % 60:02}",
        "to": f"{end // 60:02}:{end % 60:02}",
        "timezone": "Asia/Tokyo",
    }
    clock = moment.astimezone(ZoneInfo("Asia/Tokyo"))
    minute = clock.hour * 60 + clock.minute
    inside = start <= minute < end if start < end else (minute >= start or minute < end)

    assert read_window(window).contains(moment) is inside


@pytest.mark.parametrize(
    "window",
    [
        WEEKEND,
        {"days": "sun"},
        {"from": "08:00", "to": "24:00"},
        {"start": "2026-05-01", "end": "2026-05-02", "timezone": VIENNA},
    ],
)
def test_a_window_written_as_data_reads_back_as_the_same(window: dict[str, Any]) -> None:
    found = read_window(window)

    assert read_window(json.loads(json.dumps(found.to_data()))) == found


def test_one_window_is_a_list_of_one() -> None:
    assert read_windows(WEEKEND) == read_windows([WEEKEND]) == (read_window(WEEKEND),)


def test_a_rule_is_in_maintenance_in_any_of_its_windows() -> None:
    rule = {"name": "r", "metric": "cpu_usage", "op": ">", "threshold": 1}
    (plain,) = parse_rules(rule)
    (kept,) = parse_rules(rule | {"maintenance": [{"days": ["mon"]}, {"days": ["wed"]}]})

    assert [is_in_maintenance(kept, at(f"2026-01-0{day}")) for day in (5, 6, 7)] == [True, False, True]
    assert not is_in_maintenance(plain, at("2026-01-05"))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("sunday", "must be a list of windows"),
        (7, "must be a list of windows"),
        ([{}], "{} must be"),
        (["sun"], "'sun' must be"),
        ({"start": "2026-05-01"}, "end None must be a time"),
        ({"start": "soon", "end": "2026-05-01"}, "start 'soon' must be a time"),
        ({"start": 20260501, "end": "2026-05-02"}, "start 20260501 must be a time"),
        ({"start": "2026-05-02", "end": "2026-05-01"}, "which is not after its start"),
        ({"start": "2026-05-02", "end": "2026-05-03", "days": ["sun"]}, "'days', which does not belong"),
        ({"days": ["sunday"]}, "days ['sunday'] must be a list of mon, tue"),
        ({"days": []}, "days [] must be"),
        ({"day": "sun"}, "'day', which does not belong"),
        ({"from": "25:00"}, "from '25:00' must be a time of the day"),
        ({"from": "24:01"}, "from '24:01' must be a time of the day"),
        ({"from": "24:00"}, "write that"),
        ({"to": 1320}, "to 1320 must be a time of the day in quotes"),
        ({"days": ["sun"], "timezone": "Vienna"}, "timezone 'Vienna' is not known"),
        ({"days": ["sun"], "timezone": "../etc/passwd"}, "is not known"),
        ({"days": ["sun"], "timezone": "Europe"}, "timezone 'Europe' is not known"),
        ({"days": ["sun"], "timezone": ""}, "is not known"),
        ({"timezone": "UTC"}, "says no time, which would be always"),
    ],
)
def test_what_is_no_window_is_told(value: Any, told: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        read_windows(value)
    assert told in str(caught.value)
