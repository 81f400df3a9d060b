"""``python -m airflow_provider_restrack.alert COMMAND``: what is done with rules outside of Airflow."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import yaml

from airflow_provider_restrack.alert import backtest_command
from airflow_provider_restrack.alert.rule_files import load_rules
from airflow_provider_restrack.alert.rule_schema import build_schema
from airflow_provider_restrack.alert.rule_test_series import RuleTestError
from airflow_provider_restrack.alert.rule_tests import run_tests
from airflow_provider_restrack.alert.rules import RuleError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class Command(NamedTuple):
    """One subcommand; ``run`` returns the exit status."""

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit status: 2 if a file or an argument cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m airflow_provider_restrack.alert", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        one = commands.add_parser(name, help=command.help, description=command.help)
        command.add_arguments(one)
        one.set_defaults(run=command.run)
    options = parser.parse_args(arguments)
    status: int = options.run(options)
    return status


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")


def _run_tests(options: argparse.Namespace) -> int:
    """Run the tests of all files and return 0 if all pass, 1 if some fail, 2 if a file cannot be run."""
    return max(_run_file(path) for path in options.files)


def _run_file(path: Path) -> int:
    try:
        outcomes = run_tests(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError, RuleTestError, RuleError) as error:
        sys.stderr.write(f"{path}: {error}\n")
        return 2
    failed = 0
    for outcome in outcomes:
        failed += bool(outcome.problems)
        _say(f"{'FAILED' if outcome.problems else 'ok    '} {path}: {outcome.name}")
        for problem in outcome.problems:
            _say(f"         {problem}")
    _say(f"{path}: {len(outcomes) - failed} of {len(outcomes)} passed")
    return 1 if failed else 0


def _check_files(options: argparse.Namespace) -> int:
    """Check all files and return 0 if all are right, 1 if some are not."""
    return max(_check_file(path) for path in options.files)


def _check_file(path: Path) -> int:
    try:
        rules = load_rules(str(path.absolute()))
    except RuleError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    _say(f"{path}: {len(rules)} rules are right")
    return 0


def _print_schema(_options: argparse.Namespace) -> int:
    _say(json.dumps(build_schema(), indent=2))
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


COMMANDS: Mapping[str, Command] = {
    "test": Command("run the tests of rules that files hold", _add_files, _run_tests),
    "check": Command("check files of rules and tell all mistakes", _add_files, _check_files),
    "schema": Command("print the JSON Schema of files of rules", lambda _parser: None, _print_schema),
    "backtest": Command(backtest_command.HELP, backtest_command.add_arguments, backtest_command.run),
}


if __name__ == "__main__":
    sys.exit(main())
