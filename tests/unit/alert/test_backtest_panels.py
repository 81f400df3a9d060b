from __future__ import annotations

import math

from airflow_provider_restrack.alert.backtest_panels import count_places, read_panels, split_at_gaps
from tests.unit.alert.backtest_fakes import RULE, build_report
from tests.unit.alert.fleet_fakes import at_minute, rows_of


def test_the_worst_instances_come_first_then_those_of_milder_thresholds() -> None:
    report, reader = build_report()

    panels = read_panels(report, reader)

    assert [panel.key.host for panel in panels] == ["db-2", "db-1", "web-1"]
    assert [len(panel.episodes) for panel in panels] == [1, 1, 0]
    assert panels[0].values == [50.0] * 200 + [85.0] * 100
    assert panels[0].times[0] == at_minute(0)


def test_rules_take_turns() -> None:
    report, reader = build_report(RULE, RULE | {"name": "other"})

    panels = read_panels(report, reader, 3)

    assert [(one.key.rule, one.key.host) for one in panels] == [
        ("cpu", "db-2"),
        ("other", "db-2"),
        ("cpu", "db-1"),
    ]


def test_missing_samples_are_shown_over_the_hosts_values() -> None:
    report, reader = build_report(RULE | {"no_data": "alert", "no_data_for": "20m"})

    panels = read_panels(report, reader)

    assert [panel.key.host for panel in panels] == ["db-2", "db-1", "web-1"]
    assert count_places(report) == 2
    assert [episode.key.condition for episode in panels[1].episodes] == ["threshold", "no_data"]


def test_missing_samples_of_a_map_are_shown_over_one_of_its_devices() -> None:
    rule = {"name": "disk", "metric": "filesystem_usage", "op": ">", "threshold": 90}
    rows = rows_of([{"/": 50.0, "/var": 60.0}] * 100, "filesystem_usage")
    other = rows_of([{"/": 50.0}] * 300, "filesystem_usage")
    report, reader = build_report(
        rule | {"no_data": "alert", "no_data_for": "20m"}, rows={"a": rows, "b": other}
    )

    (panel,) = read_panels(report, reader)

    assert (panel.key.host, panel.key.device) == ("a", "/")
    assert len(panel.values) == 100


def test_of_an_aggregate_the_compared_values_are_shown_from_the_start_of_the_window() -> None:
    rows = {"a": rows_of([*[0.0] * 100, *[100.0] * 200])}
    report, reader = build_report(RULE | {"aggregate": "avg", "window": "10m"}, rows=rows)

    (panel,) = read_panels(report, reader)

    assert dict(zip(panel.times, panel.values, strict=True))[at_minute(104)] == 50.0
    assert min(panel.times) >= at_minute(0)


def test_a_gap_breaks_the_line_and_a_value_between_two_stands_alone() -> None:
    values = [85.0] * 40 + [None] * 30 + [90.0] + [None] * 30 + [85.0] * 40 + [None, None] + [85.0] * 5
    report, reader = build_report(rows={"a": rows_of(values)})
    (panel,) = read_panels(report, reader)

    times, shown, alone = split_at_gaps(panel)

    assert [n for n, value in enumerate(shown) if math.isnan(value)] == [40, 42]
    assert times == sorted(times)
    assert [shown[n] for n in alone] == [90.0]
    assert len(shown) == sum(value is not None for value in values) + 2


def test_nothing_is_split_into_nothing() -> None:
    report, reader = build_report()
    panel = read_panels(report, reader)[0]
    from dataclasses import replace

    assert split_at_gaps(replace(panel, times=[], values=[])) == ([], [], [])
