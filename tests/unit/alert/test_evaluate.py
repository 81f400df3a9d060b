"""Invariants of the evaluation, over generated series; single behaviours stand as data in ``cases/``."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.alert.evaluate import (
    assess,
    build_series,
    evaluate,
    find_spacing,
    from_ms,
    plan_gaps,
    to_ms,
)
from airflow_provider_restrack.alert.rules import parse_rules
from airflow_provider_restrack.store.row_decoder import RowDecoder, join_columns
from airflow_provider_restrack.store.series import SampleColumns
from tests.unit.store.pages import encode_page

START = datetime(2026, 5, 4, 12, tzinfo=UTC)
STEP = timedelta(minutes=1)
END = START + timedelta(hours=1)
Row = dict[str, Any]

values = st.one_of(st.none(), st.sampled_from([10.0, 50.0, 90.0, 95.0, 99.0]))
histories = st.lists(values, min_size=1, max_size=40).map(
    lambda found: [{"timestamp": START + n * STEP, "cpu_usage": value} for n, value in enumerate(found)]
)
rules = st.fixed_dictionaries(
    {},
    optional={
        "for": st.sampled_from(["1m", "5m", "10m"]),
        "max_gap": st.sampled_from(["1m", "3m", "30m"]),
        "min_coverage": st.sampled_from([0.0, 0.5, 0.8, 1.0]),
        "min_samples": st.integers(1, 5),
    },
).map(lambda extra: parse_rules({"name": "r", "metric": "cpu_usage", "op": ">", "threshold": 90, **extra})[0])


def judge(rule, rows: list[Row], now: datetime):
    (series,) = build_series(rule, "db-1", rows, now)
    return evaluate(rule, series, now)


def end_of(rows: list[Row]) -> datetime:
    return max(row["timestamp"] for row in rows)


@given(rules, histories, st.data())
def test_order_and_duplicates_change_nothing(rule, rows: list[Row], data) -> None:
    doubled = rows + data.draw(st.lists(st.sampled_from(rows), max_size=10))
    shuffled = data.draw(st.permutations(doubled))
    now = end_of(rows)
    assert judge(rule, shuffled, now) == judge(rule, rows, now)


@given(rules, histories)
def test_samples_after_now_change_nothing(rule, rows: list[Row]) -> None:
    now = START + 20 * STEP
    assert judge(rule, rows, now) == judge(rule, [row for row in rows if row["timestamp"] <= now], now)


@given(rules, histories)
def test_a_newest_sample_that_does_not_breach_never_fires(rule, rows: list[Row]) -> None:
    now = end_of(rows) + STEP
    assert judge(rule, [*rows, {"timestamp": now, "cpu_usage": 90.0}], now) is None


@given(rules, histories)
def test_a_null_sample_at_the_end_neither_fires_nor_ends_a_breach_that_is_fresh(
    rule, rows: list[Row]
) -> None:
    now = end_of(rows)
    with_null = [*rows, {"timestamp": now + timedelta(seconds=1), "cpu_usage": None}]
    before, after = judge(rule, rows, now), judge(rule, with_null, now + timedelta(seconds=1))
    if rule.max_gap_seconds and before and (now - before.at).total_seconds() + 1 <= rule.max_gap_seconds:
        assert after == before
    if after:
        assert after.at <= now


@given(rules, histories, st.data())
def test_with_a_fixed_gap_removing_breaching_samples_never_fires(rule, rows: list[Row], data) -> None:
    """It holds for breaching samples only: without a sample that ends a run, two runs may be one."""
    if rule.max_gap_seconds is None:
        return
    breaching = [row for row in rows if row["cpu_usage"] and row["cpu_usage"] > 90]
    removed = data.draw(st.lists(st.sampled_from(breaching), unique_by=id)) if breaching else []
    kept = [row for row in rows if row not in removed]
    now = end_of(rows)
    if kept and judge(rule, kept, now) is not None:
        assert judge(rule, rows, now) is not None


@given(st.integers(20, 60), st.data())
def test_losing_up_to_two_samples_in_a_row_never_ends_a_breach(length: int, data) -> None:
    (rule,) = parse_rules({"name": "r", "metric": "cpu_usage", "op": ">", "threshold": 90, "for": "10m"})
    rows = [{"timestamp": START + n * STEP, "cpu_usage": 95.0} for n in range(length)]
    kept, lost = [rows[0]], 0
    for row in rows[1:-1]:
        if lost < 2 and data.draw(st.booleans()):
            lost += 1
            continue
        lost = 0
        kept.append(row)
    kept.append(rows[-1])
    found = judge(rule, kept, rows[-1]["timestamp"])
    assert found is not None
    assert (found.since, found.coverage) == (START, 1.0)


@given(
    st.lists(st.booleans(), min_size=2, max_size=15),
    st.sampled_from([1, 2, 5, 7]),
    st.sampled_from([0.0, 0.5, 0.8, 1.0]),
)
def test_a_window_counts_if_enough_of_it_lies_within_the_reach_of_its_samples(
    kept: list[bool], window: int, share: float
) -> None:
    (rule,) = parse_rules(
        {"name": "r", "metric": "cpu_usage", "op": ">", "threshold": 0, "min_coverage": share}
        | {"aggregate": "avg", "window": window * 60}
    )
    minutes = [minute for minute, keep in enumerate(kept) if keep] or [0]
    rows = [{"timestamp": START + minute * STEP, "cpu_usage": 5.0} for minute in minutes]
    (series,) = build_series(rule, "db-1", rows, END)
    reach = plan_gaps(rule, series.spacing_ms).reach_ms / 60_000

    def is_covered(minute: int) -> bool:
        halves = [minute - window + (half + 0.5) / 2 for half in range(2 * window)]
        inside = [any(known < half < min(known + reach, minute) for known in minutes) for half in halves]
        return sum(inside) / 2 >= share * window

    found = evaluate(rule, series, START + minutes[-1] * STEP)
    expected = [minute for minute in minutes if is_covered(minute)]
    assert (found and found.at) == (START + expected[-1] * STEP if expected else None)


@given(rules, histories)
def test_a_breach_is_a_run_of_breaching_samples_up_to_the_newest_one(rule, rows: list[Row]) -> None:
    found = judge(rule, rows, end_of(rows))
    if found is None:
        return
    known = [(to_ms(row["timestamp"]), row["cpu_usage"]) for row in rows if row["cpu_usage"] is not None]
    run = list(zip(found.times, found.values, strict=True))
    assert run == known[-len(run) :]
    assert all(value > 90 for _, value in run)
    assert found.duration_seconds >= rule.for_seconds
    assert found.coverage >= rule.min_coverage - 1e-4
    assert len(run) >= rule.min_samples


@pytest.mark.parametrize(
    ("hold", "seconds", "fires"),
    [
        pytest.param("10m", [0, 304, 598], True, id="the last one two seconds early"),
        pytest.param("10m", [0, 296, 571], True, id="a tenth of the interval early"),
        pytest.param("10m", [0, 296, 565], False, id="more than that"),
        pytest.param("10m", [0, 598], True, id="the one between is lost"),
        pytest.param("10m", [0, 301], False, id="two intervals are not three"),
        pytest.param("30s", [0, 25], False, id="no more than a tenth of a short for"),
    ],
)
def test_a_scheduler_s_jitter_does_not_cost_another_interval(
    hold: str, seconds: list[float], fires: bool
) -> None:
    (rule,) = parse_rules(
        {"name": "r", "metric": "cpu_usage", "op": ">", "threshold": 90, "for": hold, "min_coverage": 1}
    )
    cool = [{"timestamp": START - n * timedelta(minutes=5), "cpu_usage": 50.0} for n in range(1, 7)]
    hot = [{"timestamp": START + timedelta(seconds=second), "cpu_usage": 95.0} for second in seconds]
    found = judge(rule, cool + hot, hot[-1]["timestamp"])
    assert (found is not None) == fires
    if found is not None:
        assert (found.duration_seconds, found.coverage) == (seconds[-1], 1.0)


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_an_absent_sample(value: float | None) -> None:
    (rule,) = parse_rules({"name": "r", "metric": "cpu_usage", "op": ">", "threshold": 90})
    rows = [{"timestamp": START, "cpu_usage": 95.0}, {"timestamp": START + STEP, "cpu_usage": value}]
    (series,) = build_series(rule, "db-1", rows, START + STEP)
    assert (series.values, series.spacing_ms) == ((95.0,), 60_000)


def test_timestamps_as_text_and_as_times_are_the_same() -> None:
    texts = ["2026-05-04T12:00:00.001Z", "2026-05-04T14:00:00.001+02:00"]
    assert {to_ms(text) for text in texts} == {to_ms(START + timedelta(milliseconds=1))}
    assert from_ms(to_ms(START)) == START


@pytest.mark.parametrize(
    ("gaps", "spacing"),
    [
        ([], None),
        ([300], 300),
        ([300, 10_000], 300),
        ([5, 300, 10_000], 300),
        ([10] * 9 + [500, 500], 10),
        ([10, 10, 280] * 3, 280),
    ],
)
def test_spacing_is_what_recurs_not_what_happened_once(gaps: list[int], spacing: int | None) -> None:
    times = [sum(gaps[:n]) for n in range(len(gaps) + 1)]
    assert find_spacing(times) == spacing


def test_the_gap_that_breaks_a_run_is_the_longest_of_three_limits() -> None:
    short, long = parse_rules(
        [
            {"name": "a", "metric": "cpu_usage", "op": ">", "threshold": 90, "for": "10m"},
            {"name": "b", "metric": "cpu_usage", "op": ">", "threshold": 90, "for": "10h"},
        ]
    )
    assert plan_gaps(short, 10_000).max_gap_ms == 900_000
    assert plan_gaps(short, 600_000).max_gap_ms == 1_800_000
    assert plan_gaps(long, 10_000).max_gap_ms == pytest.approx(7_200_000)


def test_a_verdict_names_its_rule_and_a_breach_the_severity_that_holds() -> None:
    (rule,) = parse_rules(
        {"name": "r", "metric": "cpu_usage", "op": ">", "threshold": {"warning": 80, "critical": 95}}
    )
    for value, severity in ((50.0, None), (85.0, "warning"), (97.0, "critical")):
        (series,) = build_series(rule, "db-1", [{"timestamp": START, "cpu_usage": value}], START)
        verdict = assess(rule, series, START)
        assert verdict.rule == rule
        assert (verdict.breach and verdict.breach.rule.severity) == severity


TYPES = {
    "timestamp": "timestamp",
    "cpu_usage": "double",
    "up": "boolean",
    "filesystem_usage": "map<text,double>",
}
numbers = st.none() | st.floats()
samples = st.tuples(
    st.integers(0, 10**6),
    numbers,
    st.none() | st.booleans(),
    st.none() | st.dictionaries(st.sampled_from(["/", "/var", "/srv"]), st.floats(), max_size=3),
)


EXPRESSIONS = ("abs(cpu_usage) / 2", "filesystem_usage - cpu_usage", "filesystem_usage * 2")


@given(
    st.lists(samples, max_size=30, unique_by=lambda one: one[0]),
    st.sampled_from([*list(TYPES)[1:], *EXPRESSIONS]),
    st.data(),
)
def test_columns_give_the_series_of_the_same_rows(found: list[tuple[Any, ...]], metric: str, data) -> None:
    (rule,) = parse_rules(
        {"name": "r", "metric": metric, "op": "==", "threshold": False if metric == "up" else 1}
    )
    rows = [{**dict(zip(TYPES, one, strict=True)), "timestamp": from_ms(one[0])} for one in found]
    newest_first = sorted(found, reverse=True, key=lambda one: one[0])
    page = encode_page({"host": "text", **TYPES}, [("db-1", *one) for one in newest_first])
    runs = RowDecoder(tuple(TYPES), tuple(TYPES.values())).decode([page])
    columns = join_columns(runs.get("db-1", []))
    now = from_ms(data.draw(st.integers(-1, 10**6 + 1)))

    assert build_series(rule, "db-1", SampleColumns(tuple(TYPES)[1:], columns), now) == build_series(
        rule, "db-1", rows, now
    )
