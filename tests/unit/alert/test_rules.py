"""Rules as data: what is accepted, and that a mistake is named with its field, value and what is allowed."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.alert.durations import format_duration, parse_duration
from airflow_provider_restrack.alert.rules import METRICS, AlertRule, RuleError, parse_rules
from airflow_provider_restrack.store.schema import FIELD_BY_NAME

GOOD: dict[str, Any] = {"name": "cpu high", "metric": "cpu_usage", "op": ">", "threshold": 90, "for": "10m"}


def problems_of(*changes: dict[str, Any]) -> list[str]:
    rules = [{key: value for key, value in (GOOD | change).items() if value != "-"} for change in changes]
    with pytest.raises(RuleError) as caught:
        parse_rules(rules)
    return list(caught.value.problems)


def test_a_plain_rule_gets_the_documented_defaults() -> None:
    assert parse_rules([GOOD]) == (
        AlertRule(
            name="cpu high",
            metric="cpu_usage",
            op=">",
            threshold=90.0,
            for_seconds=600.0,
            hosts=("*",),
            min_coverage=0.8,
            min_samples=2,
            severity="warning",
        ),
    )


def test_one_dict_is_a_list_of_one() -> None:
    assert parse_rules(GOOD) == parse_rules([GOOD])


def test_rules_may_be_json_text_as_a_template_renders_it() -> None:
    assert parse_rules(json.dumps([GOOD])) == parse_rules([GOOD])


def test_a_threshold_may_be_the_text_of_a_number_as_a_template_renders_it() -> None:
    assert parse_rules(GOOD | {"threshold": " 90.5 "})[0].threshold == 90.5


def test_a_rule_for_a_single_sample_asks_for_one() -> None:
    (rule,) = parse_rules({key: value for key, value in GOOD.items() if key != "for"})
    assert (rule.for_seconds, rule.min_samples) == (0.0, 1)


def test_an_aggregate_without_window_is_taken_over_for() -> None:
    (rule,) = parse_rules(GOOD | {"aggregate": "p95"})
    assert (rule.aggregate, rule.window_seconds, rule.for_seconds) == ("p95", 600.0, 0.0)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("10m", 600),
        ("90s", 90),
        ("1h30m", 5400),
        ("2d", 172800),
        ("1.5s", 1.5),
        ("45", 45),
        (45, 45),
        (0.5, 0.5),
        (0, 0),
        (timedelta(minutes=2), 120),
    ],
)
def test_durations_may_be_texts_numbers_and_timedeltas(value: object, seconds: float) -> None:
    assert parse_duration(value) == seconds


@pytest.mark.parametrize(
    "value",
    ["", "10x", "m10", "-5m", "10 minutes", -1, math.inf, math.nan, True, None, [], timedelta(seconds=-1)],
)
def test_what_is_no_duration_is_refused_with_examples(value: object) -> None:
    with pytest.raises(ValueError, match="10m"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (12.34, "12.3 s"), (60, "1 min"), (90, "1 min 30 s"), (600, "10 min"), (3600, "1 h"),
     (3661, "1 h 1 min"), (90000, "1 d 1 h"), (86460, "1 d")],
)  # fmt: skip
def test_durations_are_told_in_their_two_largest_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"metric": "cpu_usge"}, "rule 'cpu high': metric 'cpu_usge' is not known: did you mean 'cpu_usage'"),
        ({"metric": "host"}, "rule 'cpu high': metric 'host' is not known"),
        ({"metric": "cpu_core_usage"}, "metric 'cpu_core_usage' is not known"),
        ({"metric": "-"}, "rule 'cpu high': metric is missing; allowed: up,"),
        ({"metric": ["cpu_usage"]}, "metric ['cpu_usage'] is not known"),
        ({"op": "=>"}, "op '=>' is not known: did you mean '>='?; allowed: >, >=, <, <=, ==, !="),
        ({"op": "gt"}, "did you mean '>'?"),
        ({"op": "-"}, "op is missing; allowed: >,"),
        ({"threshold": math.nan}, "rule 'cpu high': threshold nan is not allowed: give a finite number"),
        ({"threshold": math.inf}, "threshold inf is not allowed"),
        ({"threshold": "ninety"}, "threshold 'ninety' is not allowed: give a finite number"),
        ({"threshold": "nan"}, "threshold 'nan' is not allowed"),
        ({"threshold": True}, "threshold True is not allowed"),
        ({"threshold": "-"}, "threshold is missing: give a finite number"),
        ({"metric": "up", "op": "==", "threshold": 0}, "threshold 0 must be true or false for up"),
        ({"metric": "up", "threshold": False}, "op '>' is not known; allowed: ==, !="),
        ({"for": "10x"}, "for '10x' is not a duration such as \"10m\""),
        ({"for": -1}, "for -1 is negative"),
        ({"for": "1000000000000d"}, "for '1000000000000d' is longer than 100 days"),
        ({"aggregate": "avg", "window": "101d"}, "window '101d' is longer than 100 days"),
        ({"aggregate": "mean"}, "did you mean 'avg'?; allowed: avg, min, max, last, count, stddev, rate,"),
        ({"aggregate": "p100"}, "aggregate 'p100' is not known"),
        ({"aggregate": "avg", "for": "-"}, "window is missing: avg needs a window"),
        ({"window": "5m"}, "window '5m' needs an aggregate"),
        ({"aggregate": "avg", "window": 0}, "window 0 must be longer than 0"),
        ({"hosts": []}, "hosts [] must be a pattern"),
        ({"hosts": ["a", 1]}, "hosts ['a', 1] must be a pattern"),
        ({"hosts": "db-1, db-2"}, "hosts 'db-1, db-2' must be a pattern such as 'db-*', or a list"),
        ({"labels": {"role": 1}}, "labels {'role': 1} must be a dict"),
        ({"labels": "role=db"}, "labels 'role=db' must be a dict"),
        ({"min_coverage": 80}, "min_coverage 80 must be a number from 0 to 1"),
        ({"min_coverage": math.nan}, "min_coverage nan must be a number from 0 to 1"),
        ({"min_samples": 0}, "min_samples 0 must be a whole number"),
        ({"min_samples": 2.5}, "min_samples 2.5 must be a whole number"),
        ({"max_gap": "0s"}, "max_gap '0s' must be longer than 0"),
        ({"severity": "fatal"}, "severity 'fatal' is not known; allowed: info, warning, critical"),
        ({"summary": "{hots} is hot"}, "summary names {hots}: did you mean 'host'?; allowed: rule,"),
        ({"summary": "{host.__class__}"}, "summary names {host.__class__}"),
        ({"summary": "{host"}, "summary '{host' is no valid template"),
        ({"summary": "{host:.1f}"}, "summary '{host:.1f}' is no valid template"),
        ({"summary": "{host:{rule}}"}, "summary '{host:{rule}}' is no valid template"),
        ({"summary": 3}, "summary 3 must be a text"),
        ({"name": " "}, "rules[0]: name ' ' must be a text"),
        ({"name": "-"}, "rules[0]: name is missing"),
        ({"treshold": 3}, "key 'treshold' is not known: did you mean 'threshold'?; allowed: name, metric,"),
        ({"duration": "5m"}, "key 'duration' is not known: did you mean 'for'?"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_field_value_and_remedy(change: dict[str, Any], expected: str) -> None:
    problems = problems_of(change)
    assert any(expected.removeprefix("rule 'cpu high': ") in problem for problem in problems), problems
    if expected.startswith("rule"):
        assert any(problem.startswith(expected) for problem in problems), problems


def test_all_mistakes_of_all_rules_are_told_at_once() -> None:
    problems = problems_of({"op": "~", "threshold": math.nan}, {"name": "other", "metric": "cpu"})
    assert [problem.split(" is ")[0] for problem in problems] == [
        "rule 'cpu high': op '~'",
        "rule 'cpu high': threshold nan",
        "rule 'other': metric 'cpu'",
    ]


def test_a_name_that_is_used_twice_is_refused() -> None:
    assert problems_of({}, {"threshold": 95}) == [
        "rule 'cpu high': name is used by rules[0] and rules[1]: give each rule its own name"
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "rules are empty"),
        (None, "must be a list of dicts"),
        ("{{ nothing", "not JSON"),
        ([7], r"rules\[0\] is 7: a rule must be a dict"),
    ],
)
def test_what_is_no_rule_at_all_is_refused(data: object, message: str) -> None:
    with pytest.raises(RuleError, match=message):
        parse_rules(data)


def test_a_rule_error_survives_pickling_with_its_problems() -> None:
    error = pickle.loads(pickle.dumps(RuleError(["one", "two"])))
    assert (error.problems, str(error)) == (("one", "two"), "one\ntwo")


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_of_the_schema_can_be_named(metric: str) -> None:
    truth = FIELD_BY_NAME[metric].type == "boolean"
    (rule,) = parse_rules({"name": "r", "metric": metric, "op": "==", "threshold": truth or 1})
    assert rule.has_devices is (FIELD_BY_NAME[metric].type == "map<text,double>")


def optional(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=values)


@given(
    optional(
        **{
            "for": st.integers(1, 10**6),
            "aggregate": st.sampled_from(["avg", "p99"]),
            "window": st.just("5m"),
        },
        hosts=st.lists(st.text(min_size=1), min_size=1),
        labels=st.dictionaries(st.text(min_size=1), st.text(min_size=1), min_size=1),
        min_coverage=st.floats(0, 1),
        min_samples=st.integers(1, 99),
        max_gap=st.floats(0.001, 10**6),
        severity=st.sampled_from(["info", "critical"]),
        summary=st.sampled_from(["{host}", "{current:.1f} {{}}"]),
    )
)
def test_a_rule_written_as_json_data_reads_back_as_the_same_rule(extra: dict[str, Any]) -> None:
    if "aggregate" not in extra or extra.keys().isdisjoint({"for", "window"}):
        extra = {key: value for key, value in extra.items() if key not in {"window", "aggregate"}}
    rules = parse_rules({"name": "r", "metric": "cpu_usage", "op": ">", "threshold": 1, **extra})
    assert parse_rules(json.loads(json.dumps([rule.to_data() for rule in rules]))) == rules


def test_importing_rules_loads_no_heavy_library() -> None:
    code = (
        "import sys, airflow_provider_restrack.alert.rules, airflow_provider_restrack.alert.observe;"
        "heavy = {'airflow', 'cassandra', 'confluent_kafka', 'paramiko', 'psutil', 'msgspec', 'yaml'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("change", "levels"),
    [
        ({}, [("warning", 90, 90)]),
        ({"severity": "info", "clear_threshold": 70}, [("info", 90, 70)]),
        (
            {"threshold": {"critical": 95, "warning": 80}, "clear_threshold": 70},
            [("warning", 80, 70), ("critical", 95, 95)],
        ),
        (
            {"op": "<", "threshold": {"warning": 20, "critical": 10}, "clear_threshold": {"critical": 15}},
            [("warning", 20, 20), ("critical", 10, 15)],
        ),
    ],
)
def test_severities_have_thresholds_of_their_own(change: dict[str, Any], levels: list[Any]) -> None:
    (rule,) = parse_rules(GOOD | change)

    assert [(one.severity, one.threshold, one.clear_threshold) for one in rule.levels] == levels
    assert (rule.severity, rule.threshold) == levels[0][:2]
    assert parse_rules(rule.to_data()) == (rule,)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"threshold": {}}, "must give a finite number for one or more of info, warning, critical"),
        ({"threshold": {"bad": 1}}, "must give a finite number"),
        ({"threshold": {"warning": 90, "critical": 80}}, "must go further with each severity"),
        ({"threshold": {"warning": 80, "critical": 80}}, "must go further with each severity"),
        ({"op": "==", "threshold": {"warning": 80, "critical": 90}}, "must go further with each severity"),
        ({"threshold": {"warning": 80}, "severity": "info"}, "is told twice"),
        ({"clear_threshold": 95}, "must lie on the good side"),
        ({"op": "<", "clear_threshold": 80}, "must lie on the good side"),
        ({"op": "==", "clear_threshold": 80}, "op be one of >, >=, <, <="),
        ({"clear_threshold": {"critical": 80}}, "of the same severity"),
        ({"clear_for": "soon"}, "clear_for 'soon' is not a duration"),
    ],
)
def test_severities_that_make_no_sense_are_told(change: dict[str, Any], told: str) -> None:
    (problem,) = problems_of(change)

    assert told in problem
    assert "'cpu high'" in problem


def test_a_name_that_inhibits_is_that_of_a_rule_of_the_list() -> None:
    (problem,) = problems_of({"inhibited_by": "host_dwn"}, {"name": "host_down"})

    assert problem == (
        "rule 'cpu high': inhibited_by 'host_dwn' is no rule of this list: did you mean 'host_down'?"
    )


@pytest.mark.parametrize(
    ("above", "told"),
    [
        ({"a": ["a"]}, "'a' by 'a'"),
        ({"a": ["b"], "b": ["c"], "c": ["b"]}, "'b' by 'c' by 'b'"),
    ],
)
def test_rules_that_inhibit_each_other_in_a_circle_are_refused(above: dict[str, Any], told: str) -> None:
    problems = problems_of(*({"name": name, "inhibited_by": by} for name, by in above.items()))

    assert len(problems) == 1
    circle = problems[0].partition("goes round in a circle: ")[2]
    assert circle in {told, told.replace("b", "x").replace("c", "b").replace("x", "c")}


def test_a_rule_that_tells_of_a_host_that_is_down_is_not_inhibited_by_what_it_inhibits() -> None:
    down = {"name": "down", "metric": "up", "op": "==", "threshold": False, "inhibited_by": ["net"]}

    (problem,) = problems_of(down, {"name": "net"})
    assert "goes round in a circle" in problem
    assert parse_rules([GOOD | {"name": "net", "inhibited_by": []}, GOOD | down])


def test_rules_may_be_inhibited_by_one_that_is_itself_inhibited() -> None:
    rules = parse_rules(
        [
            GOOD | {"name": "a", "inhibited_by": ["b", "c"]},
            GOOD | {"name": "b", "inhibited_by": "c"},
            GOOD | {"name": "c", "inhibited_by": []},
        ]
    )
    assert [rule.inhibited_by for rule in rules] == [("b", "c"), ("c",), ()]
