"""What is to be told to whom: decided from what is recorded and from what each receiver was told before.

Nothing here depends on the evaluation that found a change. A message that a receiver did not take is planned
again by the next evaluation, and one that it took never again.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from airflow_provider_restrack.alert.records import InstanceKey, Told
from airflow_provider_restrack.alert.rules import SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from airflow_provider_restrack.alert.records import AlertRecord, AlertTransition
    from airflow_provider_restrack.alert.rules import Severity
    from airflow_provider_restrack.alert.suppress import Reason

What = Literal["firing", "escalated", "deescalated", "repeat", "flapping", "resolved"]

# Names the notices of this provider among all UUIDv5; made once, at random.
_NAMESPACE = uuid.UUID("0c7be8f4-53c8-4d5e-9b0e-2f6d7f3a8c55")
_TOLD_AS: Mapping[str, Literal["resolved", "flapping"]] = {"resolved": "resolved", "flapping": "flapping"}


@dataclass(frozen=True, slots=True)
class Notice:
    """One alert in a message.

    :ivar record: the alert as it stands; for ``resolved``, the one that was told and is over.
    :ivar before: what the receiver was told of the instance last.
    """

    record: AlertRecord
    what: What
    before: Told | None = None

    @property
    def id(self) -> uuid.UUID:
        """Identity: the same if a process is killed between sending and remembering, and it is sent again."""
        record = self.record
        told_ms = self.before.at_ms if self.before else 0
        parts: tuple[object, ...] = (record.alert_id, self.what, record.severity, record.at_ms)
        if self.what == "repeat":
            parts = (record.alert_id, self.what, told_ms)
        elif self.what == "flapping":  # its record changes with every flap
            parts = (*record.key, self.what, told_ms)
        return uuid.uuid5(_NAMESPACE, "\x00".join(map(str, parts)))


@dataclass(frozen=True, slots=True)
class Message:
    """What one receiver is told at once: the notices of one severity."""

    receiver: str
    severity: Severity
    notices: tuple[Notice, ...]

    @property
    def id(self) -> uuid.UUID:
        """Identity: that of its notices."""
        return uuid.uuid5(_NAMESPACE, "\x00".join(str(notice.id) for notice in self.notices))

    def told(self, at_ms: int) -> dict[InstanceKey, dict[str, Told]]:
        """Return what to remember of the message once the receiver has taken it."""
        return {
            notice.record.key: {self.receiver: Told(_TOLD_AS.get(notice.what, notice.record.severity), at_ms)}
            for notice in self.notices
        }


Debts = Mapping[InstanceKey, Mapping[str, Told]]


@dataclass(frozen=True, slots=True)
class Plan:
    """Messages in the order in which to send them, and which open alerts are not told, and why.

    :ivar debts: what to remember before anything is sent, by instance and receiver: what is owed from now on,
        and what is not owed any more, as it is suppressed and over.
    """

    messages: tuple[Message, ...] = ()
    suppressed: Mapping[InstanceKey, Reason] = field(default_factory=lambda: MappingProxyType({}))
    debts: Debts = field(default_factory=lambda: MappingProxyType({}))

    @property
    def reasons(self) -> dict[str, int]:
        """How many open alerts are not told, by reason."""
        return dict(Counter(self.suppressed.values()))


@dataclass(frozen=True, slots=True)
class TellPolicy:
    """:ivar repeat_ms: after which an alert that still fires is told again; None: never.

    :ivar send_resolved: whether the end of an alert is told.
    """

    repeat_ms: float | None = None
    send_resolved: bool = True


def plan_messages(  # noqa: PLR0917 - one call, in the order of the sentence
    records: Iterable[AlertRecord],
    receivers: Sequence[str],
    suppressed: Mapping[InstanceKey, Reason],
    now_ms: int,
    policy: TellPolicy = TellPolicy(),
    transitions: Iterable[AlertTransition] = (),
) -> Plan:
    """Return one message for each receiver and severity that has news, the most severe first.

    :param records: all of the scope, after the evaluation.
    :param suppressed: instances of which nothing new is told, from ``find_suppressed``.
    :param transitions: of this evaluation; they tell how an alert ended whose instance fires again.
    """
    records = sorted(records, key=lambda record: record.key)
    ends = {move.alert_id: move for move in transitions if move.kind == "resolved"}
    messages = []
    for receiver in receivers:
        found: dict[Severity, list[Notice]] = {}
        for record in records:
            for notice in _plan_notices(record, receiver, record.key in suppressed, now_ms, policy, ends):
                found.setdefault(record.severity, []).append(notice)
        messages += [
            Message(receiver, severity, tuple(found[severity]))
            for severity in sorted(found, key=SEVERITIES.index, reverse=True)
        ]
    quiet = {record.key: _name_reason(record, suppressed) for record in records if record.open}
    return Plan(
        tuple(messages),
        {key: reason for key, reason in quiet.items() if reason is not None},
        find_debts(records, messages, receivers, suppressed, now_ms, policy),
    )


def find_debts(  # noqa: PLR0917 - one call, in the order of the sentence
    records: Iterable[AlertRecord],
    messages: Iterable[Message],
    receivers: Sequence[str],
    suppressed: Collection[InstanceKey],
    now_ms: int,
    policy: TellPolicy = TellPolicy(),
) -> Debts:
    """Return what is owed from now on, and as ``resolved`` what is not any more.

    An alert is owed to a receiver that believes in none of its instance. One that believes in an earlier
    alert hears of its end in any case, unless ends are not told.
    """
    debts: dict[InstanceKey, dict[str, Told]] = {}
    for message in messages:
        for notice in message.notices:
            before = notice.record.told.get(message.receiver)
            if notice.what == "firing" and not _hears_anyhow(notice.record, before, policy):
                owed = Told("owed", now_ms, notice.record.since_ms)
                debts.setdefault(notice.record.key, {})[message.receiver] = owed
    for record in records:
        for receiver in receivers if record.key in suppressed else ():
            before = record.told.get(receiver)
            if before and before.what == "owed" and _is_over(record, before):
                forgiven = Told("resolved", now_ms, before.since_ms)
                debts.setdefault(record.key, {})[receiver] = forgiven
    return debts


def _hears_anyhow(record: AlertRecord, before: Told | None, policy: TellPolicy) -> bool:
    """Whether a receiver hears of an instance's alert though it ends before it is told."""
    if before is None or before.what == "resolved":
        return False
    return policy.send_resolved or before.what == "owed" or not _is_over(record, before)


