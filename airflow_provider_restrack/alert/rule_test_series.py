"""The samples of a rule test: series in promtool's compact notation, as rows that come in when they are due.

The notation is that of Prometheus' unit tests for rules
(https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules/): ``95`` is one sample,
``95x4`` is 95 and four more, ``1+2x3`` is 1 3 5 7, ``_`` is a missing sample and ``_x2`` are two of them.
Sample k is taken at ``start`` + k × ``interval``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.alert.durations import parse_duration

if TYPE_CHECKING:
    from airflow_provider_restrack.alert.time_to_limit import Forecasts

DEFAULT_INTERVAL_S = 60.0
MAX_SAMPLES = 1_000_000
ORDERS = ("ascending", "reversed")
_SERIES_KEYS = ("host", "metric", "device", "values", "offset", "arrives", "labels")

_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_STEP = _NUMBER.replace("?", "", 1)  # a step has its sign
_ITEM = re.compile(
    rf"(?P<gap>_)(?:x(?P<gaps>\d+))?|(?P<first>{_NUMBER})(?P<step>{_STEP})?(?:x(?P<more>\d+))?"
)


class RuleTestError(ValueError):
    """A file of rule tests that cannot be run: what is wrong and where."""


@dataclass
class LateSamples:
    """A reader of a test's rows, some of which come late.

    :ivar end: time of the last sample, lost ones included.
    :ivar now: what has not come by then is not seen.
    """

    end: datetime
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    now: datetime | None = None

    def hosts(self) -> list[str]:
        """Return the hosts of which anything has come."""
        return [host for host, rows in self.rows.items() if any(self._is_here(row) for row in rows)]

    def fetch(
        self, hosts: Sequence[str], since: datetime, until: datetime, columns: Sequence[str]
    ) -> dict[str, list[dict[str, Any]]]:
        """Return the rows of the hosts in a time that have come."""
        wanted = {"timestamp", *columns}
        return {
            host: [
                {key: value for key, value in row.items() if key in wanted}
                for row in self.rows.get(host, ())
                if since <= row["timestamp"] <= until and self._is_here(row)
            ]
            for host in hosts
        }

    def fetch_days_to_limit(self, *_asked: object) -> Forecasts:
        """Return nothing: a test has no forecasts."""
        return {}

    def _is_here(self, row: Mapping[str, Any]) -> bool:
        arrives: datetime = row["arrives"]
        return self.now is None or arrives <= self.now


def expand(text: str) -> list[float | None]:
    """Return the values of a series in promtool's notation; None is a missing sample.

    :raises RuleTestError: if a part is not in the notation, or there are over ``MAX_SAMPLES`` of them.
    """
    values: list[float | None] = []
    for item in str(text).split():
        match = _ITEM.fullmatch(item)
        if match is None:
            raise RuleTestError(f"{item!r} is no value: write 95, 95x4, 1+2x3, _ or _x2")
        count = int(match["gaps"] or 1) if match["gap"] else int(match["more"] or 0) + 1
        if len(values) + count > MAX_SAMPLES:
            raise RuleTestError(f"{item!r} gives over {MAX_SAMPLES} samples")
        if match["gap"]:
            values += [None] * count
        else:
            first, step = float(match["first"]), float(match["step"] or 0)
            values += [first + n * step for n in range(count)]
    return values


def build_samples(test: Mapping[str, Any], start: datetime) -> LateSamples:
    """Return the rows of a test's series. A value that a row has already makes another row, a duplicate.

    :raises RuleTestError: if a series cannot be understood; ValueError if a duration cannot.
    """
    step = _read_span(test.get("interval", DEFAULT_INTERVAL_S))
    samples = LateSamples(end=start)
    known: dict[tuple[str, datetime, datetime], list[dict[str, Any]]] = {}
    for number, item in enumerate(test.get("series") or ()):
        one = as_mapping(item, f"series[{number}]")
        check_keys(one, _SERIES_KEYS, f"series[{number}]")
        host, values = str(one.get("host", "host")), expand(one.get("values", ""))
        first = start + _read_span(one.get("offset", 0))
        late = None if one.get("arrives") is None else start + _read_span(one["arrives"])
        samples.end = max(samples.end, first + max(len(values) - 1, 0) * step)
        rows = samples.rows.setdefault(host, [])
        for index, value in enumerate(values):
            if value is not None:
                time = first + index * step
                twins = known.setdefault((host, time, late or time), [])
                _put(_find_row(rows, twins, one, time, late or time), one, value)
    if _read_order(test.get("order")) == "reversed":
        samples.rows = {host: rows[::-1] for host, rows in samples.rows.items()}
    return samples


def _read_span(value: object) -> timedelta:
    return timedelta(seconds=parse_duration(value))


def _read_order(value: object) -> object:
    if value is not None and value not in ORDERS:
        raise RuleTestError(f"order {value!r} is not known; allowed: {', '.join(ORDERS)}")
    return value


def _find_row(
    rows: list[dict[str, Any]],
    twins: list[dict[str, Any]],
    series: Mapping[str, Any],
    time: datetime,
    arrives: datetime,
) -> dict[str, Any]:
    """Return that of the rows of one time which has no value of the series yet, a new one if all have."""
    for row in twins:
        if not _has(row, series):
            return row
    row = {"timestamp": time, "arrives": arrives}
    twins.append(row)
    rows.append(row)
    return row


def _has(row: Mapping[str, Any], series: Mapping[str, Any]) -> bool:
    value = row.get(_metric(series))
    if series.get("device") is None:
        return value is not None
    return value is not None and str(series["device"]) in value


def _put(row: dict[str, Any], series: Mapping[str, Any], value: float) -> None:
    if series.get("labels") is not None:
        row["labels"] = dict(as_mapping(series["labels"], "labels"))
    if series.get("device") is None:
        row[_metric(series)] = value
    else:
        row.setdefault(_metric(series), {})[str(series["device"])] = value


def _metric(series: Mapping[str, Any]) -> str:
    return str(series.get("metric", "cpu_usage"))


def as_mapping(value: object, where: str) -> Mapping[str, Any]:
    """Return a mapping as it is.

    :raises RuleTestError: if it is none.
    """
    if not isinstance(value, Mapping):
        raise RuleTestError(f"{where} must be a mapping, not {value!r}")
    return value


def check_keys(value: Mapping[str, Any], allowed: Sequence[str], where: str) -> None:
    """Refuse keys that are not known.

    :raises RuleTestError: naming the first of them.
    """
    unknown = [key for key in value if key not in allowed]
    if unknown:
        raise RuleTestError(f"{where}: {unknown[0]!r} is not known; allowed: {', '.join(allowed)}")
