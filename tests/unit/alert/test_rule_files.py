"""Rules from files: what is read, and that a mistake names file, rule and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_restrack.alert.rule_files import load_rules, read_rule_file
from airflow_provider_restrack.alert.rules import RuleError, parse_rules

GOOD = """
rules:
  - {name: cpu, metric: cpu_usage, op: ">", threshold: {warning: 80, critical: 90}, for: 10m}
  - preset: disk_full
    hosts: [db-*]
tests: []
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(GOOD)
    return path


def test_a_file_holds_the_rules_that_a_list_would(file: Path) -> None:
    names = [rule.name for rule in load_rules(str(file))]

    assert names == ["cpu", "disk_full"]
    assert parse_rules(f"file:{file}") == parse_rules(f" file://{file} ") == load_rules(str(file))


def test_a_relative_path_is_of_the_given_folder(file: Path) -> None:
    assert parse_rules("file:rules.yaml", folder=file.parent) == load_rules(str(file))


def test_json_is_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    path.write_text('{"rules": [{"preset": "cpu_high", "summary": "caf\\u00e9"}]}')

    assert load_rules(str(path))[0].summary == "café"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (GOOD.replace("cpu_usage", "cpu"), "rule 'cpu': metric 'cpu' is not known"),
        (GOOD.replace("disk_full", "disk"), "rules[1]: preset 'disk' is not known"),
        ("rules: []", "rules are empty"),
        ("rules: {name: r}", "must have a list of rules under the key `rules`"),
        ("- {name: r}", "must have a list of rules under the key `rules`"),
        ("", "must have a list of rules under the key `rules`"),
        ("rules: [", "cannot be read: "),
        ("rules: [!!python/object:os.system {}]", "cannot be read: could not determine a constructor"),
        ("rules: [{name: a, for: 5m, for: 10m}]", "'for' stands twice"),
        (GOOD + "groups: []", "'groups' is not known; allowed: rules, tests"),
    ],
)
def test_a_mistake_names_the_file(file: Path, text: str, told: str) -> None:
    file.write_text(text)
    with pytest.raises(RuleError) as caught:
        parse_rules(f"file:{file}")
    assert all(str(file) in problem for problem in caught.value.problems)
    assert told in str(caught.value)


def test_all_mistakes_of_a_file_are_told(file: Path) -> None:
    file.write_text(GOOD.replace("cpu_usage", "cpu").replace("disk_full", "disk"))
    with pytest.raises(RuleError) as caught:
        load_rules(str(file))
    assert len(caught.value.problems) == 2


def test_a_merge_key_is_no_key_that_stands_twice(file: Path) -> None:
    file.write_text(
        """
tests: [&base {metric: cpu_usage, op: ">"}]
rules:
  - {<<: *base, name: a, threshold: 1}
  - {<<: *base, name: b, threshold: 2, op: "<"}
"""
    )

    assert [(rule.name, rule.op) for rule in load_rules(str(file))] == [("a", ">"), ("b", "<")]


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(RuleError, match=r"rules file /nowhere/rules.yaml cannot be read"):
        read_rule_file(Path("/nowhere/rules.yaml"))


def test_a_relative_path_of_no_folder_is_refused() -> None:
    with pytest.raises(RuleError, match=r"'rules.yaml' is a relative path"):
        parse_rules("file:rules.yaml")
