"""The words of a message: an alert as JSON-able data for receivers' templates, and as lines for people."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.alert.durations import format_duration
from airflow_provider_restrack.alert.evaluate import from_ms
from airflow_provider_restrack.alert.evidence import find_unit, format_value, name_value
from airflow_provider_restrack.alert.rule_values import SUMMARY_FIELDS
from airflow_provider_restrack.clock import format_utc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from airflow_provider_restrack.alert.messages import Message, Notice, What
    from airflow_provider_restrack.alert.records import AlertRecord, AlertTransition, InstanceKey
    from airflow_provider_restrack.alert.rules import AlertRule, Level

# A fleet-wide alert must still be a message that a person can open.
MAX_LINES = 100
_LABELS: dict[What, str] = {
    "firing": "FIRING",
    "escalated": "ESCALATED",
    "deescalated": "DEESCALATED",
    "repeat": "STILL FIRING",
    "flapping": "FLAPPING",
    "resolved": "RESOLVED",
}
_ENDS = {
    "no_data": "its samples are missing, and the rule takes that for the end",
    "removed": "it is not evaluated any more",
}
_MISSING = {"unreachable": "cannot be reached, without values", "no_value": "samples come without values"}


@dataclass(frozen=True, slots=True)
class Scene:
    """What is known beside the records.

    :ivar rules: by name; that of a removed alert is missing.
    :ivar current: newest value of each open instance, and its time in ms since 1970.
    :ivar horizon_ms: up to when was evaluated.
    :ivar url: where a person sees the run; empty if there is none.
    """

    rules: Mapping[str, AlertRule]
    current: Mapping[InstanceKey, tuple[float | None, int]]
    horizon_ms: int
    url: str = ""


def describe_notice(notice: Notice, scene: Scene) -> dict[str, Any]:
    """Return one alert of a message.

    Keys: id, alert_id, instance, kind, status, rule, severity, told_before, condition, host, device, metric,
    unit, op, threshold, for_seconds, since, at, duration_seconds, current, peak, reason, text, summary, url.
    """
    record, rule = notice.record, scene.rules.get(notice.record.key.rule)
    value, at_ms = _find_newest(record, scene)
    level = _find_level(rule, record) if rule else None
    alert: dict[str, Any] = {
        "id": str(notice.id),
        "alert_id": str(record.alert_id),
        "instance": name_instance(record.key),
        "kind": notice.what,
        "status": "firing" if record.open else "resolved",
        "rule": record.key.rule,
        "severity": record.severity,
        "told_before": _name_before(notice),
        "condition": record.key.condition,
        "host": record.key.host,
        "device": record.key.device or None,
        "metric": rule.metric if rule else None,
        "unit": find_unit(rule) if rule else "",
        "op": rule.op if rule else None,
        "threshold": level.threshold if level else None,
        "for_seconds": rule.for_seconds if rule else None,
        "since": format_utc(from_ms(record.since_ms)),
        "at": format_utc(from_ms(at_ms)),
        "duration_seconds": (at_ms - record.since_ms) / 1000,
        "current": _plain(rule, value),
        "peak": _plain(rule, record.peak),
        "reason": record.reason,
        "url": scene.url,
    }
    alert["text"] = _describe(notice, rule, value, at_ms)
    alert["summary"] = _summarise(rule, alert)
    return alert


def describe_message(message: Message, scene: Scene) -> dict[str, Any]:
    """Return what a receiver's templates can name: alerts, alert_text, alert_title, alert_severity."""
    alerts = [describe_notice(notice, scene) for notice in message.notices]
    return {
        "alerts": alerts,
        "alert_text": list_lines([_line(alert) for alert in alerts]),
        "alert_title": _entitle(message, alerts),
        "alert_severity": message.severity,
        "alert_message_id": str(message.id),
    }


def list_transition(move: AlertTransition) -> dict[str, Any]:
    """Return a transition as JSON-able data."""
    return {
        "kind": move.kind,
        "rule": move.key.rule,
        "host": move.key.host,
        "device": move.key.device or None,
        "condition": move.key.condition,
        "severity": move.severity,
        "at": format_utc(from_ms(move.at_ms)),
        "since": format_utc(from_ms(move.since_ms)),
        "value": move.value,
        "peak": move.peak,
        "reason": move.reason,
        "alert_id": str(move.alert_id),
    }


def describe_transition(move: AlertTransition) -> str:
    """Return a transition as a line of a log."""
    value = "" if move.value is None else f" by {move.value:.6g}"
    why = f", {move.reason}" if move.reason else ""
    return (
        f"{name_instance(move.key)} {move.kind} at {format_utc(from_ms(move.at_ms))}{value}{why}"
        f" ({move.severity}, since {format_utc(from_ms(move.since_ms))})"
    )


def name_instance(key: InstanceKey) -> str:
    """Return the instance as one text, the same for all of its alerts: ``rule/host/device``."""
    condition = "" if key.condition == "threshold" else key.condition
    return "/".join(part for part in (key.rule, key.host, key.device, condition) if part)


