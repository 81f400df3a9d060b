"""Decides when a run tells of its progress in the task's log, and in what words: pure, time is an
argument.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Tally:
    """What a run has done so far.

    :ivar lag: offsets that are still to be loaded.
    """

    records: int = 0
    rows: int = 0
    lag: int = 0
    dead_letters: int = 0
    retries: int = 0


class Progress:
    """The moments at which lines are due, and the counts of the last one for the rate of now.

    :param started: the monotonic time of the run's start.
    """

    def __init__(self, started: float) -> None:
        self._started = self._last = started
        self._told = Tally()

    def due(self, now: float) -> bool:
        """Whether it is time for another line."""
        return now - self._last >= EVERY_S

    def line(self, now: float, tally: Tally) -> str:
        """Return the line of now, and count the time to the next from it."""
        span, whole = now - self._last, now - self._started
        records = _rate(tally.records - self._told.records, span)
        text = (
            f"Loading: {tally.records} records as {tally.rows} rows,"
            f" {_rate(tally.rows - self._told.rows, span):.0f} rows/s now,"
            f" {_rate(tally.rows, whole):.0f} on average; lag left {tally.lag}{_eta(tally.lag, records)};"
            f" dead letters {tally.dead_letters}, retries {tally.retries}"
        )
        self._last, self._told = now, tally
        return text


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0


def _eta(lag: int, records_per_second: float) -> str:
    if not lag:
        return ""
    if records_per_second <= 0:
        return ", at a standstill"
    return f", about {format_span(lag / records_per_second)}"


def format_span(seconds: float) -> str:
    """Write a span in its two largest units, such as ``2 h 05 min``, ``3 min 20 s`` or ``9 s``."""
    whole = math.ceil(seconds)
    minutes, hours = whole // 60, whole // 3600
    if hours >= 48:
        return f"{hours // 24} d {hours % 24:02d} h"
    if hours:
        return f"{hours} h {minutes % 60:02d} min"
    return f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s"
