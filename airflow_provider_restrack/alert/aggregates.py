"""What the samples of a window come to."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_restrack.alert.rules import AlertRule


def aggregate(rule: AlertRule, times: Sequence[int], values: Sequence[float]) -> float | None:
    """Return the aggregate of a window's samples, None where they are too few for it."""
    name = str(rule.aggregate)
    if name in _AGGREGATES:
        return _AGGREGATES[name](values)
    if name == "rate":
        return _rate(times, values)
    if name == "fraction_above" and rule.above is not None:
        return sum(value > rule.above for value in values) / len(values)
    return _percentile(sorted(values), int(name[1:]) / 100)


def _average(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _stddev(values: Sequence[float]) -> float:
    """Return the standard deviation of the values as a whole population, as stddev_over_time does."""
    average = _average(values)
    return math.sqrt(math.fsum((value - average) ** 2 for value in values) / len(values))


_AGGREGATES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "avg": _average,
    "min": min,
    "max": max,
    "last": lambda values: values[-1],
    "count": len,
    "stddev": _stddev,
}


def _rate(times: Sequence[int], values: Sequence[float]) -> float | None:
    """Return by how much a counter grows in a second, None of fewer than two samples.

    What is seen to be added, over the time between the first and the last sample. A value below the one
    before it is a counter that began anew at 0, as in Prometheus; unlike there nothing is extrapolated.
    """
    if len(times) < 2:
        return None
    added = math.fsum(after - before if after >= before else after for before, after in pairwise(values))
    return added / ((times[-1] - times[0]) / 1000)


def _percentile(ordered: Sequence[float], share: float) -> float:
    """Return a percentile by linear interpolation between ranks, as Prometheus' quantile_over_time does."""
    position = share * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)