def list_lines(lines: Sequence[str]) -> str:
    """Return lines as one text, and how many more there are if they are too many."""
    more = len(lines) - MAX_LINES
    return "\n".join([*lines[:MAX_LINES], f"… and {more} more"] if more > 0 else lines)


def _line(alert: Mapping[str, Any]) -> str:
    return f"{_LABELS[alert['kind']]} {alert['severity']} {alert['rule']}: {alert['summary']}"


def _entitle(message: Message, alerts: Sequence[Mapping[str, Any]]) -> str:
    """Return one line such as ``[critical] 3 firing, 1 resolved: cpu_high, disk_full on db-1, db-2``."""
    counts = Counter(_LABELS[alert["kind"]].lower() for alert in alerts)
    said = ", ".join(f"{count} {label}" if len(alerts) > 1 else label for label, count in counts.items())
    rules, hosts = (_abridge([str(alert[key]) for alert in alerts]) for key in ("rule", "host"))
    return f"[{message.severity}] {said}: {rules} on {hosts}"


def _abridge(names: Sequence[str], limit: int = 3) -> str:
    different = list(dict.fromkeys(names))
    more = len(different) - limit
    return ", ".join(different[:limit]) + (f" and {more} more" if more > 0 else "")


def _name_before(notice: Notice) -> str | None:
    """Return what the receiver knew of the instance; of what is owed to it, nothing."""
    return None if notice.before is None or _is_owed(notice) else notice.before.what


def _find_newest(record: AlertRecord, scene: Scene) -> tuple[float | None, int]:
    """Return the newest value of an alert and its time: of one that is over, what ended it."""
    if not record.open:
        return record.value, record.at_ms
    if record.key.condition == "no_data":
        return None, max(record.at_ms, scene.horizon_ms)
    return scene.current.get(record.key, (record.value, record.at_ms))


def _find_level(rule: AlertRule, record: AlertRecord) -> Level:
    levels = {level.severity: level for level in rule.levels}
    return levels.get(record.severity, rule.levels[0])


def _describe(notice: Notice, rule: AlertRule | None, value: float | None, at_ms: int) -> str:
    """Return an alert as a sentence: ``db-1 /: disk_usage is 97 % (> 90 % for 2 h since …; peak 98 %)``."""
    record, end = notice.record, _name_end(notice)
    where = f"{record.key.host} {record.key.device}".rstrip()
    span = format_duration((at_ms - record.since_ms) / 1000)
    held = f"for {span} since {_name_time(from_ms(record.since_ms), from_ms(at_ms))}"
    if record.key.condition == "no_data":
        usual = f"samples {'are' if record.open else 'were'} missing"
        return f"{where}: {_MISSING.get(record.reason, usual)} {held}{end}"
    if rule is None:
        return f"{where}: {record.key.rule} {held}{end}"
    limit = f"{rule.op} {format_value(rule, float(_find_level(rule, record).threshold))}"
    told = f"{limit} {held}{_name_peak(rule, record)}"
    now = "" if value is None else f" is {format_value(rule, value)}"
    if record.open:
        return f"{where}: {name_value(rule)}{now or ' has no value'} ({told})"
    return f"{where}: {name_value(rule)}{now and f'{now}, it'} was {told}{end}"


def _name_peak(rule: AlertRule, record: AlertRecord) -> str:
    if record.peak is None or rule.is_truth:
        return ""
    return f"; peak {format_value(rule, record.peak)}"


def _name_end(notice: Notice) -> str:
    """Return how an alert ended, if not by a sample, and why its receiver hears of it only now."""
    reason = notice.record.reason
    late = "; it could not be told before" if notice.what == "resolved" and _is_owed(notice) else ""
    return (f"; {_ENDS[reason]}" if reason in _ENDS else "") + late


def _is_owed(notice: Notice) -> bool:
    return notice.before is not None and notice.before.what == "owed"


def _name_time(moment: datetime, beside: datetime) -> str:
    """Return the time of day, with the date if the other time is of another day."""
    return f"{moment:%H:%M:%SZ}" if moment.date() == beside.date() else f"{moment:%Y-%m-%d %H:%M:%SZ}"


def _plain(rule: AlertRule | None, value: float | None) -> float | bool | None:
    return bool(value) if value is not None and rule and rule.is_truth else value


def _summarise(rule: AlertRule | None, alert: Mapping[str, Any]) -> str:
    """Return the rule's own sentence for what fires; what is over, or has no value, has the usual one."""
    if rule is None or rule.summary is None or alert["status"] != "firing" or alert["current"] is None:
        return str(alert["text"])
    texts = {"aggregate": rule.aggregate or "", "device": alert["device"] or ""}
    figures = {name: alert.get(name) for name in SUMMARY_FIELDS if name not in texts}
    known = {name: _Unknown() if value is None else value for name, value in figures.items()}
    return rule.summary.format(**known | texts)


class _Unknown:
    """A figure of the sensor's evidence that an alert does not have, in whatever format it is asked for."""

    def __format__(self, _spec: str) -> str:
        return "?"
