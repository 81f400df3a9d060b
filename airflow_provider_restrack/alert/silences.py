"""Silences: how they are set, extended and ended, decided without a server; and their rows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_restrack.alert.durations import parse_duration
from airflow_provider_restrack.alert.evaluate import to_ms
from airflow_provider_restrack.alert.records import Silence
from airflow_provider_restrack.store.silences import SilenceRow

if TYPE_CHECKING:
    from datetime import datetime

# A guard against a silence that nobody remembers.
MAX_MS = 366 * 86400 * 1000


def find_window(
    starts: datetime | str | None, duration: object, ends: datetime | str | None, now_ms: int
) -> tuple[int, int]:
    """Return start and end of a silence in ms.

    :param starts: an aware time, or ISO 8601; now if left out.
    :param duration: from its start on; or ``ends`` in its place.
    :raises ValueError: if both or none of these are given, or the end is not in the future and after the
        start, or more than 366 days after it.
    """
    starts_ms = now_ms if starts is None else to_ms(starts)
    ends_ms = find_end(duration, ends, starts_ms)
    if ends_ms <= max(starts_ms, now_ms):
        raise ValueError("a silence must end after its start and after now: correct ends or starts")
    if ends_ms - starts_ms > MAX_MS:
        raise ValueError(
            "a silence may last at most 366 days: narrow the rule, or leave out what is not wanted"
        )
    return starts_ms, ends_ms


def find_end(duration: object, ends: datetime | str | None, start_ms: int) -> int:
    """Return the end of a time that begins at ``start_ms``.

    :raises ValueError: if not exactly one of ``duration`` and ``ends`` is given, or it makes no sense.
    """
    if (duration is None) == (ends is None):
        raise ValueError("give either duration or ends")
    return to_ms(ends) if ends is not None else start_ms + round(parse_duration(duration) * 1000)


def extend(silence: Silence, ends_ms: int, now_ms: int) -> Silence:
    """Return a silence that lasts until ``ends_ms``, or as long as it does if that is longer.

    :raises ValueError: if it is over, or would last for more than 366 days.
    """
    if silence.ends_ms <= now_ms:
        raise ValueError(f"silence {silence.id} is over: set a new one")
    if ends_ms - silence.starts_ms > MAX_MS:
        raise ValueError(f"silence {silence.id} may last at most 366 days: set a new one")
    return replace(silence, ends_ms=max(silence.ends_ms, ends_ms))


def end(silence: Silence, now_ms: int) -> Silence:
    """Return a silence that is over now; one that is over already stays as it is."""
    return replace(silence, starts_ms=min(silence.starts_ms, now_ms), ends_ms=min(silence.ends_ms, now_ms))


def to_silence(row: SilenceRow) -> Silence:
    """Return the silence of a row."""
    return Silence(*row[1:])


def from_silence(scope: str, silence: Silence) -> SilenceRow:
    """Return the row of a silence in a scope."""
    return SilenceRow(
        scope, silence.id, silence.starts_ms, silence.ends_ms, silence.rule, silence.host, silence.device,
        silence.author, silence.comment,
    )  # fmt: skip
