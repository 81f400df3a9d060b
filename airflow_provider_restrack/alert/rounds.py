"""One round of alerting: evaluate, record, write the history, tell. Whatever ends it, the next goes on.

What is recorded is recorded before anybody is told, and what was told is remembered message by message: a
process that is killed at any point is taken up by its retry or by the next round.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_restrack.alert.fleet import evaluate_fleet
from airflow_provider_restrack.alert.messages import plan_messages
from airflow_provider_restrack.alert.notices import Scene, describe_message
from airflow_provider_restrack.alert.suppress import find_suppressed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_restrack.alert.fleet import Evaluation
    from airflow_provider_restrack.alert.messages import Message, Plan, TellPolicy
    from airflow_provider_restrack.alert.observe import SampleReader
    from airflow_provider_restrack.alert.records import (
        AlertRecord,
        AlertTransition,
        Book,
        InstanceKey,
        Silence,
        Told,
    )
    from airflow_provider_restrack.alert.rules import AlertRule


class Lease(Protocol):
    """What a round needs of ``LedgerLease``."""

    book: Book

    def renew(self) -> None:
        """Make sure that the lease is still ours."""

    def record(
        self,
        transitions: Sequence[AlertTransition],
        records: Sequence[AlertRecord],
        horizon_ms: int | None = None,
        debts: Mapping[InstanceKey, Mapping[str, Told]] = ...,
    ) -> None:
        """Record what was found, and what is owed to whom."""

    def write_history(self) -> int:
        """Write recorded transitions to the history."""

    def mark_told(self, told: Mapping[InstanceKey, Mapping[str, Told]]) -> None:
        """Remember what was told."""


@dataclass(frozen=True, slots=True)
class RoundPolicy:
    """What a round is to do.

    :ivar hosts: expected ones; None: all that have a newest sample.
    :ivar delay_ms: in which late samples come: what is younger is left to the next round.
    :ivar stale_after_s: age of the fleet's newest sample from which on the pipeline has stalled.
    :ivar receivers: names of those who are told.
    :ivar url: where a person sees the round.
    """

    rules: tuple[AlertRule, ...]
    hosts: tuple[str, ...] | None
    delay_ms: int
    stale_after_s: float
    receivers: tuple[str, ...]
    tell: TellPolicy
    url: str = ""


@dataclass(frozen=True, slots=True)
class Round:
    """What a round found and did.

    :ivar written: transitions that went into the history, those that an earlier round left among them.
    :ivar sent: messages that were taken.
    :ivar failed: what was not, each with the receiver, the reason and the ids of its alerts.
    :ivar open: severities of the open alerts.
    """

    evaluation: Evaluation
    plan: Plan
    written: int
    sent: tuple[Message, ...]
    failed: tuple[str, ...]
    open: Mapping[str, int]


def run_round(  # noqa: PLR0917 - one call, in the order of the sentence
    policy: RoundPolicy,
    lease: Lease,
    reader: SampleReader,
    silences: Sequence[Silence],
    send: Callable[[Message, Mapping[str, Any]], None],
    now_ms: int,
    oldest_waiting_ms: int | None = None,
) -> Round:
    """Evaluate, record and tell.

    :param send: tells a message to the receiver that it names, in the words given; raises if it is not
        taken.
    :param oldest_waiting_ms: when the oldest record that is not loaded was sent; None: all is loaded, or that
        is not known.
    :raises LeaseLostError: if another evaluator has taken over; it does the rest.
    :raises CassandraError: if samples cannot be read or alerts not recorded; nobody is told then.
    """
    evaluation = evaluate_fleet(
        policy.rules,
        reader,
        policy.hosts,
        lease.book,
        now_ms - policy.delay_ms,
        loaded_until_ms=None if oldest_waiting_ms is None else oldest_waiting_ms - policy.delay_ms,
        stale_after_s=policy.stale_after_s,
    )
    rules = {rule.name: rule for rule in policy.rules}
    records = tuple({**lease.book.records, **{one.key: one for one in evaluation.records}}.values())
    suppressed = find_suppressed(records, rules, silences, now_ms)
    plan = plan_messages(records, policy.receivers, suppressed, now_ms, policy.tell, evaluation.transitions)
    lease.record(evaluation.transitions, evaluation.records, evaluation.horizon_ms, plan.debts)
    written = lease.write_history()
    scene = Scene(rules, evaluation.current, now_ms - policy.delay_ms, policy.url)
    sent, failed = tell(plan.messages, lease, scene, send, now_ms)
    counts = Counter(str(record.severity) for record in records if record.open)
    return Round(evaluation, plan, written, sent, failed, counts)


def tell(
    messages: Sequence[Message],
    lease: Lease,
    scene: Scene,
    send: Callable[[Message, Mapping[str, Any]], None],
    now_ms: int,
) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """Send messages, and remember each that was taken; return those, and what is wrong with the others.

    :raises LeaseLostError: if another evaluator has taken over.
    """
    sent, failed = [], []
    for message in messages:
        lease.renew()
        try:
            send(message, describe_message(message, scene))
        except Exception as error:  # noqa: BLE001 - a notifier may raise anything, and must not stop others
            ids = ", ".join(str(notice.record.alert_id) for notice in message.notices)
            failed.append(f"{message.receiver}: {type(error).__name__}: {error} (alerts {ids})")
            continue
        lease.mark_told(message.told(now_ms))
        sent.append(message)
    return tuple(sent), tuple(failed)
