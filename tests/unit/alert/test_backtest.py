"""The replay of stored samples against evaluations as they run in a DAG."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_restrack.alert.backtest import backtest, rank_instances
from airflow_provider_restrack.alert.rules import AlertRule, parse_rules
from tests.unit.alert.fleet_fakes import START, MemoryReader, at_minute, evaluate_at, rows_of, sort

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_restrack.alert.backtest import Report

LEVELS = {"threshold": {"warning": 80, "critical": 90}}


def rule(name: str = "cpu", **changes: Any) -> AlertRule:
    data = {"name": name, "metric": "cpu_usage", "op": ">", "threshold": 90, "for": "3m"}
    fields = {key: changes.pop(key) for key in ("no_data", "no_data_seconds") if key in changes}
    (found,) = parse_rules([data | changes])
    return replace(found, **fields)


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def run(rules: Sequence[AlertRule], rows: Any, since: float, until: float, **options: Any) -> Report:
    reader = rows if isinstance(rows, MemoryReader) else MemoryReader(rows)
    hosts = options.pop("hosts", None)
    return backtest(rules, reader, hosts, START + minutes(since), START + minutes(until), **options)


DAY = 24 * 60
RULES = (
    rule(**{"for": "40m"}),
    rule("levels", **LEVELS, clear_threshold={"warning": 70, "critical": 85}, clear_for="30m"),
    rule("silent", no_data="alert", no_data_seconds=3600.0),
)
MORE_RULES = (
    *RULES,
    rule("mean", aggregate="avg", window="1h", threshold=75, **{"for": "20m"}),
    rule("ends", no_data="ok", no_data_seconds=5400.0),
)
VALUES = st.sampled_from([None, None, 50.0, 75.0, 85.0, 95.0, 95.0])
# Values that last for a while, over more than a day: several steps of a backtest.
HISTORY = st.lists(st.tuples(VALUES, st.integers(1, 30)), max_size=20).map(
    lambda runs: [50.0, *(value for value, count in runs for _ in range(count))]
)
UNTIL = 30 * 60


@settings(max_examples=25, deadline=None)
@given(st.fixed_dictionaries({"a": HISTORY, "b": HISTORY}), st.integers(45, 300))
def test_a_backtest_finds_what_a_dag_would_have_recorded(values, every) -> None:
    rows = {host: rows_of(found, step_s=600) for host, found in values.items()}

    recorded, _ = evaluate_at(RULES, rows, [*range(every, UNTIL, every), UNTIL])
    report = run(RULES, rows, -1, UNTIL, thresholds={})

    assert sort(report.transitions) == sort(recorded)


@pytest.mark.parametrize("every", [5, 60, 7 * 60])
def test_a_backtest_finds_what_a_dag_would_have_recorded_of_every_kind_of_rule(every: int) -> None:
    a = [*[50.0] * 20, *[95.0] * 30, *[85.0] * 20, *[None] * 20, *[95.0] * 20, *[None] * 3, *[60.0] * 60]
    b = [*[85.0] * 70, *[40.0] * 40, *[None] * 8, *[40.0] * 55]
    rows = {"a": rows_of(a, step_s=600), "b": rows_of(b, step_s=600)}

    recorded, _ = evaluate_at(MORE_RULES, rows, [*range(every, UNTIL, every), UNTIL])
    report = run(MORE_RULES, rows, -1, UNTIL, thresholds={})

    assert sort(report.transitions) == sort(recorded)
    assert {one.key.rule for one in recorded} == {one.name for one in MORE_RULES}
    assert {one.kind for one in recorded} == {"fired", "escalated", "deescalated", "resolved"}


def test_a_host_is_expected_from_its_first_sample_on() -> None:
    silent = rule(no_data="alert", no_data_seconds=1800.0)
    late = rows_of([*[None] * 120, *[50.0] * 10])
    rows = {"late": late, "always": rows_of([50.0] * 240)}

    report = run([silent], rows, 0, 240)

    (one,) = report.transitions
    assert (one.key.host, one.key.condition, one.kind) == ("late", "no_data", "fired")
    assert one.at_ms == at_minute(129 + 30)
    assert report.rules[0].instances[0].tally.seconds == {"warning": (240 - 159) * 60}


BUSY = [*[50.0] * 60, *[95.0] * 60, *[50.0] * 60, *[85.0] * 30, *[50.0] * 60]


def test_time_in_alert_is_told_by_rule_instance_and_severity() -> None:
    rows = {"a": rows_of(BUSY), "b": rows_of([50.0] * 270)}

    report = run([rule(**LEVELS)], rows, 0, 270)

    (result,) = report.rules
    assert (result.tally.alerts, result.tally.hosts, result.tally.flaps) == (2, 1, 0)
    # Fires 3 minutes into each run, is resolved by the first sample after it.
    assert result.tally.seconds == {"critical": 57 * 60, "warning": 27 * 60}
    (instance,) = result.instances
    assert (instance.key.host, instance.tally, instance.peak) == ("a", result.tally, 95.0)
    assert [one.at_ms for one in report.transitions] == [at_minute(n) for n in (63, 120, 183, 210)]


def test_an_alert_that_is_open_at_the_start_counts_as_time_and_as_none_that_fired() -> None:
    report = run([rule(**LEVELS)], {"a": rows_of(BUSY)}, 100, 150)

    (result,) = report.rules
    assert (result.tally.alerts, result.tally.open_at_start, result.tally.open_at_end) == (0, 1, 0)
    assert result.tally.seconds == {"critical": 20 * 60}
    assert [one.kind for one in report.transitions] == ["resolved"]


def test_an_alert_that_fired_hours_before_and_is_not_clear_is_known_at_the_start() -> None:
    rows = rows_of([*[95.0] * 10, *[85.0] * (10 * 60)])

    report = run([rule(clear_threshold=80)], {"a": rows}, 9 * 60, 10 * 60)

    assert report.rules[0].tally.open_at_start == 1
    assert report.rules[0].tally.total_seconds == 3600


def test_other_thresholds_are_tried_in_the_same_reads() -> None:
    rows = {"a": rows_of(BUSY), "b": rows_of([82.0] * 270)}
    alone, swept = MemoryReader(rows), MemoryReader(rows)
    run([rule(**LEVELS)], alone, 0, 270, thresholds={})

    report = run([rule(**LEVELS)], swept, 0, 270, thresholds={"cpu": [83, 96]})

    found = [
        (one.threshold, one.severity, one.tally.alerts, one.tally.hosts) for one in report.rules[0].thresholds
    ]
    assert found == [(80, "warning", 3, 2), (83, None, 2, 1), (90, "critical", 1, 1), (96, None, 0, 0)]
    assert swept.reads == alone.reads
    assert {one.key.rule for one in report.transitions} == {"cpu"}


def test_a_rules_own_threshold_alone_says_what_the_rule_says() -> None:
    report = run([rule(clear_threshold=70, clear_for="5m")], {"a": rows_of(BUSY)}, 0, 270)

    (own,) = [one for one in report.rules[0].thresholds if one.severity]
    assert own.tally == report.rules[0].tally
    assert own.tally.alerts == 1


def test_instances_are_ranked_by_time_in_alert_then_by_milder_thresholds() -> None:
    rows = {
        "quiet": rows_of([85.0] * 200),
        "short": rows_of([*[95.0] * 20, *[50.0] * 180]),
        "long": rows_of([*[95.0] * 90, *[50.0] * 110]),
        "never": rows_of([10.0] * 200),
    }

    report = run([rule()], rows, 0, 200)

    assert [one.key.host for one in report.rules[0].instances] == ["long", "short"]
    assert [key.host for key in rank_instances(report.rules[0])] == ["long", "short", "quiet"]


def test_hosts_without_samples_and_hosts_of_no_rule_are_told_apart() -> None:
    rows = {"db-1": rows_of([50.0] * 60), "web-1": rows_of([95.0] * 60)}

    report = run([rule(hosts="db-*")], rows, 0, 60, hosts=["db-1", "db-2", "web-1"])

    assert report.hosts == ("db-1", "db-2")
    assert report.silent == ("db-2",)
    assert report.transitions == ()


def test_all_of_a_long_window_is_read_and_no_read_is_much_longer_than_a_day() -> None:
    days = 5
    values = [95.0 if n % 288 > 250 else 50.0 for n in range(288 * days)]
    reader = MemoryReader({"a": rows_of(values, step_s=300)})
    steps: list[Any] = []

    report = run([rule()], reader, 0, days * DAY, on_step=steps.append)

    assert report.rules[0].tally.alerts == days
    assert max(span for _, span in reader.reads) <= minutes(DAY + 60)
    assert steps[-1] == START + minutes(days * DAY)
    assert START in steps


@pytest.mark.parametrize(("since", "until"), [(10, 0)])
def test_a_window_that_ends_before_it_begins_is_refused(since: float, until: float) -> None:
    with pytest.raises(ValueError, match="lies before since"):
        run([rule()], {}, since, until)


def test_a_time_without_a_zone_is_refused() -> None:
    naive = START.replace(tzinfo=None)

    with pytest.raises(ValueError, match="no time zone"):
        backtest([rule()], MemoryReader({}), None, naive, naive)
