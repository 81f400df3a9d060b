"""Times are cut to what Cassandra keeps, and written in the one form."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from airflow_provider_restrack import clock


def test_now_is_utc_and_has_whole_milliseconds() -> None:
    now = clock.utc_now()

    assert now.tzinfo is UTC
    assert now.microsecond % 1000 == 0


def test_a_time_is_cut_not_rounded_to_the_millisecond() -> None:
    moment = datetime(2026, 3, 1, 12, 0, 0, 999_999, tzinfo=UTC)

    assert clock.to_millisecond(moment).microsecond == 999_000


def test_a_time_of_another_zone_is_written_in_utc_with_z() -> None:
    moment = datetime(2026, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))

    assert clock.format_utc(moment) == "2026-02-28T23:30:00.000Z"
