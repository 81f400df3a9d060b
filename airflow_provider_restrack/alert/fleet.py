"""Evaluate rules over a fleet, going on from what was recorded: the transitions that are new.

Pure over a reader of samples: the same history and the same book give the same evaluation. Threshold alerts
are decided host by host; whether samples are missing only when all hosts are read, because the newest sample
of the fleet says up to when that can be known.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_restrack.alert.durations import format_duration
from airflow_provider_restrack.alert.evaluate import from_ms
from airflow_provider_restrack.alert.flapping import follow_flapping
from airflow_provider_restrack.alert.host import HostFindings, HostJudge, Scope
from airflow_provider_restrack.alert.no_data import Pipeline, find_stalls, fold_no_data
from airflow_provider_restrack.alert.observe import (
    LOOKBACK_FACTOR,
    MAX_LOOKBACK_S,
    ReadPlan,
    fetch_forecasts,
    plan_reads,
    read_fleet,
)
from airflow_provider_restrack.alert.records import AlertRecord, AlertTransition, InstanceKey
from airflow_provider_restrack.clock import format_utc

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from airflow_provider_restrack.alert.host import Judged
    from airflow_provider_restrack.alert.no_data import Presence
    from airflow_provider_restrack.alert.observe import LookBack, SampleReader
    from airflow_provider_restrack.alert.records import Book
    from airflow_provider_restrack.alert.rules import AlertRule
    from airflow_provider_restrack.alert.time_to_limit import Forecasts
    from airflow_provider_restrack.alert.timeline import Transition

# Without a sample of any host for so long, nothing is said of hosts: the pipeline has stalled. Three times
# the usual collection interval of 5 minutes.
DEFAULT_STALE_AFTER_S = 900.0
_T = TypeVar("_T", "AlertTransition", "Transition")
STATES = ("ok", "pending", "firing", "recovering", "stale", "no_data", "error")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one evaluation found.

    :ivar transitions: new ones, by time.
    :ivar records: that are new or changed, the instances of the transitions among them.
    :ivar current: newest compared value of open threshold alerts, and its time in ms; without those that have
        none.
    :ivar states: how many instances are in each of ``STATES``. The last three are counted beside the others:
        ``stale``, the newest sample is too old to say how they are now; ``no_data``, there is none; and
        ``error``, samples come without a value: the host cannot be reached, or does not tell it.
    :ivar pipeline_error: why nothing is known of the fleet's present; None if it is.
    :ivar horizon_ms: up to when the fleet was evaluated: what to record of it.
    :ivar hosts: how many are expected.
    """

    transitions: tuple[AlertTransition, ...]
    records: tuple[AlertRecord, ...]
    current: Mapping[InstanceKey, tuple[float, int]]
    states: Mapping[str, int]
    pipeline_error: str | None
    horizon_ms: int
    hosts: int
    samples: int


def evaluate_fleet(
    rules: Sequence[AlertRule],
    reader: SampleReader,
    hosts: Sequence[str] | None,
    book: Book,
    horizon_ms: int,
    *,
    loaded_until_ms: int | None = None,
    stale_after_s: float = DEFAULT_STALE_AFTER_S,
) -> Evaluation:
    """Read the samples of the hosts and return what is new since the book was written.

    :param hosts: expected ones; None: all that the reader knows.
    :param book: of the scope; open alerts of rules and hosts that are not given are resolved as removed.
    :param horizon_ms: later samples are not looked at: now, less the time in which late samples come.
    :param loaded_until_ms: up to when all samples are loaded, where the consumer's lag tells it; None: up to
        the newest one.
    :param stale_after_s: age of the fleet's newest sample, at the horizon, from which on the pipeline counts
        as stalled.
    """
    names = tuple(sorted(set(reader.hosts() if hosts is None else hosts)))
    wanted = [name for name in names if any(rule.matches_host(name) for rule in rules)]
    forecasts = fetch_forecasts(rules, reader, wanted, from_ms(horizon_ms))
    scope = _plan_scope(tuple(rules), book, horizon_ms, round(stale_after_s * 1000), forecasts)
    found = _judge_fleet(scope, reader, wanted)
    pipeline = _find_pipeline(scope, found, loaded_until_ms)
    result = _Result(scope, pipeline)
    for one in found:
        result.add_host(one)
    result.add_removed(names, {pair for one in found for pair in one.mismatched})
    return Evaluation(
        transitions=tuple(sorted(result.transitions, key=lambda one: (one.at_ms, one.key))),
        records=tuple(result.records),
        current=result.current,
        states={state: result.states[state] for state in STATES},
        pipeline_error=_explain_stall(scope, names, pipeline, loaded_until_ms),
        horizon_ms=_find_horizon(scope, pipeline),
        hosts=len(names),
        samples=sum(one.samples for one in found),
    )


