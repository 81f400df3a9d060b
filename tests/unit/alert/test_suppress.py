"""Who is not told, and why: silences, maintenance, and alerts that explain others."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_restrack.alert.evaluate import from_ms
from airflow_provider_restrack.alert.maintenance import FixedWindow
from airflow_provider_restrack.alert.records import AlertRecord, InstanceKey, Silence
from airflow_provider_restrack.alert.rules import AlertRule, parse_rules
from airflow_provider_restrack.alert.suppress import find_inhibitors, find_suppressed, fits, says_down

CPU, DISK, DOWN, LOAD = parse_rules(
    [
        {"name": "cpu", "metric": "cpu_usage", "op": ">", "threshold": 90},
        {"name": "disk", "metric": "filesystem_usage", "op": ">", "threshold": 90},
        {"name": "down", "metric": "up", "op": "==", "threshold": False},
        {"name": "load", "metric": "load_5m", "op": ">", "threshold": 9},
    ]
)
MAINTENANCE = (FixedWindow(from_ms(1000), from_ms(2000)),)


def record(rule: str, host: str = "a", device: str = "", **changes: Any) -> AlertRecord:
    values: dict[str, Any] = {"open": True, "severity": "warning", "since_ms": 0, "at_ms": 60_000}
    condition = changes.pop("condition", "threshold")
    return AlertRecord(InstanceKey(rule, host, device, condition), **values | changes)


def inhibitors(rules: list[AlertRule], *records: AlertRecord) -> dict[str, str]:
    found = find_inhibitors(records, {rule.name: rule for rule in rules})
    return {f"{key.host}/{key.rule}": cause for key, cause in found.items()}


def test_a_host_that_is_down_inhibits_its_other_alerts_and_no_other_hosts() -> None:
    rules = [CPU, DISK, DOWN]
    assert inhibitors(rules, record("cpu"), record("disk", device="/"), record("down")) == {
        "a/cpu": "down",
        "a/disk": "down",
    }
    assert inhibitors(rules, record("cpu", "b"), record("down")) == {}
    assert inhibitors(rules, record("cpu"), record("down", open=False)) == {}


def test_a_host_of_which_nothing_is_heard_is_down_too() -> None:
    assert inhibitors([CPU, DOWN], record("cpu"), record("down", condition="no_data")) == {"a/cpu": "down"}


def test_a_rule_may_say_that_nothing_inhibits_it() -> None:
    assert inhibitors([replace(CPU, inhibited_by=()), DOWN], record("cpu"), record("down")) == {}


def test_a_rule_names_what_inhibits_it_instead() -> None:
    cpu = replace(CPU, inhibited_by=("load",))
    assert inhibitors([cpu, DOWN, LOAD], record("cpu"), record("down")) == {}
    assert inhibitors([cpu, DOWN, LOAD], record("cpu"), record("load")) == {"a/cpu": "load"}


def test_two_rules_on_hosts_that_are_down_do_not_inhibit_each_other() -> None:
    assert inhibitors([DOWN, replace(DOWN, name="gone")], record("down"), record("gone")) == {}


def test_a_rule_does_not_inhibit_itself_on_another_device() -> None:
    disk = replace(DISK, inhibited_by=("disk",))
    assert inhibitors([disk], record("disk", device="/"), record("disk", device="/home")) == {}


def test_an_alert_of_a_rule_that_is_gone_is_not_inhibited() -> None:
    assert inhibitors([DOWN], record("old"), record("down")) == {}


@pytest.mark.parametrize(
    ("metric", "op", "threshold", "expected"),
    [
        ("up", "==", False, True),
        ("up", "!=", True, True),
        ("up", "==", True, False),
        ("up", "!=", False, False),
    ],
)
def test_which_rules_say_that_a_host_is_down(metric: str, op: Any, threshold: bool, expected: bool) -> None:
    assert says_down(replace(DOWN, metric=metric, op=op, threshold=threshold)) is expected


def test_a_number_that_equals_false_says_nothing_of_a_host() -> None:
    assert not says_down(replace(CPU, op="==", threshold=0.0))


def silence(**changes: Any) -> Silence:
    return Silence(uuid.UUID(int=1), **{"starts_ms": 1000, "ends_ms": 2000} | changes)


@pytest.mark.parametrize(
    ("patterns", "key", "expected"),
    [
        ({}, InstanceKey("cpu", "a"), True),
        ({"rule": "cpu"}, InstanceKey("cpu", "a"), True),
        ({"rule": "CPU"}, InstanceKey("cpu", "a"), False),
        ({"host": "db-*"}, InstanceKey("cpu", "db-1"), True),
        ({"host": "db-*"}, InstanceKey("cpu", "web-1"), False),
        ({"device": "/var*"}, InstanceKey("disk", "a", "/var/log"), True),
        ({"device": "/var*"}, InstanceKey("disk", "a", "/"), False),
        ({"rule": "cpu", "host": "b"}, InstanceKey("cpu", "a"), False),
    ],
)
def test_a_silence_is_for_what_fits_all_of_its_patterns(
    patterns: dict[str, str], key: InstanceKey, expected: bool
) -> None:
    assert fits(silence(**patterns), key) is expected


@pytest.mark.parametrize(
    ("now_ms", "expected"), [(999, {}), (1000, "silence"), (1999, "silence"), (2000, {})]
)
def test_a_silence_holds_from_its_start_until_before_its_end(now_ms: int, expected: Any) -> None:
    found = find_suppressed([record("cpu")], {"cpu": CPU}, [silence()], now_ms)
    assert found == ({InstanceKey("cpu", "a"): expected} if expected else {})


def test_maintenance_is_a_rules_own() -> None:
    rules = {"cpu": CPU, "load": replace(LOAD, maintenance=MAINTENANCE)}
    found = find_suppressed([record("cpu"), record("load")], rules, [], 1500)
    assert found == {InstanceKey("load", "a"): "maintenance"}


def test_the_alert_that_explains_another_is_told_before_a_silence() -> None:
    cpu, down = (replace(rule, maintenance=MAINTENANCE) for rule in (CPU, DOWN))
    rules = {"cpu": cpu, "down": down}
    found = find_suppressed([record("cpu"), record("down")], rules, [silence()], 1500)
    assert found == {InstanceKey("cpu", "a"): "inhibited", InstanceKey("down", "a"): "silence"}


def test_an_alert_of_a_rule_that_is_gone_can_be_silenced() -> None:
    assert find_suppressed([record("old")], {}, [silence()], 1500) == {InstanceKey("old", "a"): "silence"}
