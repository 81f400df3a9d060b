from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from airflow_provider_restrack.alert.rule_test_series import RuleTestError
from airflow_provider_restrack.alert.rule_tests import run_tests

FILES = sorted((Path(__file__).parent / "rule_tests").glob("*.yaml"))
OUTCOMES = [(path.stem, one) for path in FILES for one in run_tests(yaml.safe_load(path.read_text()))]
RULE = {"name": "r", "metric": "cpu_usage", "op": ">", "threshold": 90}


@pytest.mark.parametrize("outcome", [pytest.param(one, id=f"{group}: {one.name}") for group, one in OUTCOMES])
def test_the_projects_own_rule_tests_pass(outcome) -> None:
    assert outcome.problems == ()


def test_every_case_has_its_own_name() -> None:
    names = [(group, one.name) for group, one in OUTCOMES]

    assert len(set(names)) == len(names) >= 80


def test_the_example_of_the_docs_passes() -> None:
    text = (Path(__file__).parents[3] / "docs" / "threshold.md").read_text()
    (block,) = [one for one in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "tests:" in one]

    assert [one.problems for one in run_tests(yaml.safe_load(block))] == [(), ()]


def test_a_difference_is_told_both_ways() -> None:
    data = {
        "rules": [RULE],
        "tests": [{"name": "t", "series": [{"values": "95"}], "expect": [{"at": "1m", "kind": "fired"}]}],
    }

    (outcome,) = run_tests(data)

    assert len(outcome.problems) == 2
    assert outcome.problems[0].startswith("missing: ")
    assert "at 60s" in outcome.problems[0]
    assert outcome.problems[1].startswith("not expected: at 0s")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ([], "the file must be a mapping"),
        ({"rules": [RULE]}, "tests is missing"),
        ({"rules": [RULE], "tests": [{"serie": []}]}, "'serie' is not known"),
        ({"rules": [RULE], "tests": [{"series": [{"values": "9z"}]}]}, "'9z' is no value"),
        ({"rules": [RULE], "tests": [{"expect": [{"at": "1m"}]}]}, "needs `at` and `kind`"),
        ({"rules": [RULE], "tests": [{"interval": "soon"}]}, "'soon' is not a duration"),
        ({"rules": [RULE], "tests": [{"order": "random"}]}, "order 'random' is not known"),
        ({"rules": [RULE], "tests": [{"evaluate_every": 0}]}, "evaluate_every 0 must be longer than 0"),
        (
            {"rules": [RULE], "tests": [{"removed": [{"rule": "r"}]}]},
            "removed needs `rule` or `host`",
        ),
        ({"rules": [RULE], "tests": [{"check": ["all"]}]}, "check 'all' is not known"),
        ({"rules": [RULE], "tests": [{"loaded_until": "5m"}]}, "loaded_until must be a mapping"),
        (
            {"rules": [RULE], "tests": [{"expect": [{"at": "1m", "kind": "fires"}]}]},
            "one of fired, ",
        ),
    ],
)
def test_a_file_that_cannot_be_run_says_why(data, told) -> None:
    with pytest.raises(RuleTestError, match=told):
        run_tests(data)
