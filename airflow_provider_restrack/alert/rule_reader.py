"""Reads one rule from the data that an author wrote, and gathers its mistakes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

from airflow_provider_restrack.alert.expressions import METRICS, Metric, read_metric
from airflow_provider_restrack.alert.maintenance import read_windows
from airflow_provider_restrack.alert.rule import (
    AGGREGATES,
    DEFAULT_MIN_COVERAGE,
    FALLING_OPS,
    NO_DATA,
    OPS,
    ORDERING_OPS,
    SEVERITIES,
    AlertRule,
    NoData,
    Op,
    Severity,
)
from airflow_provider_restrack.alert.rule_keys import RULE_KEYS
from airflow_provider_restrack.alert.rule_values import (
    abridge,
    hint,
    is_texts,
    read_count,
    read_duration,
    read_finite,
    read_number,
    read_positive_duration,
    read_share,
    read_summary,
)

_T = TypeVar("_T")

# A forecast looks at weeks of days: what is asked of samples makes no sense for it.
_KEYS_OF_SAMPLES = ("for", "aggregate", "window", "min_coverage", "min_samples", "max_gap", "clear_for")
# What stands in for a metric that cannot be read, so that the rest of the rule is still checked.
_ANY_METRIC = read_metric("cpu_usage")


class RuleReader:
    """Reads one rule; ``problems`` holds all its mistakes, each with rule, field, value and what is allowed.

    :param data: the rule as a mapping.
    :param index: its place in the list, for a rule without a name.
    """

    def __init__(self, data: object, index: int) -> None:
        self.data: Mapping[str, Any] = {}
        self.source = data
        self.index = index
        self.problems: list[str] = []

    def read(self) -> AlertRule | None:
        """Return the rule, or None if there are problems."""
        if not isinstance(self.source, Mapping):
            self.problems.append(f"rules[{self.index}] is {self.source!r}: a rule must be a dict")
            return None
        self.data = self.source
        self._check_keys()
        metric = self._read_metric()
        op = self._read_op(metric)
        hold, aggregate, window = self._read_times()
        levels = self._read_levels(metric, aggregate)
        no_data, no_data_seconds = self._read_no_data()
        rule = AlertRule(
            name=self._text("name") or "",
            metric=str(self.data.get("metric")).strip(),
            op=cast("Op", op),
            threshold=levels[0][1],
            for_seconds=hold,
            aggregate=aggregate,
            window_seconds=window,
            hosts=self._read_hosts(),
            labels=self._read_labels(),
            min_coverage=self._value("min_coverage", read_share, DEFAULT_MIN_COVERAGE),
            min_samples=self._value("min_samples", read_count, 2 if hold and not aggregate else 1),
            max_gap_seconds=self._value("max_gap", read_positive_duration, None),
            severity=levels[0][0],
            summary=self._value("summary", read_summary, None),
            thresholds=cast("Any", levels) if isinstance(self.data.get("threshold"), Mapping) else (),
            clear_thresholds=self._read_clear(levels),
            clear_for_seconds=self._value("clear_for", read_duration, 0.0),
            no_data=no_data,
            no_data_seconds=no_data_seconds,
            inhibited_by=self._read_inhibited_by(),
            maintenance=self._value("maintenance", read_windows, ()),
            above=self._read_above(aggregate),
        )
        return None if self.problems else rule

    def _problem(self, field: str, message: str) -> None:
        name = self.data.get("name")
        label = f"rule {name!r}" if isinstance(name, str) and name.strip() else f"rules[{self.index}]"
        self.problems.append(f"{label}: {field} {message}")

    def _check_keys(self) -> None:
        keys = tuple(RULE_KEYS)
        for key in self.data:
            if key not in keys:
                self._problem("key", f"{key!r} is not known{hint(key, keys)}; allowed: {', '.join(keys)}")

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
        wrong = "is missing" if value is None else f"{value!r} is not known{hint(value, allowed)}"
        self._problem(key, f"{wrong}; allowed: {abridge(allowed)}")
        return None

    def _read_metric(self) -> Metric:
        value = self.data.get("metric")
        if not isinstance(value, str):
            self._choice("metric", METRICS)
            return _ANY_METRIC
        metric = self._value("metric", read_metric, _ANY_METRIC)
        if metric.source == "forecasts":
            for key in _KEYS_OF_SAMPLES:
                if self.data.get(key) is not None:
                    self._problem(
                        key, "is not for days_to_limit: its forecast looks at weeks of days already"
                    )
        return metric

    def _read_op(self, metric: Metric) -> str | None:
        if metric.is_truth and self.data.get("aggregate") is None:
            return self._choice("op", ("==", "!="))
        return self._choice("op", FALLING_OPS if metric.source == "forecasts" else OPS)

    def _read_levels(
        self, metric: Metric, aggregate: str | None
    ) -> tuple[tuple[Severity, float | bool], ...]:
        """Return severities and thresholds, the least severe first."""
        value = self.data.get("threshold")
        if not isinstance(value, Mapping):
            severity = self._choice("severity", SEVERITIES, default="warning") or "warning"
            return ((cast("Severity", severity), self._read_threshold(metric, aggregate)),)
        if self.data.get("severity") is not None:
            self._problem("severity", "is told twice: a threshold for each severity names them")
        numbers = self._read_by_severity("threshold", value)
        self._check_fraction(aggregate, numbers.values())
        return self._check_rising(numbers) or (("warning", 0.0),)

    def _read_by_severity(self, key: str, value: Mapping[Any, Any]) -> dict[str, float]:
        numbers = {name: read_number(number) for name, number in value.items()}
        wrong = [name for name, number in numbers.items() if name not in SEVERITIES or number is None]
        if wrong or not numbers:
            names = ", ".join(SEVERITIES)
            self._problem(key, f"{dict(value)!r} must give a finite number for one or more of {names}")
        return {name: number for name in SEVERITIES if (number := numbers.get(name)) is not None}

    def _check_rising(self, numbers: Mapping[str, float]) -> tuple[tuple[Severity, float], ...]:
        """Refuse severities that could hold without the ones below them."""
        limits, op = list(numbers.values()), self.data.get("op")
        ordered = sorted(set(limits), reverse=op in FALLING_OPS)
        if len(limits) > 1 and (op not in ORDERING_OPS or limits != ordered):
            self._problem(
                "threshold",
                f"{dict(numbers)!r} must go further with each severity, and op be one of "
                f"{', '.join(ORDERING_OPS)}",
            )
        return tuple((cast("Severity", name), number) for name, number in numbers.items())

    def _read_clear(
        self, levels: Sequence[tuple[Severity, float | bool]]
    ) -> tuple[tuple[Severity, float], ...]:
        """Return the clear thresholds; a single number is that of the least severity."""
        value = self.data.get("clear_threshold")
        if value is None:
            return ()
        given = value if isinstance(value, Mapping) else {levels[0][0]: value}
        numbers = self._read_by_severity("clear_threshold", given)
        limits, op = dict(levels), self.data.get("op")
        sign = -1 if op in FALLING_OPS else 1
        for name, number in numbers.items():
            if op not in ORDERING_OPS or name not in limits or sign * number > sign * limits[name]:
                self._problem(
                    "clear_threshold",
                    f"{value!r} must lie on the good side of the threshold of the same severity, "
                    f"and op be one of {', '.join(ORDERING_OPS)}",
                )
                return ()
        return tuple((cast("Severity", name), number) for name, number in numbers.items())

    def _read_threshold(self, metric: Metric, aggregate: str | None) -> float | bool:
        value = self.data.get("threshold")
        if metric.is_truth and aggregate is None:
            if not isinstance(value, bool):
                name = self.data.get("metric")
                self._problem("threshold", f"{value!r} must be true or false for {name}")
            return bool(value)
        number = read_number(value)
        if number is None:
            wrong = "is missing" if value is None else f"{value!r} is not allowed"
            self._problem("threshold", f"{wrong}: give a finite number")
            return 0.0
        self._check_fraction(aggregate, (number,))
        return number

    def _check_fraction(self, aggregate: str | None, numbers: Iterable[float]) -> None:
        if aggregate == "fraction_above" and not all(0 <= number <= 1 for number in numbers):
            given = self.data["threshold"]
            self._problem("threshold", f"{given!r} must be from 0 to 1: fraction_above is a share of samples")

    def _read_above(self, aggregate: str | None) -> float | None:
        value = self.data.get("above")
        if aggregate == "fraction_above":
            if value is None:
                self._problem("above", "is missing: give the number that fraction_above counts samples above")
            return self._value("above", read_finite, None)
        if value is not None:
            self._problem("above", f"{value!r} is only for the aggregate fraction_above")
        return None

    def _read_times(self) -> tuple[float, str | None, float]:
        """Return ``for``, aggregate and window; an aggregate without a window is taken over ``for``."""
        hold = self._value("for", read_duration, 0.0)
        window = self._value("window", read_positive_duration, 0.0)
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

    def _read_no_data(self) -> tuple[NoData, float]:
        """Return what silence means, and after how long."""
        no_data = self._choice("no_data", NO_DATA, default="keep") or "keep"
        seconds = self._value("no_data_for", read_positive_duration, 0.0)
        given = self.data.get("no_data_for")
        if no_data == "keep" and given is not None:
            self._problem("no_data_for", f"{given!r} needs no_data alert or ok: keep waits for ever")
        elif no_data != "keep" and given is None:
            self._problem(
                "no_data_for", f'is missing: say after how long no_data is {no_data}, such as "15m"'
            )
        return cast("NoData", no_data), seconds

    def _read_inhibited_by(self) -> tuple[str, ...] | None:
        value = self.data.get("inhibited_by")
        if value is None:
            return None
        names = [value] if isinstance(value, str) else value
        if names == [] or is_texts(names):
            return tuple(dict.fromkeys(names))
        self._problem("inhibited_by", f"{value!r} must be the name of a rule, or a list of names")
        return None

    def _read_hosts(self) -> tuple[str, ...]:
        value = self.data.get("hosts")
        if value is None:
            return ("*",)
        # A host's name may hold a comma, but a single text that does is a list in the wrong form.
        patterns = [value] if isinstance(value, str) and "," not in value else value
        if isinstance(patterns, str) or not is_texts(patterns):
            self._problem(
                "hosts", f"{value!r} must be a pattern such as 'db-*', or a list of them that is not empty"
            )
            return ("*",)
        return tuple(patterns)

    def _read_labels(self) -> tuple[tuple[str, str], ...]:
        value = self.data.get("labels")
        if value is None:
            return ()
        if not isinstance(value, Mapping) or not is_texts([*value, *value.values()]):
            self._problem(
                "labels", f"{value!r} must be a dict of label to pattern, such as {{'role': 'db*'}}"
            )
            return ()
        return tuple(sorted(value.items()))
