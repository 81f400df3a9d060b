"""Samples of hosts as columns: what rules are evaluated over.

To make a dict of each row, and to search all dicts for each rule's metric, took ten times as long as to
evaluate the rules.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

from airflow_provider_restrack.store.row_decoder import (
    READABLE_TYPES,
    ColumnKey,
    Columns,
    RowDecoder,
    join_columns,
)
from airflow_provider_restrack.store.schema import FIELD_BY_NAME, SYSTEM_METRICS, check_identifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow_provider_restrack.store.read import SampleRead

# Device (None where the column is no map), times in ms and values.
Points = tuple[str | None, tuple[int, ...], tuple[float, ...]]
USUAL_INTERVAL = timedelta(seconds=10)
MIN_GROUP, MAX_GROUP, GROUP_ROWS = 4, 16, 2000  # the rows of a page
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SampleColumns(Sequence[Mapping[str, Any]]):
    """One host's samples, oldest first: as columns, and as the rows that ``read_samples`` gives.

    :ivar times: in ms since 1970, each once.
    :ivar names: of the columns that were read, beside the time.
    """

    def __init__(self, names: tuple[str, ...], columns: Columns) -> None:
        self.names, self.times, self._values = names, columns.times, columns.values

    def up_to(self, end_ms: int) -> SampleColumns:
        """Return the samples that are not after a time."""
        end = bisect_right(self.times, end_ms)
        if end == len(self.times):
            return self
        values = {key: found[:end] for key, found in self._values.items()}
        return SampleColumns(self.names, Columns(self.times[:end], values))

    def join(self, newer: SampleColumns) -> SampleColumns:
        """Return these samples and others of the same columns that are all newer."""
        runs = [Columns(self.times, self._values), Columns(newer.times, newer._values)]
        return SampleColumns(self.names, join_columns(runs))

    def find_points(self, name: str) -> list[Points]:
        """Return the times and values of a column of numbers, without those that are absent or not finite.

        One for each device of a map, in their order; of another column one, whose device is None.
        """
        if not FIELD_BY_NAME[name].type.startswith("map<"):
            return [(None, *self._keep_finite(self._values.get(ColumnKey(name), ())))]
        devices = sorted(key.device or "" for key in self._values if key.name == name)
        points = ((device, *self._keep_finite(self._values[ColumnKey(name, device)])) for device in devices)
        return [one for one in points if one[1]]

    def compute_points(
        self, names: Sequence[str], value_of: Callable[[Mapping[str, Any]], Any], *, has_devices: bool
    ) -> list[Points]:
        """Return, as ``find_points`` does, what is computed of some columns of each row.

        :param value_of: a row's number or None, or for ``has_devices`` a mapping of devices to them.
        """
        found: dict[str | None, list[Any]] = {} if has_devices else {None: [None] * len(self)}
        for number, row in enumerate(self._make_rows(names)):
            value = value_of(row)
            for device, one in value.items() if isinstance(value, Mapping) else ((None, value),):
                if one is not None:
                    found.setdefault(device, [None] * len(self))[number] = one
        points = ((device, *self._keep_finite(found[device])) for device in sorted(found, key=str))
        return [one for one in points if one[1] or not has_devices]

    def find_last(self, name: str) -> Any:
        """Return the newest value of a column that is no map of numbers; None if there is none."""
        values = self._values.get(ColumnKey(name), ())
        return next((value for value in reversed(values) if value is not None), None)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        """Return a row, or some; a map without devices is None."""
        return self._rows[index]

    def __len__(self) -> int:
        """Return how many samples there are."""
        return len(self.times)

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        rows = zip(self.times, self._make_rows(self.names), strict=True)
        return [{"timestamp": _EPOCH + timedelta(milliseconds=time), **row} for time, row in rows]

    def _make_rows(self, names: Sequence[str]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = [dict.fromkeys(names) for _ in self.times]
        for (name, device), values in self._values.items():
            if name not in names:
                continue
            for row, value in zip(rows, values, strict=True):
                if device is None:
                    row[name] = value
                elif value is not None:
                    row[name] = {**(row[name] or {}), device: value}
        return rows

    def _keep_finite(self, values: Sequence[Any]) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Return the numbers that are there; mostly that is all of them, and a sum tells it fastest."""
        try:
            if values and math.isfinite(sum(values)):
                numbers = values if type(values[0]) is float else map(float, values)
                return self.times, tuple(numbers)
        except TypeError:  # None is among them
            pass
        kept = [
            (time, float(value))
            for time, value in zip(self.times, values, strict=False)
            if value is not None and math.isfinite(value)
        ]
        return tuple(time for time, _ in kept), tuple(value for _, value in kept)


