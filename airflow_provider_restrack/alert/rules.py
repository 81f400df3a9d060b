"""Alert rules: what a DAG author writes as data, checked in one go so that every mistake is told at once."""

from __future__ import annotations

import json
import math
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeVar, cast, get_args

from airflow_provider_restrack.alert.durations import DURATION_FORMS, parse_duration
from airflow_provider_restrack.store.schema import FIELD_BY_NAME, FIELDS, Field

Op = Literal[">", ">=", "<", "<=", "==", "!="]
Severity = Literal["info", "warning", "critical"]

OPS: tuple[str, ...] = get_args(Op)
SEVERITIES: tuple[str, ...] = get_args(Severity)
PERCENTILES: tuple[str, ...] = tuple(f"p{rank}" for rank in range(50, 100))
AGGREGATES: tuple[str, ...] = ("avg", "min", "max", "last", "count", *PERCENTILES)
METRICS: tuple[str, ...] = tuple(field.name for field in FIELDS if field.is_metric)
DEFAULT_MIN_COVERAGE = 0.8
# Samples are kept for weeks: a rule over years never fires, and one query a day and host would look for it.
MAX_DURATION_S = 100 * 86400.0

# What a `summary` may name: the keys of the evidence that are not lists.
SUMMARY_FIELDS: tuple[str, ...] = (
    *("rule", "severity", "host", "device", "metric", "aggregate", "unit", "op", "threshold"),
    *("since", "at", "duration_seconds", "current", "peak", "average", "samples", "coverage", "sparkline"),
)

_T = TypeVar("_T")


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


@dataclass(frozen=True, slots=True)
class AlertRule:
    """When a metric counts as in breach, and how much evidence that takes.

    ``for_seconds`` 0 means that a single sample suffices. With ``aggregate`` the compared value is that of
    the samples in the ``window_seconds`` up to each sample. ``max_gap_seconds`` None means derived from the
    samples' own spacing (see :func:`airflow_provider_restrack.alert.evaluate.plan_gaps`).
    """

    name: str
    metric: str
    op: Op
    threshold: float | bool
    for_seconds: float = 0.0
    aggregate: str | None = None
    window_seconds: float = 0.0
    hosts: tuple[str, ...] = ("*",)
    labels: tuple[tuple[str, str], ...] = ()
    min_coverage: float = DEFAULT_MIN_COVERAGE
    min_samples: int = 1
    max_gap_seconds: float | None = None
    severity: Severity = "warning"
    summary: str | None = None

    @property
    def field(self) -> Field:
        """The field of the sample that the rule compares."""
        return FIELD_BY_NAME[self.metric]

    @property
    def has_devices(self) -> bool:
        """Whether the metric is a map: the rule then has an instance for each device or mount."""
        return self.field.type.startswith("map<")

    def matches_host(self, host: str) -> bool:
        """Whether a host's name fits one of the patterns; case counts."""
        return any(fnmatchcase(host, pattern) for pattern in self.hosts)

    def matches_labels(self, labels: Mapping[str, str]) -> bool:
        """Whether every label that the rule names is there and fits its pattern."""
        return all(key in labels and fnmatchcase(labels[key], pattern) for key, pattern in self.labels)

    def to_data(self) -> dict[str, Any]:
        """Return the rule as JSON-able data that :func:`parse_rules` reads back to an equal rule."""
        data: dict[str, Any] = {
            "name": self.name,
            "metric": self.metric,
            "op": self.op,
            "threshold": self.threshold,
            "for": self.for_seconds,
            "hosts": list(self.hosts),
            "min_coverage": self.min_coverage,
            "min_samples": self.min_samples,
            "severity": self.severity,
        }
        optional = {
            "aggregate": self.aggregate,
            "window": self.window_seconds or None,
            "labels": dict(self.labels) or None,
            "max_gap": self.max_gap_seconds,
            "summary": self.summary,
        }
        return data | {key: value for key, value in optional.items() if value is not None}


