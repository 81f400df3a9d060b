"""Lanes on a real Cassandra: what is written over them, and what happens where they are missing or break."""

from __future__ import annotations

import json
import re
import socket
import threading
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from cassandra import AuthenticationFailed, ConsistencyLevel, OperationTimedOut
from cassandra.cluster import EXEC_PROFILE_DEFAULT
from cassandra.connection import (
    ConnectionException,
    DefaultEndPoint,
    ProtocolError,
    ProtocolVersionUnsupported,
)
from cassandra.query import BatchStatement, BoundStatement

import services
from airflow_provider_restrack import clock
from airflow_provider_restrack.load import assembly, direct, loader
from airflow_provider_restrack.load.lanes import open_lane
from airflow_provider_restrack.load.offsets import OffsetTracker, Partition
from airflow_provider_restrack.load.rows import build_row_maker
from airflow_provider_restrack.load.write import WritePolicy, Writer
from airflow_provider_restrack.store import schema
from services.cassandra import build_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.kafka, pytest.mark.cassandra]

TABLES = ("system_metrics", "latest_metrics")


@pytest.fixture
def lanes_only(pipeline, monkeypatch) -> None:
    """Fail a test that sends a row through the driver."""
    forbid_driver(pipeline.session, monkeypatch)


def forbid_driver(session: Any, monkeypatch: Any) -> None:
    execute_async = session.execute_async

    def refuse_rows(statement: Any, *arguments: Any, **options: Any) -> Any:
        assert not isinstance(statement, (BoundStatement, BatchStatement)), "a row went through the driver"
        return execute_async(statement, *arguments, **options)

    monkeypatch.setattr(session, "execute_async", refuse_rows)


def forbid_lanes(monkeypatch: Any, error: Exception) -> list[Any]:
    """Let no lane be opened; return the list of the nodes for which it was tried."""
    tried: list[Any] = []

    def refuse(_session: Any, host: Any, *_arguments: Any, **_options: Any) -> Any:
        tried.append(host)
        raise error

    monkeypatch.setattr(direct, "open_lane", refuse)
    return tried


def note_requests(monkeypatch: Any) -> list[tuple[int, int]]:
    """Return the list that takes rows and partitions of each request on a lane."""
    noted: list[tuple[int, int]] = []
    send = direct.DirectChannel.send

    def note(self: Any, request: Any, keyspace: str, rows: Any) -> bool:
        noted.append((len(rows), len({row.partition_key for row in rows})))
        return send(self, request, keyspace, rows)

    monkeypatch.setattr(direct.DirectChannel, "send", note)
    return noted


def stored(pipeline, table: str) -> list[tuple[str, int, int]]:
    """Return each row as JSON with its write time and the seconds that it has left."""
    query = f"SELECT host, timestamp, writetime(id), ttl(id) FROM {pipeline.keyspace}.{table}"
    marks = {
        (host, at.isoformat(timespec="milliseconds")): (written, ttl)
        for host, at, written, ttl in pipeline.session.execute(query)
    }
    assert marks
    found = pipeline.session.execute(f"SELECT JSON * FROM {pipeline.keyspace}.{table}")
    rows = sorted(one[0] for one in found)
    assert len(rows) == len(marks)
    ordered = sorted(marks.items())
    return [(row, *mark) for row, (_, mark) in zip(rows, ordered, strict=True)]


def mixed_samples(sample) -> list[dict[str, Any]]:
    """Return samples of one partition by themselves, of one with many rows, and of many with one each."""
    samples = [sample("many", age_s=60 + number, load_1m=number / 3) for number in range(120)]
    samples += [sample(f"single-{number}", age_s=90, up=None, labels={}) for number in range(33)]
    samples += [sample("large", error="x" * 60_000)]
    return samples


def test_rows_written_over_lanes_are_those_that_the_driver_writes(
    pipeline, sample, unique, monkeypatch
) -> None:
    samples = mixed_samples(sample)
    pipeline.send(*samples)
    found = []
    with monkeypatch.context() as patched:
        forbid_driver(pipeline.session, patched)
        requests = note_requests(patched)
        first = pipeline.load(group_id=unique("group"), ttl=86_400)
        found.append([stored(pipeline, table) for table in TABLES])
    for table in TABLES:
        pipeline.session.execute(f"TRUNCATE {pipeline.keyspace}.{table}")
    with monkeypatch.context() as patched:
        assert forbid_lanes(patched, OSError("no lane")) == []
        second = pipeline.load(group_id=unique("group"), ttl=86_400)
        found.append([stored(pipeline, table) for table in TABLES])

    assert (first.rows, first.retries) == (second.rows, second.retries)
    assert first.rows == len(samples) + 35
    assert {rows > 1 for rows, _ in requests} == {True, False}
    assert max(partitions for _, partitions in requests) > 1
    assert any(rows > 1 and partitions == 1 for rows, partitions in requests)
    for ours, theirs in zip(*found, strict=True):
        assert [one[:2] for one in ours] == [one[:2] for one in theirs]
        assert all(0 < ttl <= 86_400 for _, _, ttl in ours)
        assert [one[2] for one in ours] == pytest.approx([one[2] for one in theirs], abs=300)