class SeriesRead:
    """One prepared read of some columns of samples as ``SampleColumns``, for as long as its session.

    The session must return raw rows: see :func:`open_read`.

    :raises TableUnusableError: if the table or a column is missing.
    """

    def __init__(self, session: Any, keyspace: str, columns: Iterable[str]) -> None:
        from airflow_provider_restrack.store.raw_rows import MARK
        from airflow_provider_restrack.store.read import Query, check_columns

        time, *self._names = check_columns(columns)
        types = [FIELD_BY_NAME[name].type for name in (time, *self._names)]
        self._decoder = RowDecoder((time, *self._names), types)
        table = f"{check_identifier(keyspace, 'keyspace')}.{SYSTEM_METRICS.name}"
        self._query = Query(
            session,
            table,
            f"SELECT {', '.join((f'host AS {MARK}', time, *self._names))} FROM {table} "  # noqa: S608 - checked identifiers
            "WHERE host IN ? AND day = ? AND timestamp >= ? AND timestamp <= ?",
        )

    def run(self, hosts: Iterable[str], since: datetime, until: datetime) -> dict[str, SampleColumns]:
        """Return each host's samples of a window, its ends included.

        :raises ValueError: if the window makes no sense.
        :raises ReadFailedError: if Cassandra does not answer.
        """
        from airflow_provider_restrack.store.raw_rows import keep_rows
        from airflow_provider_restrack.store.read import days_between

        days, names = days_between(since, until), tuple(self._names)
        runs: dict[str, list[Columns]] = {host: [] for host in hosts}
        groups = batched(runs, find_group_size(until - since))
        arguments = [(group, day, since, until) for group in groups for day in days]
        for _, pages in self._query.iterate_results(arguments, keep_rows):
            for host, found in self._decoder.decode(pages).items():
                runs[host] += found
        return {host: SampleColumns(names, join_columns(found)) for host, found in runs.items()}


def find_group_size(span: timedelta) -> int:
    """Return of how many hosts one query asks: as many as fill a page if samples are 10 s apart.

    What the driver and Cassandra do for a query costs more than reading a quarter of an hour of one host;
    the hosts of one query are read at the same time.
    """
    rows = max(1.0, span / USUAL_INTERVAL)
    return max(MIN_GROUP, min(MAX_GROUP, int(GROUP_ROWS / rows)))


def batched(names: Iterable[str], size: int) -> list[list[str]]:
    """Return the names in groups of ``size``, the last one with what is left."""
    every = list(names)
    return [every[start : start + size] for start in range(0, len(every), size)]


def open_read(session: Any, keyspace: str, columns: Sequence[str]) -> SeriesRead | SampleRead:
    """Return a read of samples: as columns, where the driver and the types of the columns allow it.

    What stands in for the driver's session may not pass on what is set on it, and gives rows.

    :raises ValueError: if a column is no field of a sample.
    :raises TableUnusableError: if the table or a column is missing.
    """
    from cassandra.cluster import Session

    from airflow_provider_restrack.store.raw_rows import use_raw_rows
    from airflow_provider_restrack.store.read import SampleRead, check_columns

    types = {FIELD_BY_NAME[name].type for name in check_columns(columns)}
    if types <= READABLE_TYPES and isinstance(session, Session) and use_raw_rows(session):
        return SeriesRead(session, keyspace, columns)
    return SampleRead(session, keyspace, columns)
