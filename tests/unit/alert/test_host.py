from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow_provider_restrack.alert.host import HostFindings, HostJudge, Scope
from airflow_provider_restrack.alert.no_data import Pipeline, Presence, Span
from airflow_provider_restrack.alert.records import AlertRecord, Book, InstanceKey
from airflow_provider_restrack.alert.rules import parse_rules
from tests.unit.alert.fleet_fakes import START, at_minute, rows_of

RULE = {"name": "r", "metric": "cpu_usage", "op": ">", "threshold": 90, "for": "3m"}
DISK = {"name": "d", "metric": "filesystem_usage", "op": ">", "threshold": 90}


def scope(*rules: dict[str, Any], records: tuple[AlertRecord, ...] = (), decided: float = 0) -> Scope:
    book = Book(at_minute(decided), {record.key: record for record in records})
    return Scope(
        rules=parse_rules(list(rules)),
        book=book,
        horizon_ms=at_minute(60),
        since_ms=at_minute(0),
        deepest_ms=at_minute(-1380),
        stale_ms=900_000,
        open_keys={"h": [record.key for record in records if record.open]},
        forecasts={},
    )


def judge(given: Scope, rows: list[dict[str, Any]], since: float = 0) -> HostFindings:
    return HostJudge(given, "h", rows, at_minute(since)).judge()


def opened(rule: str, device: str = "", at: float = 1) -> AlertRecord:
    return AlertRecord(InstanceKey(rule, "h", device), True, "warning", at_minute(at - 1), at_minute(at))


def test_a_well_host_needs_no_more_and_keeps_no_series() -> None:
    found = judge(scope(RULE), rows_of([50.0] * 61))

    assert [(one.timeline.state, one.cold, one.series) for one in found.judged] == [("ok", None, None)]
    assert (found.needs_more, found.samples, dict(found.without_value)) == (False, 61, {})


def test_a_run_at_the_start_of_what_was_read_needs_more() -> None:
    assert judge(scope(RULE), rows_of([95.0] * 2 + [50.0] * 9)).needs_more


def test_samples_after_the_horizon_are_not_looked_at() -> None:
    found = judge(scope(RULE), rows_of([50.0] * 61 + [95.0] * 30))

    assert found.samples == 61
    assert found.judged[0].timeline.transitions == ()


def test_a_device_of_an_open_alert_is_judged_without_samples() -> None:
    rows = [{"timestamp": START, "filesystem_usage": {"/": 50.0}}]
    found = judge(scope(DISK, records=(opened("d", "/mnt"),)), rows)

    assert [(one.key.device, one.timeline.state, one.newest_ms) for one in found.judged] == [
        ("/", "ok", at_minute(0)),
        ("/mnt", "firing", None),
    ]


def test_a_host_without_a_value_is_counted_for_each_rule() -> None:
    assert judge(scope(RULE, DISK), [{"timestamp": START, "cpu_usage": None}]).without_value == {"no_data": 2}


def test_labels_that_do_not_fit_are_told_only_if_there_are_any() -> None:
    rule = RULE | {"labels": {"role": "db"}}

    assert judge(scope(rule), [{"timestamp": START, "labels": {"role": "web"}}]).mismatched == [("r", "h")]
    assert judge(scope(rule), [{"timestamp": START, "labels": None}]).mismatched == []


def test_spans_say_when_it_had_samples_since_all_hosts_were_read() -> None:
    found = judge(scope(RULE), rows_of([50.0] * 5 + [None] * 20 + [50.0] * 5), since=-100)

    assert found.spans == [Span(at_minute(0), at_minute(4)), Span(at_minute(25), at_minute(29))]


def test_silence_before_what_was_read_needs_more_where_a_rule_tells_it() -> None:
    silent = RULE | {"no_data": "alert", "no_data_for": "5m"}
    rows = rows_of([None] * 10 + [50.0] * 51)

    found = judge(scope(silent), rows)

    assert found.needs_more
    (presence,) = [presence for _, presence in found.presences]
    assert presence == Presence(tuple(at_minute(n) for n in range(10, 61)), at_minute(0), at_minute(0))
    assert not judge(scope(RULE), rows).needs_more


def test_a_silent_host_whose_alert_is_open_needs_no_more() -> None:
    silent = RULE | {"no_data": "alert", "no_data_for": "5m"}
    record = AlertRecord(InstanceKey("r", "h", "", "no_data"), True, "warning", at_minute(-9), at_minute(-4))

    assert not judge(scope(silent, records=(record,)), []).needs_more


def test_an_alert_that_silence_ends_is_judged_again_with_the_fleet() -> None:
    ending = RULE | {"no_data": "ok", "no_data_for": "5m"}
    given = scope(ending)
    (one,) = judge(given, rows_of([50.0] + [95.0] * 5)).judged
    assert [move.kind for move in one.timeline.transitions] == ["fired"]

    one.judge_with(Pipeline(at_minute(8)), given)
    assert [move.kind for move in one.timeline.transitions] == ["fired"]

    one.judge_with(Pipeline(at_minute(60)), given)
    assert [(move.kind, move.at_ms) for move in one.timeline.transitions] == [
        ("fired", at_minute(4)),
        ("resolved", at_minute(10)),
    ]


def test_age_beyond_the_longest_gap_is_stale() -> None:
    assert judge(scope(RULE), rows_of([50.0] * 46)).judged[0].freshness == "fresh"
    assert judge(scope(RULE), rows_of([50.0] * 45)).judged[0].freshness == "stale"


def test_samples_that_come_without_a_value_are_an_error() -> None:
    rows = rows_of([50.0] * 61)
    without = [row | {"cpu_usage": None} for row in rows]
    silent = judge(scope(RULE), [*rows[:30], *without[30:]])

    assert silent.judged[0].freshness == "error"
    assert judge(scope(RULE, DISK), without).without_value == {"error": 2}
    assert judge(scope(RULE), without[:31]).without_value == {"no_data": 1}


def test_a_device_without_new_values_is_stale_while_another_has_some_and_an_error_if_none_has() -> None:
    def rows(*devices: dict[str, float]) -> list[dict[str, Any]]:
        used = [maps for maps in devices for _ in range(31)]
        return [
            {"timestamp": START + timedelta(minutes=n), "filesystem_usage": one} for n, one in enumerate(used)
        ]

    gone = judge(scope(DISK), rows({"/": 50.0, "/mnt": 50.0}, {"/": 50.0}))
    silent = judge(scope(DISK), rows({"/": 50.0, "/mnt": 50.0}, {}))

    assert [one.freshness for one in gone.judged] == ["fresh", "stale"]
    assert [one.freshness for one in silent.judged] == ["error", "error"]
