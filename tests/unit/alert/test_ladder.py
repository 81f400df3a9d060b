from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_restrack.alert.ladder import build_ladder, build_variant, can_vary, plan_ladders
from airflow_provider_restrack.alert.rules import AlertRule, parse_rules


def rule(**changes: Any) -> AlertRule:
    data = {"name": "cpu", "metric": "cpu_usage", "op": ">", "threshold": 80, "for": "5m"}
    (found,) = parse_rules([data | changes])
    return found


LEVELS = {"threshold": {"warning": 80, "critical": 90}}


def test_a_percentage_has_points_around_each_threshold_within_0_and_100() -> None:
    ladder = build_ladder(rule(**LEVELS))

    assert ladder == (60, 70, 75, 78, 80, 82, 85, 88, 90, 92, 95)


def test_another_unit_has_parts_and_multiples() -> None:
    assert build_ladder(rule(metric="load_5m", threshold=4)) == (2, 2.8, 3.2, 3.6, 4, 4.4, 5, 6, 8)


def test_nothing_is_known_around_0() -> None:
    assert build_ladder(rule(metric="network_errors", threshold=0)) == (0,)


@pytest.mark.parametrize(
    ("changes", "possible"),
    [
        ({}, True),
        ({"op": "<="}, True),
        ({"op": "!="}, False),
        ({"metric": "up", "op": "==", "threshold": False}, False),
    ],
)
def test_only_more_and_less_can_vary(changes: dict[str, Any], possible: bool) -> None:
    assert can_vary(rule(**changes)) is possible
    assert ("cpu" in plan_ladders([rule(**changes)], None)) is possible


def test_given_thresholds_stand_beside_the_rules_own() -> None:
    assert plan_ladders([rule(**LEVELS)], {"cpu": [85, 70.5, 90]}) == {"cpu": (70.5, 80.0, 85.0, 90.0)}
    assert plan_ladders([rule()], {}) == {}


@pytest.mark.parametrize(
    ("thresholds", "said"),
    [
        ({"cup": [1]}, "'cup': no such rule; there are: cpu, gone"),
        ({"gone": [1]}, "'gone': only a rule with a number"),
        ({"cpu": [float("nan")]}, "nan is not finite"),
    ],
)
def test_thresholds_that_make_no_sense_are_refused(thresholds: dict[str, list[float]], said: str) -> None:
    rules = [rule(), rule(name="gone", metric="up", op="==", threshold=False)]

    with pytest.raises(ValueError, match=said):
        plan_ladders(rules, thresholds)


def test_a_variant_has_one_level_and_keeps_all_else() -> None:
    base = rule(**LEVELS, min_coverage=0.5, clear_for="2m")

    variant = build_variant(base, 85.0)

    assert [(level.threshold, level.clear_threshold) for level in variant.levels] == [(85.0, 85.0)]
    assert (variant.for_seconds, variant.min_coverage, variant.clear_for_seconds) == (300, 0.5, 120)
    assert variant.name != base.name


@pytest.mark.parametrize(("threshold", "clear"), [(75.0, 65.0), (84.0, 74.0), (86.0, 81.0), (95.0, 90.0)])
def test_a_variant_clears_as_far_below_as_the_nearest_threshold_does(threshold: float, clear: float) -> None:
    base = rule(**LEVELS, clear_threshold={"warning": 70, "critical": 85})

    (level,) = build_variant(base, threshold).levels

    assert level.clear_threshold == clear


def test_a_variant_never_tells_of_missing_samples_itself() -> None:
    from dataclasses import replace

    silent = replace(rule(), no_data="alert", no_data_seconds=600.0)
    ends = replace(rule(), no_data="ok", no_data_seconds=600.0)

    assert build_variant(silent, 70.0).no_data == "keep"
    assert build_variant(ends, 70.0).no_data == "ok"
