"""A backtest as JSON-able data, and as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.alert.durations import format_duration
from airflow_provider_restrack.alert.evaluate import from_ms
from airflow_provider_restrack.alert.evidence import find_unit, format_value
from airflow_provider_restrack.alert.rules import SEVERITIES
from airflow_provider_restrack.clock import format_utc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_restrack.alert.backtest import InstanceResult, Report, RuleResult, ThresholdResult
    from airflow_provider_restrack.alert.episodes import Episode, Tally
    from airflow_provider_restrack.alert.records import AlertTransition
    from airflow_provider_restrack.alert.rules import AlertRule, Severity

DEFAULT_ROWS = 10
_TALLY_HEADS = ("alerts", "flaps", "open at end")


def build_data(report: Report) -> dict[str, Any]:
    """Return a report as JSON-able data; times are ISO 8601 in UTC, durations seconds.

    Keys: from, to, flap_seconds, hosts, silent_hosts, skipped_rules (on forecasts), rules,
    transitions. Each rule has ``rule`` (as data),
    the tally, ``instances`` with their ``episodes``, and ``thresholds`` that were tried.
    """
    return {
        "from": format_utc(report.since),
        "to": format_utc(report.until),
        "flap_seconds": report.flap_seconds,
        "hosts": list(report.hosts),
        "silent_hosts": list(report.silent),
        "skipped_rules": list(report.skipped),
        "rules": [_describe_rule(one) for one in report.rules],
        "transitions": [_describe_transition(one) for one in report.transitions],
    }


def _describe_rule(result: RuleResult) -> dict[str, Any]:
    return {
        "rule": result.rule.to_data(),
        "unit": find_unit(result.rule),
        **_describe_tally(result.tally),
        "instances": [_describe_instance(one) for one in result.instances],
        "thresholds": [_describe_threshold(one) for one in result.thresholds],
    }


def _describe_tally(found: Tally) -> dict[str, Any]:
    return {
        "alerts": found.alerts,
        "open_at_start": found.open_at_start,
        "open_at_end": found.open_at_end,
        "flaps": found.flaps,
        "hosts_in_alert": found.hosts,
        "seconds": dict(found.seconds),
        "seconds_in_alert": found.total_seconds,
    }


def _describe_instance(one: InstanceResult) -> dict[str, Any]:
    return {
        "host": one.key.host,
        "device": one.key.device or None,
        "condition": one.key.condition,
        **_describe_tally(one.tally),
        "episodes": [_describe_episode(episode) for episode in one.episodes],
    }


def _describe_episode(one: Episode) -> dict[str, Any]:
    return {
        "since": _time(one.since_ms),
        "fired": _time(one.fired_ms),
        "resolved": None if one.ended_ms is None else _time(one.ended_ms),
        "seconds": one.seconds,
        "peak": one.peak,
        "reason": one.reason,
        "stretches": [
            {"severity": part.severity, "from": _time(part.start_ms), "to": _time(part.end_ms)}
            for part in one.stretches
        ],
    }


def _describe_threshold(one: ThresholdResult) -> dict[str, Any]:
    tally = _describe_tally(one.tally)
    del tally["seconds"]  # an alert with one threshold has one severity
    return {"threshold": one.threshold, "severity": one.severity, **tally}


def _describe_transition(one: AlertTransition) -> dict[str, Any]:
    return {
        "alert_id": str(one.alert_id),
        "rule": one.key.rule,
        "host": one.key.host,
        "device": one.key.device or None,
        "condition": one.key.condition,
        "kind": one.kind,
        "severity": one.severity,
        "at": _time(one.at_ms),
        "since": _time(one.since_ms),
        "value": one.value,
        "peak": one.peak,
        "reason": one.reason,
    }


def format_report(report: Report, rows: int = DEFAULT_ROWS) -> str:
    """Return a report as text: a table of the rules, and of each its instances, thresholds and transitions.

    :param rows: how many instances and transitions of each rule are told; the data has all.
    """
    span = format_duration(report.seconds)
    silent = f", {len(report.silent)} of them without samples" if report.silent else ""
    window = f"{format_utc(report.since)} to {format_utc(report.until)} ({span})"
    parts = [f"{window}, {len(report.hosts)} hosts{silent}", _format_rules(report)]
    for result in report.rules:
        if result.instances:
            parts.append(_format_instances(report, result, rows))
        if result.thresholds:
            parts.append(_format_thresholds(report, result))
        if result.instances:
            parts.append(_format_transitions(report, result, rows))
    if report.skipped:
        parts.append(f"Not replayed, as only the newest forecasts are kept: {', '.join(report.skipped)}.")
    flap = format_duration(report.flap_seconds)
    parts.append(f"Flaps: alerts that were over within {flap}, or back within {flap} after the one before.")
    return "\n\n".join(parts) + "\n"


def _format_rules(report: Report) -> str:
    severities = _find_severities(report.rules)
    head = ("rule", *_TALLY_HEADS, "hosts", *(f"time in {name}" for name in severities))
    body = [
        (
            one.rule.name,
            *_format_counts(one.tally),
            f"{one.tally.hosts} of {len(report.hosts)}",
            *(_format_seconds(one.tally.seconds.get(name, 0.0)) for name in severities),
        )
        for one in report.rules
    ]
    return _align(head, body)


def _format_instances(report: Report, result: RuleResult, rows: int) -> str:
    severities = _find_severities([result])
    shown = result.instances[:rows]
    times = (f"time in {name}" for name in severities)
    head = ("host", "device", *_TALLY_HEADS, *times, "of the time", "peak")
    body = [
        (
            one.key.host,
            _name_device(one.key.device, one.key.condition),
            *_format_counts(one.tally),
            *(_format_seconds(one.tally.seconds.get(name, 0.0)) for name in severities),
            f"{one.tally.total_seconds / report.seconds:.1%}" if report.seconds else "",
            "" if one.peak is None else format_value(result.rule, one.peak),
        )
        for one in shown
    ]
    title = f"{result.rule.name}: longest in alert{_count_rest(len(shown), len(result.instances))}"
    return f"{title}\n{_align(head, body)}"


def _format_thresholds(report: Report, result: RuleResult) -> str:
    rule = result.rule
    head = ("threshold", "is now", *_TALLY_HEADS, "hosts", "time in alert")
    body = [
        (
            f"{rule.op} {format_value(rule, one.threshold)}",
            one.severity or "",
            *_format_counts(one.tally),
            f"{one.tally.hosts} of {len(report.hosts)}",
            _format_seconds(one.tally.total_seconds),
        )
        for one in result.thresholds
    ]
    return f"{rule.name}: with one threshold alone\n{_align(head, body)}"


def _format_transitions(report: Report, result: RuleResult, rows: int) -> str:
    found = [one for one in report.transitions if one.key.rule == result.rule.name]
    head = ("at", "host", "device", "transition", "severity", "value", "since")
    body = [
        (
            _time(one.at_ms),
            one.key.host,
            _name_device(one.key.device, one.key.condition),
            one.kind,
            one.severity,
            one.reason if one.value is None else format_value(result.rule, one.value),
            _time(one.since_ms),
        )
        for one in found[-rows:]
    ]
    title = f"{result.rule.name}: newest transitions{_count_rest(len(body), len(found))}"
    return f"{title}\n{_align(head, body)}"


def _find_severities(results: Sequence[RuleResult]) -> list[Severity]:
    """Return the severities that the rules have, the least severe first."""
    known = {level.severity for one in results for level in one.rule.levels}
    return sorted(known, key=SEVERITIES.index)


def _format_counts(found: Tally) -> tuple[str, str, str]:
    return str(found.alerts), str(found.flaps), str(found.open_at_end)


def _format_seconds(seconds: float) -> str:
    return format_duration(seconds) if seconds else "-"


def _name_device(device: str, condition: str) -> str:
    return device if condition == "threshold" else "(no data)"


def _count_rest(shown: int, whole: int) -> str:
    return f" ({shown} of {whole})" if shown < whole else ""


def _align(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Return a table as lines; a column that is empty throughout is left out."""
    kept = [n for n in range(len(head)) if any(row[n] for row in body)]
    lines = [[row[n] for n in kept] for row in (head, *body)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(kept))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _time(time_ms: int) -> str:
    return format_utc(from_ms(time_ms))


def describe_rule(rule: AlertRule) -> str:
    """Return a rule in one line, such as ``avg of cpu_usage over 10 min > 80 % (warning) for 5 min``."""
    what = rule.metric
    if rule.aggregate:
        what = f"{rule.aggregate} of {rule.metric} over {format_duration(rule.window_seconds)}"
    limits = ", ".join(
        f"{format_value(rule, float(level.threshold))} ({level.severity})" for level in rule.levels
    )
    held = f" for {format_duration(rule.for_seconds)}" if rule.for_seconds else ""
    return f"{what} {rule.op} {limits}{held}"
