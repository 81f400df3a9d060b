"""Read what the rules need and evaluate them over a fleet; the store stands behind one small protocol."""

from __future__ import annotations

import math
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_restrack.alert.evaluate import MIN_DEFAULT_GAP_S, Verdict, assess, to_ms
from airflow_provider_restrack.alert.newest import fetch_newest, settle
from airflow_provider_restrack.alert.time_to_limit import DaysToLimit, build_series_of
from airflow_provider_restrack.store.series import SampleColumns, batched, open_read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from datetime import datetime

    from airflow_provider_restrack.alert.evaluate import Breach
    from airflow_provider_restrack.alert.rules import AlertRule
    from airflow_provider_restrack.alert.time_to_limit import Forecasts
    from airflow_provider_restrack.store.read import SampleRead
    from airflow_provider_restrack.store.series import SeriesRead

# How far back the start of a run is looked for, once a rule is breached.
MAX_LOOKBACK_S = 24 * 3600.0
# Each step back reads this many times as far, until the start is found.
LOOKBACK_FACTOR = 6
# Fewer rows than this do not tell how often a host is looked at.
MIN_ROWS = 3
# A day of samples every 10 s is some 3 MB of rows a host: they are dropped before the next hosts are read.
HOSTS_AT_ONCE = 50
# All hosts are read for minutes as a rule, and many at once; for hours fewer: two reads are ahead of what is
# evaluated.
HOSTS_READ_AT_ONCE = 100
CHUNKS_AHEAD = 2
# Hosts that are to be read further back keep their rows; so many are waited for.
MAX_WAITING = 200

_STATE_ORDER = ("breach", "pending", "ok", "stale", "no_data")


