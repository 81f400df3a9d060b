"""The one place that reads the clock or waits: all else takes time as an argument, and tests never sleep."""

from __future__ import annotations

import time
from datetime import UTC, datetime

monotonic = time.monotonic
sleep = time.sleep


def utc_now() -> datetime:
    """Return the current time, aware, in UTC, cut to the millisecond that Cassandra's ``timestamp`` keeps."""
    return to_millisecond(datetime.now(tz=UTC))


def to_millisecond(moment: datetime) -> datetime:
    """Cut a time to whole milliseconds."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def format_utc(moment: datetime) -> str:
    """Write a time as ISO 8601 with milliseconds and ``Z``, the form that samples, XCom and evidence use."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
