"""History over real tables: every sample is in one bucket, whatever table the bucket comes from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_restrack.capacity.history import HistoryReader
from airflow_provider_restrack.capacity.history import history as history_of_package
from airflow_provider_restrack.capacity.refresh import RollupPolicy, refresh
from airflow_provider_restrack.store.tiers import TIER_BY_NAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.capacity.conftest import History

pytestmark = pytest.mark.cassandra
HOUR, DAY, MINUTE = timedelta(hours=1), timedelta(days=1), timedelta(minutes=1)


@pytest.fixture
def rolled(session: Any, history: History, day: datetime) -> Callable[[datetime, datetime], None]:
    """A sample of cpu_usage = n every 10 minutes for two days, and a roller of a span."""
    for number in range(288):
        moment = day + number * 10 * MINUTE
        history.add(
            "web", moment, cpu_usage=float(number), filesystem_usage={"/": 1.0, "/srv": float(number)}
        )

    def roll(since: datetime, until: datetime) -> None:
        refresh(session, RollupPolicy(history.keyspace, lookback_s=0), ["web"], since, until)

    return roll


@pytest.mark.parametrize("resolution", ["raw", "5m", "1h", "1d"])
@pytest.mark.parametrize("done", [0, 7, 26, 48], ids="rolled-{}h".format)
def test_every_sample_is_in_one_bucket_wherever_the_rollups_end(
    session: Any, history: History, day: datetime, rolled: Any, resolution: str, done: int
) -> None:
    rolled(day, day + done * HOUR)

    table = history_of_package(
        session, "web", "cpu_usage", day, day + 2 * DAY, resolution, keyspace=history.keyspace
    ).to_pylist()

    assert sum(row["count"] for row in table) == 288
    assert sum(row["sum"] for row in table) == sum(range(288))
    starts = [row["timestamp"] for row in table]
    assert starts == sorted(set(starts))
    assert (starts[0], table[-1]["last"], table[0]["min"]) == (day, 287.0, 0.0)


def test_a_hole_between_rollups_is_filled_from_samples(
    session: Any, history: History, day: datetime, rolled: Any
) -> None:
    rolled(day, day + 5 * HOUR)
    rolled(day + 9 * HOUR, day + 30 * HOUR)

    table = history_of_package(
        session, "web", "cpu_usage", day, day + 2 * DAY, "1h", keyspace=history.keyspace
    )

    assert table["timestamp"].to_pylist() == [day + number * HOUR for number in range(48)]
    assert set(table["count"].to_pylist()) == {6}


def test_what_a_tier_no_longer_keeps_comes_from_the_coarser_without_gap_or_double(
    session: Any, history: History, day: datetime, rolled: Any
) -> None:
    rolled(day, day + 2 * DAY)
    keyspace, now = history.keyspace, day + 2 * DAY
    # As if 5 minutes were kept for 30 hours, and samples for 12: what is older is gone there.
    for table, life in ((TIER_BY_NAME["5m"].table_name, 30), ("system_metrics", 12)):
        part = "period" if table.endswith("5m") else "day"
        session.execute(f"ALTER TABLE {keyspace}.{table} WITH default_time_to_live = {life * 3600}")
        for number in range(2):
            value: Any = (day + number * DAY).date()
            session.execute(
                f"DELETE FROM {keyspace}.{table} WHERE host = 'web' AND {part} = %s AND timestamp < %s",
                (value.isoformat() if part == "period" else value, now - life * HOUR),
            )

    rows = history_of_package(
        session, "web", "cpu_usage", day, now, "raw", keyspace=keyspace, now=now
    ).to_pylist()

    assert {row["seconds"] for row in rows} == {0, 300, 3600}
    assert sum(row["count"] for row in rows) == 288
    assert sum(row["sum"] for row in rows) == sum(range(288))
    ends = [row["timestamp"] + timedelta(seconds=row["seconds"]) for row in rows]
    assert all(end <= row["timestamp"] for end, row in zip(ends, rows[1:], strict=False))


def test_devices_coverage_and_average(session: Any, history: History, day: datetime, rolled: Any) -> None:
    rolled(day, day + DAY)
    table = HistoryReader(session, history.keyspace).read(
        ["web", "gone"], ["cpu_usage", "filesystem_usage"], day, day + DAY, "1d"
    )

    rows = {(row["metric"], row["device"]): row for row in table.to_pylist()}
    assert set(rows) == {("cpu_usage", None), ("filesystem_usage", "/"), ("filesystem_usage", "/srv")}
    row = rows["cpu_usage", None]
    assert (row["host"], row["seconds"], row["count"]) == ("web", 86400, 144)
    assert (row["avg"], row["coverage"], row["p95"]) == (71.5, 1.0, pytest.approx(0.95 * 143))


def test_coverage_tells_of_an_outage(session: Any, history: History, day: datetime) -> None:
    for number in range(360):
        if not 90 <= number < 180:
            history.add("web", day + timedelta(seconds=10 * number), cpu_usage=1.0)

    (row,) = history_of_package(
        session, "web", "cpu_usage", day, day + HOUR, "1h", keyspace=history.keyspace
    ).to_pylist()

    assert (row["count"], row["coverage"]) == (270, 0.75)


def test_a_counter_has_its_last_value_only(session: Any, history: History, day: datetime) -> None:
    history.add("web", day, network_recv_bytes=7)
    refresh(session, RollupPolicy(history.keyspace), ["web"], day, day + HOUR)
    for resolution in ("raw", "5m", "1h", "1d"):  # an hour and 5 minutes are in a table; a day is not yet
        (row,) = history_of_package(
            session, "web", "network_recv_bytes", day, day + DAY, resolution, keyspace=history.keyspace
        ).to_pylist()
        assert [row[name] for name in ("count", "last", "min", "sum", "p95", "avg")] == [1, 7.0, *[None] * 4]


def test_nothing_is_an_empty_table_with_its_columns(session: Any, history: History) -> None:
    now = datetime.now(tz=UTC)
    table = history_of_package(session, [], "cpu_usage", now - DAY, now, keyspace=history.keyspace)
    assert table.num_rows == 0
    assert table.column_names[:4] == ["host", "metric", "device", "timestamp"]
    assert len(table.column_names) == 13
