from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_restrack.alert.no_data import Pause
from airflow_provider_restrack.alert.pace import Pace
from airflow_provider_restrack.alert.rules import parse_rules
from airflow_provider_restrack.alert.runs import Fold, LevelPlan, fold_level

MINUTE = 60_000


def fold(values: list[float], *, active: bool = False, **changes: Any) -> Fold:
    """Fold one value a minute, from minute 0 on."""
    names = ("after_ms", "decided_ms", "start_known", "can_read_more", "pauses", "index")
    given = {name: changes.pop(name) for name in names if name in changes}
    (rule,) = parse_rules({"name": "r", "metric": "cpu_usage", "op": ">", "threshold": 90} | changes)
    times = [n * MINUTE for n in range(len(values))]
    plan = {"index": 0, "after_ms": -1, "decided_ms": -1, "start_known": False, "can_read_more": False}
    return fold_level(LevelPlan(rule, active=active, pace=Pace(times), **(plan | given)), times, values)


def minutes(found: Fold) -> list[tuple[float, bool]]:
    return [(change.at_ms / MINUTE, change.active) for change in found.changes]


def test_a_run_that_lasts_changes_the_level_and_a_clear_sample_changes_it_back() -> None:
    assert minutes(fold([50, 95, 95, 95, 50], **{"for": "2m"})) == [(3, True), (4, False)]


def test_nothing_up_to_the_last_transition_is_decided_again_but_runs_reach_back_before_it() -> None:
    assert minutes(fold([95, 95, 95, 95], after_ms=2 * MINUTE, **{"for": "2m"})) == [(3, True)]


@pytest.mark.parametrize("values", [[50.0] * 9, []])
def test_nothing_is_said_where_no_value_breaches(values) -> None:
    found = fold(values, **{"for": "2m"})

    assert (found.changes, found.active, found.run_ms, found.open_start) == ([], False, None, False)


@pytest.mark.parametrize(
    ("op", "values", "active", "changes"),
    [
        (">=", [90, 89], False, [(0, True), (1, False)]),
        ("<", [50, 95], False, [(0, True), (1, False)]),
        ("<=", [90, 90], True, []),
        ("==", [90, 91], False, [(0, True), (1, False)]),
        ("==", [90, 90], True, []),
        ("!=", [91, 90], False, [(0, True), (1, False)]),
        ("!=", [90, 90], False, []),
        ("!=", [91, 91], True, []),
    ],
)
def test_every_comparison_and_its_end(op, values, active, changes) -> None:
    assert minutes(fold(values, op=op, active=active)) == changes


def test_a_pause_ends_what_is_active_and_breaks_a_run() -> None:
    ending = (Pause(MINUTE + 1, ends=True),)

    assert minutes(fold([95, 95, 95, 95], pauses=ending, **{"for": "1m"})) == [
        (1, True),
        ((MINUTE + 1) / MINUTE, False),
        (3, True),
    ]
    assert minutes(fold([95, 95, 95, 95], pauses=(Pause(MINUTE + 1, ends=False),), **{"for": "2m"})) == []


def test_a_pause_after_all_values_ends_too() -> None:
    found = fold([95, 95], pauses=(Pause(9 * MINUTE, ends=True),))

    assert minutes(found) == [(0, True), (9, False)]
    assert found.run_ms is None


def test_a_run_from_the_first_value_on_is_open_unless_its_start_is_known_or_it_was_decided() -> None:
    hold = {"for": "9m"}

    assert fold([95, 95, 50], **hold).open_start
    assert not fold([50, 95, 95], **hold).open_start
    assert not fold([95, 95, 50], start_known=True, **hold).open_start
    assert not fold([95, 95, 50, 50], decided_ms=2 * MINUTE, **hold).open_start
    assert fold([95, 95, 95, 50], decided_ms=MINUTE, **hold).open_start


def test_a_run_whose_spacing_older_rows_could_change_is_open() -> None:
    assert fold([50, 95, 95], can_read_more=True, **{"for": "9m"}).open_start
    assert not fold([50.0] * 40 + [95, 95], can_read_more=True, **{"for": "9m"}).open_start


def test_a_lower_severity_is_clear_only_where_the_higher_one_is() -> None:
    levels = {
        "threshold": {"warning": 80, "critical": 90},
        "clear_threshold": {"warning": 70, "critical": 60},
    }

    assert minutes(fold([85, 65, 55], **levels)) == [(0, True), (2, False)]
