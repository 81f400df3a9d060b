"""One alert rule, after it was read: when a metric counts as in breach, and what is told of it."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, get_args

from airflow_provider_restrack.alert.expressions import read_metric
from airflow_provider_restrack.alert.rule_values import PERCENTILES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_restrack.alert.expressions import Source, ValueOf
    from airflow_provider_restrack.alert.maintenance import MaintenanceWindow

Op = Literal[">", ">=", "<", "<=", "==", "!="]
Severity = Literal["info", "warning", "critical"]
NoData = Literal["keep", "alert", "ok"]

OPS: tuple[str, ...] = get_args(Op)
FALLING_OPS = ("<", "<=")
ORDERING_OPS = (">", ">=", *FALLING_OPS)
SEVERITIES: tuple[str, ...] = get_args(Severity)
NO_DATA: tuple[str, ...] = get_args(NoData)
AGGREGATES: tuple[str, ...] = (
    *("avg", "min", "max", "last", "count", "stddev", "rate", "fraction_above"),
    *PERCENTILES,
)
DEFAULT_MIN_COVERAGE = 0.8


@dataclass(frozen=True, slots=True)
class Level:
    """One severity of a rule: what breaches it, and beyond what a value is clear of it again."""

    severity: Severity
    threshold: float | bool
    clear_threshold: float | bool


@dataclass(frozen=True, slots=True)
class AlertRule:
    """When a metric counts as in breach, and how much evidence that takes.

    ``for_seconds`` 0 means that a single sample suffices. With ``aggregate`` the compared value is that of
    the samples in the ``window_seconds`` up to each sample. ``max_gap_seconds`` None means derived from the
    samples' own spacing (see :func:`airflow_provider_restrack.alert.evaluate.plan_gaps`). With
    ``thresholds``, one for each severity from the least severe up, ``threshold`` and ``severity`` are the
    first's.

    :ivar above: what ``fraction_above`` counts samples above.
    :ivar no_data: what a host that sends nothing for ``no_data_seconds`` means: nothing new, an alert of its
        own, or the end of an alert.
    :ivar inhibited_by: rules whose open alert on the same host keeps this one's from being told; None: those
        that say that the host is down.
    :ivar maintenance: when alerts are not told.
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
    thresholds: tuple[tuple[Severity, float], ...] = ()
    clear_thresholds: tuple[tuple[Severity, float], ...] = ()
    clear_for_seconds: float = 0.0
    no_data: NoData = "keep"
    no_data_seconds: float = 0.0
    inhibited_by: tuple[str, ...] | None = None
    maintenance: tuple[MaintenanceWindow, ...] = ()
    above: float | None = None

    @property
    def levels(self) -> tuple[Level, ...]:
        """The severities that the rule can have, the least severe first."""
        return _make_levels(self.severity, self.threshold, self.thresholds, self.clear_thresholds)

    @property
    def columns(self) -> tuple[str, ...]:
        """The fields of a sample that the metric needs; none for ``forecasts``."""
        return read_metric(self.metric).columns

    @property
    def value_of(self) -> ValueOf:
        """The metric of a row of samples: a number or None, or for ``has_devices`` a mapping of them."""
        return read_metric(self.metric).value_of

    @property
    def has_devices(self) -> bool:
        """Whether the metric is a map: the rule then has an instance for each device or mount."""
        return read_metric(self.metric).has_devices

    @property
    def is_truth(self) -> bool:
        """Whether the compared value is true or false."""
        return self.aggregate is None and read_metric(self.metric).is_truth

    @property
    def source(self) -> Source:
        """Where the values come from: the table of samples, or that of forecasts."""
        return read_metric(self.metric).source

    @property
    def forecast_of(self) -> str | None:
        """The field whose time to its limit is compared; None for a rule on samples."""
        return read_metric(self.metric).forecast_of

    def matches_host(self, host: str) -> bool:
        """Whether a host's name fits one of the patterns; case counts."""
        return any(fnmatchcase(host, pattern) for pattern in self.hosts)

    def matches_labels(self, labels: Mapping[str, str]) -> bool:
        """Whether every label that the rule names is there and fits its pattern."""
        return all(key in labels and fnmatchcase(labels[key], pattern) for key, pattern in self.labels)

    def to_data(self) -> dict[str, Any]:
        """Return the rule as JSON-able data that
        :func:`airflow_provider_restrack.alert.rules.parse_rules` reads back to an equal rule.
        """
        data: dict[str, Any] = {
            "name": self.name,
            "metric": self.metric,
            "op": self.op,
            "threshold": dict(self.thresholds) or self.threshold,
            "hosts": list(self.hosts),
        }
        if self.source == "samples":
            data |= {
                "for": self.for_seconds,
                "min_coverage": self.min_coverage,
                "min_samples": self.min_samples,
            }
        optional = {
            "severity": None if self.thresholds else self.severity,
            "aggregate": self.aggregate,
            "window": self.window_seconds or None,
            "above": self.above,
            "labels": dict(self.labels) or None,
            "max_gap": self.max_gap_seconds,
            "summary": self.summary,
            "clear_threshold": dict(self.clear_thresholds) or None,
            "clear_for": self.clear_for_seconds or None,
            "no_data": None if self.no_data == "keep" else self.no_data,
            "no_data_for": self.no_data_seconds or None,
            "inhibited_by": None if self.inhibited_by is None else list(self.inhibited_by),
            "maintenance": [window.to_data() for window in self.maintenance] or None,
        }
        return data | {key: value for key, value in optional.items() if value is not None}


# Asked for several times for each instance; typed, as a threshold of 0 is not one of false.
@lru_cache(maxsize=1024, typed=True)
def _make_levels(
    severity: Severity,
    threshold: float | bool,
    thresholds: tuple[tuple[Severity, float], ...],
    clear_thresholds: tuple[tuple[Severity, float], ...],
) -> tuple[Level, ...]:
    clear = dict(clear_thresholds)
    pairs = thresholds or ((severity, threshold),)
    return tuple(Level(name, limit, clear.get(name, limit)) for name, limit in pairs)
