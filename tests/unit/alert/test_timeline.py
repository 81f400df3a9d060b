"""What holds for every history, whatever it is: see also the rule tests as data."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.alert.evaluate import build_series, to_ms
from airflow_provider_restrack.alert.pace import Pace
from airflow_provider_restrack.alert.records import AlertRecord, InstanceKey
from airflow_provider_restrack.alert.rules import parse_rules
from airflow_provider_restrack.alert.timeline import Timeline, build_alert_id, read_points, replay

START = datetime(2026, 3, 1, tzinfo=UTC)
(RULE,) = parse_rules(
    {
        "name": "cpu",
        "metric": "cpu_usage",
        "op": ">",
        "threshold": {"warning": 80, "critical": 90},
        "for": "2m",
        "clear_threshold": 70,
        "clear_for": "2m",
        "max_gap": "5m",
    }
)
HISTORIES = st.lists(st.sampled_from([None, 50.0, 75.0, 85.0, 95.0]), max_size=60)


def rows_of(values: list[float | None]) -> list[dict[str, Any]]:
    return [
        {"timestamp": START + timedelta(minutes=n), "cpu_usage": value}
        for n, value in enumerate(values)
        if value is not None
    ]


def run(rows: list[dict[str, Any]], until: datetime, anchor: AlertRecord | None = None) -> Timeline:
    (series,) = build_series(RULE, "h", rows, until)
    return replay(RULE, series, until, anchor)


@given(HISTORIES, st.integers(0, 60))
def test_what_is_decided_stays_decided_however_often_one_looks(values, split) -> None:
    rows = rows_of(values)
    early = run(rows, START + timedelta(minutes=split)).transitions
    late = run(rows, START + timedelta(minutes=90)).transitions

    assert late[: len(early)] == early
    assert all(
        one.at_ms > (START + timedelta(minutes=split)).timestamp() * 1000 for one in late[len(early) :]
    )


@given(HISTORIES, st.randoms(use_true_random=False))
def test_order_and_repetition_change_nothing(values, random) -> None:
    rows = rows_of(values)
    mixed = rows + random.sample(rows, len(rows) // 2)
    random.shuffle(mixed)
    end = START + timedelta(minutes=90)

    assert run(mixed, end) == run(rows, end)


@given(HISTORIES)
def test_an_alert_is_a_chain_from_fired_to_resolved(values) -> None:
    open_since = None
    for one in run(rows_of(values), START + timedelta(minutes=90)).transitions:
        if one.kind == "fired":
            assert open_since is None
            open_since = one.since_ms
        assert one.since_ms == open_since
        if one.kind == "resolved":
            open_since = None


@given(HISTORIES, st.integers(1, 59))
def test_a_fold_from_any_recorded_transition_finds_the_rest(values, pick) -> None:
    rows, end = rows_of(values), START + timedelta(minutes=90)
    whole = run(rows, end)
    if not whole.transitions:
        return
    last = whole.transitions[pick % len(whole.transitions)]
    anchor = AlertRecord(
        InstanceKey("cpu", "h"), last.kind != "resolved", last.severity, last.since_ms, last.at_ms,
        last.value, last.peak,
    )  # fmt: skip

    gone_on = run(rows, end, anchor)

    assert gone_on.transitions == tuple(one for one in whole.transitions if one.at_ms > last.at_ms)
    assert (gone_on.state, gone_on.since_ms, gone_on.peak) == (whole.state, whole.since_ms, whole.peak)


@given(st.lists(st.booleans(), min_size=40, max_size=40))
def test_samples_lost_within_the_coverage_neither_resolve_nor_delay_beyond_themselves(lost) -> None:
    values = [None if gone and n % 3 == 1 else 95.0 for n, gone in enumerate(lost)]

    found = run(rows_of(values), START + timedelta(minutes=90))

    assert [one.kind for one in found.transitions] == ["fired"]
    assert found.transitions[0].since_ms == START.timestamp() * 1000
    assert found.transitions[0].at_ms <= (START + timedelta(minutes=3)).timestamp() * 1000


def test_a_run_that_may_have_begun_before_the_samples_says_so() -> None:
    assert run(rows_of([95.0, 95.0]), START + timedelta(minutes=9)).open_start
    assert run(rows_of([95.0, 50.0]), START + timedelta(minutes=9)).open_start
    assert not run(rows_of([50.0, 95.0]), START + timedelta(minutes=9)).open_start
    assert not run(rows_of([50.0, 50.0]), START + timedelta(minutes=9)).open_start


def test_the_same_history_gives_the_same_identity() -> None:
    one = build_alert_id("cpu", "h", None, 1000)

    assert one == build_alert_id("cpu", "h", None, 1000)
    assert len({one, build_alert_id("cpu", "h", "sda", 1000), build_alert_id("cpu", "h", None, 2000)}) == 3


def points_of(values: list[float], *, is_whole: bool = False, **changes: Any) -> tuple[int, ...]:
    """Return the minutes at which an aggregate of the values has one."""
    data = {
        "name": "r",
        "metric": "cpu_usage",
        "op": ">",
        "threshold": 90,
        "aggregate": "avg",
        "window": "3m",
    }
    (rule,) = parse_rules(data | changes)
    end = START + timedelta(minutes=90)
    (series,) = build_series(rule, "h", rows_of(list(values)), end)
    found = read_points(rule, series, end, Pace(series.times), to_ms(START), is_whole=is_whole)
    return tuple((time - to_ms(START)) // 60_000 for time in found.times)


def test_a_window_that_begins_before_the_samples_that_were_read_has_no_value() -> None:
    assert points_of([95.0] * 6) == (3, 4, 5)


def test_windows_are_not_looked_at_where_no_value_breaches() -> None:
    assert points_of([50.0] * 6) == ()
    assert points_of([50.0] * 6, is_whole=True) == (3, 4, 5)
    assert points_of([50.0] * 6, op="<") == (3, 4, 5)
    assert points_of([50.0] * 6, aggregate="stddev", threshold=1) == (3, 4, 5)


def test_a_window_of_too_few_samples_has_no_value_but_for_a_count() -> None:
    assert points_of([95.0] * 6, min_samples=4) == ()
    assert points_of([95.0] * 6, aggregate="count", min_samples=4) == (3, 4, 5)