def _plan_scope(
    rules: tuple[AlertRule, ...], book: Book, horizon_ms: int, stale_ms: int, forecasts: Forecasts
) -> Scope:
    """Return from when on to read: from the last evaluation, at most a day ago, less what rules look back."""
    deepest = horizon_ms - round(MAX_LOOKBACK_S * 1000)
    decided = horizon_ms if book.horizon_ms is None else max(deepest, min(book.horizon_ms, horizon_ms))
    since = decided - max((_find_lookback(rule, horizon_ms, stale_ms) for rule in rules), default=0)
    open_keys: dict[str, list[InstanceKey]] = {}
    for key, record in book.records.items():
        if record.open:
            open_keys.setdefault(key.host, []).append(key)
    return Scope(rules, book, horizon_ms, since, min(since, deepest), stale_ms, open_keys, forecasts)


def _find_lookback(rule: AlertRule, horizon_ms: int, stale_ms: int) -> int:
    now = from_ms(horizon_ms)
    breach = (now - plan_reads([rule], now).since).total_seconds() * 1000
    silence = rule.no_data_seconds * 1000 + stale_ms if rule.no_data != "keep" else 0
    return round(max(breach + rule.clear_for_seconds * 1000, silence))


def _judge_fleet(scope: Scope, reader: SampleReader, hosts: Sequence[str]) -> list[HostFindings]:
    """Return what the samples of the hosts say; those that need it are read further back, up to a day."""
    if not scope.reads_samples:
        return [HostJudge(scope, host, (), scope.deepest_ms).judge() for host in hosts]
    columns = plan_reads(scope.rules, scope.until).columns
    plan = ReadPlan(columns, from_ms(scope.since_ms), scope.until)
    found: dict[str, HostFindings] = {}

    def judge(host: str, rows: Sequence[Mapping[str, Any]]) -> bool:
        found[host] = HostJudge(scope, host, rows, scope.since_ms).judge()
        return found[host].needs_more

    read_fleet(reader, hosts, plan, judge, lambda history: _judge_further(scope, history, found))
    return list(found.values())


def _judge_further(scope: Scope, history: LookBack, found: dict[str, HostFindings]) -> None:
    """Look further back until no host needs it; change what is found."""
    pending = grown = list(history.rows)
    since_ms = scope.since_ms
    while pending and since_ms > scope.deepest_ms:
        depth = (scope.horizon_ms - since_ms) * LOOKBACK_FACTOR
        since_ms = max(scope.deepest_ms, scope.horizon_ms - depth) if grown else scope.deepest_ms
        grown = history.read(pending, from_ms(since_ms))
        is_last = since_ms <= scope.deepest_ms
        for host in pending if is_last else grown:  # without older samples nothing is new
            found[host] = HostJudge(scope, host, history.rows[host], since_ms).judge()
        pending = [host for host in pending if found[host].needs_more]


def _find_pipeline(scope: Scope, found: Iterable[HostFindings], loaded_until_ms: int | None) -> Pipeline:
    spans = [span for one in found for span in one.spans]
    if not spans:
        return Pipeline()
    newest = max(span.end_ms for span in spans)
    if loaded_until_ms is not None:
        newest = min(newest, loaded_until_ms)
    return Pipeline(newest, find_stalls(spans, scope.stale_ms, scope.since_ms))


def _find_horizon(scope: Scope, pipeline: Pipeline) -> int:
    """Return up to when all samples were there: the next evaluation reads from then on."""
    before = scope.book.horizon_ms
    if not scope.reads_samples:
        return scope.horizon_ms
    if pipeline.newest_ms is None:
        return scope.horizon_ms if before is None else before
    reached = min(scope.horizon_ms, pipeline.newest_ms)
    return reached if before is None else max(before, reached)


def _explain_stall(
    scope: Scope, names: Sequence[str], pipeline: Pipeline, loaded_until_ms: int | None
) -> str | None:
    if not names:
        return "no host is expected: give hosts, or load samples so that latest_metrics knows some"
    if not (scope.reads_samples and any(rule.matches_host(name) for rule in scope.rules for name in names)):
        return None
    newest = pipeline.newest_ms
    if newest is not None and scope.horizon_ms - newest <= scope.stale_ms:
        return None
    horizon = format_utc(scope.until)
    if newest is None:
        since = format_utc(from_ms(scope.since_ms))
        return f"none of {len(names)} hosts has a sample from {since} to {horizon}: {_STALL_HINT}"
    age = format_duration((scope.horizon_ms - newest) / 1000)
    if newest == loaded_until_ms:
        return (
            f"the loader lags: samples are loaded up to {format_utc(from_ms(newest))}, {age} before {horizon}"
        )
    return (
        f"the newest sample of {len(names)} hosts is of {format_utc(from_ms(newest))}, {age} before "
        f"{horizon}: {_STALL_HINT}"
    )


_STALL_HINT = "collection, Kafka or the loader has stopped"


