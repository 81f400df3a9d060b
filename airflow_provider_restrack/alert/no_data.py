"""When a host is silent for too long, and when it is the pipeline that is silent instead.

A host's timer runs while samples of other hosts come in. If none do, the pipeline has stalled: that is told
once, as an error of the pipeline, and the timers of all hosts start anew when it goes on. Gaps that lie in
the past give the same transitions as those that an evaluation saw grow.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

from airflow_provider_restrack.alert.records import AlertRecord, AlertTransition
from airflow_provider_restrack.alert.timeline import is_cut

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from airflow_provider_restrack.alert.records import InstanceKey
    from airflow_provider_restrack.alert.rules import AlertRule


class Span(NamedTuple):
    """A stretch of time in ms since 1970, its ends included."""

    start_ms: int
    end_ms: int


class Silence(NamedTuple):
    """No value came for too long after ``last_ms``, as told at ``at_ms``; the next came at ``next_ms``."""

    last_ms: int
    at_ms: int
    next_ms: int | None


class Pause(NamedTuple):
    """Missing samples break a run at ``at_ms``, and if ``ends``, they end the alert."""

    at_ms: int
    ends: bool


@dataclass(frozen=True, slots=True)
class Pipeline:
    """How far the samples of the fleet have come (None: there are none), and when none came at all."""

    newest_ms: int | None = None
    stalls: tuple[Span, ...] = ()

    def find_deadline(self, last_ms: int, limit_ms: int) -> int:
        """Return when a host that is silent since ``last_ms`` was silent for too long."""
        due = last_ms + limit_ms
        for stall in self.stalls:
            if stall.end_ms > last_ms and stall.start_ms < due:
                due = stall.end_ms + limit_ms
        return due


@dataclass(frozen=True, slots=True)
class Presence:
    """When a rule had values on a host.

    :ivar times: of the values, ascending; those of all devices for a host.
    :ivar since_ms: from when on samples were read.
    :ivar expected_ms: from when on values are expected where nothing else tells it: the last evaluation.
    :ivar samples: times of the host's samples, ascending, with a value or without.
    :ivar failed: times of those that say that the host could not be reached.
    """

    times: Sequence[int]
    since_ms: int
    expected_ms: int
    samples: Sequence[int] = ()
    failed: Collection[int] = ()

    def begins_silent(self, limit_ms: int) -> bool:
        """Whether the host may have fallen silent before the samples that were read."""
        return not self.times or self.times[0] - self.since_ms > limit_ms

    def explain(self, last_ms: int, at_ms: int) -> Literal["", "unreachable", "no_value"]:
        """Return why values are missing after ``last_ms``, as the newest sample up to ``at_ms`` tells it.

        Empty, if there is none: then samples are missing.
        """
        until = bisect_right(self.samples, at_ms)
        if not until or self.samples[until - 1] <= last_ms:
            return ""
        return "unreachable" if self.samples[until - 1] in self.failed else "no_value"


def find_spans(times: Sequence[int], link_ms: int) -> list[Span]:
    """Return the stretches in which each ascending time is at most ``link_ms`` after the one before."""
    if not times:
        return []
    breaks = [(earlier, later) for earlier, later in pairwise(times) if later - earlier > link_ms]
    starts = [times[0], *(later for _, later in breaks)]
    ends = [*(earlier for earlier, _ in breaks), times[-1]]
    return [Span(start, end) for start, end in zip(starts, ends, strict=True)]


def find_stalls(spans: Iterable[Span], link_ms: int, since_ms: int) -> tuple[Span, ...]:
    """Return the times in which no host had a sample for over ``link_ms``.

    One that goes on where reading begins counts from 0, as nothing tells how long it went on.
    """
    stalls: list[Span] = []
    end = since_ms
    for span in sorted(spans):
        if span.start_ms - end > link_ms:
            stalls.append(Span(end if stalls or end > since_ms else 0, span.start_ms))
        end = max(end, span.end_ms)
    return tuple(stalls)


def find_silences(
    times: Sequence[int], limit_ms: int, pipeline: Pipeline, start_ms: int | None = None
) -> list[Silence]:
    """Return where values are missing for longer than the limit; the last may still go on.

    :param times: of the values, ascending.
    :param start_ms: a time from which on a value is expected, as if one had come then.
    """
    known = [*(() if start_ms is None else (start_ms,)), *times]
    found = []
    for last, following in pairwise(known):
        if following - last > limit_ms and (at := pipeline.find_deadline(last, limit_ms)) < following:
            found.append(Silence(last, at, following))
    if known and pipeline.newest_ms is not None:
        at = pipeline.find_deadline(known[-1], limit_ms)
        if at <= pipeline.newest_ms:
            found.append(Silence(known[-1], at, None))
    return found


def find_pauses(
    presence: Presence, limit_ms: int, pipeline: Pipeline, anchor: AlertRecord | None, decided_ms: int
) -> tuple[Pause, ...]:
    """Return where missing samples break the runs of a rule with ``no_data: ok``, and end its alert.

    A run is broken by the samples' own times, so that it does not depend on what was read of other hosts.

    :param decided_ms: a silence that was over and told of before this ended what it ended.
    """
    times = presence.times
    start = None if _covers(times, anchor) else _find_start(presence, limit_ms, anchor)
    if start is not None:
        times = _cut(times, start)
    silences = find_silences(times, limit_ms, pipeline, start)
    ends = {one.last_ms: one.at_ms for one in silences if one.next_ms is None or one.at_ms > decided_ms}
    known = [*(() if start is None else (start,)), *times]
    lasts = [last for last, following in pairwise(known) if following - last > limit_ms] + known[-1:]
    return tuple(
        Pause(ends.get(last, last + limit_ms), ends=last in ends)
        for last in lasts
        if last in ends or last != known[-1]
    )


def fold_no_data(  # noqa: PLR0917 - one call, in the order of the sentence
    rule: AlertRule,
    key: InstanceKey,
    presence: Presence,
    pipeline: Pipeline,
    anchor: AlertRecord | None,
    decided_ms: int,
) -> tuple[list[AlertTransition], AlertRecord | None]:
    """Return the transitions of one host's alert that samples are missing, and its record if that is new.

    A host that never had a value gets a closed record: its timer starts there.

    :param anchor: the last transition; None: there was none.
    :param decided_ms: a silence that was over and could be told of before this was decided then.
    """
    limit = round(rule.no_data_seconds * 1000)
    found: list[AlertTransition] = []
    times, start = presence.times, _find_start(presence, limit, anchor)
    if anchor is not None and anchor.open:
        times, start = _cut(times, anchor.at_ms), None
        if not times:
            return [], None
        found.append(AlertTransition(key, "resolved", times[0], anchor.since_ms, anchor.severity))
    elif anchor is not None and is_cut(anchor):
        times = _cut(times, anchor.at_ms)
    if start is not None:
        times = _cut(times, start)
    for last, at, following in find_silences(times, limit, pipeline, start):
        if following is not None and at <= decided_ms:
            continue
        reason = presence.explain(last, at)
        found.append(AlertTransition(key, "fired", at, last, rule.severity, reason=reason))
        if following is not None:
            found.append(AlertTransition(key, "resolved", following, last, rule.severity))
    is_new = start is not None and not times and (anchor is None or is_cut(anchor))
    return found, AlertRecord(key, False, rule.severity, start or 0, start or 0) if is_new else None


def _covers(times: Sequence[int], anchor: AlertRecord | None) -> bool:
    """Whether the times themselves tell what came before and after a recorded transition."""
    return anchor is not None and bool(times) and times[0] <= anchor.at_ms


def _find_start(presence: Presence, limit_ms: int, anchor: AlertRecord | None) -> int | None:
    """Return the time from which on values are expected, None if the values themselves tell it."""
    if anchor is not None and not is_cut(anchor) and anchor.at_ms >= presence.since_ms:
        return anchor.at_ms
    if not presence.begins_silent(limit_ms):
        return None
    if anchor is not None and not is_cut(anchor):
        return presence.since_ms
    is_old = presence.times and presence.times[0] <= presence.expected_ms
    return None if is_old else presence.expected_ms


def _cut(times: Sequence[int], after_ms: int) -> Sequence[int]:
    return times[bisect_right(times, after_ms) :]


def merge_times(all_times: Sequence[Sequence[int]]) -> Sequence[int]:
    """Return the times of all series together, ascending, each once."""
    if len(all_times) == 1:
        return all_times[0]
    return sorted({time for times in all_times for time in times})
