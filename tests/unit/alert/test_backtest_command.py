from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_restrack.alert.__main__ import main
from airflow_provider_restrack.alert.backtest_command import (
    PASSWORD_VARIABLE,
    add_arguments,
    choose_hosts,
    choose_rules,
    read_thresholds,
    read_window,
)
from airflow_provider_restrack.alert.backtest_tables import build_data
from airflow_provider_restrack.alert.rules import parse_rules
from tests.unit.alert.backtest_fakes import RULE, build_report
from tests.unit.alert.fleet_fakes import MemoryReader

NOW = datetime(2026, 5, 8, 12, tzinfo=UTC)
RULES = parse_rules([RULE, RULE | {"name": "other"}])
# Nothing listens there.
CLOSED = ("--contact-points", "127.0.0.1", "--port", "1")


def test_a_window_is_two_times_or_a_duration_before_its_end() -> None:
    day = datetime(2026, 5, 1, tzinfo=UTC)

    assert read_window("2026-05-01", "2026-05-02T00:00Z", NOW) == (day, datetime(2026, 5, 2, tzinfo=UTC))
    assert read_window("2026-05-01T02:00+02:00", None, NOW) == (day, NOW)
    assert read_window("20260501", None, NOW) == (day, NOW)
    assert read_window("7d12h", None, NOW) == (day, NOW)


@pytest.mark.parametrize(
    ("since", "until", "said"), [("yesterday", None, "--from yesterday"), ("1d", "later", "--to later")]
)
def test_what_is_no_time_is_named(since: str, until: str | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_window(since, until, NOW)


def test_rules_are_chosen_by_name() -> None:
    assert choose_rules(RULES, None) == list(RULES)
    assert choose_rules(RULES, ["other"]) == [RULES[1]]
    with pytest.raises(ValueError, match="--rule cup: no such rule; there are: cpu, other"):
        choose_rules(RULES, ["cup"])


def test_hosts_are_chosen_by_pattern_or_name() -> None:
    reader = MemoryReader({"db-1": [], "db-2": [], "web-1": []})

    assert choose_hosts(reader, None) is None
    assert choose_hosts(reader, ["db-*", "gone-1"]) == ["db-1", "db-2", "gone-1"]
    with pytest.raises(ValueError, match="no host with a newest sample fits"):
        choose_hosts(reader, ["mail-*"])


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (None, None),
        (["none"], {}),
        (["cpu=80,85.5"], {"cpu": [80, 85.5]}),
        (["cpu=80", "other=1", "cpu=90"], {"cpu": [80, 90], "other": [1]}),
    ],
)
def test_thresholds_are_read(texts: list[str] | None, found: Any) -> None:
    assert read_thresholds(texts, RULES) == found


def test_thresholds_without_a_rule_are_those_of_the_only_one() -> None:
    assert read_thresholds(["80,90"], RULES[:1]) == {"cpu": [80, 90]}
    with pytest.raises(ValueError, match="name the rule, as in cpu=80,90"):
        read_thresholds(["80,90"], RULES)


def test_a_threshold_that_is_no_number_is_named() -> None:
    with pytest.raises(ValueError, match="--thresholds 80;90: give numbers"):
        read_thresholds(["80;90"], RULES[:1])


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        (None, (), "rules.yaml cannot be read"),
        ("rules: [{name: a}]", (), "a"),
        ("rules: []", (), "rules"),
        ("rules: [{name: a, metric: up, op: '==', threshold: false}]", ("--rule", "b"), "no such rule"),
        ("rules: [{name: a, metric: up, op: '==', threshold: false}]", (), "cannot be reached"),
    ],
)
def test_what_cannot_be_run_is_2_and_says_why(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str | None,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    path = tmp_path / "rules.yaml"
    if content is not None:
        path.write_text(content)

    assert main(["backtest", str(path), "--from", "1h", *CLOSED, *arguments]) == 2

    assert said in capsys.readouterr().err


PAGE = (Path(__file__).parents[3] / "docs" / "backtest.md").read_text()


def test_the_page_names_every_argument() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)

    names = [name for action in parser._actions for name in action.option_strings or [action.dest]]
    assert [name for name in names if f"`{name}`" not in PAGE] == []
    assert f"`{PASSWORD_VARIABLE}`" in PAGE


def test_the_page_names_every_key_of_the_data() -> None:
    report, _ = build_report()

    def find_keys(data: Any) -> set[str]:
        if isinstance(data, list):
            return {key for one in data for key in find_keys(one)}
        if not isinstance(data, dict):
            return set()
        return data.keys() | {key for name, one in data.items() if name != "rule" for key in find_keys(one)}

    keys = find_keys(build_data(report)) - {"info", "warning", "critical"}
    assert {key for key in keys if f"`{key}`" not in PAGE} == set()
