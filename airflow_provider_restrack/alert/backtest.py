"""What rules would have said of the stored past, and what other thresholds would have said.

The past is evaluated step by step, each going on from the one before, by what evaluates the present: so the
transitions are those that ``EvaluateAlertsOperator`` would have recorded. Other thresholds are rules of their
own in the same evaluation: samples are read once, however many there are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_restrack.alert.episodes import Episode, Tally, build_episodes, tally
from airflow_provider_restrack.alert.evaluate import to_ms
from airflow_provider_restrack.alert.fleet import evaluate_fleet
from airflow_provider_restrack.alert.host import read_times
from airflow_provider_restrack.alert.ladder import build_variant, plan_ladders
from airflow_provider_restrack.alert.records import Book

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from airflow_provider_restrack.alert.observe import SampleReader
    from airflow_provider_restrack.alert.records import AlertTransition, InstanceKey
    from airflow_provider_restrack.alert.rules import AlertRule, Severity
    from airflow_provider_restrack.alert.time_to_limit import Forecasts

# An alert that comes or goes faster than one run of a DAG every five minutes, and two of its retries, tells
# nobody anything.
DEFAULT_FLAP_S = 900.0
# Bounds what is in memory: the samples of 50 hosts over a step. An evaluation reads at most a day.
STEP = timedelta(hours=6)
# Alerts that were open at the start are known if they fired, or could not be cleared, within this time.
WARM_UP = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class InstanceResult:
    """The alerts of one instance: a rule on a host (and device), by condition."""

    key: InstanceKey
    episodes: tuple[Episode, ...]
    tally: Tally

    @property
    def peak(self) -> float | None:
        """Most extreme value of its worst alert: of the longest, if several were open."""
        longest = max(self.episodes, key=lambda one: one.seconds)
        return longest.peak


@dataclass(frozen=True, slots=True)
class ThresholdResult:
    """What a rule would have said with one threshold alone.

    :ivar severity: the rule's own that has this threshold; None: it is another's.
    :ivar seconds: time in alert by instance, of those that had any.
    """

    threshold: float
    severity: Severity | None
    tally: Tally
    seconds: Mapping[InstanceKey, float]


@dataclass(frozen=True, slots=True)
class RuleResult:
    """What one rule said. ``instances``: those with an alert, the worst first."""

    rule: AlertRule
    tally: Tally
    instances: tuple[InstanceResult, ...]
    thresholds: tuple[ThresholdResult, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """A backtest's outcome.

    :ivar hosts: that were looked at: those that a rule is for.
    :ivar silent: those of them without any sample.
    :ivar skipped: rules on forecasts, of which only the newest are kept.
    :ivar transitions: within the window, by time.
    """

    since: datetime
    until: datetime
    flap_seconds: float
    hosts: tuple[str, ...]
    silent: tuple[str, ...]
    skipped: tuple[str, ...]
    transitions: tuple[AlertTransition, ...]
    rules: tuple[RuleResult, ...]

    @property
    def seconds(self) -> float:
        """Length of the window."""
        return (self.until - self.since).total_seconds()


def backtest(
    rules: Sequence[AlertRule],
    reader: SampleReader,
    hosts: Sequence[str] | None,
    since: datetime,
    until: datetime,
    *,
    thresholds: Mapping[str, Sequence[float]] | None = None,
    flap_seconds: float = DEFAULT_FLAP_S,
    on_step: Callable[[datetime], None] | None = None,
) -> Report:
    """Replay rules over the samples of a window, and of the day before it.

    :param hosts: names; None: all that the reader knows.
    :param thresholds: others to try, by the rule's name; None: a ladder around those of every rule that
        compares with more or less; empty: none.
    :param flap_seconds: an alert that lasts shorter, or is back sooner, counts as a flap.
    :param on_step: is told how far the evaluation has come.
    :raises ValueError: if the window or a threshold makes no sense; the message names it.
    """
    from airflow_provider_restrack.store.read import check_window

    check_window(since, until)
    skipped = tuple(rule.name for rule in rules if rule.source != "samples")
    rules = [rule for rule in rules if rule.source == "samples"]
    tried = _plan_thresholds(rules, thresholds)
    watched = _Watched(reader)
    names = sorted(set(watched.hosts() if hosts is None else hosts))
    wanted = tuple(name for name in names if any(rule.matches_host(name) for rule in rules))
    run = _Run((*rules, *(one.variant for one in tried)), watched, wanted)
    for horizon in _plan_steps(since, until):
        run.go_on(horizon)
        if on_step is not None:
            on_step(horizon)
    own, since_ms = {rule.name for rule in rules}, to_ms(since)
    fresh = [one for one in run.transitions if one.key.rule in own and one.at_ms > since_ms]
    results = _Results(run, since_ms, to_ms(until), flap_seconds)
    return Report(
        since=since,
        until=until,
        flap_seconds=flap_seconds,
        hosts=wanted,
        skipped=skipped,
        silent=tuple(name for name in wanted if name not in watched.first_ms),
        transitions=tuple(sorted(fresh, key=lambda one: (one.at_ms, one.key))),
        rules=tuple(results.describe(rule, tried) for rule in rules),
    )


class _Tried(NamedTuple):
    """One threshold of a rule, and the rule that has it alone."""

    rule: AlertRule
    threshold: float
    variant: AlertRule


def _plan_thresholds(
    rules: Sequence[AlertRule], thresholds: Mapping[str, Sequence[float]] | None
) -> list[_Tried]:
    ladders = plan_ladders(rules, thresholds)
    return [
        _Tried(rule, limit, build_variant(rule, limit))
        for rule in rules
        for limit in ladders.get(rule.name, ())
    ]


def rank_instances(result: RuleResult) -> list[InstanceKey]:
    """Return the instances of a rule, the worst first; after them those that another threshold would find."""
    found = [one.key for one in result.instances]
    others: dict[InstanceKey, float] = {}
    for threshold in result.thresholds:
        for key, seconds in threshold.seconds.items():
            others[key] = others.get(key, 0.0) + seconds
    more = sorted(others, key=lambda key: (-others[key], key))
    return list(dict.fromkeys((*found, *more)))


def _plan_steps(since: datetime, until: datetime) -> Iterator[datetime]:
    """Yield the horizons of evaluations; the start of the window is one."""
    horizon = since - WARM_UP
    while horizon < until:
        horizon = min(horizon + STEP, until) if horizon >= since else min(horizon + STEP, since)
        yield horizon


class _Watched:
    """A reader that notes the first sample of each host."""

    def __init__(self, reader: SampleReader) -> None:
        self._reader = reader
        self.first_ms: dict[str, int] = {}

    def hosts(self) -> Sequence[str]:
        return self._reader.hosts()

    def fetch(
        self, hosts: Sequence[str], since: datetime, until: datetime, columns: Sequence[str]
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        found = self._reader.fetch(hosts, since, until, columns)
        for host in found.keys() - self.first_ms.keys():
            times = read_times(found[host])
            if times:
                self.first_ms[host] = times[0]
        return found

    def fetch_days_to_limit(self, metrics: Sequence[str], hosts: Sequence[str], now: datetime) -> Forecasts:
        return self._reader.fetch_days_to_limit(metrics, hosts, now)


class _Run:
    """Evaluations one after another, the book carried from each to the next."""

    def __init__(self, rules: Sequence[AlertRule], reader: _Watched, hosts: Sequence[str]) -> None:
        self._rules, self._reader, self._hosts = rules, reader, hosts
        self.transitions: list[AlertTransition] = []
        self.book: Book | None = None

    def go_on(self, horizon: datetime) -> None:
        book = self.book or Book(to_ms(horizon - STEP))
        found = evaluate_fleet(self._rules, self._reader, self._hosts, book, to_ms(horizon))
        # A host is expected from its first sample on: nobody knows whether it was there before.
        first = self._reader.first_ms
        self.transitions += [one for one in found.transitions if not _is_before(one, first)]
        new = {record.key: record for record in found.records if record.key.host in first}
        records = {**book.records, **new}
        self.book = Book(found.horizon_ms, records)


def _is_before(one: AlertTransition, first_ms: Mapping[str, int]) -> bool:
    """Whether it says that samples are missing of a host before its first one."""
    return one.key.host not in first_ms or (
        one.key.condition == "no_data" and one.since_ms < first_ms[one.key.host]
    )


class _Results:
    """What became of each rule, from the transitions of all."""

    def __init__(self, run: _Run, since_ms: int, until_ms: int, flap_seconds: float) -> None:
        records = run.book.records if run.book else {}
        found = build_episodes(run.transitions, since_ms, until_ms, records)
        by_rule = groupby(found, key=lambda one: one.key.rule)
        self._episodes = {name: list(group) for name, group in by_rule}
        self._since_ms, self._flap_seconds = since_ms, flap_seconds

    def describe(self, rule: AlertRule, tried: Sequence[_Tried]) -> RuleResult:
        episodes = self._episodes.get(rule.name, [])
        instances = self._split(episodes)
        instances.sort(key=lambda one: (-one.tally.total_seconds, -one.tally.alerts, one.key))
        thresholds = tuple(self._describe_threshold(one) for one in tried if one.rule is rule)
        return RuleResult(rule, self._tally(episodes), tuple(instances), thresholds)

    def _describe_threshold(self, tried: _Tried) -> ThresholdResult:
        rule, limit, variant = tried
        episodes = [
            replace(one, key=one.key._replace(rule=rule.name)) for one in self._episodes.get(variant.name, [])
        ]
        own = [level.severity for level in rule.levels if float(level.threshold) == limit]
        seconds = {one.key: one.tally.total_seconds for one in self._split(episodes)}
        return ThresholdResult(limit, own[0] if own else None, self._tally(episodes), seconds)

    def _split(self, episodes: Sequence[Episode]) -> list[InstanceResult]:
        return [
            InstanceResult(key, tuple(group), self._tally(group))
            for key, found in groupby(episodes, key=lambda one: one.key)
            for group in [list(found)]
        ]

    def _tally(self, episodes: Sequence[Episode]) -> Tally:
        return tally(episodes, self._since_ms, self._flap_seconds)
