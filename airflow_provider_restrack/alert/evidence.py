"""What is told of a breach, or of its end: JSON-able, for XCom, messages and people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.alert.durations import format_duration
from airflow_provider_restrack.alert.evaluate import from_ms
from airflow_provider_restrack.alert.expressions import read_metric
from airflow_provider_restrack.clock import format_utc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_restrack.alert.clearance import Clearance, Standing
    from airflow_provider_restrack.alert.evaluate import Breach
    from airflow_provider_restrack.alert.rules import AlertRule

MAX_SERIES_POINTS = 120
# A fleet-wide breach must still fit into XCom: about 60 bytes a point, so a few hundred KB in all.
MAX_TOTAL_POINTS = 6000
MIN_SERIES_POINTS = 10
SPARKLINE_CHARS = 40
# Of alerts that ended: one is some 500 bytes, and XCom has to take it all.
MAX_ENDED = 200

_KEPT_OF_ENDED = (
    "rule", "severity", "host", "device", "metric", "aggregate", "unit", "op", "threshold", "since",
    "since_is_exact", "duration_seconds", "peak", "average", "samples", "coverage", "sparkline",
)  # fmt: skip
_BARS = "▁▂▃▄▅▆▇█"
_PERCENT_SCALE = (0.0, 100.0)
_BINARY_STEPS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


def build_evidence(breaches: Sequence[Breach], run_url: str | None = None) -> list[dict[str, Any]]:
    """Return the evidence of breaches, with fewer of the newest samples each if there are many breaches.

    :param run_url: where Airflow shows the run that looked; None where there is none.
    """
    share = MAX_TOTAL_POINTS // max(len(breaches), 1)
    points = min(MAX_SERIES_POINTS, max(MIN_SERIES_POINTS, share))
    return [describe_breach(breach, points) | {"run_url": run_url} for breach in breaches]


def build_clear_evidence(clearance: Clearance, run_url: str | None = None) -> dict[str, Any]:
    """Return what was watched and since when it is clear.

    Keys: rules, hosts, instances, since, at, ended, ended_count, text, run_url. ``since`` is the end of the
    last alert that ended in the samples that were read, None if there was none. ``ended`` has an item for
    each such alert, the last to end first, at most ``MAX_ENDED``.
    """
    ended = [one for one in clearance.standings if one.ended is not None]
    items = sorted(
        (_describe_end(one, one.ended) for one in ended if one.ended), key=_order_end, reverse=True
    )
    evidence = {
        "rules": [rule.name for rule in clearance.rules],
        "hosts": len({one.host for one in clearance.standings}),
        "instances": len(clearance.standings),
        "since": items[0]["ended"] if items else None,
        "at": format_utc(clearance.at),
        "ended": items[:MAX_ENDED],
        "ended_count": len(items),
        "run_url": run_url,
    }
    return evidence | {"text": _describe_clearance(evidence)}


def describe_breach(breach: Breach, points: int = MAX_SERIES_POINTS) -> dict[str, Any]:
    """Return one breach's evidence.

    Keys: rule, severity, host, device, metric, aggregate, window_seconds, unit, op, threshold,
    for_seconds, since, at, since_is_exact, duration_seconds, current, peak, average, samples, coverage,
    series, sparkline, text, summary.

    :param points: how many of the newest values ``series`` may hold.
    """
    rule = breach.rule
    evidence: dict[str, Any] = {
        "rule": rule.name,
        "severity": rule.severity,
        "host": breach.host,
        "device": breach.device,
        "metric": rule.metric,
        "aggregate": rule.aggregate,
        "window_seconds": rule.window_seconds or None,
        "unit": find_unit(rule),
        "op": rule.op,
        "threshold": rule.threshold,
        "for_seconds": rule.for_seconds,
        "since": format_utc(breach.since),
        # False: the run began before the samples that were read, so it is longer than told.
        "since_is_exact": not breach.open_start,
        "at": format_utc(breach.at),
        "duration_seconds": breach.duration_seconds,
        "current": _plain(rule, breach.values[-1]),
        "peak": _plain(rule, find_peak(breach)),
        "average": sum(breach.values) / len(breach.values),
        "samples": len(breach.values),
        "coverage": breach.coverage,
        "series": [
            {"timestamp": format_utc(from_ms(time)), "value": _plain(rule, value)}
            for time, value in zip(breach.times[-points:], breach.values[-points:], strict=True)
        ],
        "sparkline": draw_sparkline(breach.values, _PERCENT_SCALE if find_unit(rule) == "%" else None),
        "text": describe(breach),
    }
    evidence["summary"] = _render_summary(rule, evidence)
    return evidence


def _describe_end(standing: Standing, alert: Breach) -> dict[str, Any]:
    """Return what is told of an alert that ended; ``ended`` is the time of the sample that did it."""
    rule = standing.rule
    newest = alert.values[-1] if standing.newest is None else standing.newest
    told = describe_breach(alert, points=1)
    level = next((one for one in rule.levels if one.severity == alert.rule.severity), rule.levels[0])
    sentence = (
        f"{standing.where}: {rule.metric} is {format_value(rule, newest)} again"
        f" (alert for {alert.rule.op} {_format_threshold(alert.rule)} lasted"
        f" {format_duration(alert.duration_seconds)}, until {alert.at:%Y-%m-%d %H:%M:%SZ};"
        f" peak {format_value(rule, find_peak(alert))})"
    )
    return {key: told[key] for key in _KEPT_OF_ENDED} | {
        "clear_threshold": level.clear_threshold,
        "clear_for_seconds": rule.clear_for_seconds,
        "ended": format_utc(alert.at),
        "current": _plain(rule, newest),
        "text": sentence,
    }


def _order_end(item: dict[str, Any]) -> tuple[str, str, str]:
    return item["ended"], item["host"], item["rule"]


def _describe_clearance(evidence: dict[str, Any]) -> str:
    hosts = evidence["hosts"]
    watched = f"{', '.join(evidence['rules'])} on {hosts} host{'s' if hosts != 1 else ''}"
    if not evidence["ended"]:
        return f"clear: {watched}; no breach in the samples that were read"
    last = evidence["ended"][0]
    return f"clear since {evidence['since']}: {watched}; last {last['text']}"


def describe(breach: Breach) -> str:
    """Return a breach as one sentence, such as ``db-1: cpu_usage is 97.3 % (> 90 % for 10 min since …)``."""
    rule = breach.rule
    where = f"{breach.host} {breach.device}" if breach.device else breach.host
    held = f"at {_clock_time(breach, breach.since)}"
    if breach.duration_seconds:
        at_least = "at least " if breach.open_start else ""
        since = _clock_time(breach, breach.since)
        held = f"for {at_least}{format_duration(breach.duration_seconds)} since {since}"
    peak = "" if _is_truth(rule) else f"; peak {_format_beside_threshold(rule, find_peak(breach))}"
    current = _format_beside_threshold(rule, breach.values[-1])
    return f"{where}: {name_value(rule)} is {current} ({rule.op} {_format_threshold(rule)} {held}{peak})"


def name_value(rule: AlertRule) -> str:
    """Return what a rule compares, in words: ``p95 of disk_io_busy over 1 h``."""
    if rule.aggregate is None:
        return rule.metric
    above = "" if rule.above is None else f" {rule.above:g}"
    return f"{rule.aggregate}{above} of {rule.metric} over {format_duration(rule.window_seconds)}"


def find_peak(breach: Breach) -> float:
    """Return the most extreme value of the run, in the direction of the rule's comparison."""
    if breach.rule.op in {">", ">="}:
        return max(breach.values)
    if breach.rule.op in {"<", "<="}:
        return min(breach.values)
    return max(breach.values, key=lambda value: abs(value - float(breach.rule.threshold)))


