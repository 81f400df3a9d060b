"""Decide whether it is over: no instance of the rules is in breach any more, and fresh samples say so.

An alert ends as its rule says, by samples beyond ``clear_threshold`` for ``clear_for``. That samples are
missing or old ends nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.alert.durations import format_duration
from airflow_provider_restrack.alert.evaluate import Breach, from_ms, iterate_points
from airflow_provider_restrack.alert.observe import (
    HOSTS_AT_ONCE,
    LOOKBACK_FACTOR,
    MAX_LOOKBACK_S,
    MIN_ROWS,
    evaluate_host,
    fetch_forecasts,
    plan_reads,
)
from airflow_provider_restrack.alert.pace import Pace
from airflow_provider_restrack.alert.records import AlertRecord, InstanceKey
from airflow_provider_restrack.alert.time_to_limit import build_series_of
from airflow_provider_restrack.alert.timeline import replay
from airflow_provider_restrack.clock import format_utc
from airflow_provider_restrack.store.series import batched

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from airflow_provider_restrack.alert.evaluate import Series, Verdict
    from airflow_provider_restrack.alert.observe import SampleReader
    from airflow_provider_restrack.alert.rules import AlertRule
    from airflow_provider_restrack.alert.time_to_limit import Forecasts
    from airflow_provider_restrack.alert.timeline import Timeline

MAX_EXPLAINED = 10


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one instance of a rule stands.

    :ivar is_on: it is in breach, breaches, or is on its way back.
    :ivar is_fresh: its newest value is new enough to say anything.
    :ivar reason: why it is not over, in words; empty if it is.
    :ivar ended: the run of its last alert in the samples that were read, up to the sample that ended it.
    :ivar newest: its newest value.
    :ivar wants_more: older samples could change what is said here.
    """

    rule: AlertRule
    host: str
    device: str | None
    is_on: bool = False
    is_fresh: bool = False
    reason: str = ""
    ended: Breach | None = None
    newest: float | None = None
    wants_more: bool = False

    @property
    def where(self) -> str:
        """The host, and the device if there is one."""
        return f"{self.host} {self.device}" if self.device else self.host


@dataclass(frozen=True, slots=True)
class Clearance:
    """All instances, and one line for each thing that is waited for; it is over if there is none."""

    rules: tuple[AlertRule, ...]
    hosts: tuple[str, ...]
    standings: tuple[Standing, ...]
    waiting: tuple[str, ...]
    at: datetime

    @property
    def is_over(self) -> bool:
        """Whether no instance is in breach any more."""
        return not self.waiting

    def explain(self) -> list[str]:
        """Return what is waited for, for the log: some lines, and how many more there are."""
        rest = len(self.waiting) - MAX_EXPLAINED
        more = [f"and {rest} more"] if rest > 0 else []
        return [f"not over: {line}" for line in self.waiting[:MAX_EXPLAINED]] + more


def observe_clearance(
    rules: Sequence[AlertRule], reader: SampleReader, hosts: Sequence[str] | None, now: datetime
) -> Clearance:
    """Read the samples of the hosts and decide whether all rules are clear on all of them.

    :param hosts: names, of which each must show by fresh samples that it is over. None: all that the reader
        knows; one that no longer sends then counts only if it was in breach in its last samples, as long as
        one host at least is fresh for each rule.
    """
    names = tuple(sorted(set(reader.hosts() if hosts is None else hosts)))
    wanted = [host for host in names if any(rule.matches_host(host) for rule in rules)]
    forecasts = fetch_forecasts(rules, reader, wanted, now)
    standings: list[Standing] = []
    silent: list[str] = []
    for chunk in batched(wanted, HOSTS_AT_ONCE):
        found, without = _judge_hosts(rules, reader, chunk, now, forecasts)
        standings += found
        silent += without
    waiting = _find_waiting(standings, silent, is_named=hosts is not None)
    return Clearance(tuple(rules), names, tuple(standings), tuple(waiting), now)


def _judge_hosts(
    rules: Sequence[AlertRule],
    reader: SampleReader,
    hosts: Sequence[str],
    now: datetime,
    forecasts: Forecasts,
) -> tuple[list[Standing], list[str]]:
    """Return the standings of some hosts, and those of them that have no sample though a rule needs some.

    Hosts of which older samples could say more are read further back, up to a day.
    """
    if not any(rule.source == "samples" or rule.labels for rule in rules):
        return [one for host in hosts for one in judge_host(rules, host, (), now, forecasts)], []
    plan, pending = plan_reads(rules, now), list(hosts)
    seconds = (now - plan.since).total_seconds() + max(rule.clear_for_seconds for rule in rules)
    counts = dict.fromkeys(hosts, -1)
    standings: dict[str, list[Standing]] = {host: [] for host in hosts}
    while pending:
        rows = reader.fetch(pending, now - timedelta(seconds=seconds), now, plan.columns)
        for host in pending:
            before, counts[host] = counts[host], len(rows.get(host, ()))
            if counts[host] != before:  # else nothing older is there
                standings[host] = judge_host(rules, host, rows.get(host, ()), now, forecasts)
        if seconds >= MAX_LOOKBACK_S:
            break
        seconds = min(seconds * LOOKBACK_FACTOR, MAX_LOOKBACK_S)
        pending = [host for host in pending if counts[host] < MIN_ROWS or _want_more(standings[host])]
    return [one for found in standings.values() for one in found], [
        host for host in hosts if not counts[host]
    ]