def parse_rules(data: object) -> tuple[AlertRule, ...]:
    """Check rules given as data and return them.

    :param data: a list of dicts, one dict, or either as JSON text (what a template renders to). Keys of a
        rule: ``name``, ``metric``, ``op``, ``threshold``; optional: ``for``, ``aggregate``, ``window``,
        ``hosts``, ``labels``, ``min_coverage``, ``min_samples``, ``max_gap``, ``severity``, ``summary``.
    :raises RuleError: with every problem of every rule, each naming rule, field, value and what is allowed.
    """
    problems: list[str] = []
    rules = []
    for index, item in enumerate(_as_list(data)):
        reader = _RuleReader(item, index)
        rule = reader.read()
        problems += reader.problems
        rules.append(rule)
    problems += _find_duplicates(rules)
    if problems:
        raise RuleError(problems)
    return tuple(rule for rule in rules if rule is not None)


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
                "such as {{ var.json.alert_rules | tojson }}"
            ]
        ) from None


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


class _RuleReader:
    """Reads one rule and gathers its problems instead of stopping at the first."""

    def __init__(self, data: object, index: int) -> None:
        self.data: Mapping[str, Any] = {}
        self.source = data.to_data() if isinstance(data, AlertRule) else data
        self.index = index
        self.problems: list[str] = []

    def read(self) -> AlertRule | None:
        """Return the rule, or None if there are problems."""
        if not isinstance(self.source, Mapping):
            self.problems.append(f"rules[{self.index}] is {self.source!r}: a rule must be a dict")
            return None
        self.data = self.source
        self._check_keys()
        metric = self._choice("metric", METRICS)
        hold, aggregate, window = self._read_times()
        rule = AlertRule(
            name=self._text("name") or "",
            metric=metric or "",
            op=cast("Op", self._read_op(metric, aggregate)),
            threshold=self._read_threshold(metric, aggregate),
            for_seconds=hold,
            aggregate=aggregate,
            window_seconds=window,
            hosts=self._read_hosts(),
            labels=self._read_labels(),
            min_coverage=self._value("min_coverage", _read_share, DEFAULT_MIN_COVERAGE),
            min_samples=self._value("min_samples", _read_count, 2 if hold and not aggregate else 1),
            max_gap_seconds=self._value("max_gap", _read_positive_duration, None),
            severity=cast("Severity", self._choice("severity", SEVERITIES, default="warning")),
            summary=self._value("summary", _read_summary, None),
        )
        return None if self.problems else rule

    def _problem(self, field: str, message: str) -> None:
        name = self.data.get("name")
        label = f"rule {name!r}" if isinstance(name, str) and name.strip() else f"rules[{self.index}]"
        self.problems.append(f"{label}: {field} {message}")

    def _check_keys(self) -> None:
        for key in self.data:
            if key not in _KEYS:
                self._problem("key", f"{key!r} is not known{_hint(key, _KEYS)}; allowed: {', '.join(_KEYS)}")

    def _value(self, key: str, read: Callable[[Any], _T], default: _T) -> _T:
        value = self.data.get(key)
        if value is None:
            return default
        try:
            return read(value)
        except ValueError as error:
            self._problem(key, str(error))
            return default

    def _text(self, key: str) -> str | None:
        value = self.data.get(key)
        if isinstance(value, str) and value.strip():
            return value
        self._problem(key, "is missing" if value is None else f"{value!r} must be a text that is not empty")
        return None

    def _choice(self, key: str, allowed: Sequence[str], default: str | None = None) -> str | None:
        value = self.data.get(key)
        if value is None and default is not None:
            return default
        if value in allowed:
            return cast("str", value)
        wrong = "is missing" if value is None else f"{value!r} is not known{_hint(value, allowed)}"
        self._problem(key, f"{wrong}; allowed: {_abridge(allowed)}")
        return None

    def _read_op(self, metric: str | None, aggregate: str | None) -> str | None:
        return self._choice("op", ("==", "!=") if _is_truth(metric) and aggregate is None else OPS)

    def _read_threshold(self, metric: str | None, aggregate: str | None) -> float | bool:
        value = self.data.get("threshold")
        if _is_truth(metric) and aggregate is None:
            if not isinstance(value, bool):
                self._problem("threshold", f"{value!r} must be true or false for {metric}")
            return bool(value)
        number = _read_number(value)
        if number is None:
            wrong = "is missing" if value is None else f"{value!r} is not allowed"
            self._problem("threshold", f"{wrong}: give a finite number")
            return 0.0
        return number

    def _read_times(self) -> tuple[float, str | None, float]:
        """Return ``for``, aggregate and window; an aggregate without a window is taken over ``for``."""
        hold = self._value("for", _read_duration, 0.0)
        window = self._value("window", _read_positive_duration, 0.0)
        if self.data.get("aggregate") is None:
            if window:
                self._problem("window", f"{self.data['window']!r} needs an aggregate, such as avg")
            return hold, None, 0.0
        aggregate = self._choice("aggregate", AGGREGATES)
        if window or not aggregate:
            return hold, aggregate, window
        if not hold:
            self._problem("window", f"is missing: {aggregate} needs a window (or `for`) to be taken over")
        return 0.0, aggregate, hold

    def _read_hosts(self) -> tuple[str, ...]:
        value = self.data.get("hosts")
        if value is None:
            return ("*",)
        # A host's name may hold a comma, but a single text that does is a list in the wrong form.
        patterns = [value] if isinstance(value, str) and "," not in value else value
        if isinstance(patterns, str) or not _is_texts(patterns):
            self._problem(
                "hosts", f"{value!r} must be a pattern such as 'db-*', or a list of them that is not empty"
            )
            return ("*",)
        return tuple(patterns)

    def _read_labels(self) -> tuple[tuple[str, str], ...]:
        value = self.data.get("labels")
        if value is None:
            return ()
        if not isinstance(value, Mapping) or not _is_texts([*value, *value.values()]):
            self._problem(
                "labels", f"{value!r} must be a dict of label to pattern, such as {{'role': 'db*'}}"
            )
            return ()
        return tuple(sorted(value.items()))