def _plan_notices(  # noqa: PLR0917 - one call, in the order of the sentence
    record: AlertRecord,
    receiver: str,
    is_suppressed: bool,
    now_ms: int,
    policy: TellPolicy,
    ends: Mapping[uuid.UUID, AlertTransition],
) -> list[Notice]:
    """Return the notices of one instance: that an earlier alert is over, and how this one stands."""
    before = record.told.get(receiver)
    if record.flapping and not is_suppressed:
        return [] if before and before.what == "flapping" else [Notice(record, "flapping", before)]
    notices = []
    if before and _is_over(record, before):
        if not is_suppressed if before.what == "owed" else policy.send_resolved:
            notices.append(Notice(_find_end(record, before, ends), "resolved", before))
        before = None
    what = None if is_suppressed or not record.open else _name_news(record, before, now_ms, policy)
    return [*notices, Notice(record, what, before)] if what else notices


def _is_over(record: AlertRecord, before: Told) -> bool:
    """Whether the receiver believes in an alert that is over."""
    if before.what == "resolved":
        return False
    if not record.open:
        return True
    return before.what != "flapping" and before.since_ms != record.since_ms


def _name_news(record: AlertRecord, before: Told | None, now_ms: int, policy: TellPolicy) -> What | None:
    """Return what an open alert is told as; None if the receiver knows."""
    if before is None or before.what in {"resolved", "flapping", "owed"}:
        return "firing"
    if before.what != record.severity:
        rises = SEVERITIES.index(record.severity) > SEVERITIES.index(before.what)
        return "escalated" if rises else "deescalated"
    is_due = policy.repeat_ms is not None and now_ms - before.at_ms >= policy.repeat_ms
    return "repeat" if is_due else None


def _find_end(record: AlertRecord, before: Told, ends: Mapping[uuid.UUID, AlertTransition]) -> AlertRecord:
    """Return the alert that the receiver was told, as it ended.

    If the instance fires again, this evaluation knows how; later it is only known to have ended before that.
    """
    if not record.open:
        return record if before.what == "flapping" else replace(record, since_ms=before.since_ms)
    told = replace(record, open=False, since_ms=before.since_ms, at_ms=record.since_ms, value=None, peak=None)
    end = ends.get(told.alert_id)
    if end is None:
        return told
    return replace(told, at_ms=end.at_ms, value=end.value, peak=end.peak, reason=end.reason)


def _name_reason(record: AlertRecord, suppressed: Mapping[InstanceKey, Reason]) -> Reason | None:
    return suppressed.get(record.key, "flapping" if record.flapping else None)
