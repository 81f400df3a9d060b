from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_provider_restrack.alert.__main__ import COMMANDS, main
from airflow_provider_restrack.alert.rule_schema import build_schema

FILE = Path(__file__).parent / "rule_tests" / "transitions.yaml"


def test_a_file_that_passes_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", str(FILE)]) == 0
    assert "FAILED" not in capsys.readouterr().out


def test_a_file_that_fails_is_1_and_says_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(FILE.read_text().replace("at: 4m, kind: fired", "at: 5m, kind: fired", 1))

    assert main(["test", str(FILE), str(bad)]) == 1

    out = capsys.readouterr().out
    assert "missing: " in out
    assert "not expected: " in out


@pytest.mark.parametrize("content", ["rules: [", "rules: []\ntests: [{}]", "[]", None])
def test_a_file_that_cannot_be_run_is_2(
    tmp_path: Path, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rules.yaml"
    if content is not None:
        path.write_text(content)

    assert main(["test", str(path)]) == 2
    assert str(path) in capsys.readouterr().err


def test_help_names_every_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])

    out = capsys.readouterr().out
    assert all(command.help in " ".join(out.split()) for command in COMMANDS.values())


def test_no_subcommand_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "COMMAND" in capsys.readouterr().err


def test_check_counts_the_rules_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(FILE)]) == 0
    assert "rules are right" in capsys.readouterr().out


def test_check_tells_all_mistakes_of_all_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad, worse = tmp_path / "bad.yaml", tmp_path / "worse.yaml"
    bad.write_text("rules: [{preset: cpu}, {name: r, metric: up, op: '==', threshold: 1}]")

    assert main(["check", str(FILE), str(bad), str(worse)]) == 1

    err = capsys.readouterr().err
    assert f"{bad}: rules[0]: preset 'cpu' is not known" in err
    assert f"{bad}: rule 'r': threshold 1 must be true or false" in err
    assert f"{worse} cannot be read" in err


def test_schema_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == build_schema()