_KEYS = (
    *("name", "metric", "op", "threshold", "for", "aggregate", "window", "hosts", "labels"),
    *("min_coverage", "min_samples", "max_gap", "severity", "summary"),
)
# What other tools call the same thing.
# fmt: off
_ALIASES = {
    "=": "==", "=>": ">=", "=<": "<=", "<>": "!=", "gt": ">", "ge": ">=", "lt": "<", "le": "<=", "eq": "==",
    "mean": "avg", "average": "avg", "median": "p50", "duration": "for", "comparison": "op",
    "value": "threshold",
}
# fmt: on


def _is_truth(metric: str | None) -> bool:
    return metric is not None and FIELD_BY_NAME[metric].type == "boolean"


def _is_texts(values: object) -> bool:
    if not isinstance(values, Sequence) or not values:
        return False
    return all(isinstance(value, str) and value for value in values)


def _hint(value: object, allowed: Sequence[str]) -> str:
    text = str(value).strip().lower()
    alias = _ALIASES.get(text)
    close = [alias] if alias in allowed else get_close_matches(text, allowed, n=1, cutoff=0.6)
    return f": did you mean {close[0]!r}?" if close else ""


def _abridge(allowed: Sequence[str]) -> str:
    names = [name for name in allowed if name not in PERCENTILES]
    return ", ".join([*names, "p50 to p99"] if len(names) < len(allowed) else names)


def _read_number(value: object) -> float | None:
    """Return a finite number, also of its text: a templated threshold is rendered to one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _read_share(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    raise ValueError(f"{value!r} must be a number from 0 to 1")


def _read_count(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise ValueError(f"{value!r} must be a whole number, at least 1")


def _read_duration(value: object) -> float:
    seconds = parse_duration(value)
    if seconds > MAX_DURATION_S:
        raise ValueError(f"{value!r} is longer than {MAX_DURATION_S / 86400:g} days")
    return seconds


def _read_positive_duration(value: object) -> float:
    seconds = _read_duration(value)
    if seconds <= 0:
        raise ValueError(f"{value!r} must be longer than 0: use {DURATION_FORMS}")
    return seconds


def _read_summary(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} must be a text")  # noqa: TRY004 - one class for all bad values
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(value) if name is not None]
        unknown = [name for name in names if name not in SUMMARY_FIELDS]
        if not unknown:
            # A text as the format of another field fits only while it is empty.
            value.format(**dict.fromkeys(SUMMARY_FIELDS, "text") | dict.fromkeys(_NUMBERS, 0.0))
            return value
    except (ValueError, LookupError) as error:
        raise ValueError(f"{value!r} is no valid template ({error}): write fields as {{host}}") from None
    hint = _hint(unknown[0], SUMMARY_FIELDS)
    raise ValueError(f"names {{{unknown[0]}}}{hint}; allowed: {', '.join(SUMMARY_FIELDS)}")


_NUMBERS = ("threshold", "duration_seconds", "current", "peak", "average", "samples", "coverage")
