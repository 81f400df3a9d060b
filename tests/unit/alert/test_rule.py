"""What a rule says of itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.alert.rules import AlertRule, parse_rules


def build(**changes: Any) -> AlertRule:
    (rule,) = parse_rules({"name": "r", "metric": "cpu_usage", "op": ">", "threshold": 1} | changes)
    return rule


def test_a_rule_reads_the_fields_of_its_expression() -> None:
    rule = build(metric="filesystem_free / memory_total")

    assert (rule.columns, rule.has_devices) == (("filesystem_free", "memory_total"), True)
    assert rule.value_of({"filesystem_free": {"/": 6.0}, "memory_total": 2}) == {"/": 3.0}
    assert (rule.source, rule.forecast_of, rule.is_truth) == ("samples", None, False)


def test_a_rule_on_forecasts_reads_no_field() -> None:
    rule = build(metric="days_to_limit(inode_usage)", op="<", threshold=7)

    assert (rule.columns, rule.source, rule.forecast_of) == ((), "forecasts", "inode_usage")
    assert rule.has_devices


def test_an_aggregate_of_true_and_false_is_a_number() -> None:
    assert build(metric="up", op="==", threshold=False).is_truth
    assert not build(metric="up", aggregate="avg", window="5m", op="<", threshold=0.5).is_truth


def test_hosts_and_labels_are_patterns() -> None:
    rule = build(hosts=["db-*", "web"], labels={"role": "d?"})

    assert [rule.matches_host(name) for name in ("db-1", "web", "web-1", "DB-1")] == [
        True,
        True,
        False,
        False,
    ]
    assert rule.matches_labels({"role": "db", "x": "y"})
    assert not rule.matches_labels({"x": "y"})


WINDOWS = [
    {"days": ["sat"], "from": "22:00", "to": "02:00", "timezone": "Europe/Vienna"},
    {"start": "2026-05-01T20:00:00Z", "end": "2026-05-01T22:00:00Z"},
]
SHARED = {
    "hosts": st.lists(st.text(min_size=1), min_size=1),
    "labels": st.dictionaries(st.text(min_size=1), st.text(min_size=1), min_size=1),
    "summary": st.sampled_from(["{host}", "{current:.1f} {{}}"]),
    "inhibited_by": st.sampled_from([[], "other", ["other"], None]),
    "maintenance": st.lists(st.sampled_from(WINDOWS)),
    "_silence": st.sampled_from([{"no_data": "ok", "no_data_for": "15m"}, {"no_data": "keep"}, {}]),
    "_severity": st.sampled_from([{"severity": "critical"}, {"threshold": {"info": 0.1, "warning": 0.2}}]),
}
OF_SAMPLES = {
    "metric": st.sampled_from(["cpu_usage", "load_5m × 2 − 1", "filesystem_usage"]),
    "min_coverage": st.floats(0, 1),
    "min_samples": st.integers(1, 99),
    "max_gap": st.floats(0.001, 10**6),
    "clear_threshold": st.just(0.05),
    "clear_for": st.integers(0, 99),
    "_times": st.sampled_from(
        [
            {"for": "10m"},
            {"aggregate": "p99", "window": 60},
            {"aggregate": "rate", "for": 60},
            {"aggregate": "fraction_above", "above": -90.5, "window": 60, "for": 5},
        ]
    ),
}


def flatten(data: dict[str, Any]) -> dict[str, Any]:
    """Merge what has to come together, which stands under keys with an underscore."""
    flat = {key: value for key, value in data.items() if not key.startswith("_")}
    for key, group in data.items():
        flat |= group if key.startswith("_") else {}
    return flat


@given(
    st.fixed_dictionaries({}, optional=SHARED | OF_SAMPLES).map(
        lambda data: {"metric": "cpu_usage", "op": ">", "threshold": 0.9} | flatten(data)
    )
    | st.fixed_dictionaries({}, optional=SHARED | {"threshold": st.just({"warning": 7, "critical": 1})}).map(
        lambda data: (
            flatten({key: value for key, value in data.items() if key != "_severity"})
            | {"metric": "days_to_limit(inode_usage)", "op": "<"}
        )
    )
)
def test_a_rule_written_as_json_data_reads_back_as_the_same_rule(data: dict[str, Any]) -> None:
    other = {"name": "other", "metric": "up", "op": "==", "threshold": False}
    rules = parse_rules([{"name": "r", "threshold": 7} | data, other])

    assert parse_rules(json.loads(json.dumps([rule.to_data() for rule in rules]))) == rules


@pytest.mark.parametrize("key", ["metric", "threshold", "above", "maintenance", "inhibited_by", "no_data"])
def test_a_rule_is_equal_only_to_one_that_says_the_same(key: str) -> None:
    base = {"aggregate": "fraction_above", "window": "5m", "above": 80, "threshold": 0.5}
    change = {
        "metric": {"metric": "memory_usage"},
        "threshold": {"threshold": 0.6},
        "above": {"above": 90},
        "maintenance": {"maintenance": WINDOWS},
        "inhibited_by": {"inhibited_by": []},
        "no_data": {"no_data": "ok", "no_data_for": "5m"},
    }[key]

    assert build(**base) != build(**base | change)
