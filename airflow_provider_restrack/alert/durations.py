"""Durations as people write them in rules and read them in alerts."""

from __future__ import annotations

import math
import re
from datetime import timedelta

DURATION_FORMS = 'a duration such as "10m", "90s" or "1h30m", or a number of seconds'

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_UNIT_SECONDS = (86400, 3600, 60, 1)
_UNIT_NAMES = ("d", "h", "min", "s")


def parse_duration(value: object) -> float:
    """Return a duration in seconds, to the millisecond.

    :param value: ``"10m"``, ``"90s"``, ``"1h30m"``, ``"2d"``, a number of seconds, or a timedelta.
    :raises ValueError: if it is none of these, is negative or is not finite.
    """
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str):
        seconds = _parse_text(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise ValueError(f"{value!r} is not {DURATION_FORMS}")  # noqa: TRY004 - one class for all bad values
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"{value!r} is negative or not finite: use {DURATION_FORMS}")
    return round(seconds, 3)


def format_duration(seconds: float) -> str:
    """Return a duration in words, in its two largest units: ``10 min``, ``1 h 30 min``, ``2 d 4 h``."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    rest = round(seconds)
    parts: list[str] = []
    for unit, name in zip(_UNIT_SECONDS, _UNIT_NAMES, strict=True):
        count, rest = divmod(rest, unit)
        if count or parts:
            parts.append(f"{count} {name}" if count else "")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if part)


def _parse_text(text: str) -> float:
    compact = text.strip()
    match = _DURATION.fullmatch(compact)
    if match and compact:
        parts = zip(match.groups(), _UNIT_SECONDS, strict=True)
        return sum(float(part) * unit for part, unit in parts if part)
    try:
        return float(compact)
    except ValueError:
        raise ValueError(f"{text!r} is not {DURATION_FORMS}") from None
