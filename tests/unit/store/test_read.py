from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from cassandra import OperationTimedOut
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionException
from cassandra.protocol import ServerError

from airflow_provider_restrack.store.read import (
    MAX_DAYS,
    ReadFailedError,
    check_columns,
    days_between,
    read_hosts,
    split_tokens,
)


@pytest.mark.parametrize("count", [1, 2, 3, 32])
def test_ranges_of_tokens_hold_all_of_them_once(count: int) -> None:
    ranges = split_tokens(count)

    assert len(ranges) == count
    assert (ranges[0][0], ranges[-1][1]) == (-(1 << 63), (1 << 63) - 1)
    assert all(end == start for (_, end), (start, _) in pairwise(ranges))
    sizes = [end - start for start, end in ranges]
    assert max(sizes) - min(sizes) <= 2


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        pytest.param(
            "2026-03-01T10:00:00+00:00", "2026-03-01T10:00:00+00:00", ["2026-03-01"], id="one-moment"
        ),
        pytest.param(
            "2026-02-28T23:59:59.999+00:00",
            "2026-03-01T00:00:00+00:00",
            ["2026-02-28", "2026-03-01"],
            id="midnight",
        ),
        pytest.param(
            "2026-03-01T00:00:00+00:00", "2026-03-01T23:59:59+00:00", ["2026-03-01"], id="a-whole-day"
        ),
        pytest.param(
            "2026-03-01T00:30:00+02:00",
            "2026-03-01T01:00:00+02:00",
            ["2026-02-28"],
            id="another-zone-counts-in-utc",
        ),
        pytest.param(
            "2026-12-31T12:00:00+00:00",
            "2027-01-02T12:00:00+00:00",
            ["2026-12-31", "2027-01-01", "2027-01-02"],
            id="three-days",
        ),
    ],
)
def test_days_of_a_window_are_the_utc_days_that_it_touches(
    since: str, until: str, expected: list[str]
) -> None:
    found = days_between(datetime.fromisoformat(since), datetime.fromisoformat(until))
    assert found == tuple(date.fromisoformat(day) for day in expected)


def test_one_minute_of_a_local_evening_can_touch_two_utc_days() -> None:
    zone = timezone(timedelta(hours=-5))
    since = datetime(2026, 3, 8, 18, 59, tzinfo=zone)
    assert days_between(since, since + timedelta(minutes=1)) == (date(2026, 3, 8), date(2026, 3, 9))


def test_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match=r"until .* has no time zone"):
        days_between(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2))  # noqa: DTZ001 - the case


def test_reversed_window_is_refused() -> None:
    later = datetime(2026, 1, 2, tzinfo=UTC)
    with pytest.raises(ValueError, match="lies before since"):
        days_between(later, later - timedelta(seconds=1))


def test_window_of_years_is_refused() -> None:
    since = datetime(2026, 1, 1, tzinfo=UTC)
    assert len(days_between(since, since + timedelta(days=MAX_DAYS - 1))) == MAX_DAYS
    with pytest.raises(ValueError, match=f"window of {MAX_DAYS + 1} days is over the {MAX_DAYS}"):
        days_between(since, since + timedelta(days=MAX_DAYS))


def test_columns_come_once_with_the_timestamp_first() -> None:
    assert check_columns(["cpu_usage", "host", "timestamp", "cpu_usage"]) == (
        "timestamp",
        "cpu_usage",
        "host",
    )


def test_column_that_is_no_field_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no field of a sample: 'cpu_usag', 'x; DROP'"):
        check_columns(["cpu_usag", "up", "x; DROP"])


class FailingSession:
    """A session that fails to prepare."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def prepare(self, cql: str) -> None:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        OperationTimedOut(),
        NoHostAvailable("All nodes", {}),
        ConnectionException("Got unexpected response"),
        ServerError(0, "overloaded", None),
    ],
)
def test_whatever_the_driver_raises_is_a_failed_read(error: Exception) -> None:
    with pytest.raises(ReadFailedError, match=r"Reading metrics\.latest_metrics failed"):
        read_hosts(FailingSession(error), "metrics")
