"""Read what the rules need and evaluate them over a fleet; the store stands behind one small protocol."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_restrack.alert.evaluate import MIN_DEFAULT_GAP_S, Verdict, assess, build_series

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from airflow_provider_restrack.alert.evaluate import Breach
    from airflow_provider_restrack.alert.rules import AlertRule
    from airflow_provider_restrack.store.read import SampleRead

# How far back the start of a run is looked for, once a rule is breached.
MAX_LOOKBACK_S = 24 * 3600.0
# Each step back reads this many times as far, until the start is found.
LOOKBACK_FACTOR = 6
# Fewer rows than this do not tell how often a host is looked at.
MIN_ROWS = 3
# A day of samples every 10 s is some 3 MB of rows a host: they are dropped before the next hosts are read.
HOSTS_AT_ONCE = 50

_STATE_ORDER = ("breach", "pending", "ok", "stale", "no_data")


class SampleReader(Protocol):
    """Where samples come from: Cassandra, or a dict in a test. May block and raise what the store raises."""

    def hosts(self) -> Sequence[str]:
        """Return all hosts that are known."""

    def fetch(
        self, hosts: Sequence[str], since: datetime, until: datetime, columns: Sequence[str]
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Return each host's rows of the time, with ``timestamp`` and the columns, in any order."""


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """Which columns the rules use, and from when to when."""

    columns: tuple[str, ...]
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Observation:
    """The verdicts of all instances, and the named hosts that have no sample in the time read."""

    verdicts: tuple[Verdict, ...]
    hosts: tuple[str, ...]
    silent: tuple[str, ...]

    @property
    def breaches(self) -> tuple[Breach, ...]:
        """The breaches, in the order of rules, hosts and devices."""
        return tuple(verdict.breach for verdict in self.verdicts if verdict.breach is not None)


class StoreReader:
    """Samples from Cassandra.

    :param session: a connected session of the driver.
    :param keyspace: where ``system_metrics`` and ``latest_metrics`` are.
    """

    def __init__(self, session: Any, keyspace: str) -> None:
        self._session = session
        self._keyspace = keyspace
        self._reads: dict[tuple[str, ...], SampleRead] = {}

    def hosts(self) -> list[str]:
        """Return the hosts of ``latest_metrics``."""
        from airflow_provider_restrack.store.read import read_hosts

        return read_hosts(self._session, self._keyspace)

    def fetch(
        self, hosts: Sequence[str], since: datetime, until: datetime, columns: Sequence[str]
    ) -> dict[str, list[dict[str, Any]]]:
        """Return rows of ``system_metrics``."""
        from airflow_provider_restrack.store.read import SampleRead

        wanted = tuple(columns)
        if wanted not in self._reads:
            self._reads[wanted] = SampleRead(self._session, self._keyspace, wanted)
        return self._reads[wanted].run(hosts, since, until)


def plan_reads(rules: Sequence[AlertRule], now: datetime) -> ReadPlan:
    """Return what to read to evaluate the rules at ``now``.

    As far back as the longest ``for`` and window together, and the gap that may lie before them.
    """
    columns = dict.fromkeys(rule.metric for rule in rules)
    if any(rule.labels for rule in rules):
        columns["labels"] = None
    lookback = max(_find_lookback(rule) for rule in rules)
    return ReadPlan(tuple(columns), now - timedelta(seconds=lookback), now)


def observe(
    rules: Sequence[AlertRule], reader: SampleReader, hosts: Sequence[str] | None, now: datetime
) -> Observation:
    """Read the samples of the hosts and evaluate every rule on every host that it is for.

    :param hosts: names; None: all that the reader knows.
    """
    names = tuple(sorted(set(reader.hosts() if hosts is None else hosts)))
    wanted = [host for host in names if any(rule.matches_host(host) for rule in rules)]
    verdicts: list[Verdict] = []
    silent: list[str] = []
    for start in range(0, len(wanted), HOSTS_AT_ONCE):
        found, without = _observe_hosts(rules, reader, wanted[start : start + HOSTS_AT_ONCE], now)
        verdicts += found
        silent += without
    verdicts.sort(key=lambda one: (rules.index(one.rule), one.host, one.device or ""))
    return Observation(tuple(verdicts), names, tuple(silent))


