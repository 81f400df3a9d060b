"""A report of a backtest over a few hosts in memory."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.alert.backtest import backtest
from airflow_provider_restrack.alert.rules import parse_rules
from tests.unit.alert.fleet_fakes import START, MemoryReader, rows_of

if TYPE_CHECKING:
    from airflow_provider_restrack.alert.backtest import Report

RULE = {
    "name": "cpu",
    "metric": "cpu_usage",
    "op": ">",
    "threshold": {"warning": 80, "critical": 90},
    "clear_threshold": 75,
    "for": "10m",
}
FLEET = {
    "db-1": rows_of([*[50.0] * 60, *[95.0] * 60, *[50.0] * 60, *[None] * 60, *[50.0] * 60]),
    "db-2": rows_of([*[50.0] * 200, *[85.0] * 100]),
    "web-1": rows_of([78.0] * 300),
    "web-2": rows_of([20.0] * 300),
}
END = START + timedelta(minutes=299)


def build_report(*rules: dict[str, Any], rows: Any = None, **options: Any) -> tuple[Report, MemoryReader]:
    reader = MemoryReader(FLEET if rows is None else rows)
    report = backtest(parse_rules(list(rules or (RULE,))), reader, None, START, END, **options)
    return report, reader
