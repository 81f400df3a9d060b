"""The trigger against a real Cassandra and against one that never answers, beside other work on its loop."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from airflow_provider_restrack import clock
from airflow_provider_restrack.store.schema import TABLES, build_create_table
from airflow_provider_restrack.triggers.threshold import ThresholdTrigger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cassandra.cluster import Session

pytestmark = pytest.mark.cassandra

RULE = {"name": "cpu high", "metric": "cpu_usage", "op": ">", "threshold": 90}
TICK_S = 0.01


@pytest.fixture
def connection(cassandra_address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    host, port = cassandra_address
    value = json.dumps({"conn_type": "cassandra", "host": host, "port": port})
    monkeypatch.setenv("AIRFLOW_CONN_CASSANDRA_DEFAULT", value)


@pytest.fixture
def silent_server() -> Iterator[int]:
    """Return the port of a server that takes connections and never answers: the slowest way to be down."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def insert(session: Session, keyspace: str, host: str, value: float) -> None:
    now = clock.utc_now()
    session.execute(
        f"INSERT INTO {keyspace}.system_metrics (host, day, timestamp, cpu_usage) VALUES (%s, %s, %s, %s)",
        (host, now.date(), now, value),
    )
    session.execute(
        f"INSERT INTO {keyspace}.latest_metrics (host, timestamp, cpu_usage) VALUES (%s, %s, %s)",
        (host, now, value),
    )


async def measure_pauses(pauses: list[float], stop: asyncio.Event) -> None:
    """Record how long each wait of TICK_S really takes: a loop that is blocked shows as a long one."""
    while not stop.is_set():
        start = clock.monotonic()
        await asyncio.sleep(TICK_S)
        pauses.append(clock.monotonic() - start)


def run_beside_ticks(trigger: ThresholdTrigger) -> tuple[dict[str, Any], list[float]]:
    """Run the trigger to its first event; return that and the pauses of another task on the same loop."""

    async def both() -> tuple[dict[str, Any], list[float]]:
        pauses: list[float] = []
        stop = asyncio.Event()
        ticking = asyncio.ensure_future(measure_pauses(pauses, stop))
        events = [event.payload async for event in trigger.run()]
        stop.set()
        await ticking
        return events[0], pauses

    return asyncio.run(both())


@pytest.mark.usefixtures("connection")
def test_it_fires_on_a_sample_that_is_stored_while_it_waits(
    cassandra_session: Session, keyspace: str
) -> None:
    for table in TABLES:
        cassandra_session.execute(build_create_table(table, keyspace))
    insert(cassandra_session, keyspace, "db-1", 50)
    trigger = ThresholdTrigger(rules=[RULE], table=f"{keyspace}.system_metrics", poll_interval=0.1, once=True)
    sessions: list[Any] = []
    observe = trigger._observe

    def observe_and_insert(reader: Any) -> Any:
        observation = observe(reader)
        sessions.append(reader)
        if len(sessions) == 2:
            insert(cassandra_session, keyspace, "db-1", 97)
        return observation

    trigger._observe = observe_and_insert  # type: ignore[method-assign]

    event, _ = run_beside_ticks(trigger)

    assert (event["status"], event["evidence"][0]["host"], event["evidence"][0]["current"]) == (
        "breach",
        "db-1",
        97.0,
    )
    assert len(sessions) == 3
    assert len(set(map(id, sessions))) == 1
    assert json.loads(json.dumps(event)) == event


@pytest.mark.usefixtures("connection")
def test_no_thread_and_no_session_is_left_after_an_event(cassandra_session: Session, keyspace: str) -> None:
    for table in TABLES:
        cassandra_session.execute(build_create_table(table, keyspace))
    insert(cassandra_session, keyspace, "db-1", 97)
    trigger = ThresholdTrigger(rules=[RULE], table=f"{keyspace}.system_metrics", once=True)
    opened: list[Any] = []
    make_reader = trigger._make_reader

    def remember(session: Any) -> Any:
        opened.append(session)
        return make_reader(session)

    trigger._make_reader = remember  # type: ignore[method-assign]

    run_beside_ticks(trigger)

    assert [session.cluster.is_shutdown for session in opened] == [True]
    assert_no_thread_is_left()