class SampleReader(Protocol):
    """Where samples come from: Cassandra, or a dict in a test. May block and raise what the store raises."""

    def hosts(self) -> Sequence[str]:
        """Return all hosts that are known."""

    def fetch(
        self, hosts: Sequence[str], since: datetime, until: datetime, columns: Sequence[str]
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Return each host's rows of the time, with ``timestamp`` and the columns, in any order."""

    def fetch_days_to_limit(self, metrics: Sequence[str], hosts: Sequence[str], now: datetime) -> Forecasts:
        """Return the newest forecasts of the metrics on the hosts, those that are not too old at ``now``.

        Asked only if a rule compares them.
        """


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
        self._reads: dict[tuple[str, ...], SampleRead | SeriesRead] = {}

    def hosts(self) -> list[str]:
        """Return the hosts of ``latest_metrics``."""
        from airflow_provider_restrack.store.read import read_hosts

        return read_hosts(self._session, self._keyspace)

    def fetch(
        self, hosts: Sequence[str], since: datetime, until: datetime, columns: Sequence[str]
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Return rows of ``system_metrics``, as ``SampleColumns`` where that is possible."""
        wanted = tuple(columns)
        if wanted not in self._reads:
            self._reads[wanted] = open_read(self._session, self._keyspace, wanted)
        return self._reads[wanted].run(hosts, since, until)

    def fetch_newest(self, hosts: Sequence[str] | None, columns: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return rows of ``latest_metrics``."""
        from airflow_provider_restrack.store.read import read_latest

        return {row["host"]: row for row in read_latest(self._session, self._keyspace, hosts, columns)}

    def fetch_days_to_limit(self, metrics: Sequence[str], hosts: Sequence[str], now: datetime) -> Forecasts:
        """Return rows of ``forecasts``; a series with too little data has none."""
        from airflow_provider_restrack.store.forecasts import MAX_AGE, days_left, read_forecasts

        found: dict[tuple[str, str], list[DaysToLimit]] = {}
        for row in read_forecasts(self._session, self._keyspace, metrics, hosts):
            if row["verdict"] == "insufficient data" or now - row["as_of"] > MAX_AGE:
                continue
            days = days_left(row, row["as_of"])
            point = DaysToLimit(
                row["host"], row["device"], to_ms(row["as_of"]), math.inf if days is None else days
            )
            found.setdefault((row["metric"], row["host"]), []).append(point)
        return found


def plan_reads(rules: Sequence[AlertRule], now: datetime) -> ReadPlan:
    """Return what to read to evaluate the rules at ``now``.

    As far back as the longest ``for`` and window together, and the gap that may lie before them.
    """
    columns: dict[str, None] = dict.fromkeys(column for rule in rules for column in rule.columns)
    if any(rule.labels for rule in rules):
        columns["labels"] = None
    if any(rule.no_data == "alert" and rule.source == "samples" for rule in rules):
        columns["up"] = None  # why there is no value
    lookback = max(_find_lookback(rule) for rule in rules)
    return ReadPlan(tuple(columns), now - timedelta(seconds=lookback), now)


def observe(
    rules: Sequence[AlertRule], reader: SampleReader, hosts: Sequence[str] | None, now: datetime
) -> Observation:
    """Read the samples of the hosts and evaluate every rule on every host that it is for.

    :param hosts: names; None: all that the reader knows.
    """
    newest = fetch_newest(rules, reader, hosts, plan_reads(rules, now).columns)
    if hosts is None:
        hosts = reader.hosts() if newest is None else tuple(newest)
    names = tuple(sorted(set(hosts)))
    wanted = [host for host in names if any(rule.matches_host(host) for rule in rules)]
    settled = {host: settle(rules, host, (newest or {}).get(host), now) for host in wanted if newest}
    verdicts = [one for found in settled.values() for one in found or ()]
    unsettled = [host for host in wanted if settled.get(host) is None]
    forecasts = fetch_forecasts(rules, reader, unsettled, now)
    found, silent = _observe_hosts(rules, reader, unsettled, now, forecasts)
    verdicts += found
    # By name: a verdict's rule is cut down to the severity that holds.
    order = {rule.name: index for index, rule in enumerate(rules)}
    verdicts.sort(key=lambda one: (order[one.rule.name], one.host, one.device or ""))
    return Observation(tuple(verdicts), names, tuple(silent))


def fetch_forecasts(
    rules: Iterable[AlertRule], reader: SampleReader, hosts: Sequence[str], now: datetime
) -> Forecasts:
    """Return the forecasts that the rules compare; nothing is read if none does."""
    metrics = dict.fromkeys(rule.forecast_of for rule in rules if rule.forecast_of is not None)
    return reader.fetch_days_to_limit(tuple(metrics), hosts, now) if metrics and hosts else {}


def _observe_hosts(
    rules: Sequence[AlertRule],
    reader: SampleReader,
    hosts: Sequence[str],
    now: datetime,
    forecasts: Forecasts,
) -> tuple[list[Verdict], list[str]]:
    """Return the verdicts of hosts, and those of them that have no sample.

    Hosts whose run reaches back to the start of what was read, or that are seldom looked at, are read
    further back, up to a day: ``since`` is then the true start of the run.
    """
    if not any(rule.source == "samples" or rule.labels for rule in rules):
        return [one for host in hosts for one in evaluate_host(rules, host, (), now, forecasts)], []
    plan = plan_reads(rules, now)
    verdicts: dict[str, list[Verdict]] = {}
    silent: list[str] = []

    def judge(host: str, rows: Sequence[Mapping[str, Any]]) -> bool:
        verdicts[host] = evaluate_host(rules, host, rows, now, forecasts)
        return _needs_more(len(rows), verdicts[host])

    def judge_further(history: LookBack) -> None:
        _observe_further(rules, history, plan, forecasts, verdicts)
        silent.extend(host for host, rows in history.rows.items() if not rows)

    read_fleet(reader, hosts, plan, judge, judge_further)
    return [one for found in verdicts.values() for one in found], silent


def _observe_further(
    rules: Sequence[AlertRule],
    history: LookBack,
    plan: ReadPlan,
    forecasts: Forecasts,
    verdicts: dict[str, list[Verdict]],
) -> None:
    """Look further back until no host needs it; change the verdicts."""
    now, pending = plan.until, list(history.rows)
    seconds = (plan.until - plan.since).total_seconds()
    while pending and seconds < MAX_LOOKBACK_S:
        seconds = min(seconds * LOOKBACK_FACTOR, MAX_LOOKBACK_S)
        for host in history.read(pending, now - timedelta(seconds=seconds)):
            found = evaluate_host(rules, host, history.rows[host], now, forecasts)
            verdicts[host] = _keep_breaches(verdicts[host], found)
        pending = [host for host in pending if _needs_more(len(history.rows[host]), verdicts[host])]


class LookBack:
    """The samples of some hosts from a time on; each is read once, however far back is looked.

    :ivar rows: of each host that was read.
    """

    def __init__(
        self,
        reader: SampleReader,
        columns: Sequence[str],
        until: datetime,
        rows: Mapping[str, Sequence[Mapping[str, Any]]] = MappingProxyType({}),
    ) -> None:
        self._reader, self._columns, self._until = reader, columns, until
        self.rows = dict(rows)

    def read(self, hosts: Sequence[str], since: datetime) -> list[str]:
        """Read what is older than what was read before, for all of the hosts or a part of them.

        Return the hosts of which it tells something new; at first that is all of them.
        """
        since = _floor(since)
        found = self._reader.fetch(hosts, since, self._until, self._columns)
        self._until = _before(since)
        grown = [host for host in hosts if found.get(host) or host not in self.rows]
        for host in grown:
            self.rows[host] = join_rows(found.get(host, ()), self.rows.get(host, ()))
        return grown


def _floor(moment: datetime) -> datetime:
    """Return a time in ms, as those of samples are."""
    return moment - timedelta(microseconds=moment.microsecond % 1000)


def _before(moment: datetime) -> datetime:
    return _floor(moment) - timedelta(milliseconds=1)


def read_fleet(
    reader: SampleReader,
    hosts: Sequence[str],
    plan: ReadPlan,
    judge: Callable[[str, Sequence[Mapping[str, Any]]], bool],
    judge_further: Callable[[LookBack], None],
) -> None:
    """Read what the plan says of all hosts, and more of those that need it, some at a time.

    :param judge: is given the samples of each host, and returns whether older ones could tell more.
    :param judge_further: is given hosts of which that is so, to read what is older.
    """
    waiting: dict[str, Sequence[Mapping[str, Any]]] = {}
    for history in _read_ahead(reader, hosts, plan):
        waiting |= {host: rows for host, rows in history.rows.items() if judge(host, rows)}
        if len(waiting) >= MAX_WAITING:
            for older in _look_back(reader, waiting, plan):
                judge_further(older)
    for older in _look_back(reader, waiting, plan):
        judge_further(older)


def _read_ahead(reader: SampleReader, hosts: Sequence[str], plan: ReadPlan) -> Iterator[LookBack]:
    """Yield what the plan says of some hosts at a time.

    Threads read the next ones meanwhile: Cassandra works while these are evaluated.
    """
    with ThreadPoolExecutor(CHUNKS_AHEAD, thread_name_prefix="alert-read") as pool:
        reads: deque[tuple[LookBack, Future[list[str]]]] = deque()
        try:
            for chunk in batched(hosts, count_hosts_at_once(plan)):
                history = LookBack(reader, plan.columns, plan.until)
                reads.append((history, pool.submit(history.read, chunk, plan.since)))
                if len(reads) > CHUNKS_AHEAD:
                    yield _take_read(reads)
            while reads:
                yield _take_read(reads)
        finally:
            for _, read in reads:
                read.cancel()


def count_hosts_at_once(plan: ReadPlan) -> int:
    """Return how many hosts to read at once, those ahead counted in: a day of HOSTS_AT_ONCE is the most."""
    share = HOSTS_AT_ONCE * timedelta(days=1) / max(plan.until - plan.since, timedelta(seconds=1))
    return max(1, min(HOSTS_READ_AT_ONCE, round(share / (CHUNKS_AHEAD + 1))))


def _take_read(reads: deque[tuple[LookBack, Future[list[str]]]]) -> LookBack:
    """Return the first read when it is done."""
    history, read = reads.popleft()
    read.result()
    return history


def _look_back(
    reader: SampleReader, rows: dict[str, Sequence[Mapping[str, Any]]], plan: ReadPlan
) -> Iterator[LookBack]:
    """Yield what was read of some hosts at a time, to read what is older; ``rows`` is emptied."""
    for chunk in batched(rows, HOSTS_AT_ONCE):
        yield LookBack(reader, plan.columns, _before(plan.since), {host: rows.pop(host) for host in chunk})


def join_rows(
    older: Sequence[Mapping[str, Any]], newer: Sequence[Mapping[str, Any]]
) -> Sequence[Mapping[str, Any]]:
    """Return the samples of two reads of one host as one."""
    if not (older and newer):
        return older or newer
    if isinstance(older, SampleColumns) and isinstance(newer, SampleColumns):
        return older.join(newer)
    return [*older, *newer]


def evaluate_host(
    rules: Iterable[AlertRule],
    host: str,
    rows: Sequence[Mapping[str, Any]],
    now: datetime,
    forecasts: Forecasts,
) -> list[Verdict]:
    """Return the verdicts of the rules that are for a host, one for each device of a map metric."""
    labels = find_labels(rows)
    verdicts = []
    for rule in rules:
        if not (rule.matches_host(host) and rule.matches_labels(labels)):
            continue
        series = build_series_of(rule, host, rows, forecasts, now)
        verdicts += [assess(rule, one, now) for one in series]
        if not series:
            missing = "sample has a value" if rule.source == "samples" else "forecast is new enough"
            verdicts.append(Verdict(rule, host, None, "no_data", f"no {missing} of {rule.metric}"))
    return verdicts


def explain(rules: Iterable[AlertRule], observation: Observation) -> list[str]:
    """Return one line a rule: the instance that is nearest to a breach, and why it is none."""
    lines = []
    for rule in rules:
        verdicts = [verdict for verdict in observation.verdicts if verdict.rule.name == rule.name]
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


def find_labels(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, str]:
    """Return the labels of the newest row that has any."""
    if isinstance(rows, SampleColumns):
        newest: Mapping[str, str] | None = rows.find_last("labels")
        return newest or {}
    labelled = [row for row in rows if row.get("labels")]
    if not labelled:
        return {}
    labels: Mapping[str, str] = max(labelled, key=lambda row: row["timestamp"])["labels"]
    return labels


def _needs_more(rows: int, verdicts: Iterable[Verdict]) -> bool:
    """Whether older samples could tell more; a forecast's series is read whole."""
    return rows < MIN_ROWS or any(one.open_start for one in verdicts if one.rule.source == "samples")


def _keep_breaches(before: Sequence[Verdict], after: list[Verdict]) -> list[Verdict]:
    """Return the later verdicts; a breach that the nearer samples show stays, whatever older ones add."""
    breached = {(one.rule.name, one.device): one for one in before if one.breach is not None}
    return [
        one if one.breach is not None else breached.get((one.rule.name, one.device), one) for one in after
    ]
