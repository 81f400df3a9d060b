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
    """Return the instances that an open alert on the same host inhibits, with the name of its rule."""
    inhibited_by = list_inhibitors(rules.values())
    firing: dict[str, list[str]] = {}
    for record in records:
        if record.open:
            firing.setdefault(record.key.host, []).append(record.key.rule)
    found = {}
    for record in records:
        named = inhibited_by.get(record.key.rule, ())
        here = firing.get(record.key.host, ())
        cause = next((name for name in here if name in named and name != record.key.rule), None)
        if cause is not None:
            found[record.key] = cause
    return found


def list_inhibitors(rules: Iterable[AlertRule]) -> dict[str, tuple[str, ...]]:
    """Return by rule the names of those whose alerts keep its own from being told.

    A rule names them in ``inhibited_by``. If it does not, they are the rules that say that the host is down:
    nothing else is worth a message then. A rule never inhibits itself.
    """
    rules = tuple(rules)
    down = tuple(rule.name for rule in rules if says_down(rule))
    return {
        rule.name: (() if rule.name in down else down) if rule.inhibited_by is None else rule.inhibited_by
        for rule in rules
    }


def says_down(rule: AlertRule) -> bool:
    """Whether a rule fires where the host cannot be reached: ``up == false``, or ``up != true``."""
    return rule.metric == "up" and (rule.op, rule.threshold) in {("==", False), ("!=", True)}
