"""What a rule compares: a field of the sample, an expression of fields, or the time to a limit.

An expression has fields, numbers, ``+ - * /`` (also ``−`` and ``×``), ``abs(…)`` and parentheses, such as
``load_5m / cpu_count``. Fields that are maps make it one for each device: of two maps the devices in common,
of a map and a single value every device of the map.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from airflow_provider_restrack.alert.rule_values import hint
from airflow_provider_restrack.store.schema import FIELD_BY_NAME, FIELDS, Field

Source = Literal["samples", "forecasts"]
# The value of an expression in a row of samples: a number, None, or a mapping of devices to numbers.
ValueOf = Callable[[Mapping[str, Any]], Any]

METRICS: tuple[str, ...] = tuple(field.name for field in FIELDS if field.is_metric)
# What has a forecast: a level that can grow to a limit, which counters and truth values are not.
FORECAST_METRICS: tuple[str, ...] = tuple(
    name
    for name in METRICS
    if FIELD_BY_NAME[name].type != "boolean" and FIELD_BY_NAME[name].group != "counters"
)

MAX_LENGTH = 200
METRIC_FORMS = "a field, fields and numbers with + - * / abs() and parentheses, or days_to_limit(field)"

_NAME = re.compile(r"[A-Za-z_]\w*")
_DAYS_TO_LIMIT = re.compile(r"days_to_limit\s*\(\s*(\w*)\s*\)")
_TOKEN = re.compile(
    r"(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])|(?P<name>[A-Za-z_]\w*)|(?P<symbol>[-+*/()])"
)
_SIGNS = str.maketrans({"×": "*", "−": "-", "·": "*", "÷": "/"})


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric that was read.

    :ivar columns: fields of the sample that it needs; none for ``forecasts``.
    :ivar has_devices: whether it has a value for each device or mount.
    :ivar unit: of its values; empty where there is none or none can be known.
    :ivar is_truth: whether it is true or false.
    :ivar source: where its values come from.
    :ivar forecast_of: the field whose time to the limit it is; None for ``samples``.
    """

    columns: tuple[str, ...]
    has_devices: bool
    unit: str
    is_truth: bool
    source: Source
    forecast_of: str | None
    value_of: ValueOf


@lru_cache(maxsize=1024)
def read_metric(text: str) -> Metric:
    """Read a metric as rules name it.

    :raises ValueError: if it is none; the message says what is wrong, and what is allowed.
    """
    expression = text.translate(_SIGNS).strip()
    if not expression:
        raise ValueError(f"is empty: a metric is {METRIC_FORMS}")
    if len(expression) > MAX_LENGTH:
        raise ValueError(f"is longer than {MAX_LENGTH} characters")
    if match := _DAYS_TO_LIMIT.fullmatch(expression):
        return _read_days_to_limit(text, match[1])
    if _NAME.fullmatch(expression):
        return _read_field(expression)
    node = _Parser(text, expression).parse()
    if not node.columns:
        raise ValueError(f"{text!r} names no field: a metric is {METRIC_FORMS}")
    unit, columns = node.unit or "", tuple(dict.fromkeys(node.columns))
    return Metric(columns, node.has_devices, unit, False, "samples", None, node.value_of)


def _read_field(name: str) -> Metric:
    field = _find_field(name)
    truth = field.type == "boolean"
    node = _build_leaf(field)
    return Metric((name,), node.has_devices, field.unit, truth, "samples", None, node.value_of)


def _find_field(name: str) -> Field:
    if name not in METRICS:
        raise ValueError(f"{name!r} is not known{hint(name, METRICS)}; allowed: {', '.join(METRICS)}")
    return FIELD_BY_NAME[name]


def _read_days_to_limit(text: str, name: str) -> Metric:
    if name not in FORECAST_METRICS:
        allowed = ", ".join(FORECAST_METRICS)
        meant = hint(name, FORECAST_METRICS)
        raise ValueError(f"{text!r}: {name!r} is nothing that is forecast{meant}; allowed: {allowed}")
    has_devices = _build_leaf(FIELD_BY_NAME[name]).has_devices
    return Metric((), has_devices, "days", False, "forecasts", name, lambda _row: None)


class _Node(NamedTuple):
    """A part of an expression; a number alone has no unit (None) and takes that of what it is added to."""

    value_of: ValueOf
    columns: tuple[str, ...]
    has_devices: bool
    unit: str | None


