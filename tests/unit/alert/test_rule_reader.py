"""One rule from data: the keys that go together, and what is said of those that do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_restrack.alert.rule_reader import RuleReader

if TYPE_CHECKING:
    from airflow_provider_restrack.alert.rule import AlertRule

BASE: dict[str, Any] = {"name": "r", "metric": "cpu_usage", "op": ">", "threshold": 90}
DAYS: dict[str, Any] = {"name": "r", "metric": "days_to_limit(inode_usage)", "op": "<", "threshold": 7}


def read(data: Any) -> AlertRule:
    reader = RuleReader(data, 0)
    rule = reader.read()
    assert reader.problems == []
    assert rule is not None
    return rule


def problems_of(data: Any) -> list[str]:
    reader = RuleReader(data, 3)
    assert reader.read() is None
    return reader.problems


def test_what_is_left_out_has_its_default() -> None:
    rule = read(BASE)

    assert (rule.no_data, rule.no_data_seconds, rule.inhibited_by, rule.maintenance, rule.above) == (
        "keep", 0.0, None, (), None,
    )  # fmt: skip


@pytest.mark.parametrize("value", ["other", ["other"], ["other", "other"]])
def test_inhibiting_rules_are_one_name_or_a_list_of_them(value: Any) -> None:
    assert read(BASE | {"inhibited_by": value}).inhibited_by == ("other",)


def test_an_empty_list_says_that_nothing_inhibits() -> None:
    assert read(BASE | {"inhibited_by": []}).inhibited_by == ()


@pytest.mark.parametrize("no_data", ["alert", "ok"])
def test_silence_has_a_meaning_after_a_time(no_data: str) -> None:
    rule = read(BASE | {"no_data": no_data, "no_data_for": "15m"})

    assert (rule.no_data, rule.no_data_seconds) == (no_data, 900.0)


def test_the_metric_of_a_rule_is_kept_as_it_is_written() -> None:
    assert read(BASE | {"metric": " load_5m × 2 "}).metric == "load_5m × 2"


@pytest.mark.parametrize(
    ("hold", "aggregate", "least"), [(None, None, 1), ("5m", None, 2), ("10m", "avg", 1), ("5m", "rate", 1)]
)
def test_so_many_samples_a_decision_rests_on_at_least(
    hold: str | None, aggregate: str | None, least: int
) -> None:
    assert read(BASE | {"for": hold, "aggregate": aggregate}).min_samples == least


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (BASE | {"metric": "load_5m / cpu"}, "rule 'r': metric 'load_5m / cpu': 'cpu' is not known"),
        (BASE | {"no_data": "alert"}, "rule 'r': no_data_for is missing: say after how long"),
        (BASE | {"no_data_for": "5m"}, "rule 'r': no_data_for '5m' needs no_data alert or ok"),
        (BASE | {"no_data": "keep", "no_data_for": "5m"}, "no_data_for '5m' needs no_data alert or ok"),
        (BASE | {"no_data": "ok", "no_data_for": 0}, "no_data_for 0 must be longer than 0"),
        (BASE | {"no_data": "okay", "no_data_for": "5m"}, "no_data 'okay' is not known: did you mean 'ok'"),
        (BASE | {"inhibited_by": [""]}, "inhibited_by [''] must be the name of a rule"),
        (BASE | {"inhibited_by": 3}, "inhibited_by 3 must be the name of a rule"),
        (BASE | {"maintenance": "sunday"}, "rule 'r': maintenance 'sunday' must be a list of windows"),
        (BASE | {"maintenance": [{"days": ["so"]}]}, "maintenance days ['so'] must be a list of mon"),
        (BASE | {"above": 5}, "above 5 is only for the aggregate fraction_above"),
        (
            BASE | {"aggregate": "fraction_above", "window": "5m", "threshold": 0.5},
            "above is missing: give the number that fraction_above counts samples above",
        ),
        (
            BASE | {"aggregate": "fraction_above", "window": "5m", "threshold": 0.5, "above": "high"},
            "above 'high' must be a finite number",
        ),
        (
            BASE | {"aggregate": "fraction_above", "window": "5m", "above": 80, "threshold": 50},
            "threshold 50 must be from 0 to 1",
        ),
        (
            BASE
            | {"aggregate": "fraction_above", "window": "5m", "above": 80}
            | {"threshold": {"info": 0.5, "warning": 1.5}},
            "must be from 0 to 1",
        ),
        (DAYS | {"op": ">"}, "op '>' is not known; allowed: <, <="),
        (DAYS | {"for": "1d"}, "for is not for days_to_limit"),
        (DAYS | {"min_samples": 1}, "min_samples is not for days_to_limit"),
        (DAYS | {"clear_for": "1d"}, "clear_for is not for days_to_limit"),
        (BASE | {"name": "", "op": "~"}, "rules[3]: op '~' is not known"),
        (7, "rules[3] is 7: a rule must be a dict"),
    ],
)
def test_a_mistake_is_named_with_field_value_and_remedy(data: Any, told: str) -> None:
    problems = problems_of(data)

    assert any(told in problem for problem in problems), problems


def test_what_a_forecast_makes_no_sense_with_is_told_at_once() -> None:
    problems = problems_of(DAYS | {"aggregate": "avg", "window": "1d", "max_gap": "1d"})

    assert [problem.split()[2] for problem in problems] == ["aggregate", "window", "max_gap"]
