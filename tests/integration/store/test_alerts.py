"""The ledger of alerts in a real Cassandra: leases, conditional batches, and processes that are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_restrack.alert.ledger import AlertLedger, read_open_alerts
from airflow_provider_restrack.alert.records import AlertRecord, Book, InstanceKey, Told
from airflow_provider_restrack.store.alert_history import read_history
from airflow_provider_restrack.store.alert_statements import AlertStoreError
from airflow_provider_restrack.store.alert_tables import ALERT_TABLES
from airflow_provider_restrack.store.alerts import LeaseHeldError, LeaseLostError
from airflow_provider_restrack.store.provision import KeyspaceSpec, plan_store, read_state
from tests.integration.store.alert_kit import (
    HORIZON_MS,
    MINUTE_MS,
    START_MS,
    check,
    check_halves,
    create_tables,
    make_history,
    read_all,
    run_evaluator,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.cassandra

ROOT = Path(__file__).resolve().parents[3]
START = datetime.fromtimestamp(START_MS / 1000, tz=UTC)
KEY = InstanceKey("cpu", "host-0000")
OPEN = AlertRecord(KEY, True, "warning", START_MS, START_MS + MINUTE_MS, None, 95.5)


@pytest.fixture(scope="module")
def tables(cassandra_session: Any) -> Iterator[str]:
    """Return a keyspace with the tables; each test has a scope of its own in them."""
    name = f"alerts_{uuid.uuid4().hex[:12]}"
    replication = "{'class': 'NetworkTopologyStrategy', 'datacenter1': 1}"
    cassandra_session.execute(f"CREATE KEYSPACE {name} WITH replication = {replication}")
    create_tables(cassandra_session, name)
    yield name
    cassandra_session.execute(f"DROP KEYSPACE {name}")


@pytest.fixture
def scope(unique: Callable[[str], str]) -> str:
    return unique("night")


@pytest.fixture
def ledger(cassandra_session: Any, tables: str, scope: str) -> AlertLedger:
    return AlertLedger(cassandra_session, tables, scope)


def end_lease(session: Any, keyspace: str, scope: str) -> None:
    """Do as the server does when a lease was not renewed."""
    cql = f"DELETE lease_owner FROM {keyspace}.alerts WHERE scope = %s IF lease_owner != null"
    session.execute(cql, [scope])


def test_provision_finds_the_tables_as_they_are_wanted(cassandra_session: Any, tables: str) -> None:
    found = read_state(cassandra_session, tables, timeout_s=30)

    plan = plan_store(KeyspaceSpec(tables, {"datacenter1": 1}), ALERT_TABLES, found)

    assert (plan.differences, plan.steps, plan.notes) == ((), (), ())


def test_a_scope_that_was_never_evaluated_is_an_empty_book(ledger: AlertLedger) -> None:
    with ledger.lease("one") as lease:
        assert (lease.book.horizon_ms, dict(lease.book.records)) == (None, {})


def test_what_is_recorded_is_read_back_and_recording_it_again_changes_nothing(
    cassandra_session: Any, tables: str, ledger: AlertLedger, scope: str
) -> None:
    history = make_history(7)
    with ledger.lease("one") as lease:
        lease.record(history.transitions, history.records, HORIZON_MS)
        first = read_all(cassandra_session, tables, scope)
        lease.record(history.transitions, history.records, HORIZON_MS)

        assert read_all(cassandra_session, tables, scope) == first
        assert ledger.load() == lease.book
    assert sorted(lease.book.records.values(), key=lambda record: record.key) == list(history.records)
    assert lease.book.horizon_ms == HORIZON_MS
    assert len(first["outbox"]) == len(history.transitions)


def test_what_is_not_known_is_null(
    cassandra_session: Any, tables: str, ledger: AlertLedger, scope: str
) -> None:
    run_evaluator(cassandra_session, tables, scope, make_history(1))

    found = read_all(cassandra_session, tables, scope)

    rows = [*found["instances"], *found["by_host"], *found["by_rule"]]
    assert [(row["value"], row["peak"]) for row in rows] == [(None, 95.0)] * 3


def test_a_value_that_is_not_known_any_more_replaces_one_that_was(ledger: AlertLedger) -> None:
    with ledger.lease("one") as lease:
        lease.record([], [replace(OPEN, value=91.0)])
        lease.record([], [OPEN])

    assert ledger.load().records[KEY].value is None


def test_what_was_told_stays_through_transitions_and_the_end(
    cassandra_session: Any, tables: str, ledger: AlertLedger
) -> None:
    told = Told("warning", START_MS + 2 * MINUTE_MS, START_MS)
    closed = replace(OPEN, open=False, at_ms=START_MS + 3 * MINUTE_MS, value=2.0)
    with ledger.lease("one") as lease:
        lease.record([], [OPEN])
        lease.mark_told({KEY: {"0:Log": Told("warning", told.at_ms)}})
    with ledger.lease("two") as lease:
        lease.record([], [closed])
        lease.mark_told({KEY: {"1:Mail": Told("resolved", 9, 8)}})

    assert ledger.load().records == {
        KEY: replace(closed, told={"0:Log": told, "1:Mail": Told("resolved", 9, 8)})
    }


def test_open_alerts_never_expire_and_closed_ones_do(
    cassandra_session: Any, tables: str, ledger: AlertLedger, scope: str
) -> None:
    history = make_history(2)
    with ledger.lease("one") as lease:
        lease.record([], [replace(record, open=not record.open) for record in history.records])
        lease.record(history.transitions, history.records, HORIZON_MS)

    rows = cassandra_session.execute(
        f"SELECT host, open, TTL(severity), TTL(told), TTL(horizon) FROM {tables}.alerts"
        f" WHERE scope = '{scope}' AND kind = 'instance'"
    )

    found = {row[0]: row[1:] for row in rows}
    assert found["host-0000"] == (True, None, None, None)
    assert found["host-0001"][0] is False
    assert all(34 * 86400 < ttl <= 35 * 86400 for ttl in found["host-0001"][1:3])


def test_open_alerts_of_all_scopes_are_one_read_each(cassandra_session: Any, tables: str, scope: str) -> None:
    day = f"a_{scope}"
    run_evaluator(cassandra_session, tables, scope, make_history(5))
    run_evaluator(cassandra_session, tables, day, make_history(1))

    found = read_open_alerts(cassandra_session, tables)

    assert list(found) == sorted(found)
    assert [record.key.host for record in found[scope]] == ["host-0000", "host-0002", "host-0004"]
    assert found[scope][0].told == {"0:Log": Told("warning", HORIZON_MS, START_MS)}
    assert read_open_alerts(cassandra_session, tables, day) == {day: found[day]}
    assert len(found[day]) == 1
    assert read_open_alerts(cassandra_session, tables, "never") == {"never": ()}


def test_history_is_read_by_host_and_by_rule(cassandra_session: Any, tables: str, scope: str) -> None:
    history = make_history(3)
    run_evaluator(cassandra_session, tables, scope, history)
    window: dict[str, Any] = {"since": START + timedelta(minutes=5), "until": START + timedelta(minutes=9)}

    def read(**of: str) -> list[dict[str, Any]]:
        found = read_history(cassandra_session, tables, **of, **window)
        return [row for row in found if row["scope"] == scope]

    by_host, by_rule = read(host="host-0001"), read(rule="cpu")

    assert [(row["transition"], row["at"] - START, row["since"]) for row in by_host] == [
        ("fired", timedelta(minutes=5), START),
        ("resolved", timedelta(minutes=9), START),
    ]
    assert [row["alert_id"] for row in by_host] == [str(history.records[1].alert_id)] * 2
    assert len(by_rule) == len(history.transitions)
    assert by_rule[-1] == by_host[-1]
    assert read(host="host-0001", rule="disk") == []
    window["until"] -= timedelta(milliseconds=1)
    assert len(read(rule="cpu")) == 3


def test_two_scopes_with_the_same_rule_have_a_history_each(
    cassandra_session: Any, tables: str, scope: str
) -> None:
    for one in (scope, f"{scope} day"):
        run_evaluator(cassandra_session, tables, one, make_history(1))

    rows = read_history(cassandra_session, tables, host="host-0000", since=START, until=START + timedelta(1))

    assert [row["scope"] for row in rows if row["scope"].startswith(scope)] == [scope, f"{scope} day"]


def test_history_lives_as_long_as_its_table_says(cassandra_session: Any, tables: str, scope: str) -> None:
    run_evaluator(cassandra_session, tables, scope, make_history(1))
    for table in ("alert_history", "alert_history_by_rule"):
        ttl = cassandra_session.execute(f"SELECT TTL(severity) FROM {tables}.{table}").one()[0]
        assert 399 * 86400 < ttl <= 400 * 86400


def test_of_two_evaluators_at_once_one_records_and_the_other_finds_it(
    cassandra_session: Any, tables: str, scope: str
) -> None:
    history, start = make_history(150), threading.Barrier(4)

    def run(_: int) -> int:
        start.wait()
        return run_evaluator(cassandra_session, tables, scope, history, wait_s=60)

    with ThreadPoolExecutor(4, thread_name_prefix="evaluator") as pool:
        recorded = sorted(pool.map(run, range(4)))

    assert recorded == [0, 0, 0, len(history.transitions)]
    check(cassandra_session, tables, scope, 150)


def count_writes(hosts: int) -> int:
    """Return how many writes an evaluator needs: lease, chunks, two histories, outbox, telling, release."""
    chunks = -(-len(make_history(hosts).transitions + make_history(hosts).records) // 100)
    return 1 + chunks + 2 + 1 + 2 + 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_evaluator_killed_after_any_of_its_writes_is_completed_by_the_next(
    cassandra_session: Any, cassandra_address: tuple[str, int], tables: str
) -> None:
    hosts, outcomes = 100, []
    for writes in range(1, count_writes(hosts) + 2):
        scope = f"killed after {writes}"
        outcomes.append(run_process(cassandra_address, tables, scope, hosts, writes))
        check_halves(cassandra_session, tables, scope, hosts)

        end_lease(cassandra_session, tables, scope)
        run_evaluator(cassandra_session, tables, scope, make_history(hosts))
        check(cassandra_session, tables, scope, hosts)

    assert outcomes == [-signal.SIGKILL] * count_writes(hosts) + [0]


def run_process(address: tuple[str, int], keyspace: str, scope: str, hosts: int, writes: int) -> int:
    """Run an evaluator that kills itself after so many writes; return how it ended."""
    process = start_process(address, keyspace, scope, hosts, ttl_s=600, kill_after=writes)
    _, log = process.communicate(timeout=60)
    assert process.returncode in {0, -signal.SIGKILL}, log
    return process.returncode


def start_process(
    address: tuple[str, int], keyspace: str, scope: str, hosts: int, **end: int
) -> subprocess.Popen[str]:
    arguments = {"address": address, "keyspace": keyspace, "scope": scope, "hosts": hosts, **end}
    command = [sys.executable, "-m", "tests.integration.store.alert_process", json.dumps(arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_lease_that_ended_lets_nothing_be_written(
    cassandra_session: Any, tables: str, ledger: AlertLedger, scope: str
) -> None:
    with ledger.lease("late") as lease:
        end_lease(cassandra_session, tables, scope)
        with pytest.raises(LeaseLostError, match=rf"\(scope {scope}\): .* held by nobody\. Run again"):
            lease.record([], [OPEN], HORIZON_MS)

    assert ledger.load() == Book()


def test_the_late_holder_of_a_lease_that_another_has_taken_changes_nothing(
    cassandra_session: Any, tables: str, ledger: AlertLedger, scope: str
) -> None:
    with ledger.lease("late") as late:
        late.record([], [OPEN], HORIZON_MS)
        end_lease(cassandra_session, tables, scope)
        with ledger.lease("next") as following:
            for write in (
                lambda: late.record([], [replace(OPEN, severity="critical")]),
                late.renew,
                lambda: late.mark_told({KEY: {"0:Log": Told("critical", 1)}}),
            ):
                with pytest.raises(LeaseLostError, match="held by next "):
                    write()
            following.renew()
    assert ledger.load() == following.book
    assert following.book.records == {KEY: OPEN}


def test_what_a_late_holder_left_in_the_outbox_is_written_by_the_next(
    cassandra_session: Any, tables: str, ledger: AlertLedger, scope: str
) -> None:
    history = make_history(3)
    with ledger.lease("late") as late:
        late.record(history.transitions, history.records, HORIZON_MS)
        end_lease(cassandra_session, tables, scope)
        with ledger.lease("next") as following:
            with pytest.raises(LeaseLostError):
                late.write_history()
            assert following.write_history() == len(history.transitions)
    assert read_all(cassandra_session, tables, scope)["outbox"] == []


def test_an_evaluator_frozen_for_longer_than_its_lease_writes_nothing_when_it_wakes(
    cassandra_session: Any, cassandra_address: tuple[str, int], tables: str, scope: str
) -> None:
    process = start_process(cassandra_address, tables, scope, 100, ttl_s=2, stop_after=1)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    recorded = run_evaluator(cassandra_session, tables, scope, make_history(50), wait_s=60)
    process.send_signal(signal.SIGCONT)
    _, log = process.communicate(timeout=60)

    assert recorded == 75
    assert process.returncode == 1
    assert "LeaseLostError" in log
    check(cassandra_session, tables, scope, 50)


def test_a_lease_is_renewed_while_the_block_does_something_else(
    cassandra_session: Any, tables: str, ledger: AlertLedger, scope: str
) -> None:
    with ledger.lease("one", ttl_s=6) as lease:
        first = read_lease(cassandra_session, tables, scope)
        limit = time.monotonic() + 30
        while read_lease(cassandra_session, tables, scope) == first:
            assert time.monotonic() < limit, "the lease is not renewed"
            threading.Event().wait(0.05)
        lease.renew()


def read_lease(session: Any, keyspace: str, scope: str) -> Any:
    """Return who holds the lease, and when that was written."""
    cql = f"SELECT lease_owner, WRITETIME(lease_owner) FROM {keyspace}.alerts WHERE scope = %s"
    return tuple(session.execute(cql, [scope]).one())


def test_who_comes_second_waits_or_is_told_who_is_there(ledger: AlertLedger, scope: str) -> None:
    with (
        ledger.lease("first run"),
        pytest.raises(LeaseHeldError, match=rf"scope {scope}\): first run .* evaluates this scope"),
        ledger.lease("second", wait_s=0.2),
    ):
        pytest.fail("two hold the lease")
    with ledger.lease("third"):
        pass


def test_scopes_do_not_wait_for_each_other(
    cassandra_session: Any, tables: str, ledger: AlertLedger, scope: str
) -> None:
    with ledger.lease("one"), AlertLedger(cassandra_session, tables, f"{scope} day").lease("two"):
        pass


def test_two_thousand_transitions_at_once_are_recorded_whole(
    cassandra_session: Any, tables: str, scope: str
) -> None:
    hosts = 1334  # every other host has two

    recorded = run_evaluator(cassandra_session, tables, scope, make_history(hosts))

    assert recorded == 2001
    check(cassandra_session, tables, scope, hosts)


def test_reading_passes_over_few_tombstones_however_much_was_written(
    cassandra_session: Any, tables: str, scope: str, ledger: AlertLedger
) -> None:
    history = make_history(100)
    for number in range(4):
        with ledger.lease("one") as lease:
            later = [replace(move, at_ms=move.at_ms + number) for move in history.transitions]
            lease.record(later, [replace(one, open=not one.open) for one in history.records])
            lease.record([], history.records)
            lease.write_history()

    # A row for each value that is not known, and one for the outbox: not one for each of 600 transitions.
    query = f"SELECT * FROM {tables}.alerts WHERE scope = '{scope}'"
    assert read_tombstones(cassandra_session, query) <= 30


def read_tombstones(session: Any, query: str) -> int:
    """Return how many tombstones a query met, as its trace says."""
    trace = session.execute(query, trace=True).get_query_trace(max_wait_sec=30)
    lines = [event.description for event in trace.events if "tombstone cells" in event.description]
    assert lines
    return sum(int(line.split(" and ")[1].split()[0]) for line in lines)


def test_a_missing_table_is_named_with_its_remedy(cassandra_session: Any, keyspace: str) -> None:
    with pytest.raises(AlertStoreError, match=rf"{keyspace}\.alerts \(scope night\) .*ProvisionOperator"):
        AlertLedger(cassandra_session, keyspace, "night")
    with pytest.raises(AlertStoreError, match=rf"{keyspace}\.alert_history \(host a\) .*ProvisionOperator"):
        read_history(cassandra_session, keyspace, host="a", since=START, until=START)
