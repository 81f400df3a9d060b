"""Presets are rules; what is changed in one is changed, and nothing else."""

from __future__ import annotations

import pytest

from airflow_provider_restrack.alert.presets import PRESETS, preset, presets
from airflow_provider_restrack.alert.rules import RuleError, parse_rules


def test_all_presets_are_rules_that_stand_beside_each_other() -> None:
    assert [rule.name for rule in parse_rules(presets())] == list(PRESETS)


def test_presets_can_be_chosen_by_name() -> None:
    assert [rule["name"] for rule in presets("stale", "cpu_high")] == ["stale", "cpu_high"]


def test_keys_of_a_preset_can_be_changed() -> None:
    rule = preset("memory_high", name="memory of databases", hosts="db-*", for_="1h")

    assert rule == {
        **PRESETS["memory_high"],
        "name": "memory of databases",
        "hosts": "db-*",
        "for": "1h",
    }


def test_another_threshold_takes_the_clear_threshold_with_it() -> None:
    (lower,) = parse_rules(preset("cpu_high", threshold=60))
    (own,) = parse_rules(preset("cpu_high", threshold=60, clear_threshold=50))

    assert [(level.threshold, level.clear_threshold) for level in lower.levels] == [(60, 60)]
    assert [(level.threshold, level.clear_threshold) for level in own.levels] == [(60, 50)]


def test_thresholds_for_each_severity_replace_a_single_severity() -> None:
    (rule,) = parse_rules(preset("network_errors", threshold={"info": 1, "critical": 9}))
    assert [level.severity for level in rule.levels] == ["info", "critical"]


def test_a_key_that_is_none_is_left_out() -> None:
    (rule,) = parse_rules(preset("memory_high", clear_threshold=None))
    assert rule.clear_thresholds == ()


def test_a_change_does_not_reach_the_preset_itself() -> None:
    preset("cpu_high")["threshold"]["warning"] = 1
    assert PRESETS["cpu_high"]["threshold"]["warning"] == 85


@pytest.mark.parametrize("name", ["cpu_hihg", "", 7])
def test_a_preset_that_is_not_there_is_told(name: str) -> None:
    with pytest.raises(ValueError, match=r"is not known.*; allowed: cpu_high, "):
        preset(name)


def test_a_rule_may_name_a_preset() -> None:
    rules = parse_rules([{"preset": "cpu_high", "threshold": 95}, {"preset": "stale", "name": "silent"}])

    assert [(rule.name, rule.threshold) for rule in rules] == [("cpu_high", 95), ("silent", 1)]


def test_a_mistake_in_a_preset_is_told_once() -> None:
    with pytest.raises(RuleError) as caught:
        parse_rules([{"preset": "cpu"}])
    (problem,) = caught.value.problems
    assert problem.startswith("rules[0]: preset 'cpu' is not known")


def test_the_rule_on_silence_has_a_threshold_that_never_holds() -> None:
    (rule,) = parse_rules(preset("stale"))
    assert (rule.aggregate, rule.op, rule.threshold) == ("count", "<", 1)
