"""Evaluation of a fleet: what holds for every history and every schedule; see also the rule tests as data."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_restrack.alert.fleet import STATES, evaluate_fleet
from airflow_provider_restrack.alert.observe import HOSTS_READ_AT_ONCE
from airflow_provider_restrack.alert.records import AlertRecord, Book, InstanceKey, Told
from airflow_provider_restrack.alert.rules import AlertRule, parse_rules
from airflow_provider_restrack.alert.time_to_limit import DaysToLimit
from tests.unit.alert.fleet_fakes import (
    START,
    MemoryReader,
    at_minute,
    evaluate_at,
    rows_of,
    sort,
)

if TYPE_CHECKING:
    from tests.unit.alert.fleet_fakes import Row

END = 240


def rule(name: str = "cpu", **changes: Any) -> AlertRule:
    data = {"name": name, "metric": "cpu_usage", "op": ">", "threshold": 90, "for": "3m"}
    (found,) = parse_rules(data | changes)
    return found


LEVELS = {"threshold": {"warning": 80, "critical": 90}}
SILENT = rule("silent", no_data="alert", no_data_for="7m")
RULES = (
    rule(),
    rule("at once", **{"for": 0}),
    rule("levels", **LEVELS, clear_threshold={"warning": 70, "critical": 60}, clear_for="2m"),
    rule("gaps", max_gap="4m", min_coverage=0.5, clear_for="3m"),
    rule("covered", **{"for": "10m"}, min_samples=3, clear_for="5m"),
    rule("below", op="<", threshold={"info": 80, "warning": 60}),
    rule("mean", aggregate="avg", window="5m", **{"for": "2m"}, clear_threshold=80),
    rule("slow", aggregate="max", window="10m", clear_for="5m"),
    rule("count", aggregate="count", window="5m", op="<", threshold=3),
    rule("differs", op="!=", threshold=50),
    rule("ends", no_data="ok", no_data_for="6m"),
    SILENT,
)
STRETCHES = st.tuples(st.sampled_from([None, 50.0, 65.0, 75.0, 85.0, 95.0, 95.0]), st.integers(1, 14))
HISTORIES = st.lists(STRETCHES, max_size=14).map(
    lambda found: [value for value, count in found for _ in range(count)][:130]
)
FLEETS = st.fixed_dictionaries({"a": HISTORIES, "b": HISTORIES})
STEPS = st.sampled_from([20.0, 60.0, 110.0])
SPLITS = st.lists(st.integers(1, END - 1).map(float), max_size=6).map(sorted)
# Few rules at once: many read so far back that none lacks samples.
RULE_SETS = st.lists(st.sampled_from(RULES), min_size=1, max_size=3, unique=True)
FLEET_RUNS = settings(max_examples=60, deadline=None)


def told(book: Book) -> dict[InstanceKey, AlertRecord]:
    """The records but those that only say from when on a host is expected."""
    return {
        key: record for key, record in book.records.items() if record.open or record.at_ms > record.since_ms
    }


def build_fleet(values: dict[str, list[float | None]], step_s: float) -> dict[str, list[Row]]:
    return {host: rows_of(found, step_s=step_s) for host, found in values.items()}


@FLEET_RUNS
@given(RULE_SETS, FLEETS, STEPS, SPLITS)
def test_any_schedule_gives_what_one_evaluation_gives(rules, values, step, splits) -> None:
    rows = build_fleet(values, step)

    whole, book = evaluate_at(rules, rows, [END])
    split, split_book = evaluate_at(rules, rows, [*splits, END])

    assert sort(split) == sort(whole)
    assert told(split_book) == told(book)


@FLEET_RUNS
@given(RULE_SETS, FLEETS, st.randoms(use_true_random=False), SPLITS)
def test_order_and_duplicates_change_nothing(rules, values, random, splits) -> None:
    rows = build_fleet(values, 60)
    mixed = {host: found + random.sample(found, len(found) // 2) for host, found in rows.items()}
    for found in mixed.values():
        random.shuffle(found)

    assert evaluate_at(rules, mixed, [*splits, END]) == evaluate_at(rules, rows, [*splits, END])


@FLEET_RUNS
@given(FLEETS, st.integers(1, END))
def test_a_repeated_evaluation_and_an_older_one_find_nothing_new(values, older) -> None:
    rows = build_fleet(values, 60)
    _, book = evaluate_at(RULES, rows, [END])

    found, after = evaluate_at(RULES, rows, [END, older], book=book)

    assert found == []
    assert after.records == book.records


@FLEET_RUNS
@given(FLEETS, SPLITS, st.integers(1, END))
def test_two_evaluators_with_the_same_book_find_the_same(values, splits, now) -> None:
    rows = build_fleet(values, 60)
    _, book = evaluate_at(RULES, rows, splits)
    one, two = (evaluate_fleet(RULES, MemoryReader(rows), None, book, at_minute(now)) for _ in range(2))

    assert one == two
    assert [move.alert_id for move in one.transitions] == [move.alert_id for move in two.transitions]


@FLEET_RUNS
@given(st.lists(st.booleans(), min_size=60, max_size=120), SPLITS)
def test_samples_lost_within_the_coverage_neither_resolve_nor_un_fire(lost, splits) -> None:
    """Of a host that is overloaded all the time at most two samples in a row are lost."""
    values: list[float | None] = [95.0]
    for gone in lost:
        values.append(None if gone and values[-2:] != [None, None] else 95.0)
    rows = {"a": rows_of(values), "b": rows_of([50.0] * 200)}

    found, _ = evaluate_at([rule(), rule("long", **{"for": "30m"})], rows, [*splits, END])

    assert [(move.key.rule, move.kind, move.since_ms) for move in sort(found)] == [
        ("cpu", "fired", at_minute(0)),
        ("long", "fired", at_minute(0)),
    ]
    assert [move.at_ms <= at_minute(due + 2) for move, due in zip(sort(found), (3, 30), strict=True)] == [
        True
    ] * 2


@FLEET_RUNS
@given(RULE_SETS, FLEETS, SPLITS, st.integers(5, 200), st.integers(1, 60))
def test_a_loader_that_stalls_and_catches_up_changes_nothing(rules, values, splits, stalled, minutes) -> None:
    """All that is sampled after ``stalled`` is loaded at its end, while evaluations go on."""
    rows = build_fleet(values, 60)
    seen_at = {
        minute: min(minute, stalled) if minute < stalled + minutes else None for minute in [*splits, END + 60]
    }

    whole, book = evaluate_at(rules, rows, [END + 60])
    split, split_book = [], Book(horizon_ms=at_minute(0))
    for minute, loaded in seen_at.items():
        limit = START + timedelta(minutes=END + 60 if loaded is None else loaded)
        here = {host: [row for row in found if row["timestamp"] <= limit] for host, found in rows.items()}
        until = None if loaded is None else at_minute(loaded)
        found, split_book = evaluate_at(
            rules, here, [minute], hosts=["a", "b"], book=split_book, loaded_until_ms=until
        )
        split += found

    assert sort(split) == sort(whole)
    assert told(split_book) == told(book)


def make_history(chance: random.Random, metric: str, device: str | None = None) -> list[Row]:
    """Six hours at a pace that changes, with jitter, pauses of up to an hour, and samples that are lost."""
    rows: list[Row] = []
    minute, step, value = chance.uniform(0, 60) * chance.choice([0, 1]), 1.0, 50.0
    while minute < 360 and len(rows) < 500:
        if chance.random() < 0.03:
            step = chance.choice([1 / 6, 0.5, 1.0, 5.0])
        if chance.random() < 0.04:
            minute += chance.choice([2, 7, 15, 25, 65])
        if chance.random() < 0.15:
            value = chance.choice([50.0, 65.0, 75.0, 85.0, 95.0, 95.0])
        minute += step * chance.uniform(0.9, 1.1)
        if chance.random() > 0.15:
            time = START + timedelta(milliseconds=round(minute * 60_000))
            rows.append({"timestamp": time, metric: {device: value} if device else value})
    return rows


@pytest.mark.parametrize("seed", [*range(6), 1021, 1023])
def test_any_schedule_gives_the_same_of_irregular_hosts_with_devices(seed) -> None:
    chance = random.Random(seed)
    rows = {
        host: make_history(chance, "cpu_usage")
        + make_history(chance, "filesystem_usage", "/")
        + make_history(chance, "filesystem_usage", "/var")
        for host in ("a", "b")
    }
    splits = sorted(chance.uniform(1, 360) for _ in range(4))
    disk = {"metric": "filesystem_usage"}
    rules = (
        *RULES,
        rule("disk", **disk, no_data="ok", no_data_for="12m"),
        rule("disks", **disk, no_data="alert", no_data_for="12m"),
        rule("p90", aggregate="p90", window="20m", clear_for="10m"),
    )

    whole, book = evaluate_at(rules, rows, [400])
    split, split_book = evaluate_at(rules, rows, [*splits, 400])

    assert len(whole) > 50
    assert sort(split) == sort(whole)
    assert told(split_book) == told(book)


def evaluate(rules, rows, minute, *, book=None, **options: Any):
    return evaluate_fleet(
        rules, MemoryReader(rows), None, book or Book(at_minute(0)), at_minute(minute), **options
    )


def test_instances_are_counted_by_their_state_and_by_their_data() -> None:
    rows = {
        "ok": rows_of([50.0] * 31),
        "pending": rows_of([50.0] * 29 + [95.0] * 2),
        "firing": rows_of([95.0] * 31),
        "recovering": rows_of([95.0] * 29 + [50.0] * 2),
        "stale": rows_of([50.0] * 9),
        "none": [{"timestamp": START, "cpu_usage": None}],
        "unreachable": [row | {"cpu_usage": None} for row in rows_of([50.0] * 31)],
    }

    found = evaluate([rule(clear_for="5m")], rows, 30)

    assert found.states == {"ok": 2, "pending": 1, "firing": 1, "recovering": 1} | dict.fromkeys(
        ("stale", "no_data", "error"), 1
    )
    assert tuple(found.states) == STATES
    assert (found.hosts, found.samples, found.pipeline_error) == (7, 31 * 5 + 10, None)


def test_open_alerts_have_their_newest_value() -> None:
    found = evaluate([rule()], {"a": rows_of([95.0] * 9 + [91.0]), "b": rows_of([50.0] * 10)}, 30)

    assert found.current == {InstanceKey("cpu", "a"): (91.0, at_minute(9))}


def test_the_peak_of_an_open_alert_grows_in_its_record() -> None:
    rows = rows_of([95.0, 95.0, 95.0, 95.0, 99.0, 92.0])
    _, book = evaluate_at([rule()], {"a": rows}, [3])
    assert book.records[InstanceKey("cpu", "a")].peak == 95

    moves, book = evaluate_at([rule()], {"a": rows}, [5], book=book)

    assert moves == []
    assert book.records[InstanceKey("cpu", "a")].peak == 99
    assert evaluate_at([rule()], {"a": rows}, [5], book=book)[1].records == book.records


def test_what_receivers_were_told_stays_with_the_record() -> None:
    rows = {"a": rows_of([95.0] * 5 + [50.0])}
    _, book = evaluate_at([rule()], rows, [4])
    key = InstanceKey("cpu", "a")
    told_of = {"slack": Told("warning", at_minute(4))}
    book = replace(book, records={key: replace(book.records[key], told=told_of)})

    (record,) = evaluate([rule()], rows, 9, book=book).records

    assert (record.open, record.told) == (False, told_of)


def test_a_fleet_is_read_some_hosts_at_a_time_and_only_once_where_it_is_well() -> None:
    rows = {f"h{n:03}": rows_of([50.0] * 60) for n in range(HOSTS_READ_AT_ONCE + 9)}
    reader = MemoryReader(rows)

    evaluate_fleet([rule()], reader, None, Book(at_minute(50)), at_minute(60))

    assert [len(hosts) for hosts, _ in reader.reads] == [HOSTS_READ_AT_ONCE, 9]
    assert {span for _, span in reader.reads} == {timedelta(minutes=10 + 3 + 15)}


def test_an_alert_that_began_before_the_samples_read_is_read_further_back_at_most_a_day() -> None:
    rows = {"a": rows_of([95.0] * 1000, step_s=600), "b": rows_of([50.0] * 1000, step_s=600)}
    reader = MemoryReader(rows)
    now = 9000.0

    found = evaluate_fleet([rule(max_gap="20m")], reader, None, Book(None), at_minute(now))

    assert [hosts for hosts, _ in reader.reads] == [("a", "b"), ("a",), ("a",), ("a",)]
    spans = [span + timedelta(milliseconds=1) for _, span in reader.reads]  # both ends are included
    assert sum(spans, timedelta()) == timedelta(days=1, milliseconds=1)
    (move,) = found.transitions
    assert (move.kind, move.since_ms) == ("fired", at_minute(now - 1440))


def test_an_open_alert_needs_no_older_samples() -> None:
    rows = {"a": rows_of([95.0] * 300)}
    _, book = evaluate_at([rule()], rows, [200])
    reader = MemoryReader(rows)

    evaluate_fleet([rule()], reader, None, book, at_minute(220))

    assert len(reader.reads) == 1


def test_an_evaluator_that_paused_reads_from_where_it_stopped() -> None:
    reader = MemoryReader({"a": rows_of([50.0] * 900)})

    evaluate_fleet([rule()], reader, None, Book(at_minute(100)), at_minute(800))

    assert reader.reads[0][1] == timedelta(minutes=700 + 3 + 15)


@pytest.mark.parametrize(
    ("newest", "loaded", "horizon"), [(40, None, 40), (90, None, 60), (90, 30, 30), (5, None, 20)]
)
def test_the_horizon_to_record_is_up_to_where_samples_have_come(newest, loaded, horizon) -> None:
    rows = {"a": rows_of([50.0] * (newest + 1))}
    until = None if loaded is None else at_minute(loaded)

    found = evaluate([rule()], rows, 60, book=Book(at_minute(20)), loaded_until_ms=until)

    assert found.horizon_ms == at_minute(horizon)


def test_without_any_sample_the_horizon_stays() -> None:
    assert evaluate([rule()], {"a": []}, 60, book=Book(at_minute(20))).horizon_ms == at_minute(20)
    assert evaluate_fleet(
        [rule()], MemoryReader({"a": []}), None, Book(), at_minute(60)
    ).horizon_ms == at_minute(60)


def test_an_unmatched_rule_is_no_stalled_pipeline() -> None:
    assert evaluate([rule(hosts="x*")], {"a": []}, 60).pipeline_error is None
    assert evaluate([], {"a": []}, 60).pipeline_error is None


def test_alerts_that_were_over_before_all_hosts_were_read_are_not_told() -> None:
    """The first evaluation reads far back to find the start of one run, and passes by an older alert."""
    old = [95.0] * 9 + [50.0] * 200
    rows = {"a": rows_of(old + [95.0] * 40)}

    found = evaluate_fleet([rule()], MemoryReader(rows), None, Book(), at_minute(248))

    assert [(move.kind, move.since_ms) for move in found.transitions] == [("fired", at_minute(209))]


def test_a_changed_threshold_ends_an_alert_by_the_samples_after_it() -> None:
    rows = {"a": rows_of([92.0] * 20)}
    _, book = evaluate_at([rule()], rows, [10])

    (move,) = evaluate([rule(threshold=93)], rows, 15, book=book).transitions

    assert (move.kind, move.at_ms) == ("resolved", at_minute(4))


def test_an_alert_of_a_severity_that_is_gone_goes_on_at_the_least() -> None:
    rows = {"a": rows_of([95.0] * 20 + [85.0] * 5 + [50.0])}
    _, book = evaluate_at([rule(**LEVELS)], rows, [10])

    moves, _ = evaluate_at([rule(threshold=80, severity="info")], rows, [30], book=book)

    assert [(move.kind, move.severity) for move in moves] == [("resolved", "info")]


def test_a_rule_on_forecasts_needs_no_samples() -> None:
    days = rule("days", metric="days_to_limit(filesystem_usage)", op="<", threshold=7, **{"for": None})
    reader = MemoryReader({"a": []})
    reader.forecasts = {
        ("filesystem_usage", "a"): [
            DaysToLimit("a", "/", at_minute(-600), 3.0),
            DaysToLimit("a", "/b", at_minute(0), 90.0),
        ]
    }

    found = evaluate_fleet([days], reader, None, Book(), at_minute(30))

    assert [(move.key, move.kind, move.at_ms) for move in found.transitions] == [
        (InstanceKey("days", "a", "/"), "fired", at_minute(-600))
    ]
    assert (reader.reads, found.pipeline_error, found.horizon_ms) == ([], None, at_minute(30))