def find_unit(rule: AlertRule) -> str:
    """Return the unit of the compared value; empty where there is none."""
    if rule.aggregate == "count":
        return "samples"
    if rule.aggregate == "fraction_above":
        return ""
    unit = read_metric(rule.metric).unit
    return f"{unit}/s" if rule.aggregate == "rate" and unit else unit


def format_value(rule: AlertRule, value: float) -> str:
    """Return a value with its unit, as people read it: ``97.3 %``, ``1.5 GiB``, ``true``."""
    if _is_truth(rule):
        return str(bool(value)).lower()
    unit = find_unit(rule)
    if unit in {"bytes", "bytes/s"}:
        return _format_bytes(value) + unit.removeprefix("bytes")
    if unit == "s" and value >= 60:
        return format_duration(value)
    return f"{_round(value)} {unit}".rstrip()


def _format_threshold(rule: AlertRule) -> str:
    return format_value(rule, float(rule.threshold))


def _format_beside_threshold(rule: AlertRule, value: float) -> str:
    """Return a value with its unit, in full if rounding would hide that it is not the threshold."""
    text = format_value(rule, value)
    if value == rule.threshold or text != _format_threshold(rule):
        return text
    return f"{value:.12g} {find_unit(rule)}".rstrip()


def draw_sparkline(values: Sequence[float], scale: tuple[float, float] | None = None) -> str:
    """Return the newest values as bars.

    :param scale: the values of the lowest and the highest bar; None: the least and the greatest shown. A
        percentage has its own: drawn between 99.5 and 100, a steady load would look like a leap.
    """
    shown = values[-SPARKLINE_CHARS:]
    low, high = scale or (min(shown), max(shown))
    if high == low:
        return _BARS[len(_BARS) // 2] * len(shown)
    top = len(_BARS) - 1
    return "".join(_BARS[max(0, min(top, round((value - low) / (high - low) * top)))] for value in shown)


def _is_truth(rule: AlertRule) -> bool:
    return isinstance(rule.threshold, bool)


def _plain(rule: AlertRule, value: float) -> float | bool:
    return bool(value) if _is_truth(rule) else value


def _clock_time(breach: Breach, moment: Any) -> str:
    """Return the time of day, with the date if the run began on another day than it was last seen."""
    return (
        f"{moment:%H:%M:%SZ}" if breach.since.date() == breach.at.date() else f"{moment:%Y-%m-%d %H:%M:%SZ}"
    )


def _format_bytes(value: float) -> str:
    step = 0
    while abs(value) >= 1024 and step < len(_BINARY_STEPS) - 1:
        value, step = value / 1024, step + 1
    return f"{_round(value)} {_BINARY_STEPS[step]}"


def _round(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}".removesuffix(".0") if abs(value) >= 1 else f"{value:.3g}"


def _render_summary(rule: AlertRule, evidence: dict[str, Any]) -> str:
    """Return the rule's own sentence, or the usual one."""
    if rule.summary is None:
        return str(evidence["text"])
    texts = ("device", "aggregate")
    return rule.summary.format(**evidence | {key: evidence[key] or "" for key in texts})