def judge_host(
    rules: Sequence[AlertRule],
    host: str,
    rows: Sequence[Mapping[str, Any]],
    now: datetime,
    forecasts: Forecasts,
) -> list[Standing]:
    """Return where the rules that are for a host stand, one for each device of a map metric."""
    found = []
    series: dict[tuple[str, str | None], Series] = {}
    for verdict in evaluate_host(rules, host, rows, now, forecasts):
        rule = verdict.rule
        if (rule.name, verdict.device) not in series:
            built = build_series_of(rule, host, rows, forecasts, now)
            series |= {(rule.name, one.device): one for one in built}
        found.append(_judge(verdict, series.get((rule.name, verdict.device)), now))
    return found


def _judge(verdict: Verdict, series: Series | None, now: datetime) -> Standing:
    rule = verdict.rule
    can_read_more = rule.source == "samples"  # a forecast's series is read whole
    standing = Standing(rule, verdict.host, verdict.device, reason=verdict.reason, wants_more=can_read_more)
    if series is None:
        return standing
    pace = Pace(series.times)
    points = _list_points(rule, series, pace)
    if not points:
        return standing
    timeline = replay(rule, series, now)
    is_on = verdict.state in {"breach", "pending"} or timeline.state != "ok"
    is_fresh = verdict.state not in {"stale", "no_data"}
    ended = None if is_on else _find_ended(standing, timeline, points, pace)
    newest = points[-1][1]
    return replace(
        standing,
        is_on=is_on,
        is_fresh=is_fresh,
        reason="" if is_fresh and not is_on else _explain(verdict, timeline, newest),
        ended=ended,
        newest=newest,
        wants_more=can_read_more and not is_on and _is_open_start(rule, series, ended, now),
    )


def _list_points(rule: AlertRule, series: Series, pace: Pace) -> list[tuple[int, float]]:
    """Return all that the rule compares, oldest first: the values that its transitions rest on."""
    if not series.times:
        return []
    gaps = pace.gaps_at(rule, series.times[0])
    found = iterate_points(rule, series, len(series.times), gaps, lambda time: pace.gaps_at(rule, time))
    return list(found)[::-1]


def _find_ended(
    standing: Standing, timeline: Timeline, points: Sequence[tuple[int, float]], pace: Pace
) -> Breach | None:
    """Return the last alert that ended, with all its values up to the one that ended it."""
    rule = standing.rule
    ends = [one for one in timeline.transitions if one.kind == "resolved"]
    if not ends:
        return None
    last = ends[-1]
    first = bisect_left(points, last.since_ms, key=lambda point: point[0])
    end = bisect_right(points, last.at_ms, key=lambda point: point[0])
    times, values = zip(*points[first:end], strict=True)
    level = next((one for one in rule.levels if one.severity == last.severity), rule.levels[0])
    told = replace(rule, severity=level.severity, threshold=level.threshold, thresholds=())
    covered_ms = sum(min(b - a, pace.gaps_at(told, b).reach_ms) for a, b in pairwise(times))
    coverage = covered_ms / (times[-1] - times[0]) if times[-1] > times[0] else 1.0
    return Breach(told, standing.host, standing.device, times, values, round(coverage, 4), not first)


def _is_open_start(rule: AlertRule, series: Series, ended: Breach | None, now: datetime) -> bool:
    """Whether it may still be on by what happened before these samples, or its alert began before them.

    It is over for certain if even an alert that was open before the first sample has ended by now.
    """
    if ended is not None:
        return ended.open_start
    time = series.times[0] - 1
    key = InstanceKey(rule.name, series.host, series.device or "")
    before = AlertRecord(key, open=True, severity=rule.levels[-1].severity, since_ms=time, at_ms=time)
    return replay(rule, series, now, before).state != "ok"


def _explain(verdict: Verdict, timeline: Timeline, newest: float) -> str:
    if timeline.severity is None:
        return verdict.reason or f"newest value {newest:.6g} breaches"
    since = "" if timeline.since_ms is None else f" since {format_utc(from_ms(timeline.since_ms))}"
    how = f"is in breach{since}, newest value {newest:.6g}"
    if timeline.state == "recovering":
        clear_for = format_duration(verdict.rule.clear_for_seconds)
        how = f"is clear, but not yet for {clear_for} (newest value {newest:.6g})"
    return f"{how}; {verdict.reason}" if verdict.state in {"stale", "no_data"} else how


def _want_more(standings: Iterable[Standing]) -> bool:
    return any(one.wants_more for one in standings)


def _find_waiting(standings: Sequence[Standing], silent: Sequence[str], *, is_named: bool) -> list[str]:
    """Return what stands against it being over, one line each."""
    lines = [_describe(one) for one in standings if one.is_on]
    if is_named:
        lines += [f"{host}: no sample of the last day" for host in silent]
        return lines + [_describe(one) for one in _without_evidence(standings) if one.host not in silent]
    fresh = {one.rule.name for one in standings if one.is_fresh}
    for name in dict.fromkeys(one.rule.name for one in standings):
        if name not in fresh:
            lines.append(f"rule {name!r}: no host has a fresh sample")
    return lines if fresh or lines else ["no host that a rule is for has a sample"]


def _without_evidence(standings: Iterable[Standing]) -> Iterator[Standing]:
    """Yield one instance of each rule and host that shows neither a breach nor its end."""
    by_host: dict[tuple[str, str], list[Standing]] = {}
    for one in standings:
        by_host.setdefault((one.rule.name, one.host), []).append(one)
    return (found[0] for found in by_host.values() if not any(one.is_fresh or one.is_on for one in found))


def _describe(standing: Standing) -> str:
    return f"rule {standing.rule.name!r}, {standing.where}: {standing.reason}"
