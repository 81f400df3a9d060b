"""The words and the data of a message."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_restrack.alert.messages import Message, Notice
from airflow_provider_restrack.alert.notices import (
    MAX_LINES,
    Scene,
    describe_message,
    describe_notice,
    list_lines,
    name_instance,
)
from airflow_provider_restrack.alert.records import AlertRecord, InstanceKey, Told
from airflow_provider_restrack.alert.rules import parse_rules

NOON = 1_767_268_800_000  # 2026-01-01 12:00 UTC
MINUTE = 60_000
CPU, DISK, DOWN, LONG = parse_rules(
    [
        {
            "name": "cpu",
            "metric": "cpu_usage",
            "op": ">",
            "threshold": {"warning": 80, "critical": 90},
            "for": 600,
        },
        {"name": "disk", "metric": "filesystem_free", "op": "<", "threshold": 1e9, "severity": "critical"},
        {"name": "down", "metric": "up", "op": "==", "threshold": False},
        {
            "name": "long",
            "metric": "disk_io_busy",
            "op": ">",
            "threshold": 50,
            "aggregate": "p95",
            "window": "1h",
        },
    ]
)
KEY = InstanceKey("cpu", "db-1")


def record(key: InstanceKey = KEY, **changes: Any) -> AlertRecord:
    values: dict[str, Any] = {
        "open": True,
        "severity": "warning",
        "since_ms": NOON - 20 * MINUTE,
        "at_ms": NOON - 10 * MINUTE,
        "value": 85.0,
        "peak": 88.5,
    }
    return AlertRecord(key, **values | changes)


def scene(**changes: Any) -> Scene:
    values: dict[str, Any] = {
        "rules": {rule.name: rule for rule in (CPU, DISK, DOWN, LONG)},
        "current": {KEY: (83.0, NOON)},
        "horizon_ms": NOON,
        "url": "http://ui/run",
    }
    return Scene(**values | changes)


def text(one: AlertRecord, what: Any = "firing", **changes: Any) -> str:
    return str(describe_notice(Notice(one, what), scene(**changes))["text"])


def test_an_alert_as_data() -> None:
    notice = Notice(record(), "escalated", Told("info", NOON))
    alert = describe_notice(notice, scene())

    assert json.loads(json.dumps(alert)) == alert
    assert alert == {
        "id": str(notice.id),
        "alert_id": str(record().alert_id),
        "instance": "cpu/db-1",
        "kind": "escalated",
        "status": "firing",
        "rule": "cpu",
        "severity": "warning",
        "told_before": "info",
        "condition": "threshold",
        "host": "db-1",
        "device": None,
        "metric": "cpu_usage",
        "unit": "%",
        "op": ">",
        "threshold": 80,
        "for_seconds": 600,
        "since": "2026-01-01T11:40:00.000Z",
        "at": "2026-01-01T12:00:00.000Z",
        "duration_seconds": 1200,
        "current": 83.0,
        "peak": 88.5,
        "reason": "",
        "url": "http://ui/run",
        "text": "db-1: cpu_usage is 83 % (> 80 % for 20 min since 11:40:00Z; peak 88.5 %)",
        "summary": "db-1: cpu_usage is 83 % (> 80 % for 20 min since 11:40:00Z; peak 88.5 %)",
    }


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        pytest.param(
            record(severity="critical"),
            "db-1: cpu_usage is 83 % (> 90 % for 20 min since 11:40:00Z; peak 88.5 %)",
            id="the threshold is that of the severity",
        ),
        pytest.param(
            record(InstanceKey("cpu", "db-2")),
            "db-2: cpu_usage is 85 % (> 80 % for 10 min since 11:40:00Z; peak 88.5 %)",
            id="without a newest value it stands as it fired",
        ),
        pytest.param(
            record(open=False, value=41.5),
            "db-1: cpu_usage is 41.5 %, it was > 80 % for 10 min since 11:40:00Z; peak 88.5 %",
            id="an end says how it is now and how it was",
        ),
        pytest.param(
            record(open=False, value=None, reason="no_data"),
            "db-1: cpu_usage was > 80 % for 10 min since 11:40:00Z; peak 88.5 %; its "
            "samples are missing, and the rule takes that for the end",
            id="an end without evidence says so",
        ),
        pytest.param(
            record(InstanceKey("old", "db-1"), open=False, reason="removed"),
            "db-1: old for 10 min since 11:40:00Z; it is not evaluated any more",
            id="an end of a rule that is gone",
        ),
        pytest.param(
            record(InstanceKey("disk", "db-1", "/var"), severity="critical", value=5e8, peak=None),
            "db-1 /var: filesystem_free is 477 MiB (< 954 MiB for 10 min since 11:40:00Z)",
            id="a device is named, units are those of people",
        ),
        pytest.param(
            record(InstanceKey("down", "db-1"), value=0.0, peak=0.0),
            "db-1: up is false (== false for 10 min since 11:40:00Z)",
            id="what is true or false has no peak",
        ),
        pytest.param(
            record(InstanceKey("long", "db-1"), value=60, peak=70, since_ms=NOON - 3000 * MINUTE),
            "db-1: p95 of disk_io_busy over 1 h is 60 % (> 50 % for 2 d 1 h since 2025-12-30 10:00:00Z; "
            "peak 70 %)",
            id="an aggregate is named, a start of another day has its date",
        ),
        pytest.param(
            record(InstanceKey("cpu", "db-1", "", "no_data"), value=None, peak=None),
            "db-1: samples are missing for 20 min since 11:40:00Z",
            id="missing samples last until now",
        ),
        pytest.param(
            record(InstanceKey("cpu", "db-1", "", "no_data"), value=None, peak=None, open=False),
            "db-1: samples were missing for 10 min since 11:40:00Z",
            id="missing samples came again",
        ),
        pytest.param(
            record(InstanceKey("cpu", "db-1", "", "no_data"), value=None, peak=None, reason="unreachable"),
            "db-1: cannot be reached, without values for 20 min since 11:40:00Z",
            id="samples say that the host cannot be reached",
        ),
        pytest.param(
            record(InstanceKey("cpu", "db-1", "", "no_data"), value=None, peak=None, reason="no_value"),
            "db-1: samples come without values for 20 min since 11:40:00Z",
            id="samples come and have no value",
        ),
    ],
)
def test_an_alert_in_words(one: AlertRecord, expected: str) -> None:
    assert text(one) == expected


def test_a_severity_that_the_rule_has_no_more_has_the_first_threshold() -> None:
    assert "(> 80 %" in text(record(severity="info"))


def test_values_that_are_true_or_false_are_so_in_the_data() -> None:
    alert = describe_notice(Notice(record(InstanceKey("down", "a"), value=0.0, peak=0.0), "firing"), scene())
    assert (alert["current"], alert["peak"], alert["threshold"]) == (False, False, False)


def summary(one: AlertRecord, template: str, what: Any = "firing") -> str:
    rule = replace(CPU, summary=template)
    return str(describe_notice(Notice(one, what), scene(rules={"cpu": rule}))["summary"])


def test_the_rules_own_sentence_is_filled_in() -> None:
    assert (
        summary(record(), "{host}{device}: {current:.0f} {unit}, {aggregate}peak {peak}")
        == "db-1: 83 %, peak 88.5"
    )


def test_figures_that_an_alert_does_not_have_are_marked() -> None:
    assert summary(record(peak=None), "{peak:.1f}") == "?"
    assert summary(record(), "{average:.1f} of {samples} in {sparkline}") == "? of ? in ?"


def test_what_is_over_has_the_usual_sentence() -> None:
    assert summary(record(open=False), "{host} burns", "resolved") == text(record(open=False))


def message(*notices: Notice) -> dict[str, Any]:
    return describe_message(Message("mail", "critical", notices), scene())


def test_a_message_of_one_alert() -> None:
    notice = Notice(record(), "firing")
    found = message(notice)

    assert found["alert_title"] == "[critical] firing: cpu on db-1"
    assert found["alert_text"] == f"FIRING warning cpu: {text(record())}"
    assert found["alert_severity"] == "critical"
    assert found["alert_message_id"] == str(Message("mail", "critical", (notice,)).id)
    assert [alert["host"] for alert in found["alerts"]] == ["db-1"]


def test_a_message_of_many_counts_and_abridges() -> None:
    firing = [Notice(record(InstanceKey("cpu", f"db-{n}")), "firing") for n in range(5)]
    found = message(*firing, Notice(record(InstanceKey("disk", "db-1", "/"), open=False), "resolved"))

    assert found["alert_title"] == "[critical] 5 firing, 1 resolved: cpu, disk on db-0, db-1, db-2 and 2 more"
    assert found["alert_text"].count("\n") == 5


def test_a_message_of_a_whole_fleet_stays_readable() -> None:
    assert list_lines(["x"] * MAX_LINES).count("\n") == MAX_LINES - 1
    assert list_lines(["x"] * (MAX_LINES + 3)).splitlines()[MAX_LINES:] == ["… and 3 more"]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (InstanceKey("cpu", "a"), "cpu/a"),
        (InstanceKey("disk", "a", "/var"), "disk/a//var"),
        (InstanceKey("cpu", "a", "", "no_data"), "cpu/a/no_data"),
    ],
)
def test_the_name_of_an_instance(key: InstanceKey, name: str) -> None:
    assert name_instance(key) == name
