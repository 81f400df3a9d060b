"""Which buckets a run writes, decided from times alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.capacity import refresh as refreshing
from airflow_provider_restrack.capacity.refresh import (
    EXPIRY_MARGIN_S,
    RollupPolicy,
    TierSpan,
    cut_span,
    plan_spans,
)
from airflow_provider_restrack.store.columns import Columns, Key
from airflow_provider_restrack.store.tiers import TIERS

if TYPE_CHECKING:
    from airflow_provider_restrack.store.rollups import Rollup

TABLES = ("system_metrics", *(tier.table_name for tier in TIERS))
POLICY = RollupPolicy("metrics", lookback_s=3600)
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def plan(
    since: datetime, until: datetime, now: datetime, **settings: float
) -> dict[str, tuple[str, str, int]]:
    policy = RollupPolicy("metrics", **{"lookback_s": 3600, **settings})  # type: ignore[arg-type]
    return {
        span.tier.name: (show(span.since_s), show(span.until_s), span.expired)
        for span in plan_spans(policy, since, until, now, 14 * 86400)
    }


def show(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, tz=UTC):%d %H:%M}"


def test_an_hourly_run_writes_what_is_final_and_does_the_hour_before_again() -> None:
    assert plan(NOON - HOUR, NOON, NOON + timedelta(seconds=20)) == {
        "5m": ("24 10:00", "24 11:55", 0),
        "1h": ("24 10:00", "24 11:00", 0),
        "1d": ("24 00:00", "24 00:00", 0),
    }


def test_the_first_run_after_midnight_writes_the_day() -> None:
    midnight = NOON - 12 * HOUR
    assert plan(midnight, midnight + HOUR, midnight + HOUR)["1d"] == ("23 00:00", "24 00:00", 0)


def test_a_run_of_the_past_ends_with_its_interval() -> None:
    assert plan(NOON - DAY, NOON - DAY + HOUR, NOON, lookback_s=0)["1h"] == ("23 12:00", "23 13:00", 0)


def test_buckets_that_begin_to_expire_are_left_out_and_counted() -> None:
    oldest = NOON - 14 * DAY
    spans = plan(oldest - HOUR, oldest + 2 * HOUR, NOON, lookback_s=0)
    assert spans["1h"] == ("10 13:00", "10 14:00", 2)
    assert spans["5m"] == ("10 12:10", "10 14:00", 14)


def test_an_interval_that_has_expired_as_a_whole_has_no_span() -> None:
    (_, hours, _) = plan_spans(POLICY, NOON - 30 * DAY, NOON - 29 * DAY, NOON, 14 * 86400)
    assert (hours.since_s == hours.until_s, hours.expired) == (True, 25)


def test_without_expiry_the_past_has_no_end() -> None:
    (_, hours, _) = plan_spans(POLICY, NOON - 300 * DAY, NOON - 299 * DAY, NOON, 0)
    assert ((hours.until_s - hours.since_s) // 3600, hours.expired) == (25, 0)


@pytest.mark.parametrize(
    ("since", "until", "message"),
    [(NOON.replace(tzinfo=None), NOON, "no time zone"), (NOON, NOON - HOUR, "lies before since")],
    ids=["naive", "reversed"],
)
def test_times_that_make_no_sense_are_refused(since: datetime, until: datetime, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_spans(POLICY, since, until, NOON, 0)


def test_a_policy_without_tiers_or_workers_is_refused() -> None:
    with pytest.raises(ValueError, match="no tier"):
        RollupPolicy("metrics", tiers=())
    with pytest.raises(ValueError, match="workers"):
        RollupPolicy("metrics", workers=0)


class Store:
    """Has a sample every minute; keeps what is asked for and written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written: dict[tuple[str, str], list[str]] = {}
        monkeypatch.setattr(refreshing, "read_ttls", lambda *_: dict.fromkeys(TABLES, 14 * 86400))
        monkeypatch.setattr(refreshing, "RowReader", lambda *_: self)
        monkeypatch.setattr(refreshing, "RollupWriter", lambda _, __, tier: Writer(self, tier.name))

    def read(self, host: str, since_s: int, until_s: int) -> Columns:
        times = np.arange(since_s * 1000, until_s * 1000, 60_000)
        return Columns(times, {Key("cpu_usage"): np.ones(times.size)})


class Writer:
    def __init__(self, store: Store, tier: str) -> None:
        self._store, self._tier = store, tier

    def write(self, host: str, keys: Any, made: Rollup, read_at: datetime, ttl_s: int) -> int:
        self._store.written[host, self._tier] = [show(start) for start in made.starts.tolist()]
        return len(made.starts)


def test_buckets_that_expire_while_the_run_lasts_are_left_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store(monkeypatch)
    first = NOON - 14 * DAY + timedelta(minutes=10)  # the oldest that has not begun to expire at noon
    policy = RollupPolicy("metrics", (TIERS[0], TIERS[1]), lookback_s=0, workers=1)
    moments = iter([NOON, NOON, NOON + timedelta(minutes=50)])

    result = refreshing.refresh(None, policy, ["a", "b"], first, first + 3 * HOUR, now=lambda: next(moments))

    assert (store.written["a", "5m"][0], len(store.written["a", "5m"])) == ("10 12:10", 36)
    assert (store.written["b", "5m"][0], len(store.written["b", "5m"])) == ("10 13:00", 26)
    assert store.written["a", "1h"] == store.written["b", "1h"] == ["10 13:00", "10 14:00"]
    assert result.expired == {"5m": 10, "1h": 1}
    assert result.buckets == {"5m": 62, "1h": 4}


def test_a_day_that_expires_before_it_is_read_leaves_nothing_to_write() -> None:
    day = int((NOON - 12 * HOUR).timestamp())
    span = TierSpan(TIERS[1], day, day + 86400, 2)

    cut = cut_span(span, day, day + 86400, NOON + 30 * DAY, 14 * 86400)

    assert (cut.since_s, cut.until_s, cut.expired) == (day + 86400, day + 86400, 24)
    assert cut_span(span, day, day + 86400, NOON + 30 * DAY, 0) == TierSpan(TIERS[1], day, day + 86400, 0)


@given(st.integers(-40 * 86400, 0), st.integers(0, 3 * 86400), st.integers(0, 86400), st.integers(0, 7200))
def test_every_bucket_of_a_plan_is_whole_final_and_not_expired(
    offset: int, length: int, lookback: int, delay: int
) -> None:
    since = NOON + timedelta(seconds=offset)
    policy = RollupPolicy("metrics", lookback_s=lookback, delay_s=delay)
    for span in plan_spans(policy, since, since + timedelta(seconds=length), NOON, 14 * 86400):
        assert span.expired >= 0
        assert span.since_s <= span.until_s
        if span.since_s < span.until_s:
            assert span.since_s % span.tier.seconds == span.until_s % span.tier.seconds == 0
            assert span.until_s <= min(NOON.timestamp() - delay, since.timestamp() + length)
            assert span.since_s >= NOON.timestamp() + EXPIRY_MARGIN_S - 14 * 86400
