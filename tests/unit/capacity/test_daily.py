"""Columns of daily rollups become series; integration/store/test_forecasts.py reads a real table."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np

from airflow_provider_restrack.capacity.daily import build_series
from airflow_provider_restrack.capacity.forecast import DailyRow, SeriesKey
from airflow_provider_restrack.store.columns import Columns, Key
from airflow_provider_restrack.store.tiers import AGGREGATE_FIELDS

DAY, NEXT = date(2026, 3, 2), date(2026, 3, 3)
AGGREGATE = (2.0, 1.0, 3.0, 4.0, 3.0, 3.0)


def make_columns(values: dict[tuple[str, str | None], list[tuple[float, ...] | None]]) -> Columns:
    times = [datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000 for day in (DAY, NEXT)]
    gone = (np.nan,) * len(AGGREGATE_FIELDS)
    series = {
        Key(metric, device, name): np.array([(row or gone)[number] for row in rows])
        for (metric, device), rows in values.items()
        for number, name in enumerate(AGGREGATE_FIELDS)
    }
    return Columns(np.array(times, np.int64), series)


def test_columns_become_series_of_each_device_without_the_days_that_have_none() -> None:
    columns = make_columns(
        {
            ("memory_usage", None): [AGGREGATE, AGGREGATE],
            ("filesystem_usage", "/var"): [None, AGGREGATE],
            ("filesystem_usage", "/"): [AGGREGATE, None],
        }
    )

    assert build_series("h", columns) == [
        (SeriesKey("h", "filesystem_usage", "/"), [DailyRow(DAY, *AGGREGATE)]),
        (SeriesKey("h", "filesystem_usage", "/var"), [DailyRow(NEXT, *AGGREGATE)]),
        (SeriesKey("h", "memory_usage"), [DailyRow(DAY, *AGGREGATE), DailyRow(NEXT, *AGGREGATE)]),
    ]


def test_a_host_without_rows_has_no_series() -> None:
    assert build_series("h", Columns(np.zeros(0, np.int64), {})) == []