def _observe_hosts(
    rules: Sequence[AlertRule], reader: SampleReader, hosts: Sequence[str], now: datetime
) -> tuple[list[Verdict], list[str]]:
    """Return the verdicts of some hosts, and those of them that have no sample.

    Hosts whose run reaches back to the start of what was read, or that are seldom looked at, are read
    further back, up to a day: ``since`` is then the true start of the run.
    """
    plan, pending = plan_reads(rules, now), list(hosts)
    counts = dict.fromkeys(hosts, -1)
    verdicts: dict[str, list[Verdict]] = {host: [] for host in hosts}
    while pending:
        rows = reader.fetch(pending, plan.since, plan.until, plan.columns)
        for host in pending:
            before, counts[host] = counts[host], len(rows.get(host, ()))
            if counts[host] != before:  # else nothing older is there
                verdicts[host] = _keep_breaches(
                    verdicts[host], evaluate_host(rules, host, rows.get(host, ()), now)
                )
        seconds = (plan.until - plan.since).total_seconds()
        if seconds >= MAX_LOOKBACK_S:
            break
        plan = replace(plan, since=now - timedelta(seconds=min(seconds * LOOKBACK_FACTOR, MAX_LOOKBACK_S)))
        pending = [host for host in pending if _needs_more(counts[host], verdicts[host])]
    return [one for found in verdicts.values() for one in found], [host for host in hosts if not counts[host]]


def evaluate_host(
    rules: Iterable[AlertRule], host: str, rows: Sequence[Mapping[str, Any]], now: datetime
) -> list[Verdict]:
    """Return the verdicts of the rules that are for a host, one for each device of a map metric."""
    labels = _find_labels(rows)
    verdicts = []
    for rule in rules:
        if not (rule.matches_host(host) and rule.matches_labels(labels)):
            continue
        series = build_series(rule, host, rows, now)
        verdicts += [assess(rule, one, now) for one in series]
        if not series:
            verdicts.append(Verdict(rule, host, None, "no_data", f"no sample has a value of {rule.metric}"))
    return verdicts


def explain(rules: Iterable[AlertRule], observation: Observation) -> list[str]:
    """Return one line a rule: the instance that is nearest to a breach, and why it is none."""
    lines = []
    for rule in rules:
        verdicts = [verdict for verdict in observation.verdicts if verdict.rule == rule]
        if not verdicts:
            lines.append(f"rule {rule.name!r}: it is for none of the {len(observation.hosts)} hosts")
            continue
        nearest = min(verdicts, key=lambda one: (_STATE_ORDER.index(one.state), -one.closeness))
        where = f"{nearest.host} {nearest.device}" if nearest.device else nearest.host
        label = f"rule {rule.name!r} ({rule.metric} {rule.op} {rule.threshold})"
        lines.append(f"{label}: nearest of {len(verdicts)} is {where}, {nearest.state}: {nearest.reason}")
    return lines


def _find_lookback(rule: AlertRule) -> float:
    span = rule.for_seconds + rule.window_seconds
    gap = rule.max_gap_seconds
    return span + max(MIN_DEFAULT_GAP_S, (1 - rule.min_coverage) * span if gap is None else gap)


def _find_labels(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, str]:
    """Return the labels of the newest row that has any."""
    labelled = [row for row in rows if row.get("labels")]
    if not labelled:
        return {}
    labels: Mapping[str, str] = max(labelled, key=lambda row: row["timestamp"])["labels"]
    return labels


def _needs_more(rows: int, verdicts: Iterable[Verdict]) -> bool:
    return rows < MIN_ROWS or any(verdict.open_start for verdict in verdicts)


def _keep_breaches(before: Sequence[Verdict], after: list[Verdict]) -> list[Verdict]:
    """Return the later verdicts; a breach that the nearer samples show stays, whatever older ones add."""
    breached = {(one.rule.name, one.device): one for one in before if one.breach is not None}
    return [
        one if one.breach is not None else breached.get((one.rule.name, one.device), one) for one in after
    ]
