"""Maintenance windows of rules: times in which alerts are recorded, and nobody is told.

A weekly window is a time of the wall clock in its time zone. On the day that the clocks are set back, a time
that comes twice opens the window the first time and closes it the second; a time that is skipped counts as
it would have been by the clock before the change (as in RFC 5545, section 3.3.5). A window that this would
leave nothing of is as long as on other days.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from airflow_provider_restrack.alert.rule import AlertRule

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
FIXED_KEYS = ("start", "end", "timezone")
WEEKLY_KEYS = ("days", "from", "to", "timezone")

_DAY_MINUTES = 24 * 60
_CLOCK = re.compile(r"([01]\d|2[0-4]):([0-5]\d)")


@dataclass(frozen=True, slots=True)
class FixedWindow:
    """One time: from ``start`` until before ``end``."""

    start: datetime
    end: datetime

    def contains(self, moment: datetime) -> bool:
        """Whether a moment lies in the window."""
        return self.start <= moment < self.end

    def to_data(self) -> dict[str, Any]:
        """Return the window as :func:`read_window` reads it."""
        return {"start": self.start.isoformat(), "end": self.end.isoformat()}


@dataclass(frozen=True, slots=True)
class WeeklyWindow:
    """A time of some days of the week: from ``start_minute`` of the day until before ``end_minute``.

    An end that is not after the start is on the next day; the window belongs to the day that it starts on.
    """

    days: tuple[str, ...]
    start_minute: int
    end_minute: int
    timezone: str

    def contains(self, moment: datetime) -> bool:
        """Whether a moment, with its time zone, lies in the window."""
        today = moment.astimezone(ZoneInfo(self.timezone)).date()
        return any(self._covers(today - timedelta(days=back), moment) for back in (0, 1))

    def _covers(self, day: date, moment: datetime) -> bool:
        if DAYS[day.weekday()] not in self.days:
            return False
        end_minute = self.end_minute
        if end_minute <= self.start_minute:
            end_minute += _DAY_MINUTES
        start, _ = _find_instants(day, self.start_minute, self.timezone)
        _, end = _find_instants(day, end_minute, self.timezone)
        if end <= start:  # both are times that are skipped, or the end is just after them
            end = start + timedelta(minutes=end_minute - self.start_minute)
        return start <= moment < end

    def to_data(self) -> dict[str, Any]:
        """Return the window as :func:`read_window` reads it."""
        return {
            "days": list(self.days),
            "from": _format_minute(self.start_minute),
            "to": _format_minute(self.end_minute),
            "timezone": self.timezone,
        }


MaintenanceWindow = FixedWindow | WeeklyWindow


def is_in_maintenance(rule: AlertRule, moment: datetime) -> bool:
    """Whether a moment, with its time zone, lies in a maintenance window of a rule."""
    return any(window.contains(moment) for window in rule.maintenance)


def read_windows(value: object) -> tuple[MaintenanceWindow, ...]:
    """Read a rule's maintenance windows: a list of them, or one.

    :raises ValueError: if one is none; the message names its key and what is allowed.
    """
    windows = [value] if isinstance(value, Mapping) else value
    if isinstance(windows, str) or not isinstance(windows, Sequence):
        raise ValueError(f"{value!r} must be a list of windows, {_FORMS}")  # noqa: TRY004 - as all values
    return tuple(read_window(window) for window in windows)


def read_window(value: object) -> MaintenanceWindow:
    """Read one window.

    :raises ValueError: as :func:`read_windows`.
    """
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f"{value!r} must be {_FORMS}")
    is_fixed = "start" in value or "end" in value
    allowed = FIXED_KEYS if is_fixed else WEEKLY_KEYS
    unknown = [key for key in value if key not in allowed]
    if unknown:
        raise ValueError(f"has {unknown[0]!r}, which does not belong there; a window is {_FORMS}")
    zone = _read_zone(value.get("timezone"))
    return _read_fixed(value, zone) if is_fixed else _read_weekly(value, zone)


_FORMS = (
    '{"start": …, "end": …} with times such as "2026-05-01T20:00:00Z", or {"days": ["sat", "sun"], "from": '
    '"22:00", "to": "02:00", "timezone": "Europe/Vienna"}'
)


def _read_fixed(value: Mapping[Any, Any], zone: str) -> FixedWindow:
    start, end = (_read_moment(value.get(key), key, zone) for key in ("start", "end"))
    if end <= start:
        raise ValueError(f"ends at {end.isoformat()}, which is not after its start {start.isoformat()}")
    return FixedWindow(start, end)


def _read_moment(value: object, key: str, zone: str) -> datetime:
    """Return a time in UTC; one without an offset is of the window's time zone."""
    try:
        # A number is not taken for a date, though 20260501 could be one.
        text = "" if isinstance(value, int) else str(value)
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f'{key} {value!r} must be a time such as "2026-05-01T20:00:00Z"') from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(zone))
    return moment.astimezone(UTC)


def _read_weekly(value: Mapping[Any, Any], zone: str) -> WeeklyWindow:
    if value.keys() <= {"timezone"}:
        raise ValueError(f"{dict(value)!r} says no time, which would be always; a window is {_FORMS}")
    start = _read_clock(value.get("from"), "from", "00:00")
    end = _read_clock(value.get("to"), "to", "24:00")
    if start == _DAY_MINUTES:
        raise ValueError('from "24:00" is "00:00" of the next day: write that')
    return WeeklyWindow(_read_days(value.get("days")), start, end, zone)


def _read_days(value: object) -> tuple[str, ...]:
    if value is None:
        return DAYS
    days = [value] if isinstance(value, str) else value
    if isinstance(days, Sequence) and days and all(day in DAYS for day in days):
        return tuple(day for day in DAYS if day in days)
    raise ValueError(f"days {value!r} must be a list of {', '.join(DAYS)}")


def _read_clock(value: object, key: str, default: str) -> int:
    """Return the minute of the day."""
    text = default if value is None else value
    match = _CLOCK.fullmatch(text) if isinstance(text, str) else None
    minute = int(match[1]) * 60 + int(match[2]) if match else _DAY_MINUTES + 1
    if minute <= _DAY_MINUTES:
        return minute
    # YAML reads 22:00 without quotes as the number 1320.
    raise ValueError(f'{key} {value!r} must be a time of the day in quotes, "00:00" to "24:00"')


def _format_minute(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _read_zone(value: object) -> str:
    name = "UTC" if value is None else value
    try:
        return ZoneInfo(str(name)).key
    except (KeyError, ValueError, OSError):
        raise ValueError(
            f'timezone {value!r} is not known: give a name of the IANA database, such as "Europe/Vienna"'
        ) from None


def _find_instants(day: date, minute: int, timezone: str) -> tuple[datetime, datetime]:
    """Return the first and the last instant at which the clocks of a zone show a time of a day."""
    day, minute = day + timedelta(days=minute // _DAY_MINUTES), minute % _DAY_MINUTES
    clock = datetime.combine(day, time(minute // 60, minute % 60), ZoneInfo(timezone))
    first, second = clock.astimezone(UTC), clock.replace(fold=1).astimezone(UTC)
    return first, max(first, second)
