"""What is kept of alerts between evaluations: one record an instance, and the transitions that led to it.

An instance is a rule on a host (and device), by the condition that is told: the threshold, or that samples
are missing. Its record holds the last transition. Evaluation goes on from there, over the samples after it;
so that late samples never change what was recorded, and a repeated evaluation finds nothing new.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple

from airflow_provider_restrack.alert.timeline import build_alert_id

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping

    from airflow_provider_restrack.alert.rules import Severity

Condition = Literal["threshold", "no_data"]
TransitionKind = Literal["fired", "escalated", "deescalated", "resolved"]


class InstanceKey(NamedTuple):
    """Which instance: ``device`` is empty where the metric is no map, and for ``no_data``."""

    rule: str
    host: str
    device: str = ""
    condition: Condition = "threshold"


@dataclass(frozen=True, slots=True)
class AlertTransition:
    """One change of an alert; ``severity`` is the one after it, or the last one if it resolves.

    :ivar at_ms: time of the sample that decided, or the end of ``no_data_for``; ms since 1970.
    :ivar since_ms: first breaching sample of the run that fired, or the last sample before the silence.
    :ivar value: that decided; None where a missing one did.
    :ivar peak: most extreme value since ``since_ms``, in the direction of the rule.
    :ivar reason: of an end without evidence: ``no_data`` (the rule says ``no_data: ok``), ``removed`` (nobody
        evaluates the rule or the host any more). Of an alert that values are missing: ``unreachable``
        (samples say that the host is), ``no_value`` (samples come, and tell nothing else). Empty else.
    """

    key: InstanceKey
    kind: TransitionKind
    at_ms: int
    since_ms: int
    severity: Severity
    value: float | None = None
    peak: float | None = None
    reason: str = ""

    @property
    def alert_id(self) -> uuid.UUID:
        """Identity of the alert: the same for all its transitions, whoever finds them."""
        rule, host, device, condition = self.key
        name = rule if condition == "threshold" else f"{rule}\x00{condition}"
        return build_alert_id(name, host, device or None, self.since_ms)


@dataclass(frozen=True, slots=True)
class Told:
    """What one receiver was last told of an instance: at which severity, or that it is over, and when.

    ``owed`` is a debt: the alert is recorded and to be told, and the receiver has not taken it yet. So it is
    told even if it ends while the receiver cannot be reached, or whoever tells is killed.

    :ivar since_ms: ``since_ms`` of the alert that was told, which may be one before the record's: filled in
        when it is marked.
    """

    what: Literal["info", "warning", "critical", "resolved", "flapping", "owed"]
    at_ms: int
    since_ms: int = 0


@dataclass(frozen=True, slots=True)
class AlertRecord:
    """An instance after its last transition.

    :ivar open: whether its alert fires.
    :ivar peak: most extreme value of the alert so far; it grows between transitions.
    :ivar told: by the receiver's name; only the one who tells writes it.
    """

    key: InstanceKey
    open: bool
    severity: Severity
    since_ms: int
    at_ms: int
    value: float | None = None
    peak: float | None = None
    reason: str = ""
    flapping: bool = False
    told: Mapping[str, Told] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def alert_id(self) -> uuid.UUID:
        """Identity of its alert."""
        return self.as_transition().alert_id

    def as_transition(self) -> AlertTransition:
        """Return the last transition; ``fired`` stands for every one that left the alert open."""
        return AlertTransition(
            self.key, "fired" if self.open else "resolved", self.at_ms, self.since_ms, self.severity,
            self.value, self.peak, self.reason,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Book:
    """All that is kept of one scope: how far it was evaluated (None: never), and the instances' records."""

    horizon_ms: int | None = None
    records: Mapping[InstanceKey, AlertRecord] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Silence:
    """A time in which alerts that fit are not told; their transitions are recorded all the same.

    ``rule``, ``host`` and ``device`` are patterns as in ``fnmatch``.
    """

    id: uuid.UUID
    starts_ms: int
    ends_ms: int
    rule: str = "*"
    host: str = "*"
    device: str = "*"
    author: str = ""
    comment: str = ""
