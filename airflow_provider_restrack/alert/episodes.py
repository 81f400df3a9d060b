"""Alerts as stretches of time, made of their transitions: what a report of the past counts and draws."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_restrack.alert.rules import SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_provider_restrack.alert.records import AlertRecord, AlertTransition, InstanceKey
    from airflow_provider_restrack.alert.rules import Severity


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time that an alert spent at one severity; ms since 1970."""

    severity: Severity
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Episode:
    """One alert, from when it fired to its end.

    :ivar since_ms: first breaching sample of the run that fired; ms since 1970, as the other times.
    :ivar fired_ms: when it fired; before the window for an alert that was open when that begins.
    :ivar ended_ms: when it was resolved; None: it was still open at the end of the window.
    :ivar stretches: its severities one after the other, cut to the window.
    :ivar peak: most extreme value of the alert.
    """

    key: InstanceKey
    since_ms: int
    fired_ms: int
    ended_ms: int | None
    stretches: tuple[Stretch, ...]
    peak: float | None = None
    reason: str = ""

    @property
    def seconds(self) -> float:
        """How long it lasted within the window."""
        return sum(one.end_ms - one.start_ms for one in self.stretches) / 1000


@dataclass(frozen=True, slots=True)
class Tally:
    """What alerts come to in a window.

    :ivar alerts: that fired in it.
    :ivar open_at_start: that had fired before.
    :ivar open_at_end: that were not over at its end.
    :ivar flaps: of ``alerts``, those that came and went too fast (see :func:`count_flaps`).
    :ivar hosts: with an alert at any time of it.
    :ivar seconds: time in alert by severity, of all instances together.
    """

    alerts: int
    open_at_start: int
    open_at_end: int
    flaps: int
    hosts: int
    seconds: Mapping[Severity, float]

    @property
    def total_seconds(self) -> float:
        """Time in alert at whatever severity."""
        return sum(self.seconds.values())


def build_episodes(
    transitions: Iterable[AlertTransition],
    since_ms: int,
    until_ms: int,
    records: Mapping[InstanceKey, AlertRecord] | None = None,
) -> list[Episode]:
    """Return the alerts of a window, by instance and time; those that were over when it begins are left out.

    :param transitions: each instance's, ascending, from a time at which it had no alert.
    :param records: at the end of the window; they know the peaks of alerts that are still open.
    """
    by_alert: dict[tuple[InstanceKey, int], list[AlertTransition]] = {}
    for one in transitions:
        if one.at_ms <= until_ms:
            by_alert.setdefault((one.key, one.since_ms), []).append(one)
    found = [_build_episode(group, since_ms, until_ms, records or {}) for group in by_alert.values()]
    kept = [one for one in found if one.ended_ms is None or one.ended_ms > since_ms]
    return sorted(kept, key=lambda one: (one.key, one.fired_ms))


def _build_episode(
    group: Sequence[AlertTransition],
    since_ms: int,
    until_ms: int,
    records: Mapping[InstanceKey, AlertRecord],
) -> Episode:
    first, last = group[0], group[-1]
    is_over = last.kind == "resolved"
    ends = [*(one.at_ms for one in group[1:]), *(() if is_over else (until_ms,))]
    stretches = tuple(
        Stretch(one.severity, max(one.at_ms, since_ms), end)
        for one, end in zip(group, ends, strict=False)
        if end > since_ms
    )
    peak, record = last.peak, records.get(last.key)
    if not is_over and record is not None and record.open:
        peak = record.peak
    ended = last.at_ms if is_over else None
    return Episode(last.key, last.since_ms, first.at_ms, ended, stretches, peak, last.reason)


def count_flaps(episodes: Sequence[Episode], flap_seconds: float) -> int:
    """Return how many alerts came and went too fast.

    Those are the ones that are over less than ``flap_seconds`` after they fired, or that fire less than that
    after the end of the instance's alert before. (Icinga's measure, that alerting itself goes by, is a state
    at a moment; of a week it would count samples, not alerts.)

    :param episodes: each instance's in the order of time.
    """
    limit, count = flap_seconds * 1000, 0
    ended: dict[InstanceKey, int] = {}
    for one in episodes:
        is_short = one.ended_ms is not None and one.ended_ms - one.fired_ms < limit
        returns = one.key in ended and one.fired_ms - ended[one.key] < limit
        count += is_short or returns
        if one.ended_ms is not None:
            ended[one.key] = one.ended_ms
    return count


def tally(episodes: Sequence[Episode], since_ms: int, flap_seconds: float) -> Tally:
    """Return what alerts of a window that begins at ``since_ms`` come to."""
    milliseconds: Counter[Severity] = Counter()
    for one in episodes:
        for stretch in one.stretches:
            milliseconds[stretch.severity] += stretch.end_ms - stretch.start_ms
    fired = [one for one in episodes if one.fired_ms > since_ms]
    return Tally(
        alerts=len(fired),
        open_at_start=len(episodes) - len(fired),
        open_at_end=sum(one.ended_ms is None for one in episodes),
        flaps=count_flaps(fired, flap_seconds),
        hosts=len({one.key.host for one in episodes}),
        seconds={name: ms / 1000 for name in SEVERITIES for key, ms in milliseconds.items() if key == name},
    )