def _build_leaf(field: Field) -> _Node:
    name = field.name
    return _Node(lambda row: row.get(name), (name,), field.type.startswith("map<"), field.unit)


def _build_number(text: str) -> _Node:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text} is too large")
    return _Node(lambda _row: number, (), False, None)


def _join(symbol: str, left: _Node, right: _Node) -> _Node:
    compute = _OPERATORS[symbol]
    units = {left.unit, right.unit} - {None}
    # A sum of bytes is bytes; of a product or quotient nothing is known.
    unit = units.pop() if symbol in "+-" and len(units) == 1 else ("" if units else None)
    return _Node(
        lambda row: _apply(compute, left.value_of(row), right.value_of(row)),
        left.columns + right.columns,
        left.has_devices or right.has_devices,
        unit,
    )


def _take_abs(node: _Node) -> _Node:
    return node._replace(value_of=lambda row: _apply(_compute_abs, node.value_of(row), 0.0))


def _compute_abs(value: Any, _zero: float) -> Any:
    return abs(value)


def _apply(compute: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    """Return the result of two operands; absent where one of them is, or where it cannot be computed."""
    if left is None or right is None:
        return None
    if not isinstance(left, Mapping):
        if not isinstance(right, Mapping):
            return _compute(compute, left, right)
        pairs = {device: (left, value) for device, value in right.items()}
    elif isinstance(right, Mapping):
        pairs = {device: (value, right[device]) for device, value in left.items() if device in right}
    else:
        pairs = {device: (value, right) for device, value in left.items()}
    found = {device: _compute(compute, *values) for device, values in pairs.items()}
    return {device: value for device, value in found.items() if value is not None}


def _compute(compute: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    if left is None or right is None or not (math.isfinite(left) and math.isfinite(right)):
        return None
    try:
        return compute(left, right)
    except ZeroDivisionError:
        return None


_OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}


class _Parser:
    """Reads an expression from left to right; products bind closer than sums."""

    def __init__(self, text: str, expression: str) -> None:
        self._text = text
        self._tokens = list(_split(text, expression))
        self._next = 0

    def parse(self) -> _Node:
        node = self._sum()
        if self._peek() is not None:
            raise self._unexpected()
        return node

    def _peek(self) -> str | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _take(self) -> str:
        token = self._peek()
        if token is None:
            raise ValueError(f"{self._text!r} ends too early: a metric is {METRIC_FORMS}")
        self._next += 1
        return token

    def _unexpected(self) -> ValueError:
        token = self._tokens[self._next]
        return ValueError(f"{self._text!r}: {token!r} is not expected there: a metric is {METRIC_FORMS}")

    def _sum(self) -> _Node:
        node = self._product()
        while (symbol := self._peek()) in {"+", "-"}:
            self._next += 1
            node = _join(str(symbol), node, self._product())
        return node

    def _product(self) -> _Node:
        node = self._value()
        while (symbol := self._peek()) in {"*", "/"}:
            self._next += 1
            node = _join(str(symbol), node, self._value())
        return node

    def _value(self) -> _Node:
        token = self._take()
        if token == "-":  # noqa: S105 - a sign, no password
            return _join("-", _build_number("0"), self._value())
        if token == "(":  # noqa: S105 - as above
            return self._closed()
        if _NAME.fullmatch(token):
            return self._named(token)
        if token in {"+", "*", "/", ")"}:
            self._next -= 1
            raise self._unexpected()
        return _build_number(token)

    def _closed(self) -> _Node:
        node = self._sum()
        if self._take() != ")":
            self._next -= 1
            raise self._unexpected()
        return node

    def _named(self, name: str) -> _Node:
        if self._peek() == "(" and name == "abs":
            self._next += 1
            return _take_abs(self._closed())
        if self._peek() == "(":
            known = name == "days_to_limit"
            remedy = "stands alone, without numbers" if known else "is no function: is it an `aggregate`?"
            raise ValueError(f"{self._text!r}: {name} {remedy}; a metric is {METRIC_FORMS}")
        try:
            return _build_leaf(_find_field(name))
        except ValueError as error:
            raise ValueError(f"{self._text!r}: {error}") from None


def _split(text: str, expression: str) -> Iterator[str]:
    position = 0
    while position < len(expression):
        if expression[position].isspace():
            position += 1
            continue
        match = _TOKEN.match(expression, position)
        if match is None:
            raise ValueError(
                f"{text!r}: {expression[position]!r} is not expected there: a metric is {METRIC_FORMS}"
            )
        yield match[0]
        position = match.end()
