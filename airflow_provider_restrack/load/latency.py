"""Counts latencies in a fixed number of buckets, so that quantiles of millions of writes take no memory."""

from __future__ import annotations

import math

# Buckets double in width with each octave and are 32 to an octave, so that none is wider than 1/32 of its
# values (3.1 %); up to 64 µs each microsecond has its own.
_SUB_BITS = 5
_MAX_SHIFT = 26  # 71 minutes; what takes longer counts as that
_BUCKETS = (_MAX_SHIFT + 2) << _SUB_BITS


class LatencyHistogram:
    """A log-linear histogram, as HdrHistogram's (https://hdrhistogram.github.io/HdrHistogram/)."""

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        self._buckets = [0] * _BUCKETS

    def add(self, seconds: float) -> None:
        """Count a latency of zero or more seconds."""
        micros = int(seconds * 1e6)
        shift = micros.bit_length() - 6
        if shift <= 0:
            self._buckets[micros] += 1
        elif shift <= _MAX_SHIFT:
            self._buckets[(shift << _SUB_BITS) + (micros >> shift)] += 1
        else:
            self._buckets[-1] += 1

    @property
    def count(self) -> int:
        """How many latencies were counted."""
        return sum(self._buckets)

    def quantile(self, q: float) -> float | None:
        """Return the seconds that a share ``q`` of the latencies do not exceed, within 2 %; None of none."""
        rank, seen = max(1, math.ceil(q * self.count)), 0
        for index, count in enumerate(self._buckets):
            seen += count
            if seen >= rank:
                return _middle(index)
        return None

    def quantile_ms(self, q: float) -> float | None:
        """Return ``quantile`` in milliseconds."""
        seconds = self.quantile(q)
        return None if seconds is None else round(seconds * 1000, 3)


def _middle(index: int) -> float:
    """Return the middle of a bucket, in seconds."""
    shift = max(0, (index >> _SUB_BITS) - 1)
    start = index - (shift << _SUB_BITS)
    return ((start << shift) + ((1 << shift) - 1) / 2) / 1e6
