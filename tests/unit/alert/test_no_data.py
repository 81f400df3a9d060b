from __future__ import annotations

import pytest

from airflow_provider_restrack.alert.no_data import (
    Pause,
    Pipeline,
    Presence,
    Silence,
    Span,
    find_pauses,
    find_silences,
    find_spans,
    find_stalls,
    fold_no_data,
    merge_times,
)
from airflow_provider_restrack.alert.records import AlertRecord, InstanceKey
from airflow_provider_restrack.alert.rules import parse_rules

KEY = InstanceKey("r", "h", "", "no_data")
(RULE,) = parse_rules(
    {"name": "r", "metric": "cpu_usage", "op": ">", "threshold": 1, "no_data": "alert", "no_data_for": "5s"}
)
LIMIT = 5000


def record(at: int, *, is_open: bool, reason: str = "") -> AlertRecord:
    return AlertRecord(KEY, is_open, "warning", since_ms=at - LIMIT, at_ms=at, reason=reason)


def fold(times, newest, anchor=None, *, since=0, expected=0, decided=-1, stalls=()):
    presence = Presence(times, since, expected)
    moves, first = fold_no_data(RULE, KEY, presence, Pipeline(newest, stalls), anchor, decided)
    return [(move.kind, move.at_ms, move.since_ms) for move in moves], first


@pytest.mark.parametrize(
    ("times", "spans"),
    [
        ([], []),
        ([7], [Span(7, 7)]),
        ([0, 10, 20], [Span(0, 20)]),
        ([0, 10, 21, 30, 99], [Span(0, 10), Span(21, 30), Span(99, 99)]),
    ],
)
def test_times_that_follow_closely_are_one_span(times, spans) -> None:
    assert find_spans(times, 10) == spans


def test_a_stall_is_where_no_host_had_a_sample() -> None:
    spans = [Span(40, 60), Span(5, 12), Span(10, 20), Span(75, 80)]

    assert find_stalls(spans, 10, 0) == (Span(20, 40), Span(60, 75))


def test_a_stall_in_which_reading_begins_has_no_known_start() -> None:
    assert find_stalls([Span(150, 160)], 10, 100) == (Span(0, 150),)


@pytest.mark.parametrize(
    ("last", "due"), [(0, 5), (6, 11), (8, 35), (10, 35), (25, 35), (30, 35), (33, 38), (96, 145)]
)
def test_the_timer_starts_anew_after_a_stall(last, due) -> None:
    pipeline = Pipeline(200, (Span(12, 30), Span(100, 120), Span(123, 140)))

    assert pipeline.find_deadline(last, 5) == due


def test_a_silence_lasts_longer_than_the_limit() -> None:
    found = find_silences([0, 5, 11, 12], 5, Pipeline(17))

    assert found == [Silence(5, 10, 11), Silence(12, 17, None)]
    assert find_silences([0], 5, Pipeline(4)) == []
    assert find_silences([0], 5, Pipeline()) == []


def test_from_a_start_on_a_value_is_expected() -> None:
    assert find_silences([], 5, Pipeline(30), 10) == [Silence(10, 15, None)]


def test_an_alert_begins_and_ends() -> None:
    assert fold([0, 9000], 10_000)[0] == [("fired", 5000, 0), ("resolved", 9000, 0)]


def test_an_open_alert_waits_for_a_sample_after_it() -> None:
    anchor = record(5000, is_open=True)

    assert fold([0, 3000], 60_000, anchor) == ([], None)
    assert fold([0, 3000, 7000, 9000], 10_000, anchor)[0] == [("resolved", 7000, 0)]
    assert fold([0, 7000], 20_000, anchor)[0] == [("resolved", 7000, 0), ("fired", 12_000, 7000)]


def test_what_is_recorded_is_not_decided_again() -> None:
    assert fold([0, 9000, 20_000], 21_000, record(9000, is_open=False))[0] == [
        ("fired", 14_000, 9000),
        ("resolved", 20_000, 9000),
    ]


def test_a_silence_that_was_over_when_it_could_have_been_told_is_not_told_now() -> None:
    assert fold([0, 9000], 10_000, decided=5000)[0] == []
    assert fold([0], 10_000, decided=5000)[0] == [("fired", 5000, 0)]


def test_a_host_that_was_never_seen_is_expected_from_the_last_evaluation_on() -> None:
    moves, first = fold([], 60_000, expected=58_000)
    assert moves == []
    assert first == AlertRecord(KEY, False, "warning", since_ms=58_000, at_ms=58_000)

    assert fold([], 62_000, first, expected=60_000)[0] == []
    assert fold([], 63_000, first, expected=60_000)[0] == [("fired", 63_000, 58_000)]


def test_a_host_that_was_removed_is_expected_anew() -> None:
    removed = record(9000, is_open=False, reason="removed")

    moves, first = fold([], 90_000, removed, expected=88_000)

    assert moves == []
    assert first is not None
    assert first.at_ms == 88_000


def test_pauses_break_runs_by_the_samples_alone_and_end_alerts_by_the_fleet() -> None:
    stalled = Pipeline(30_000, (Span(2000, 12_000),))
    presence = Presence([0, 12_000, 19_000], 0, 0)

    assert find_pauses(presence, LIMIT, stalled, None, -1) == (
        Pause(5000, ends=False),
        Pause(17_000, ends=True),
        Pause(24_000, ends=True),
    )
    assert find_pauses(presence, LIMIT, stalled, None, 17_000)[1] == Pause(17_000, ends=False)


def test_times_of_devices_are_those_of_the_host() -> None:
    assert merge_times([(1, 3), (2, 3)]) == [1, 2, 3]
    assert merge_times([(1, 3)]) == (1, 3)
