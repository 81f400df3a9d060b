"""Evaluation of a fleet: alerts end as samples, forecasts or rules say, however late that is known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_restrack.alert.fleet import evaluate_fleet
from airflow_provider_restrack.alert.messages import plan_messages
from airflow_provider_restrack.alert.records import AlertRecord, Book, InstanceKey, Told
from airflow_provider_restrack.alert.rules import parse_rules
from airflow_provider_restrack.alert.time_to_limit import DaysToLimit
from tests.unit.alert.fleet_fakes import START, MemoryReader, at_minute, carry, evaluate_at, rows_of

if TYPE_CHECKING:
    from airflow_provider_restrack.alert.rules import AlertRule

NO_DATA = {"no_data": "alert", "no_data_for": "15m"}


def rule(name: str = "cpu", **changes: Any) -> AlertRule:
    data = {"name": name, "metric": "cpu_usage", "op": ">", "threshold": 90}
    (found,) = parse_rules(data | changes)
    return found


def test_an_alert_on_forecasts_ends_by_a_forecast_of_a_past_day() -> None:
    days = rule("days", metric="days_to_limit(filesystem_usage)", op="<", threshold=7)
    reader, book, moves = MemoryReader({"a": []}), Book(), []
    for minute in range(0, 4320, 5):
        newest = ("a", "/", at_minute(-1440), 3.0) if minute < 30 else ("a", "/", at_minute(0), 90.0)
        reader.forecasts = {("filesystem_usage", "a"): [DaysToLimit(*newest)]}
        found = evaluate_fleet([days], reader, None, book, at_minute(minute))
        moves += found.transitions
        book = carry(book, found)

    assert [(move.kind, move.at_ms) for move in moves] == [
        ("fired", at_minute(-1440)),
        ("resolved", at_minute(0)),
    ]
    assert not book.records[moves[0].key].open


@pytest.mark.parametrize("step_s", [10.0, 60.0, 300.0])
def test_a_changed_threshold_ends_an_alert_that_is_old(step_s: float) -> None:
    rows = {"a": rows_of([85.0] * round(400 * 60 / step_s), step_s=step_s)}
    _, book = evaluate_at([rule(threshold=80)], rows, range(5, 180, 5))

    moves, book = evaluate_at([rule(threshold=90)], rows, range(180, 300, 5), book=book)

    assert [move.kind for move in moves] == ["resolved"]


@pytest.mark.parametrize("step_s", [60.0, 300.0])
def test_an_alert_ends_by_samples_that_come_long_after_those_of_others(step_s: float) -> None:
    count = round(400 * 60 / step_s)
    well = rows_of([50.0] * count, step_s=step_s)
    late = rows_of([95.0 if n * step_s < 6000 else 50.0 for n in range(count)], step_s=step_s)
    _, book = evaluate_at([rule()], {"a": late, "b": well}, range(5, 100, 5))
    before = [row for row in late if row["timestamp"] < START.replace(hour=13, minute=38)]
    _, book = evaluate_at([rule()], {"a": before, "b": well}, range(100, 160, 5), book=book)

    moves, _ = evaluate_at([rule()], {"a": late, "b": well}, range(160, 240, 5), book=book)

    assert [(move.kind, move.at_ms) for move in moves] == [("resolved", at_minute(100))]


@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize("gone", ["rule", "host"])
def test_what_is_told_as_flapping_is_told_to_be_over_when_it_is_removed(gone: str, is_open: bool) -> None:
    key = InstanceKey("cpu", "a")
    told = {"mail": Told("flapping", at_minute(9), at_minute(8))}
    flapping = AlertRecord(key, is_open, "warning", at_minute(8), at_minute(9), flapping=True, told=told)
    book = Book(at_minute(10), {key: flapping})
    rules = [rule("other")] if gone == "rule" else [rule()]

    found = evaluate_fleet(rules, MemoryReader({"b": rows_of([50.0] * 20)}), None, book, at_minute(15))

    (record,) = found.records
    assert (record.open, record.flapping) == (False, False)
    assert [move.reason for move in found.transitions] == (["removed"] if is_open else [])
    (message,) = plan_messages([record], ["mail"], {}, at_minute(15)).messages
    assert [notice.what for notice in message.notices] == ["resolved"]
    again = evaluate_fleet(rules, MemoryReader({}), ["b"], carry(book, found), at_minute(20))
    assert again.records == ()


def test_a_rule_for_labels_sees_a_host_that_is_silent_since_before_what_is_read() -> None:
    labels = {"role": "db"}
    rows = {"a": rows_of([50.0] * 20), "b": rows_of([50.0] * 400)}
    rows = {host: [row | {"labels": labels} for row in found] for host, found in rows.items()}
    rules = [rule("silent", **NO_DATA, labels=labels)]

    moves, _ = evaluate_at(rules, rows, range(140, 300, 5), book=Book())

    assert [(move.key.host, move.kind, move.since_ms) for move in moves] == [("a", "fired", at_minute(19))]


@pytest.mark.parametrize("aggregate", [{}, {"aggregate": "avg", "window": "5m"}])
def test_flapping_ends_with_calm_samples_after_a_long_pause(aggregate: dict[str, str]) -> None:
    key = InstanceKey("cpu", "a")
    flapping = AlertRecord(key, False, "warning", at_minute(-1800), at_minute(-1790), flapping=True)
    book = Book(at_minute(-1780), {key: flapping})

    _, book = evaluate_at([rule(**aggregate)], {"a": rows_of([50.0] * 200)}, range(60, 200, 5), book=book)

    assert not book.records[key].flapping


@pytest.mark.parametrize(
    ("row", "reason"),
    [({"up": False}, "unreachable"), ({"up": True}, "no_value"), (None, "")],
)
def test_why_values_are_missing_is_told_by_the_samples(row: dict[str, bool] | None, reason: str) -> None:
    lost = rows_of([None if row is None else 0.0] * 60, metric="ignored")
    silent = [found | row for found in lost[20:]] if row else []
    rows = {"a": [*rows_of([50.0] * 20), *silent], "b": rows_of([50.0] * 90)}
    rows["a"] += [one for one in rows_of([50.0] * 90) if one["timestamp"] > START.replace(hour=13)]

    once, _ = evaluate_at([rule(**NO_DATA)], rows, [85])
    moves, book = evaluate_at([rule(**NO_DATA)], rows, range(1, 86, 3))

    fired, resolved = moves
    assert (fired.key.condition, fired.since_ms, fired.reason) == ("no_data", at_minute(19), reason)
    assert (resolved.kind, resolved.reason, book.records[fired.key].reason) == ("resolved", "", "")
    assert [replace(move, value=None) for move in once] == moves


def test_a_forecast_is_fresh_between_the_hours_of_its_series() -> None:
    days = rule("days", metric="days_to_limit(filesystem_usage)", op="<", threshold=7)
    reader = MemoryReader({"a": rows_of([50.0] * 2000, step_s=10)})
    reader.forecasts = {("filesystem_usage", "a"): [DaysToLimit("a", "/", at_minute(-1440), 90.0)]}

    found = evaluate_fleet([days, rule()], reader, None, Book(), at_minute(295))

    assert (found.states["stale"], found.states["ok"]) == (0, 2)
