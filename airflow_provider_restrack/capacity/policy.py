"""What a forecast is asked to do. Apart from the statistics, so that a DAG file is checked without numpy."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, get_args

from airflow_provider_restrack.capacity.rightsize import SizePolicy
from airflow_provider_restrack.store.schema import FIELD_BY_NAME

Aggregate = Literal["max", "p95", "last", "avg", "min"]
AGGREGATES: tuple[Aggregate, ...] = get_args(Aggregate)
_METRIC_KEYS = frozenset({"limit", "aggregate"})


@dataclass(frozen=True, slots=True)
class MetricPolicy:
    """What of a metric's days is looked at, and the value that it must not reach.

    A filesystem is full the first moment that it is full, so its daily maximum is what meets the limit: a
    trend through ``last`` would come late by the height of a nightly peak.
    """

    limit: float = 100.0
    aggregate: Aggregate = "max"


# A machine's memory is at its highest for moments only, such as a cron job's; p95 is what it lives at.
DEFAULT_METRICS: Mapping[str, MetricPolicy] = MappingProxyType(
    {
        "filesystem_usage": MetricPolicy(),
        "inode_usage": MetricPolicy(),
        "memory_usage": MetricPolicy(aggregate="p95"),
    }
)


@dataclass(frozen=True, slots=True)
class ForecastPolicy:
    """How much history a forecast takes, how sure it has to be, and how far it looks.

    :ivar history_days: days before the forecast that are read.
    :ivar min_days: days with data that a fit needs.
    :ivar min_coverage: share of the days of the fit's span that need data.
    :ivar confidence: of the slope's interval, two-sided.
    :ivar horizon_days: a limit that is further off has no date.
    """

    history_days: int = 90
    min_days: int = 7
    min_coverage: float = 0.7
    confidence: float = 0.99
    horizon_days: float = 730.0

    def __post_init__(self) -> None:
        if not 7 <= self.min_days <= self.history_days:
            raise ValueError(
                f"min_days must be from 7 to history_days ({self.history_days}), it is {self.min_days}"
            )
        if not 0 < self.min_coverage <= 1:
            raise ValueError(f"min_coverage must be above 0 and at most 1, it is {self.min_coverage}")
        if not 0.5 <= self.confidence < 1:
            raise ValueError(f"confidence must be from 0.5 to below 1, it is {self.confidence}")
        if not self.horizon_days > 0:
            raise ValueError(f"horizon_days must be above 0, it is {self.horizon_days}")


@dataclass(frozen=True, slots=True)
class ReportPolicy:
    """What a report tells of.

    :ivar metrics: whose forecasts are told, as ``ForecastOperator`` made them.
    :ivar within_days: what counts as near.
    :ivar plots: forecasts that are drawn; ``top``: hosts at either end of the lists of users.
    :ivar history_days: days that are drawn; ``hourly_days`` those of the heat map.
    """

    keyspace: str
    metrics: Mapping[str, MetricPolicy] = field(default_factory=lambda: DEFAULT_METRICS)
    title: str = "Capacity report"
    within_days: float = 30.0
    plots: int = 12
    top: int = 10
    history_days: int = 90
    hourly_days: int = 7
    size: SizePolicy = field(default_factory=SizePolicy)

    def __post_init__(self) -> None:
        for name in ("within_days", "top", "history_days", "hourly_days"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be more than 0, it is {getattr(self, name)!r}")
        if self.plots < 0:
            raise ValueError(f"plots must be 0 or more, it is {self.plots!r}")


def parse_metrics(value: Any) -> dict[str, MetricPolicy]:
    """Return what to forecast: by a name, a list of names, or an object ``{name: {"limit", "aggregate"}}``.

    Text may be a list or an object as JSON, or as Python writes it: that is what templates render to. A name
    that ``DEFAULT_METRICS`` has takes its values from there.

    :raises ValueError: if a name is no metric, or a limit or aggregate makes no sense.
    """
    if isinstance(value, str):
        value = _parse_text(value)
    if value is None:
        return dict(DEFAULT_METRICS)
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, Iterable):
        raise ValueError(f"metrics must be a list, a dict or JSON text, it is {value!r}")  # noqa: TRY004 - as all values
    if not isinstance(value, Mapping):
        value = {str(name): MappingProxyType({}) for name in value}
    if not value:
        raise ValueError("metrics is empty: name at least one, or leave it out")
    return {str(name): _parse_metric(str(name), entry) for name, entry in value.items()}


def _parse_text(text: str) -> Any:
    """Return what JSON text holds, or Python's, as ``{{ var.json.x }}`` renders it; a name as it is."""
    plain = text.strip()
    if not plain.startswith(("[", "{", '"')):
        return plain
    try:
        return json.loads(plain)
    except ValueError as error:
        try:
            return ast.literal_eval(plain)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            raise ValueError(f"metrics is no valid JSON: {error}; it is {text!r}") from error


def _parse_metric(name: str, entry: Any) -> MetricPolicy:
    field = FIELD_BY_NAME.get(name)
    if field is None or not field.is_metric or field.type == "boolean" or field.group == "counters":
        raise ValueError(f"metrics names {name!r}, which is no gauge of a sample; store/schema.py lists them")
    if not isinstance(entry, Mapping) or (entry.keys() - _METRIC_KEYS):
        raise ValueError(f"metrics, {name}: give an object with limit and aggregate, it is {entry!r}")
    default = DEFAULT_METRICS.get(name)
    limit = entry.get("limit", default.limit if default else 100.0 if field.unit == "%" else None)
    aggregate = entry.get("aggregate", default.aggregate if default else "max")
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit < float("inf"):
        raise ValueError(f"metrics, {name}: limit must be a number above 0, in {field.unit}; it is {limit!r}")
    if aggregate not in AGGREGATES:
        raise ValueError(
            f"metrics, {name}: aggregate must be one of {', '.join(AGGREGATES)}, it is {aggregate!r}"
        )
    return MetricPolicy(float(limit), aggregate)
