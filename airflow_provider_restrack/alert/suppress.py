"""Why an open alert is recorded and yet not told: a silence, maintenance, or an alert that explains it."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

from airflow_provider_restrack.alert.evaluate import from_ms
from airflow_provider_restrack.alert.maintenance import is_in_maintenance

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_provider_restrack.alert.records import AlertRecord, InstanceKey, Silence
    from airflow_provider_restrack.alert.rules import AlertRule

Reason = Literal["inhibited", "silence", "maintenance", "flapping"]


def find_suppressed(
    records: Iterable[AlertRecord],
    rules: Mapping[str, AlertRule],
    silences: Sequence[Silence],
    now_ms: int,
) -> dict[InstanceKey, Reason]:
    """Return the instances of which nobody is told now, with the first reason that holds.

    :param rules: by name; an instance of a rule that is gone can only be silenced.
    """
    records = tuple(records)
    inhibitors = find_inhibitors(records, rules)
    current = [one for one in silences if one.starts_ms <= now_ms < one.ends_ms]
    paused = {name for name, rule in rules.items() if is_in_maintenance(rule, from_ms(now_ms))}
    found: dict[InstanceKey, Reason] = {}
    for record in records:
        key = record.key
        if key in inhibitors:
            found[key] = "inhibited"
        elif any(fits(silence, key) for silence in current):
            found[key] = "silence"
        elif key.rule in paused:
            found[key] = "maintenance"
    return found


def fits(silence: Silence, key: InstanceKey) -> bool:
    """Whether a silence is for an instance; case counts."""
    return (
        fnmatchcase(key.rule, silence.rule)
        and fnmatchcase(key.host, silence.host)
        and fnmatchcase(key.device, silence.device)
    )


def find_inhibitors(records: Sequence[AlertRecord], rules: Mapping[str, AlertRule]) -> dict[InstanceKey, str]:
    """Return the instances that an open alert on the same host inhibits, with the name of its rule.

    A rule names its inhibitors in ``inhibited_by``. If it does not, those are the rules that say that the
    host is down: nothing else is worth a message then. A rule never inhibits itself.
    """
    down = tuple(name for name, rule in rules.items() if says_down(rule))
    firing: dict[str, list[str]] = {}
    for record in records:
        if record.open:
            firing.setdefault(record.key.host, []).append(record.key.rule)
    found = {}
    for record in records:
        rule = rules.get(record.key.rule)
        if rule is None:
            continue
        named = down if rule.inhibited_by is None and rule.name not in down else rule.inhibited_by or ()
        here = firing.get(record.key.host, ())
        cause = next((name for name in here if name in named and name != rule.name), None)
        if cause is not None:
            found[record.key] = cause
    return found


def says_down(rule: AlertRule) -> bool:
    """Whether a rule fires where the host cannot be reached: ``up == false``, or ``up != true``."""
    return rule.metric == "up" and (rule.op, rule.threshold) in {("==", False), ("!=", True)}
