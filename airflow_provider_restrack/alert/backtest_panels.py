"""What a backtest's picture shows: the values of the worst instances, read host by host, and their alerts."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise, zip_longest
from typing import TYPE_CHECKING

from airflow_provider_restrack.alert.backtest import rank_instances
from airflow_provider_restrack.alert.evaluate import build_series, iterate_points, to_ms
from airflow_provider_restrack.alert.host import read_times
from airflow_provider_restrack.alert.observe import plan_reads
from airflow_provider_restrack.alert.pace import Pace
from airflow_provider_restrack.alert.records import InstanceKey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_restrack.alert.backtest import Report, RuleResult
    from airflow_provider_restrack.alert.episodes import Episode
    from airflow_provider_restrack.alert.evaluate import Series
    from airflow_provider_restrack.alert.observe import SampleReader
    from airflow_provider_restrack.alert.rules import AlertRule

DEFAULT_PANELS = 6


@dataclass(frozen=True, slots=True)
class Panel:
    """One host (and device) of a rule: its compared values, and the alerts over them.

    :ivar times: of the values; ms since 1970, ascending. ``values`` are those that the rule compares:
        samples, or aggregates.
    :ivar pace: of the samples: what counts as a gap.
    :ivar episodes: of its threshold alert, and of the one that the host's samples are missing.
    """

    rule: AlertRule
    key: InstanceKey
    times: Sequence[int]
    values: Sequence[float]
    pace: Pace
    episodes: Sequence[Episode]
    flaps: int


def read_panels(report: Report, reader: SampleReader, count: int = DEFAULT_PANELS) -> list[Panel]:
    """Read the samples of the worst instances, host by host.

    Each rule gives its worst first, then each its second. Where fewer instances had an alert, those follow
    that another threshold would have found.
    """
    ranks = [[(result, key) for key in _join(rank_instances(result))] for result in report.rules]
    in_turn = [one for row in zip_longest(*ranks) for one in row if one is not None]
    return [_read_panel(report, reader, result, key) for result, key in in_turn[:count]]


def count_places(report: Report) -> int:
    """Return how many panels it would take to show all alerts."""
    return sum(len(_join([one.key for one in result.instances])) for result in report.rules)


def _join(found: Sequence[InstanceKey]) -> list[InstanceKey]:
    """Return the instances to show: a host's missing samples are shown over its values."""
    keys = [key._replace(condition="threshold") for key in found]
    with_device = {key.host for key in keys if key.device}
    return [key for key in dict.fromkeys(keys) if key.device or key.host not in with_device]


def _read_panel(report: Report, reader: SampleReader, result: RuleResult, key: InstanceKey) -> Panel:
    rule = result.rule
    plan = plan_reads([rule], report.until)
    since = report.since - timedelta(seconds=rule.window_seconds)
    rows = reader.fetch([key.host], since, report.until, plan.columns).get(key.host, ())
    pace, found = Pace(read_times(rows)), build_series(rule, key.host, rows, report.until)
    if rule.has_devices and not key.device and found:  # only its samples were missing
        key = key._replace(device=found[0].device or "")
    times, values = _read_values(rule, found, key.device, pace)
    first = bisect_left(times, to_ms(report.since))
    shown = (key, InstanceKey(rule.name, key.host, "", "no_data"))
    results = [one for one in result.instances if one.key in shown]
    return Panel(
        rule=rule,
        key=key,
        times=times[first:],
        values=values[first:],
        pace=pace,
        episodes=[episode for one in results for episode in one.episodes],
        flaps=sum(one.tally.flaps for one in results),
    )


def _read_values(
    rule: AlertRule, found: Sequence[Series], device: str, pace: Pace
) -> tuple[list[int], list[float]]:
    series = next((one for one in found if (one.device or "") == device), None)
    if series is None or not series.times:
        return [], []
    gaps = pace.gaps_at(rule, series.times[0])
    points = list(
        iterate_points(rule, series, len(series.times), gaps, lambda time: pace.gaps_at(rule, time))
    )
    points.reverse()
    return [time for time, _ in points], [value for _, value in points]


def split_at_gaps(panel: Panel) -> tuple[list[int], list[float], list[int]]:
    """Return times and values with a NaN in each gap, and the indices of values that stand alone.

    A gap is longer than a sample vouches for (three usual intervals, or the rule's ``max_gap``).
    """
    if not panel.times:
        return [], [], []
    times, values, starts = [panel.times[0]], [panel.values[0]], [0]
    for (before, time), value in zip(pairwise(panel.times), panel.values[1:], strict=True):
        if time - before > panel.pace.gaps_at(panel.rule, time).reach_ms:
            times.append((before + time) // 2)
            values.append(math.nan)
            starts.append(len(times))
        times.append(time)
        values.append(value)
    ends = [*(start - 1 for start in starts[1:]), len(times)]
    return times, values, [start for start, end in zip(starts, ends, strict=True) if end - start == 1]
