"""Rows in memory for the evaluation of a fleet, and evaluations one after another, the book carried on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.alert.evaluate import to_ms
from airflow_provider_restrack.alert.fleet import Evaluation, evaluate_fleet
from airflow_provider_restrack.alert.records import AlertTransition, Book

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_provider_restrack.alert.rules import AlertRule
    from airflow_provider_restrack.alert.time_to_limit import Forecasts

START = datetime(2026, 5, 4, 12, tzinfo=UTC)
START_MS = to_ms(START)
MINUTE_MS = 60_000
Row = dict[str, Any]


class MemoryReader:
    """Rows of a dict; keeps of whom and for how long it was asked."""

    def __init__(self, rows: Mapping[str, Sequence[Row]]) -> None:
        self.rows = rows
        self.reads: list[tuple[tuple[str, ...], timedelta]] = []
        self.forecasts: Forecasts = {}

    def hosts(self) -> list[str]:
        return list(self.rows)

    def fetch(self, hosts, since, until, columns) -> dict[str, list[Row]]:
        self.reads.append((tuple(hosts), until - since))
        return {
            host: [row for row in self.rows.get(host, ()) if since <= row["timestamp"] <= until]
            for host in hosts
        }

    def fetch_days_to_limit(self, metrics, hosts, now) -> Forecasts:
        return self.forecasts


def rows_of(values: Iterable[float | None], metric: str = "cpu_usage", step_s: float = 60.0) -> list[Row]:
    """One value every ``step_s`` from START on; None is a lost sample."""
    return [
        {"timestamp": START + timedelta(seconds=n * step_s), metric: value}
        for n, value in enumerate(values)
        if value is not None
    ]


def at_minute(minute: float) -> int:
    return START_MS + round(minute * MINUTE_MS)


def carry(book: Book, evaluation: Evaluation) -> Book:
    """Return the book after an evaluation was recorded."""
    records = {**book.records, **{record.key: record for record in evaluation.records}}
    horizon = max(evaluation.horizon_ms, book.horizon_ms or evaluation.horizon_ms)
    return Book(horizon, records)


def evaluate_at(
    rules: Sequence[AlertRule],
    rows: Mapping[str, Sequence[Row]],
    minutes: Iterable[float],
    *,
    hosts: Sequence[str] | None = None,
    book: Book | None = None,
    **options: Any,
) -> tuple[list[AlertTransition], Book]:
    """Evaluate at each of the minutes and return all transitions and the last book.

    The first evaluation goes on from START, so that all histories are evaluated in full.
    """
    reader, found = MemoryReader(rows), []
    book = book or Book(horizon_ms=START_MS)
    for minute in minutes:
        evaluation = evaluate_fleet(rules, reader, hosts, book, at_minute(minute), **options)
        found += evaluation.transitions
        book = carry(book, evaluation)
    return found, book


def sort(found: Iterable[AlertTransition]) -> list[AlertTransition]:
    return sorted(found, key=lambda one: (one.key, one.at_ms))
