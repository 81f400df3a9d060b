"""Reads CQL's ``duration``: ISO 8601, or Cassandra's own form such as ``1mo2d3h4m5s6ms``."""

from __future__ import annotations

import re
from typing import Any

_ISO = re.compile(
    r"(-?)P(?=.)(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?"
    r"(?:T(?=.)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.(\d{1,9}))?S)?)?",
    re.ASCII,
)
_OWN = re.compile(
    r"(-?)(?=.)(?:(\d+)y)?(?:(\d+)mo)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?"
    r"(?:(\d+)ms)?(?:(\d+)(?:us|µs))?(?:(\d+)ns)?",
    re.ASCII,
)
_SECOND = 1_000_000_000


def to_duration(text: str) -> Any:
    """Return the driver's duration.

    :raises ValueError: if the text is none, or a part does not fit.
    """
    from cassandra.util import Duration

    iso, own = _ISO.fullmatch(text), _OWN.fullmatch(text)
    found = iso or own
    if found is None:
        raise ValueError(f"{text[:40]!r} is no duration such as P1DT2H or 1d2h")
    years, months, weeks, days, hours, minutes, seconds = (int(one or 0) for one in found.groups()[1:8])
    if iso:
        rest = int((iso[9] or "").ljust(9, "0"))
    else:
        millis, micros, nanos = (int(one or 0) for one in found.groups()[8:])
        rest = millis * 1_000_000 + micros * 1000 + nanos
    parts = (years * 12 + months, weeks * 7 + days, ((hours * 60 + minutes) * 60 + seconds) * _SECOND + rest)
    if parts[0] >= 2**31 or parts[1] >= 2**31 or parts[2] >= 2**63:
        raise ValueError("a duration is out of range")
    sign = -1 if found[1] else 1
    return Duration(*(sign * part for part in parts))