def assert_no_thread_is_left() -> None:
    """Their work is done and they are told to end; each still needs its turn at the interpreter."""
    for thread in threading.enumerate():
        if thread.name.startswith("restrack-cassandra"):
            thread.join(10)
            assert not thread.is_alive()


MANY = 200


def count_connections(port: int) -> int:
    """Return how many connections this process has to a server: others use it at the same time."""
    found = psutil.Process().net_connections("tcp")
    return sum(bool(one.raddr) and one.raddr.port == port and one.status == "ESTABLISHED" for one in found)


@pytest.mark.usefixtures("connection")
def test_hundreds_of_triggers_share_one_session_until_the_last_of_them_ends(
    cassandra_session: Session, cassandra_address: tuple[str, int], keyspace: str
) -> None:
    for table in TABLES:
        cassandra_session.execute(build_create_table(table, keyspace))
    insert(cassandra_session, keyspace, "db-1", 50)
    where = {"table": f"{keyspace}.system_metrics", "hosts": ["db-1"], "poll_interval": 0.05, "once": True}
    triggers = [ThresholdTrigger(rules=[RULE], **where) for _ in range(MANY)]
    sessions: dict[int, Any] = {}
    polls = [0] * MANY
    for index, trigger in enumerate(triggers):
        trigger._observe = remember_polls(trigger, index, sessions, polls)  # type: ignore[method-assign]
    port = cassandra_address[1]
    before = count_connections(port)

    async def scenario() -> tuple[int, list[dict[str, Any]]]:
        tasks = [asyncio.ensure_future(first_event(trigger)) for trigger in triggers]
        await wait_for_polls(polls, 2)
        during = count_connections(port)
        for task, trigger in zip(tasks[:50], triggers[:50], strict=True):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await trigger.cleanup()
        assert [one.cluster.is_shutdown for one in sessions.values()] == [False]
        await asyncio.to_thread(insert, cassandra_session, keyspace, "db-1", 97)
        return during, await asyncio.gather(*tasks[50:])

    during, events = asyncio.run(scenario())

    assert [event["status"] for event in events] == ["breach"] * (MANY - 50)
    assert [one.cluster.is_shutdown for one in sessions.values()] == [True]
    # A session of the driver is a control connection and one for requests, for each node.
    assert 1 <= during - before <= 2
    assert count_connections(port) == before
    assert_no_thread_is_left()


def remember_polls(
    trigger: ThresholdTrigger, index: int, sessions: dict[int, Any], polls: list[int]
) -> Callable[[Any], Any]:
    observe = trigger._observe

    def observe_and_count(reader: Any) -> Any:
        sessions[id(reader._session)] = reader._session
        found = observe(reader)
        polls[index] += 1
        return found

    return observe_and_count


async def wait_for_polls(polls: list[int], count: int) -> None:
    """Wait until each trigger has looked so often; they count in their threads."""
    while min(polls) < count:  # noqa: ASYNC110 - there is no event for all of them
        await asyncio.sleep(TICK_S)


async def first_event(trigger: ThresholdTrigger) -> dict[str, Any]:
    events = [event.payload async for event in trigger.run()]
    payload: dict[str, Any] = events[0]
    return payload