def test_rows_of_many_partitions_are_stored_each_in_its_own(
    pipeline, sample, lanes_only, monkeypatch
) -> None:
    requests = note_requests(monkeypatch)
    samples = [sample(f"web-{number}", load_1m=float(number)) for number in range(95)]
    pipeline.send(*samples)
    result = pipeline.load()

    assert {(row["host"], row["load_1m"]) for row in pipeline.rows()} == {
        (one["host"], one["load_1m"]) for one in samples
    }
    assert {row["host"]: row["load_1m"] for row in pipeline.rows("latest_metrics")} == {
        one["host"]: one["load_1m"] for one in samples
    }
    assert result.rows == 190
    assert max(requests) > (5, 5)
    assert all(partitions <= 10 for _, partitions in requests)


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationFailed("bad credentials"),
        ProtocolVersionUnsupported("host", 4),
        OperationTimedOut(),
        OSError(111, "refused"),
        AttributeError("_make_connection_kwargs"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_where_no_lane_can_be_opened_the_driver_writes(pipeline, sample, error, monkeypatch, caplog) -> None:
    caplog.set_level("INFO")
    tried = forbid_lanes(monkeypatch, error)
    pipeline.send(*[sample(f"web-{number}") for number in range(30)])
    result = pipeline.load()

    assert len(tried) == 1
    assert (result.rows, result.retries) == (60, 0)
    assert len(pipeline.rows()) == len(pipeline.rows("latest_metrics")) == 30
    assert f"go through the driver: {type(error).__name__}" in caplog.text


def test_a_login_that_lanes_fail_is_the_drivers_matter(pipeline, sample, monkeypatch) -> None:
    def broken(*_arguments: Any) -> Any:
        raise AuthenticationFailed("no login for lanes")

    monkeypatch.setattr(pipeline.session.cluster, "_make_connection_kwargs", broken)
    pipeline.send(sample())

    assert pipeline.load().rows == 2
    assert len(pipeline.rows()) == 1


@contextmanager
def answering(answer: bytes | None) -> Iterator[Any]:
    """Give a host on loopback that answers each request with bytes; None: it closes, empty: it is silent."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        opened: list[socket.socket] = []

        def serve() -> None:
            with suppress(OSError):
                connection, _ = listener.accept()
                opened.append(connection)
                connection.recv(4096)
                if answer is None:
                    connection.close()
                elif answer:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield SimpleNamespace(endpoint=DefaultEndPoint("127.0.0.1", listener.getsockname()[1]))
        finally:
            thread.join()
            for one in opened:
                one.close()


GIVEN_UP = (ConnectionException, OperationTimedOut, ProtocolError)


@pytest.mark.parametrize(
    "answer", [None, b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["closes", "silent", "other"]
)
def test_what_is_no_node_is_given_up_in_bounded_time(pipeline, answer) -> None:
    with answering(answer) as host, pytest.raises(GIVEN_UP):
        open_lane(pipeline.session, host, [], level=1, timeout_s=0.5)


def test_a_table_that_differs_from_the_sessions_gets_no_lane(pipeline) -> None:
    [encoder, _] = build_row_maker(pipeline.policy, pipeline.session).encoders
    table = f"{pipeline.keyspace}.system_metrics"
    pipeline.session.execute(f"DROP TABLE {table}")
    create = schema.build_create_table(schema.TABLES[0], pipeline.keyspace)
    assert "cpu_count int" in create
    pipeline.session.execute(create.replace("cpu_count int", "cpu_count text"))

    [host] = pipeline.session.cluster.metadata.all_hosts()
    with pytest.raises(ConnectionException, match="its table differs"):
        open_lane(pipeline.session, host, [encoder.packed], level=1, timeout_s=10)


def test_a_column_added_after_the_session_prepared_changes_nothing(
    pipeline, sample, lanes_only, monkeypatch
) -> None:
    policy = replace(pipeline.policy, tables=[f"{pipeline.keyspace}.system_metrics"])
    maker = build_row_maker(policy, pipeline.session)
    pipeline.session.execute(f"ALTER TABLE {pipeline.keyspace}.system_metrics ADD a_new_column int")

    refused, retries = write(pipeline.session, maker, [sample(f"web-{number}") for number in range(12)])

    assert (refused, retries) == ([], 0)
    rows = pipeline.rows()
    assert [row["cpu_usage"] for row in rows] == [12.5] * 12
    assert [row["a_new_column"] for row in rows] == [None] * 12


def test_a_table_altered_under_an_open_lane_is_written_on(pipeline, sample) -> None:
    policy = replace(pipeline.policy, tables=[f"{pipeline.keyspace}.system_metrics"])
    maker = build_row_maker(policy, pipeline.session)

    def alter() -> None:
        pipeline.session.execute(f"ALTER TABLE {pipeline.keyspace}.system_metrics ADD a_new_column int")

    samples = [sample(f"web-{number}") for number in range(12)]
    refused, _ = write(pipeline.session, maker, samples, between=alter)

    assert refused == []
    assert [row["cpu_usage"] for row in pipeline.rows()] == [12.5] * 12


def write(session: Any, maker: Any, samples: list[Any], between: Any = lambda: None) -> tuple[list[Any], int]:
    """Write samples to the only table, one half before something happens; return refusals and retries."""
    refused: list[Any] = []
    [encoder] = maker.encoders
    writer = Writer(
        session, WritePolicy(), on_refused=lambda _row, error, _ticket: refused.append(error),
        tables=[encoder.packed], now=clock.monotonic,
    )  # fmt: skip
    ticket = OffsetTracker().open({Partition("t", 0): 1})
    try:
        for half in (samples[::2], samples[1::2]):
            if writer.counts.batches:
                between()
            for one in half:
                values = maker.decoder.decode(json.dumps(one).encode())
                writer.submit(encoder.plan.target, [encoder.encode(values, 7, None, None)], ticket)
            writer.drain()
    finally:
        writer.close()
    return refused, writer.counts.retries


def test_a_session_may_have_a_keyspace_of_its_own(pipeline, sample, cassandra_address, monkeypatch) -> None:
    cluster = build_cluster(cassandra_address)
    try:
        session = cluster.connect("system")
        forbid_driver(session, monkeypatch)
        pipeline.send(*[sample(f"web-{number % 3}", age_s=60 + number) for number in range(20)])
        result = loader.load(pipeline.policy, pipeline.config, session)
    finally:
        cluster.shutdown()

    assert (result.records, result.retries) == (20, 0)
    assert len(pipeline.rows()) == 20


def test_the_level_of_the_session_counts_on_lanes(
    pipeline, sample, cassandra_address, monkeypatch, caplog
) -> None:
    def raise_level(policy: Any, session: Any, form: Any) -> Any:
        maker = build_row_maker(policy, session, form)
        session.get_execution_profile(EXEC_PROFILE_DEFAULT).consistency_level = ConsistencyLevel.THREE
        return maker

    monkeypatch.setattr(loader, "build_row_maker", raise_level)
    pipeline.send(sample())
    cluster = build_cluster(cassandra_address)
    try:
        policy = replace(pipeline.policy, retry_seconds=0.001)
        with pytest.raises(loader.StoreError, match=r"at the profile's level, .*Unavailable"):
            loader.load(policy, pipeline.config, cluster.connect())
    finally:
        cluster.shutdown()
    # The first try is that of the lane.
    assert re.search(r"tried again in .* \(try 2; .*: Unavailable: .*'consistency': 'THREE'", caplog.text)
    assert pipeline.rows() == []


class Proxy:
    """Passes connections on to Cassandra; cuts all of them when so many bytes have been sent to it."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._sent, self._refuse, self._refuse_each = 0, 0, 0
        self._cuts: list[int] = []
        self.cut_times = self.refused = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self._listener.getsockname()[1]

    def cut_after(self, *sent: int, refuse: int = 0) -> None:
        """Cut at each of these counts of bytes from now on, and refuse so many connections after each."""
        with self._lock:
            self._cuts, self._refuse_each = [self._sent + one for one in sent], refuse

    def close(self) -> None:
        self._listener.close()
        self._cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with self._lock:
                    refuse, self._refuse = self._refuse > 0, max(0, self._refuse - 1)
                if refuse:
                    self.refused += 1
                    client.close()
                    continue
                server = socket.create_connection(self._target)
                with self._lock:
                    self._open |= {client, server}
                for one, other, counts in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pass, args=(one, other, counts), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 14):
                if counts and self._is_time(len(data)):
                    sink.sendall(data[: len(data) // 2])  # in the middle of a frame
                    self._cut()
                    return
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _is_time(self, size: int) -> bool:
        with self._lock:
            self._sent += size
            if not self._cuts or self._sent < self._cuts[0]:
                return False
            self._cuts.pop(0)
            self.cut_times += 1
            self._refuse = self._refuse_each
            return True

    def _cut(self) -> None:
        with self._lock:
            opened, self._open = self._open, set()
        for one in opened:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(cassandra_address) -> Iterator[Proxy]:
    made = Proxy(cassandra_address)
    yield made
    made.close()


def small_steps(monkeypatch: Any) -> None:
    monkeypatch.setattr(loader, "SLICE_RECORDS", 100)
    monkeypatch.setattr(assembly, "MAX_RECORDS", 500)


@pytest.mark.parametrize("refuse", [0, 3])
def test_connections_cut_in_mid_load_cost_nothing_but_retries(
    pipeline, sample, proxy, refuse, monkeypatch, caplog
) -> None:
    small_steps(monkeypatch)
    samples = [sample(f"web-{n % 20}", age_s=1 + n / 10, load_1m=float(n)) for n in range(3000)]
    pipeline.send(*samples)
    cluster = build_cluster(proxy.address)
    try:
        session = cluster.connect()
        requests = note_requests(monkeypatch)
        proxy.cut_after(100_000, 400_000, refuse=refuse)
        result = loader.load(pipeline.policy, pipeline.config, session)
    finally:
        cluster.shutdown()

    assert (proxy.cut_times, proxy.refused) == (2, 2 * refuse)
    assert len(requests) > 20
    assert result.retries > 0
    assert (result.records, result.lag_after, result.dead_letters) == (3000, 0, 0)
    assert sorted(row["load_1m"] for row in pipeline.rows()) == [float(n) for n in range(3000)]
    latest = {row["host"]: row["load_1m"] for row in pipeline.rows("latest_metrics")}
    assert latest == {f"web-{n}": float(n) for n in range(20)}
    assert sum(pipeline.committed().values()) == 3000


@pytest.fixture
def own_cassandra(tmp_path) -> Iterator[services.CassandraServer]:
    """Return a Cassandra of the test's own, which it may kill."""
    kafka, controller, cassandra, storage, ssl, *hosts = services.find_free_ports(8)
    ports = services.Ports(kafka, controller, cassandra, storage, ssl, tuple(hosts))
    instance = services.Instance("killed", tmp_path / "killed", ports, services.instance("test").jars)
    instance.cassandra.start()
    yield instance.cassandra
    instance.stop()


@pytest.mark.slow
def test_a_cassandra_killed_and_restarted_in_mid_load_is_waited_for(
    pipeline, sample, own_cassandra, monkeypatch
) -> None:
    small_steps(monkeypatch)
    samples = [sample(f"web-{n % 20}", age_s=1 + n / 10, load_1m=float(n)) for n in range(5000)]
    pipeline.send(*samples)
    restart = threading.Thread(target=own_cassandra.start)
    asked = []

    def kill_once() -> bool:
        asked.append(True)
        if len(asked) == 20:  # of 50 slices, so that some rows are stored and more are not
            assert own_cassandra.kill()
            restart.start()
        return False

    cluster, after = build_cluster(own_cassandra.address), build_cluster(own_cassandra.address)
    try:
        session = cluster.connect()
        replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
        session.execute(f"CREATE KEYSPACE {pipeline.keyspace} WITH replication = {replication}")
        for table in schema.TABLES:
            session.execute(schema.build_create_table(table, pipeline.keyspace))
        policy = replace(pipeline.policy, retry_seconds=120)
        result = loader.load(policy, pipeline.config, session, stop=kill_once)
        restart.join()
        # Over a connection that is new: the lanes may be done before the driver is connected again.
        rows = list(after.connect().execute(f"SELECT load_1m FROM {pipeline.keyspace}.system_metrics"))
    finally:
        cluster.shutdown()
        after.shutdown()

    assert (result.records, result.lag_after) == (5000, 0)
    assert result.retries > 0
    assert sorted(row.load_1m for row in rows) == [float(n) for n in range(5000)]
    assert sum(pipeline.committed().values()) == 5000
