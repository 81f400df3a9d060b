"""What the samples of one host say of all rules that are for it."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_restrack.alert.evaluate import Series, from_ms, plan_gaps, to_ms
from airflow_provider_restrack.alert.flapping import FLAPPING_CHANGES
from airflow_provider_restrack.alert.no_data import Presence, Span, find_pauses, find_spans, merge_times
from airflow_provider_restrack.alert.observe import find_labels
from airflow_provider_restrack.alert.pace import Pace
from airflow_provider_restrack.alert.records import InstanceKey
from airflow_provider_restrack.alert.time_to_limit import build_series_of
from airflow_provider_restrack.alert.timeline import Reading, Timeline, replay
from airflow_provider_restrack.store.series import SampleColumns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from airflow_provider_restrack.alert.no_data import Pipeline
    from airflow_provider_restrack.alert.records import AlertRecord, Book
    from airflow_provider_restrack.alert.rules import AlertRule
    from airflow_provider_restrack.alert.time_to_limit import Forecasts


Freshness = Literal["fresh", "stale", "no_data", "error"]


@dataclass(frozen=True, slots=True)
class Scope:
    """What an evaluation is given.

    :ivar since_ms: from when on all hosts are read; what ended before is not told any more.
    :ivar deepest_ms: from when on a host is read at most.
    :ivar open_keys: instances of each host whose alerts are open.
    """

    rules: tuple[AlertRule, ...]
    book: Book
    horizon_ms: int
    since_ms: int
    deepest_ms: int
    stale_ms: int
    open_keys: Mapping[str, Sequence[InstanceKey]]
    forecasts: Forecasts

    @property
    def until(self) -> datetime:
        """The horizon."""
        return from_ms(self.horizon_ms)

    @property
    def reads_samples(self) -> bool:
        """Whether any rule looks at samples, and not only at forecasts."""
        return any(rule.source == "samples" or rule.labels for rule in self.rules)

    @property
    def expected_ms(self) -> int:
        """From when on values are expected of a host that never had any."""
        decided = self.find_decided()
        return self.horizon_ms if decided is None else max(min(decided, self.horizon_ms), self.deepest_ms)

    def find_decided(self) -> int | None:
        """Return up to when an evaluation has decided before; None: there was none."""
        return self.book.horizon_ms


@dataclass(slots=True)
class Judged:
    """One instance of a threshold rule.

    :ivar freshness: whether the newest value says how it is now: ``stale`` if samples stopped, ``error`` if
        they come without a value.
    :ivar cold: its timeline from the samples alone; only of an instance that has a record or transitions.
    :ivar series: kept where it is judged again once it is known when the fleet was silent.
    """

    rule: AlertRule
    key: InstanceKey
    anchor: AlertRecord | None
    timeline: Timeline
    newest_ms: int | None
    freshness: Freshness
    cold: Timeline | None = None
    series: Series | None = None
    reading: Reading = field(default_factory=Reading)

    def judge_with(self, pipeline: Pipeline, scope: Scope) -> None:
        """Judge it again with the silences that end its alert."""
        if self.series is None:
            return
        limit = round(self.rule.no_data_seconds * 1000)
        since = scope.since_ms if self.reading.since_ms is None else self.reading.since_ms
        presence = Presence(self.series.times, since, scope.expected_ms)
        anchor = self.anchor if self.anchor is not None and self.anchor.open else None
        decided = self.reading.decided_ms
        pauses = find_pauses(presence, limit, pipeline, anchor, -1 if decided is None else decided)
        reading = replace(self.reading, pauses=pauses)
        self.timeline = replay(self.rule, self.series, scope.until, self.anchor, reading)
        self.cold = self.timeline
        if _is_within(self.anchor, self.series.times):
            pauses = find_pauses(presence, limit, pipeline, None, -1)
            self.cold = replay(self.rule, self.series, scope.until, None, replace(reading, pauses=pauses))


@dataclass(slots=True)
class HostFindings:
    """All instances of one host.

    :ivar presences: of the rules that tell when samples are missing.
    :ivar mismatched: rules whose labels the host does not fit.
    :ivar spans: when it had samples.
    :ivar without_value: rules for which no value was found: ``no_data``, or ``error`` if samples come.
    :ivar needs_more: whether older samples could tell more.
    """

    host: str
    judged: list[Judged] = field(default_factory=list)
    presences: list[tuple[AlertRule, Presence]] = field(default_factory=list)
    mismatched: list[tuple[str, str]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    without_value: Counter[Freshness] = field(default_factory=Counter)
    samples: int = 0
    needs_more: bool = False


class HostJudge:
    """Judges one host by the samples of it that were read since a time."""

    def __init__(self, scope: Scope, host: str, rows: Sequence[Mapping[str, Any]], since_ms: int) -> None:
        times = read_times(rows)
        times = times[: bisect_right(times, scope.horizon_ms)]
        self._scope, self._host, self._rows, self._times = scope, host, rows, times
        self._reading = Reading(since_ms, scope.find_decided(), Pace(times))
        self._since_ms = since_ms
        self._open: dict[str, list[InstanceKey]] = {}
        for key in scope.open_keys.get(host, ()):
            if key.condition == "threshold":
                self._open.setdefault(key.rule, []).append(key)
        self._found = HostFindings(host, samples=len(times))
        self._found.spans = find_spans(times[bisect_right(times, scope.since_ms - 1) :], scope.stale_ms)

    def judge(self) -> HostFindings:
        """Return what its samples say of every rule that is for it."""
        labels = find_labels(self._rows) if any(rule.labels for rule in self._scope.rules) else {}
        for rule in self._scope.rules:
            if not rule.matches_host(self._host):
                continue
            if rule.matches_labels(labels):
                self._judge_rule(rule)
            elif labels:
                self._found.mismatched.append((rule.name, self._host))
            else:  # silent since before what was read: older samples tell whether the rule is for it
                self._found.needs_more = True
        return self._found

    def _judge_rule(self, rule: AlertRule) -> None:
        scope = self._scope
        series_of_rule = build_series_of(rule, self._host, self._rows, scope.forecasts, scope.until)
        found = [series for series in series_of_rule if series.times]
        known = {series.device or "" for series in found}
        gone = [
            Series(self._host, key.device or None, (), (), None)
            for key in self._open.get(rule.name, ())
            if key.device not in known and bool(key.device) is rule.has_devices
        ]
        newest_ms = max((series.times[-1] for series in found), default=None)
        for series in (*found, *gone):
            self._judge_series(rule, series, newest_ms)
        if not found:
            failed = rule.source == "samples" and self._are_samples_fresh(rule)
            self._found.without_value["error" if failed else "no_data"] += 1
        if rule.no_data == "alert" and rule.no_data_seconds:
            self._note_presence(rule, merge_times([series.times for series in found] or [()]))

    def _judge_series(self, rule: AlertRule, series: Series, newest_ms: int | None) -> None:
        scope = self._scope
        key = InstanceKey(rule.name, self._host, series.device or "")
        anchor = scope.book.records.get(key)
        reading = self._reading
        if rule.source == "forecasts":  # its series is read whole
            reading = Reading(None, reading.decided_ms, Pace(series.times))
        if anchor is not None and anchor.flapping:  # only what is compared can tell that it is calm now
            reading = replace(reading, is_whole=True)
        timeline = replay(rule, series, scope.until, anchor, reading)
        newest = series.times[-1] if series.times else None
        freshness = self._name_freshness(rule, newest, newest_ms, reading.pace)
        one = Judged(rule, key, anchor, timeline, newest, freshness, reading=reading)
        if timeline.transitions or anchor is not None:
            one.cold = timeline
            if _is_within(anchor, series.times):
                one.cold = replay(rule, series, scope.until, None, reading)
        if reading.since_ms is not None:
            self._found.needs_more |= timeline.open_start or self._may_flap(one)
        if rule.no_data == "ok" and rule.no_data_seconds:
            self._keep_for_silence(one, series)
        self._found.judged.append(one)

    def _keep_for_silence(self, one: Judged, series: Series) -> None:
        """Keep an instance whose silence can only be judged once the whole fleet is read."""
        limit = round(one.rule.no_data_seconds * 1000)
        presence = Presence(series.times, self._since_ms, self._scope.expected_ms)
        is_open = one.anchor is not None and one.anchor.open
        if one.rule.source == "samples" and is_open and presence.begins_silent(limit):
            self._found.needs_more = True
        quiet_ms = self._scope.horizon_ms - (one.newest_ms or 0)
        if is_open or quiet_ms > limit or len(find_spans(series.times, limit)) > 1:
            one.series = series

    def _note_presence(self, rule: AlertRule, times: Sequence[int]) -> None:
        limit = round(rule.no_data_seconds * 1000)
        presence = Presence(times, self._since_ms, self._scope.expected_ms)
        if rule.source == "samples" and len(times) < len(self._times):
            presence = replace(presence, samples=self._times, failed=self._find_failed())
        anchor = self._scope.book.records.get(InstanceKey(rule.name, self._host, "", "no_data"))
        is_open = anchor is not None and anchor.open
        if rule.source == "samples" and not is_open and presence.begins_silent(limit):
            self._found.needs_more = True
        self._found.presences.append((rule, presence))

    def _find_failed(self) -> frozenset[int]:
        """Return the times of the samples that say that the host could not be reached."""
        if isinstance(self._rows, SampleColumns):
            ((_, times, values),) = self._rows.find_points("up")
            return frozenset(time for time, value in zip(times, values, strict=True) if not value)
        return frozenset(to_ms(row["timestamp"]) for row in self._rows if row.get("up") is False)

    def _name_freshness(
        self, rule: AlertRule, value_ms: int | None, newest_ms: int | None, pace: Pace | None
    ) -> Freshness:
        """Say how new a value is.

        :param newest_ms: time of the newest value of all devices: while one of them has new values, another
            without is gone and no error.
        :param pace: of the values: of samples that of the host, of forecasts their own.
        """
        if not self._is_stale(rule, value_ms, pace):
            return "fresh"
        has_failed = rule.source == "samples" and self._is_stale(rule, newest_ms, pace)
        return "error" if has_failed and self._are_samples_fresh(rule) else "stale"

    def _are_samples_fresh(self, rule: AlertRule) -> bool:
        """Whether samples of the host come, with a value for the rule or without."""
        return bool(self._times) and not self._is_stale(rule, self._times[-1], self._reading.pace)

    def _is_stale(self, rule: AlertRule, newest_ms: int | None, pace: Pace | None) -> bool:
        if newest_ms is None or pace is None:
            return False
        age = self._scope.horizon_ms - newest_ms
        if age <= plan_gaps(rule, None).max_gap_ms:  # the least that it can be
            return False
        return age > pace.gaps_at(rule, newest_ms).max_gap_ms

    def _may_flap(self, one: Judged) -> bool:
        """Whether older samples could tell that it flaps: its states, and what led to the first of them."""
        if one.cold is None or not (one.cold.transitions or (one.anchor is not None and one.anchor.flapping)):
            return False
        decided = self._scope.find_decided()
        lead_ms = 1000 * (one.rule.for_seconds + one.rule.clear_for_seconds)
        known = 0 if decided is None else bisect_right(one.cold.points, decided - lead_ms)
        return known <= FLAPPING_CHANGES


def read_times(rows: Sequence[Mapping[str, Any]]) -> Sequence[int]:
    """Return the times of rows, ascending, each once."""
    if isinstance(rows, SampleColumns):
        return rows.times
    return sorted({to_ms(row["timestamp"]) for row in rows})


def _is_within(anchor: AlertRecord | None, times: Sequence[int]) -> bool:
    """Whether a recorded transition, and maybe others before it, lie within the samples that were read."""
    return anchor is not None and bool(times) and anchor.at_ms >= times[0]
