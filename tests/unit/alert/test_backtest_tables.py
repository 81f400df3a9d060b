from __future__ import annotations

import json

from airflow_provider_restrack.alert.backtest_tables import build_data, describe_rule, format_report
from airflow_provider_restrack.alert.rules import parse_rules
from tests.unit.alert.backtest_fakes import RULE, build_report
from tests.unit.alert.fleet_fakes import rows_of

FORECAST = {"name": "full", "metric": "days_to_limit(disk_usage)", "op": "<", "threshold": 7}


def test_the_data_is_json_and_has_all() -> None:
    report, _ = build_report(thresholds={"cpu": [77]})

    data = json.loads(json.dumps(build_data(report), allow_nan=False))

    assert (data["from"], data["to"]) == ("2026-05-04T12:00:00.000Z", "2026-05-04T16:59:00.000Z")
    assert data["hosts"] == ["db-1", "db-2", "web-1", "web-2"]
    (rule,) = data["rules"]
    assert parse_rules([rule["rule"]]) == parse_rules([RULE])
    assert (rule["unit"], rule["alerts"], rule["open_at_end"], rule["hosts_in_alert"]) == ("%", 2, 1, 2)
    assert rule["seconds"] == {"warning": 89 * 60, "critical": 50 * 60}
    assert [(one["host"], one["seconds_in_alert"]) for one in rule["instances"]] == [
        ("db-2", 89 * 60),
        ("db-1", 50 * 60),
    ]
    assert rule["instances"][1]["episodes"] == [
        {
            "since": "2026-05-04T13:00:00.000Z",
            "fired": "2026-05-04T13:10:00.000Z",
            "resolved": "2026-05-04T14:00:00.000Z",
            "seconds": 3000.0,
            "peak": 95.0,
            "reason": "",
            "stretches": [
                {
                    "severity": "critical",
                    "from": "2026-05-04T13:10:00.000Z",
                    "to": "2026-05-04T14:00:00.000Z",
                }
            ],
        }
    ]
    assert [(one["threshold"], one["severity"], one["alerts"]) for one in rule["thresholds"]] == [
        (77, None, 3),
        (80, "warning", 2),
        (90, "critical", 1),
    ]
    assert [(one["host"], one["kind"]) for one in data["transitions"]] == [
        ("db-1", "fired"),
        ("db-1", "resolved"),
        ("db-2", "fired"),
    ]


def test_the_text_has_a_table_of_rules_instances_thresholds_and_transitions() -> None:
    report, _ = build_report(thresholds={"cpu": [77]})

    text = format_report(report)

    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert text.startswith("2026-05-04T12:00:00.000Z to 2026-05-04T16:59:00.000Z (4 h 59 min), 4 hosts\n")
    assert "cpu 2 0 1 2 of 4 1 h 29 min 50 min" in lines
    assert "db-1 1 0 0 - 50 min 16.7% 95 %" in lines
    assert "> 77 % 3 0 2 3 of 4 7 h 8 min" in lines
    assert "> 90 % critical 1 0 0 1 of 4 50 min" in lines
    assert any(line.startswith("2026-05-04T13:10:00.000Z db-1 fired critical 95 %") for line in lines)
    assert "device" not in text


def test_long_tables_say_how_much_they_leave_out() -> None:
    report, _ = build_report()

    text = format_report(report, rows=1)

    assert "cpu: longest in alert (1 of 2)" in text
    assert "cpu: newest transitions (1 of 3)" in text
    assert "db-1" not in text


def test_rules_on_forecasts_and_hosts_without_samples_are_named() -> None:
    report, _ = build_report(RULE, FORECAST, rows={"a": rows_of([50.0]), "b": []})

    assert "2 hosts, 1 of them without samples" in format_report(report)
    assert "Not replayed, as only the newest forecasts are kept: full." in format_report(report)
    assert build_data(report)["skipped_rules"] == ["full"]
    assert build_data(report)["silent_hosts"] == ["b"]


def test_an_alert_of_missing_samples_says_so_in_place_of_a_device() -> None:
    rule = RULE | {"no_data": "alert", "no_data_for": "20m"}
    report, _ = build_report(rule)

    text = format_report(report)

    assert "(no data)" in text
    assert build_data(report)["rules"][0]["instances"][-1]["condition"] == "no_data"


def test_a_rule_is_told_in_one_line() -> None:
    (plain,) = parse_rules([RULE])
    (mean,) = parse_rules(
        [
            {
                "name": "x",
                "metric": "memory_available",
                "op": "<",
                "threshold": 2**30,
                "aggregate": "avg",
                "window": "5m",
            }
        ]
    )

    assert describe_rule(plain) == "cpu_usage > 80 % (warning), 90 % (critical) for 10 min"
    assert describe_rule(mean) == "avg of memory_available over 5 min < 1 GiB (warning)"
