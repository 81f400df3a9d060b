"""Which partition a bucket is in, and which partitions a window covers."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.store.tiers import (
    ROLLUP_COLUMNS,
    TIER_BY_NAME,
    TIERS,
    Tier,
    period_of,
    periods_between,
    with_ttl,
)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("name", "period"), [("5m", "2026-02-28"), ("1h", "2026-02"), ("1d", "2026")], ids=["5m", "1h", "1d"]
)
def test_partition_is_named_by_day_month_or_year(name: str, period: str) -> None:
    assert period_of(TIER_BY_NAME[name], at("2026-02-28T23:55")) == period


@given(st.sampled_from(TIERS), st.integers(1_500_000_000, 1_800_000_000), st.integers(0, 400 * 86400))
def test_periods_cover_every_bucket_of_a_window_once(tier: Tier, since: int, length: int) -> None:
    found = [
        (period, start)
        for period, first, end in periods_between(tier, since, since + length)
        for start in range(first, end, tier.seconds)
    ]
    first = -(-since // tier.seconds) * tier.seconds
    starts = range(first, since + length, tier.seconds)
    assert found == [(period_of(tier, start), start) for start in starts]


def test_ninety_days_of_hours_are_in_four_partitions_at_most() -> None:
    periods = list(periods_between(TIER_BY_NAME["1h"], at("2026-08-15"), at("2026-11-13")))
    assert [period for period, *_ in periods] == ["2026-08", "2026-09", "2026-10", "2026-11"]


def test_compaction_windows_fit_the_life_of_the_rows() -> None:
    windows = [tier.table().options["compaction"].rpartition(": ")[2] for tier in TIERS]
    assert windows == ["3}", "24}", "61}"]
    assert with_ttl(TIERS[0].table(), 3600).options["compaction"].endswith(": 1}")


def test_a_map_of_devices_becomes_a_map_of_aggregates() -> None:
    assert ROLLUP_COLUMNS["cpu_usage"] == "frozen<aggregate>"
    assert ROLLUP_COLUMNS["filesystem_usage"] == "frozen<map<text,frozen<aggregate>>>"
    assert "labels" not in ROLLUP_COLUMNS
