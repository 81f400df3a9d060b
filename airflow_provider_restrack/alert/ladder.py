"""Other thresholds for a rule: which to try, and the rule that each makes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_restrack.alert.evidence import find_unit
from airflow_provider_restrack.alert.rules import ORDERING_OPS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_restrack.alert.rules import AlertRule

# Beside a percentage, in points; beside any other threshold, as parts of it.
PERCENT_OFFSETS = (-20.0, -10.0, -5.0, -2.0, 0.0, 2.0, 5.0, 10.0)
FACTORS = (0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0)
# Parts the name of a rule from the threshold; no name of a rule holds it.
_MARK = "\x00"


def plan_ladders(
    rules: Sequence[AlertRule], thresholds: Mapping[str, Sequence[float]] | None
) -> dict[str, tuple[float, ...]]:
    """Return the thresholds to try for each rule, ascending; those that it has are always among them.

    :param thresholds: those wanted, by rule; None: a ladder for every rule that can have one.
    :raises ValueError: if a name is no rule's, a rule cannot have others, or one is not finite.
    """
    if thresholds is None:
        return {rule.name: build_ladder(rule) for rule in rules if can_vary(rule)}
    by_name = {rule.name: rule for rule in rules}
    for name, values in thresholds.items():
        _check(name, by_name, values)
    return {
        name: tuple(sorted({*_find_own(by_name[name]), *map(float, values)}))
        for name, values in thresholds.items()
    }


def can_vary(rule: AlertRule) -> bool:
    """Whether another threshold is the same rule, only stricter or milder."""
    return rule.op in ORDERING_OPS and not isinstance(rule.threshold, bool)


def build_ladder(rule: AlertRule) -> tuple[float, ...]:
    """Return thresholds around those of a rule; a threshold of 0 tells no scale, and stands alone."""
    is_percent = find_unit(rule) == "%"
    found = set()
    for own in _find_own(rule):
        steps = [own + step for step in PERCENT_OFFSETS] if is_percent else [own * part for part in FACTORS]
        found |= {own, *(round(value, 9) for value in steps if not is_percent or 0 < value < 100)}
    return tuple(sorted(found))


def build_variant(rule: AlertRule, threshold: float) -> AlertRule:
    """Return the rule with one threshold alone, under a name of its own.

    Its ``clear_threshold`` keeps the distance that it has at the rule's nearest threshold. Whether samples
    are missing does not depend on a threshold: the rule alone tells that.
    """
    nearest = min(rule.levels, key=lambda level: abs(float(level.threshold) - threshold))
    distance = float(nearest.clear_threshold) - float(nearest.threshold)
    severity = nearest.severity
    return replace(
        rule,
        name=f"{rule.name}{_MARK}{threshold!r}",
        threshold=threshold,
        severity=severity,
        thresholds=(),
        clear_thresholds=((severity, threshold + distance),) if rule.clear_thresholds else (),
        no_data="ok" if rule.no_data == "ok" else "keep",
    )


def _find_own(rule: AlertRule) -> list[float]:
    return [float(level.threshold) for level in rule.levels]


def _check(name: str, rules: Mapping[str, AlertRule], values: Sequence[float]) -> None:
    if name not in rules:
        raise ValueError(f"thresholds of {name!r}: no such rule; there are: {', '.join(rules)}")
    if not can_vary(rules[name]):
        allowed = ", ".join(ORDERING_OPS)
        raise ValueError(f"thresholds of {name!r}: only a rule with a number and one of {allowed} can vary")
    wrong = [value for value in values if not math.isfinite(value)]
    if wrong:
        raise ValueError(f"thresholds of {name!r}: {wrong[0]} is not finite")
