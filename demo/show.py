"""What the demo prints: the newest row of every host, and an alert with its evidence, as text."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from airflow_provider_restrack.clock import format_utc

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_COLUMNS = (
    "host",
    "timestamp",
    "up",
    "outcome",
    "collector",
    "cpu_usage",
    "memory_usage",
    "disk_usage",
    "network_io_recv",
    "network_io_sent",
)


def table_of_hosts(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the newest row of every host as a table, the columns of most interest."""
    shown = [
        [_cell(row.get(column)) for column in _COLUMNS] for row in sorted(rows, key=lambda row: row["host"])
    ]
    return tabulate(shown, headers=_COLUMNS, tablefmt="simple", disable_numparse=True)


def describe_alert(evidence: Mapping[str, Any]) -> str:
    """Return one alert as lines: its sentence, the numbers behind it and the curve."""
    figures = ("since", "at", "duration_seconds", "current", "peak", "average", "samples")
    lines = [f"  ALERT {evidence['rule']}: {evidence['text']}", f"    {evidence.get('sparkline', '')}"]
    lines += [f"    {name:>16}  {_cell(evidence.get(name))}" for name in figures]
    return "\n".join(lines)


def describe_report(result: Mapping[str, Any], link: str) -> str:
    """Return what a report says in short, and where it is."""
    lines = [f"\nThe capacity report of {result['hosts']} hosts, those with history generated:\n"]
    for one in result["forecasts"][:5]:
        where = f"{one['host']} {one['device'] or ''}".strip()
        when = f"full about {one['full_likely']}" if one["full_likely"] else one["verdict"]
        lines.append(f"  {where}: {one['metric']} {_cell(one['current'])} %, {when}")
    lines.append(
        f"  sizes to change: {len(result['resizes'])}; without data: {', '.join(result['silent']) or 'none'}"
    )
    lines += [f"\n  The page, also by the link of the task: {link}", f"  Its file: {result['files'][0]}\n"]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, datetime):
        return format_utc(value)
    if isinstance(value, float):
        return f"{value:,.1f}"
    return str(value)
