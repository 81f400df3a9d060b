"""Rollups in Cassandra equal a brute-force computation over the same samples, whatever came in between."""

from __future__ import annotations

import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_restrack.capacity.refresh import RollupPolicy, RollupResult, refresh
from airflow_provider_restrack.store.rollups import TableUnusableError
from airflow_provider_restrack.store.tiers import TIERS
from tests.integration.capacity.conftest import assert_same

if TYPE_CHECKING:
    from tests.integration.capacity.conftest import History

pytestmark = pytest.mark.cassandra

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TIER_NAMES = [tier.name for tier in TIERS]


def roll(session: Any, history: History, since: datetime, until: datetime, **settings: Any) -> RollupResult:
    hosts = settings.pop("hosts", ["a", "b"])
    return refresh(session, RollupPolicy(history.keyspace, **settings), hosts, since, until)


def check(history: History, *hosts: str) -> None:
    for host in hosts:
        for tier in TIER_NAMES:
            assert_same(history.stored(tier, host), history.expected(tier, host))


def moments(start: datetime, count: int, step_s: float) -> list[datetime]:
    return [start + timedelta(seconds=step_s * number) for number in range(count)]


def test_every_tier_equals_brute_force(session: Any, history: History, day: datetime) -> None:
    history.add_many("a", moments(day, 200, 37))
    history.add_many("b", moments(day + 22 * HOUR, 60, 300))

    result = roll(session, history, day, day + 2 * DAY)

    check(history, "a", "b")
    assert (result.hosts, result.samples) == (2, 260)
    assert result.buckets == {tier: sum(len(history.stored(tier, h)) for h in "ab") for tier in TIER_NAMES}


def test_hours_in_any_order_done_twice_with_late_samples_in_between_converge(
    session: Any, history: History, day: datetime
) -> None:
    history.add_many("a", moments(day, 120, 600))
    hours = [day + number * HOUR for number in range(25)] * 2
    random.Random(3).shuffle(hours)

    for number, hour in enumerate(hours):
        if number == 20:
            history.add_many("a", moments(day + timedelta(minutes=7), 20, 3600))
        roll(session, history, hour, hour + HOUR, hosts=["a"])
    roll(session, history, day, day + DAY, hosts=["a"], lookback_s=48 * 3600)

    check(history, "a")


def test_a_metric_that_is_gone_leaves_nothing_behind(session: Any, history: History, day: datetime) -> None:
    history.add("a", day, cpu_usage=1.0, load_1m=2.0, filesystem_usage={"/": 1.0, "/old": 2.0})
    roll(session, history, day, day + DAY, hosts=["a"])
    history.session.execute(
        f"DELETE load_1m, filesystem_usage FROM {history.keyspace}.system_metrics "
        "WHERE host = 'a' AND day = %s AND timestamp = %s",
        (day.date(), day),
    )

    roll(session, history, day, day + DAY, hosts=["a"])

    assert list(history.stored("5m", "a")[day]) == [("cpu_usage", None)]
    check(history, "a")


def test_a_look_that_began_earlier_does_not_overwrite_one_that_saw_more(
    session: Any, history: History, day: datetime
) -> None:
    now = datetime.now(tz=UTC)
    policy = RollupPolicy(history.keyspace)
    history.add("a", day, cpu_usage=1.0)
    history.add("a", day + timedelta(seconds=10), cpu_usage=3.0)
    refresh(session, policy, ["a"], day, day + DAY, now=lambda: now)
    history.session.execute(f"TRUNCATE {history.keyspace}.system_metrics")
    history.add("a", day, load_1m=9.0)

    refresh(session, policy, ["a"], day, day + DAY, now=lambda: now - timedelta(seconds=5))

    assert history.stored("1h", "a")[day] == {
        ("cpu_usage", None): (2, 1.0, 3.0, 4.0, 3.0, pytest.approx(2.9))
    }


def test_what_the_driver_decodes_gives_the_same_as_its_bytes(
    session: Any, history: History, day: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_restrack.store.rollups.use_raw_rows", lambda _: None)
    history.add_many("a", moments(day, 50, 100))

    roll(session, history, day, day + DAY, hosts=["a"])

    check(history, "a")


def test_a_result_of_many_pages_is_whole(
    session: Any, history: History, day: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_restrack.store.rollups.PAGE_ROWS", 7)
    history.add_many("a", moments(day, 100, 60))

    roll(session, history, day, day + DAY, hosts=["a"])

    check(history, "a")


def test_a_span_whose_samples_expire_is_left_alone_and_counted(
    session: Any, history: History, day: datetime
) -> None:
    history.add_many("a", moments(day + 11 * HOUR, 50, 300))
    policy = RollupPolicy(history.keyspace, raw_ttl_s=36 * 3600, lookback_s=0)

    result = refresh(session, policy, ["a"], day, day + DAY, now=lambda: day + 2 * DAY)

    assert min(history.stored("5m", "a")) == day + timedelta(hours=12, minutes=10)
    assert min(history.stored("1h", "a")) == day + 13 * HOUR
    assert history.stored("1d", "a") == {}
    assert result.expired == {"5m": 146, "1h": 13, "1d": 1}


def test_the_session_still_decodes_other_results(session: Any, history: History, day: datetime) -> None:
    history.add("a", day, cpu_usage=1.5, labels={"dc": "x"})
    roll(session, history, day, day + DAY, hosts=["a"])

    row = session.execute(f"SELECT cpu_usage, labels FROM {history.keyspace}.system_metrics").one()
    assert (row.cpu_usage, dict(row.labels)) == (1.5, {"dc": "x"})


def test_a_missing_table_says_what_to_do(session: Any, history: History, day: datetime) -> None:
    history.session.execute(f"DROP TABLE {history.keyspace}.system_metrics_1h")

    with pytest.raises(TableUnusableError, match=r"no .*system_metrics_1h.*ProvisionOperator"):
        roll(session, history, day, day + DAY)


KILLED = """
import os, sys, threading
from datetime import datetime, timedelta
from airflow_provider_restrack.capacity.refresh import RollupPolicy, refresh
from airflow_provider_restrack.store import rollups
from airflow_provider_restrack.store.session import CassandraPolicy, open_session
port, keyspace, day = int(sys.argv[1]), sys.argv[2], datetime.fromisoformat(sys.argv[3])
left = threading.Semaphore(int(sys.argv[4]))
def die(self, *arguments):
    if not left.acquire(blocking=False):
        os._exit(9)
    return original(self, *arguments)
original, rollups._Batches.add = rollups._Batches.add, die
with open_session(CassandraPolicy(port=port)) as session:
    refresh(session, RollupPolicy(keyspace), ["a", "b"], day, day + timedelta(days=2))
"""


@pytest.mark.parametrize("after", [1, 40, 150])
def test_killed_in_the_middle_and_run_again_converges(
    session: Any, history: History, day: datetime, cassandra_address: tuple[str, int], after: int
) -> None:
    for host in "ab":
        history.add_many(host, moments(day, 150, 300))
    command = [
        sys.executable,
        "-c",
        KILLED,
        str(cassandra_address[1]),
        history.keyspace,
        day.isoformat(),
        str(after),
    ]
    assert subprocess.run(command, timeout=60).returncode == 9

    roll(session, history, day, day + 2 * DAY)

    check(history, "a", "b")
