"""Daily rollups of the store, as the series that forecasts and right-sizing are made of."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_restrack.capacity.forecast import DailyRow, SeriesKey
from airflow_provider_restrack.store.read import read_hosts
from airflow_provider_restrack.store.rollups import RowReader
from airflow_provider_restrack.store.series import batched
from airflow_provider_restrack.store.tiers import AGGREGATE_FIELDS, TIER_BY_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from airflow_provider_restrack.store.columns import Columns

_WORKERS = 8
_HOSTS_AT_ONCE = 64


class StoreDailyReader:
    """A ``DailyReader`` over a session and a keyspace."""

    def __init__(self, session: Any, keyspace: str) -> None:
        self._session, self._keyspace = session, keyspace

    def read_daily(
        self, hosts: Sequence[str] | None, metrics: Sequence[str], since: date, until: date
    ) -> Iterator[tuple[SeriesKey, list[DailyRow]]]:
        """Yield every series of the hosts, host by host; only some hosts' rows are in memory at a time.

        :raises TableUnusableError: if the table or a metric's column is not there.
        :raises ReadFailedError: if Cassandra does not answer.
        """
        names = read_hosts(self._session, self._keyspace) if hosts is None else list(hosts)
        reader = RowReader(self._session, self._keyspace, TIER_BY_NAME["1d"], metrics)
        start, end = _start_of(since), _start_of(until + timedelta(days=1))
        with ThreadPoolExecutor(_WORKERS, thread_name_prefix="daily") as pool:
            for chunk in batched(names, _HOSTS_AT_ONCE):
                found = pool.map(lambda host: reader.read(host, start, end), chunk)
                for host, columns in zip(chunk, found, strict=True):
                    yield from build_series(host, columns)


def build_series(host: str, columns: Columns) -> list[tuple[SeriesKey, list[DailyRow]]]:
    """Return the series of a host's daily rollups, by metric and device, without the days that lack it."""
    series: dict[SeriesKey, dict[str, NDArray[np.float64]]] = {}
    for key, values in columns.series.items():
        if key.field is not None:
            series.setdefault(SeriesKey(host, key.column, key.device), {})[key.field] = values
    days = [datetime.fromtimestamp(ms / 1000, tz=UTC).date() for ms in columns.times.tolist()]
    ordered = sorted(series.items(), key=lambda item: (item[0].metric, item[0].device or ""))
    return [(key, _build_rows(days, fields)) for key, fields in ordered]


def _build_rows(days: Sequence[date], fields: Mapping[str, NDArray[np.float64]]) -> list[DailyRow]:
    absent = np.full(len(days), np.nan)
    parts = [fields.get(name, absent).tolist() for name in AGGREGATE_FIELDS]
    return [
        DailyRow(day, int(count), *numbers)
        for day, count, *numbers in zip(days, *parts, strict=True)
        if count > 0
    ]


def _start_of(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
