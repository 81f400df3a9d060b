"""Rules that one sample decides, answered from the newest sample of each host: one row instead of many.

Only that a rule is not breached is told so. A breach has a start, which lies further back, and a host that is
silent may have more to tell: such hosts are read as for all other rules, and the answer is the same.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from airflow_provider_restrack.alert.evaluate import Series, Verdict, assess, to_ms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from airflow_provider_restrack.alert.rules import AlertRule


@runtime_checkable
class NewestReader(Protocol):
    """A reader that also has the newest sample of each host at hand."""

    def fetch_newest(
        self, hosts: Sequence[str] | None, columns: Sequence[str]
    ) -> Mapping[str, Mapping[str, Any]]:
        """Return the newest row of each host, or of the given ones, with ``timestamp`` and the columns."""


def fetch_newest(
    rules: Sequence[AlertRule], reader: object, hosts: Sequence[str] | None, columns: Sequence[str]
) -> Mapping[str, Mapping[str, Any]] | None:
    """Return the newest row of each host; None where the rules or the reader do not allow it."""
    if not isinstance(reader, NewestReader) or any(needs_history(rule) for rule in rules):
        return None
    return reader.fetch_newest(hosts, columns)


def needs_history(rule: AlertRule) -> bool:
    """Whether the newest sample alone can never say that a rule is not breached.

    A device that is missing there may still have a value that is not too old.
    """
    return bool(
        rule.for_seconds
        or rule.clear_for_seconds
        or rule.aggregate
        or rule.has_devices
        or rule.source != "samples"
    )


def settle(
    rules: Sequence[AlertRule], host: str, row: Mapping[str, Any] | None, now: datetime
) -> list[Verdict] | None:
    """Return the verdicts of all rules for a host if none is breached; None if more must be read.

    :param row: the host's newest sample; None: there is none.
    """
    if row is None or (any(rule.labels for rule in rules) and not row["labels"]):
        return None
    verdicts = []
    for rule in rules:
        if rule.matches_host(host) and (not rule.labels or rule.matches_labels(row["labels"])):
            verdict = _assess_value(rule, host, to_ms(row["timestamp"]), rule.value_of(row), now)
            if verdict is None or verdict.state != "ok":
                return None
            verdicts.append(verdict)
    return verdicts


def _assess_value(rule: AlertRule, host: str, time: int, value: Any, now: datetime) -> Verdict | None:
    if value is None or not math.isfinite(value):
        return None
    return assess(rule, Series(host, None, (time,), (float(value),), None), now)