class _Result:
    """Gathers what is new."""

    def __init__(self, scope: Scope, pipeline: Pipeline) -> None:
        self._scope, self._pipeline = scope, pipeline
        self.transitions: list[AlertTransition] = []
        self.records: list[AlertRecord] = []
        self.current: dict[InstanceKey, tuple[float, int]] = {}
        self.states: Counter[str] = Counter()

    def add_host(self, found: HostFindings) -> None:
        """Add the alerts of a host."""
        self.states.update(found.without_value)
        for one in found.judged:
            one.judge_with(self._pipeline_of(one.rule), self._scope)
            self._add_instance(one)
        for rule, presence in found.presences:
            self._add_no_data(rule, found.host, presence)

    def _pipeline_of(self, rule: AlertRule) -> Pipeline:
        """Return how far the values of a rule have come; forecasts do not wait for samples."""
        return self._pipeline if rule.source == "samples" else Pipeline(self._scope.horizon_ms)

    def add_removed(self, names: Sequence[str], mismatched: Collection[tuple[str, str]]) -> None:
        """Resolve open alerts that nobody evaluates any more."""
        rules = {rule.name: rule for rule in self._scope.rules}
        at = self._scope.horizon_ms
        for key, record in self._scope.book.records.items():
            if not (record.open or record.flapping) or not _is_gone(key, rules, names, mismatched):
                continue
            if not record.open:
                self.records.append(replace(record, flapping=False))
            elif at > record.at_ms:
                gone = replace(record, open=False, at_ms=at, value=None, reason="removed", flapping=False)
                self.transitions.append(gone.as_transition())
                self.records.append(gone)

    def _add_instance(self, one: Judged) -> None:
        timeline = one.timeline
        self.states[timeline.state] += 1
        if one.freshness != "fresh":
            self.states[one.freshness] += 1
        fresh = _drop_past(timeline.transitions, self._scope.since_ms, one.anchor)
        self.transitions += [_name(one.key, change) for change in fresh]
        record = _update_record(one, fresh, self._follow_flapping(one))
        if record is not None and record != one.anchor:
            self.records.append(record)
        if timeline.severity is not None and timeline.newest is not None:
            time, value = timeline.newest
            self.current[one.key] = value, time

    def _follow_flapping(self, one: Judged) -> bool:
        if one.cold is None:
            return False
        after = self._scope.find_decided()
        return follow_flapping(
            one.cold.points,
            [change.at_ms for change in one.cold.transitions],
            -1 if after is None else after,
            flapping=one.anchor is not None and one.anchor.flapping,
        )

    def _add_no_data(self, rule: AlertRule, host: str, presence: Presence) -> None:
        key = InstanceKey(rule.name, host, "", "no_data")
        anchor = self._scope.book.records.get(key)
        decided = self._scope.find_decided()
        found, first = fold_no_data(
            rule, key, presence, self._pipeline_of(rule), anchor, -1 if decided is None else decided
        )
        fresh = _drop_past(found, self._scope.since_ms, anchor)
        self.transitions += fresh
        if fresh:
            self.records.append(_record(fresh[-1], anchor))
        elif first is not None and self._scope.horizon_ms >= (decided or 0):
            self.records.append(first)


def _is_gone(
    key: InstanceKey,
    rules: Mapping[str, AlertRule],
    names: Sequence[str],
    mismatched: Collection[tuple[str, str]],
) -> bool:
    """Whether nothing evaluates an instance; if no host is known at all, hosts are not gone."""
    rule = rules.get(key.rule)
    if rule is None or not rule.matches_host(key.host):
        return True
    if (names and key.host not in names) or (key.rule, key.host) in mismatched:
        return True
    if key.condition == "no_data":
        return rule.no_data != "alert"
    return bool(key.device) is not rule.has_devices


def _drop_past(found: Sequence[_T], since_ms: int, anchor: AlertRecord | None) -> Sequence[_T]:
    """Leave out alerts that were over before all hosts were read, but not the end of the recorded one.

    That may lie further back: a host was read deeper, a forecast is of a past day, a rule has changed.
    """
    over = [n for n, one in enumerate(found) if one.kind == "resolved" and one.at_ms <= since_ms]
    if not over:
        return found
    newer = list(found[over[-1] + 1 :])
    return list(found[: over[0] + 1]) + newer if anchor is not None and anchor.open else newer


def _name(key: InstanceKey, change: Transition) -> AlertTransition:
    return AlertTransition(
        key,
        change.kind,
        change.at_ms,
        change.since_ms,
        change.severity,
        change.value,
        change.peak,
        change.reason,
    )


def _update_record(one: Judged, fresh: Sequence[Transition], flapping: bool) -> AlertRecord | None:
    """Return the record of an instance after its new transitions; None if it has none."""
    if fresh:
        record: AlertRecord | None = _record(_name(one.key, fresh[-1]), one.anchor)
    else:
        record = one.anchor
    if record is None:
        return None
    peak = one.timeline.peak if record.open else record.peak
    return replace(record, peak=peak, flapping=flapping)


def _record(last: AlertTransition, before: AlertRecord | None) -> AlertRecord:
    record = AlertRecord(
        last.key,
        last.kind != "resolved",
        last.severity,
        last.since_ms,
        last.at_ms,
        last.value,
        last.peak,
        last.reason,
    )
    return record if before is None else replace(record, told=before.told)
