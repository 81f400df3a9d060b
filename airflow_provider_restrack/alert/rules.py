"""Alert rules: what a DAG author writes as data, checked in one go so that every mistake is told at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from airflow_provider_restrack.alert.expressions import METRICS
from airflow_provider_restrack.alert.presets import expand_preset
from airflow_provider_restrack.alert.rule import (
    AGGREGATES,
    DEFAULT_MIN_COVERAGE,
    NO_DATA,
    OPS,
    ORDERING_OPS,
    SEVERITIES,
    AlertRule,
    Level,
    NoData,
    Op,
    Severity,
)
from airflow_provider_restrack.alert.rule_reader import RuleReader
from airflow_provider_restrack.alert.rule_values import hint
from airflow_provider_restrack.alert.suppress import list_inhibitors

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "AGGREGATES",
    "DEFAULT_MIN_COVERAGE",
    "METRICS",
    "NO_DATA",
    "OPS",
    "ORDERING_OPS",
    "SEVERITIES",
    "AlertRule",
    "Level",
    "NoData",
    "Op",
    "RuleError",
    "Severity",
    "parse_rules",
]

FILE_PREFIX = "file:"


class RuleError(ValueError):
    """Rules that cannot be used; ``problems`` holds one sentence for each mistake found.

    :param problems: what is wrong, all of it, so that a rule file is mended in one go.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[type[RuleError], tuple[tuple[str, ...]]]:
        """Pickle by the problems: by default an exception is rebuilt from its message, a single string."""
        return type(self), (self.problems,)


def parse_rules(data: object, folder: Path | None = None) -> tuple[AlertRule, ...]:
    """Check rules given as data and return them.

    :param data: a list of dicts, one dict, either as JSON text (what a template renders to), or
        ``file:PATH``, a file of rules. The keys of a rule are those of
        ``airflow_provider_restrack.alert.rule_keys.RULE_KEYS``.
    :param folder: what the path of a file is relative to; None: it has to be absolute.
    :raises RuleError: with every problem of every rule, each naming rule, field, value and what is allowed,
        and the file if they are of one.
    """
    if isinstance(data, str) and data.strip().startswith(FILE_PREFIX):
        # Not at the top: it comes with a parser of YAML, and most DAG files name no file.
        from airflow_provider_restrack.alert.rule_files import load_rules

        return load_rules(data.strip().removeprefix(FILE_PREFIX).removeprefix("//"), folder)
    problems: list[str] = []
    rules = [_read(item, index, problems) for index, item in enumerate(_as_list(data))]
    problems += _find_duplicates(rules)
    found = tuple(rule for rule in rules if rule is not None)
    # A rule with a mistake has no name to be found by: its inhibitions are looked at when it has none.
    problems = problems or _check_inhibitions(found)
    if problems:
        raise RuleError(problems)
    return found


def _as_list(data: object) -> list[object]:
    if isinstance(data, str):
        data = _load_json(data)
    if isinstance(data, Mapping | AlertRule):
        return [data]
    if not isinstance(data, Sequence) or isinstance(data, str | bytes):
        raise RuleError([f"rules must be a list of dicts or one dict, not {type(data).__name__} {data!r}"])
    if not data:
        raise RuleError(["rules are empty: give at least one rule"])
    return list(data)


def _load_json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise RuleError(
            [
                f"rules are text that is not JSON ({error}): give a list of dicts, or render them as JSON, "
                f"such as {{{{ var.json.alert_rules | tojson }}}}, or name a file as {FILE_PREFIX}PATH"
            ]
        ) from None


def _read(item: object, index: int, problems: list[str]) -> AlertRule | None:
    """Return a rule, those keys filled in that its preset has; None if there are problems."""
    data = item.to_data() if isinstance(item, AlertRule) else item
    if isinstance(data, Mapping) and "preset" in data:
        try:
            data = expand_preset(data)
        except ValueError as error:
            problems.append(f"rules[{index}]: preset {error}")
            return None
    reader = RuleReader(data, index)
    rule = reader.read()
    problems += reader.problems
    return rule


def _find_duplicates(rules: Sequence[AlertRule | None]) -> list[str]:
    seen: dict[str, int] = {}
    problems = []
    for index, rule in enumerate(rules):
        if rule is None:
            continue
        if rule.name in seen:
            problems.append(
                f"rule {rule.name!r}: name is used by rules[{seen[rule.name]}] and rules[{index}]: "
                "give each rule its own name"
            )
        seen.setdefault(rule.name, index)
    return problems


def _check_inhibitions(rules: Sequence[AlertRule]) -> list[str]:
    """Refuse names that no rule has, and rules that keep each other from being told."""
    names = tuple(rule.name for rule in rules)
    problems = [
        f"rule {rule.name!r}: inhibited_by {name!r} is no rule of this list{hint(name, names)}"
        for rule in rules
        for name in rule.inhibited_by or ()
        if name not in names
    ]
    if problems:
        return problems
    try:
        TopologicalSorter(list_inhibitors(rules)).prepare()
    except CycleError as error:
        way = list(reversed(error.args[1]))
        return [f"rule {way[0]!r}: inhibited_by goes round in a circle: {' by '.join(map(repr, way))}"]
    return []
