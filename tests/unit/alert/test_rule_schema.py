"""The JSON Schema of rule files: it takes what is right, and refuses what parse_rules finds misshapen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_restrack.alert.presets import presets
from airflow_provider_restrack.alert.rule_keys import RULE_KEYS
from airflow_provider_restrack.alert.rule_schema import build_schema
from airflow_provider_restrack.alert.rules import RuleError, parse_rules

SCHEMA = build_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
BASE: dict[str, Any] = {"name": "r", "metric": "cpu_usage", "op": ">", "threshold": 90}
FILES = sorted((Path(__file__).parent / "rule_tests").glob("*.yaml"))
CASES = sorted((Path(__file__).parent / "cases").glob("*.yaml"))


def accepts(rule: Any) -> bool:
    return bool(VALIDATOR.is_valid({"rules": [rule]}))


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_files_of_rule_tests_are_files_of_rules(file: Path) -> None:
    VALIDATOR.validate(yaml.safe_load(file.read_text()))


@pytest.mark.parametrize("rule", presets(), ids=lambda rule: rule["name"])
def test_presets_are_accepted(rule: dict[str, Any]) -> None:
    assert accepts(rule)
    assert accepts(parse_rules(rule)[0].to_data())
    assert accepts({"preset": rule["name"], "hosts": "db-*"})


@pytest.mark.parametrize(
    "change",
    [
        {"for": "1h30m", "clear_for": 90, "max_gap": "1.5s", "min_coverage": 0.5, "min_samples": 3},
        {"for": " 45 ", "threshold": " 9e1 ", "clear_threshold": "80"},
        {"threshold": {"warning": 80, "critical": "90"}, "clear_threshold": {"warning": 70}},
        {"metric": "up", "op": "==", "threshold": False, "severity": "critical"},
        {"aggregate": "p95", "for": "10m"},
        {"aggregate": "fraction_above", "window": "10m", "above": 80, "threshold": 0.5},
        {"no_data": "alert", "no_data_for": "15m"},
        {"no_data": "keep"},
        {"inhibited_by": []},
        {"hosts": ["a,b"], "labels": {"role": "db*"}, "summary": "{host}"},
        {"maintenance": {"days": "sun"}},
        {
            "maintenance": [
                {"start": "2026-05-01T20:00:00Z", "end": "2026-05-02", "timezone": "Europe/Vienna"},
                {"days": ["sat", "sun"], "from": "22:00", "to": "24:00"},
            ]
        },
    ],
)
def test_what_is_right_is_accepted_by_both(change: dict[str, Any]) -> None:
    assert parse_rules(BASE | change)
    assert accepts(BASE | change)


MISSHAPEN: list[Any] = [
    *({key: value for key, value in BASE.items() if key != missing} for missing in BASE),
    *(
        BASE | change
        for change in (
            {"treshold": 3},
            {"name": " "},
            {"name": 7},
            {"metric": ["cpu_usage"]},
            {"metric": ""},
            {"op": "=>"},
            {"threshold": "ninety"},
            {"threshold": "nan"},
            {"threshold": {}},
            {"threshold": {"bad": 1}},
            {"threshold": {"warning": 80}, "severity": "info"},
            {"threshold": [1]},
            {"for": "10x"},
            {"for": ""},
            {"for": -1},
            {"for": True},
            {"aggregate": "mean", "window": "5m"},
            {"aggregate": "p100", "window": "5m"},
            {"aggregate": "avg"},
            {"window": "5m"},
            {"above": 5},
            {"aggregate": "fraction_above", "window": "5m", "threshold": 0.5},
            {"hosts": []},
            {"hosts": ["a", 1]},
            {"hosts": "db-1, db-2"},
            {"labels": {"role": 1}},
            {"labels": "role=db"},
            {"min_coverage": 80},
            {"min_samples": 0},
            {"min_samples": 2.5},
            {"max_gap": [1]},
            {"severity": "fatal"},
            {"summary": 3},
            {"clear_threshold": "low"},
            {"clear_threshold": {"bad": 1}},
            {"no_data": "alert"},
            {"no_data": "okay", "no_data_for": "5m"},
            {"no_data_for": "5m"},
            {"inhibited_by": [""]},
            {"inhibited_by": 3},
            {"maintenance": "sunday"},
            {"maintenance": [{}]},
            {"maintenance": {"days": ["sunday"]}},
            {"maintenance": {"days": []}},
            {"maintenance": {"from": 1320}},
            {"maintenance": {"from": "25:00"}},
            {"maintenance": {"start": "2026-05-01"}},
            {"maintenance": {"start": "2026-05-01", "end": "2026-05-02", "days": ["sun"]}},
            {"maintenance": {"start": "soon", "end": "later"}},
        )
    ),
    {"preset": "cpu"},
    {"preset": "cpu_high", "treshold": 3},
    7,
]


@pytest.mark.parametrize("rule", MISSHAPEN, ids=str)
def test_what_is_misshapen_is_refused_by_both(rule: Any) -> None:
    with pytest.raises(RuleError):
        parse_rules([rule])
    assert not accepts(rule)


@pytest.mark.parametrize(
    "whole", [{}, {"rules": []}, {"rules": [BASE], "groups": []}, [BASE], {"rules": BASE}]
)
def test_a_file_of_another_form_is_refused(whole: Any) -> None:
    assert not VALIDATOR.is_valid(whole)


def test_the_rules_of_the_case_files_are_accepted() -> None:
    rules = [case["rule"] for file in CASES for case in yaml.safe_load(file.read_text())]

    assert rules
    assert [rule for rule in rules if not accepts({"name": "r"} | rule)] == []


def values_of(key: str) -> st.SearchStrategy[Any]:
    """Values that may be right for a key, right for another, or nothing at all."""
    odd = [
        7,
        0,
        -1,
        0.5,
        True,
        "",
        " ",
        "x",
        "10m",
        "0s",
        [],
        {},
        [1],
        ["cpu_high"],
        {"warning": 1},
        {"a": []},
    ]
    good = {
        "name": ["r"],
        "metric": ["cpu_usage", "up", "load_5m / cpu_count", "days_to_limit(inode_usage)"],
        "op": [">", "<", "==", "<="],
        "threshold": [90, False, "7", {"warning": 1, "critical": 2}, {"critical": 2, "info": 1}],
        "aggregate": ["avg", "rate", "fraction_above", "p99", "p49"],
        "hosts": ["db-*", ["a", "b"]],
        "labels": [{"role": "db"}],
        "severity": ["info", "none"],
        "summary": ["{host}", "{"],
        "clear_threshold": ["0", {"warning": 0}],
        "no_data": ["keep", "ok", "alert"],
        "inhibited_by": ["r", []],
        "maintenance": [
            {"days": ["sun"]},
            [{"from": "1:00"}],
            [{"start": "2026-01-01", "end": "2026-01-02"}],
        ],
        "preset": ["cpu_high", "stale"],
    }
    return st.sampled_from([*good.get(key, [1, "5m"]), *odd])


@settings(max_examples=300)
@given(st.lists(st.sampled_from([*RULE_KEYS, "treshold"]), max_size=4), st.booleans(), st.data())
def test_whatever_is_parsed_is_accepted_and_nothing_but_a_rule_error_is_raised(
    keys: list[str], complete: bool, data: st.DataObject
) -> None:
    rule = (BASE if complete else {}) | {key: data.draw(values_of(key), key) for key in keys}
    try:
        parse_rules([rule])
    except RuleError:
        return
    assert accepts(rule), list(VALIDATOR.iter_errors({"rules": [rule]}))