@pytest.mark.usefixtures("connection")
def test_a_session_that_broke_is_replaced_for_all_who_share_it(
    cassandra_session: Session, keyspace: str
) -> None:
    for table in TABLES:
        cassandra_session.execute(build_create_table(table, keyspace))
    insert(cassandra_session, keyspace, "db-1", 50)
    where = {"table": f"{keyspace}.system_metrics", "hosts": ["db-1"], "poll_interval": 0.05, "once": True}
    triggers = [ThresholdTrigger(rules=[RULE], **where) for _ in range(20)]
    sessions: dict[int, Any] = {}
    polls = [0] * 20
    for index, trigger in enumerate(triggers):
        trigger._observe = remember_polls(trigger, index, sessions, polls)  # type: ignore[method-assign]

    async def scenario() -> list[dict[str, Any]]:
        tasks = [asyncio.ensure_future(first_event(trigger)) for trigger in triggers]
        await wait_for_polls(polls, 1)
        (broken,) = sessions.values()
        await asyncio.to_thread(broken.cluster.shutdown)
        polls[:] = [0] * 20
        await wait_for_polls(polls, 2)
        await asyncio.to_thread(insert, cassandra_session, keyspace, "db-1", 97)
        return await asyncio.gather(*tasks)

    events = asyncio.run(scenario())

    assert [event["status"] for event in events] == ["breach"] * 20
    assert len(sessions) == 2
    assert [one.cluster.is_shutdown for one in sessions.values()] == [True, True]


@pytest.mark.usefixtures("connection")
def test_the_end_of_a_breach_is_told_once_it_is_stored(cassandra_session: Session, keyspace: str) -> None:
    for table in TABLES:
        cassandra_session.execute(build_create_table(table, keyspace))
    insert(cassandra_session, keyspace, "db-1", 97)
    trigger = ThresholdTrigger(
        rules=[RULE], table=f"{keyspace}.system_metrics", poll_interval=0.05, once=True, until="clear"
    )
    look, looks = trigger._look_for_end, 0

    def look_and_insert(reader: Any) -> Any:
        nonlocal looks
        looks += 1
        if looks == 3:
            insert(cassandra_session, keyspace, "db-1", 40)
        return look(reader)

    trigger._look_for_end = look_and_insert  # type: ignore[method-assign]

    event, _ = run_beside_ticks(trigger)

    assert (event["status"], looks) == ("clear", 3)
    assert [(one["host"], one["peak"], one["current"]) for one in event["evidence"]["ended"]] == [
        ("db-1", 97.0, 40.0)
    ]
    assert json.loads(json.dumps(event)) == event


def test_a_cassandra_that_never_answers_is_an_error_event_and_blocks_nobody(
    silent_server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = {"connect_timeout": 2}
    value = json.dumps({"conn_type": "cassandra", "host": "127.0.0.1", "port": silent_server, "extra": extra})
    monkeypatch.setenv("AIRFLOW_CONN_SILENT", value)
    trigger = ThresholdTrigger(
        rules=[RULE], cassandra_conn_id="silent", poll_interval=0.1, retry_for=1.5, once=True
    )

    event, pauses = run_beside_ticks(trigger)

    assert event["status"] == "error"
    assert "silent" in event["message"]
    assert f"127.0.0.1 port {silent_server}" in event["message"]
    # On the loop itself each of the attempts would have been a pause of two seconds.
    assert max(pauses) < 1.0


def test_a_connection_that_does_not_exist_is_told_at_once() -> None:
    trigger = ThresholdTrigger(rules=[RULE], cassandra_conn_id="restrack_none", once=True)
    event, _ = run_beside_ticks(trigger)
    assert (event["status"], "restrack_none" in event["message"]) == ("error", True)


@pytest.mark.usefixtures("connection")
def test_a_table_that_is_made_during_the_retries_is_found(cassandra_session: Session, keyspace: str) -> None:
    trigger = ThresholdTrigger(rules=[RULE], table=f"{keyspace}.system_metrics", poll_interval=0.1, once=True)
    handle = trigger._handle_failure
    failures: list[str] = []

    def provision(error: Exception) -> Any:
        failures.append(type(error).__name__)
        if len(failures) == 1:
            for table in TABLES:
                cassandra_session.execute(build_create_table(table, keyspace))
            insert(cassandra_session, keyspace, "db-1", 97)
        return handle(error)

    trigger._handle_failure = provision  # type: ignore[method-assign]
    event, _ = run_beside_ticks(trigger)
    assert (event["status"], failures) == ("breach", ["TableUnusableError"])
