"""SIGSTOP of Cassandra while alerts are recorded: a write whose outcome is not known is found or repeated."""

from __future__ import annotations

import itertools
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

import services
from airflow_provider_restrack.store.alert_statements import REPEATS_S, AlertStoreError, Statements
from airflow_provider_restrack.store.session import CassandraPolicy, open_session
from services.cassandra import CassandraServer, CassandraSettings, build_cluster
from services.cluster import SHORT_LIVED
from tests.integration.store.alert_kit import check, create_tables, make_history, run_evaluator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.cassandra, pytest.mark.slow, pytest.mark.timeout(300)]

HOSTS = 200
REQUEST_TIMEOUT_S = 2.0
# Lease, five chunks, outbox, renewal, telling, release.
WRITES = 10


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, jars: Path) -> Iterator[CassandraServer]:
    """Return a Cassandra to freeze."""
    directory = tmp_path_factory.mktemp("alerts")
    ports = services.find_free_ports(3)
    server = CassandraServer(CassandraSettings(directory, jars, *ports, jvm_options=SHORT_LIVED))
    server.start()
    yield server
    server.kill()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def keyspace(server: CassandraServer) -> str:
    name = "faults"
    with connect(server) as session:
        replication = "{'class': 'NetworkTopologyStrategy', 'datacenter1': 1}"
        session.execute(f"CREATE KEYSPACE {name} WITH replication = {replication}")
        create_tables(session, name)
    return name


@pytest.fixture
def session(server: CassandraServer) -> Iterator[Any]:
    """Return the session of an evaluator that soon loses patience."""
    address, port = server.address
    policy = CassandraPolicy((address,), port, request_timeout_s=REQUEST_TIMEOUT_S)
    with open_session(policy) as session:
        yield session
    server.resume()


@contextmanager
def connect(server: CassandraServer) -> Iterator[Any]:
    """Yield a patient session."""
    cluster = build_cluster(server.address)
    try:
        yield cluster.connect()
    finally:
        cluster.shutdown()


def freeze(monkeypatch: pytest.MonkeyPatch, server: CassandraServer, at: int, tries: int) -> None:
    """Freeze the server before the ``at``th conditional write is sent, and let it go on after some tries."""
    send, numbers = Statements._run, itertools.count(1)

    def run(*arguments: Any) -> Any:
        number = next(numbers)
        if number == at:
            server.suspend()
        elif number == at + tries:
            server.resume()
        return send(*arguments)

    monkeypatch.setattr(Statements, "_run", run)


@pytest.mark.parametrize("at", range(1, WRITES))
def test_a_server_frozen_during_a_write_is_asked_again_and_has_it_once(
    session: Any, keyspace: str, server: CassandraServer, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    scope = f"frozen shortly at {at}"
    with monkeypatch.context() as patch:
        freeze(patch, server, at, tries=2)
        run_evaluator(session, keyspace, scope, make_history(HOSTS))

    with connect(server) as patient:
        check(patient, keyspace, scope, HOSTS)


@pytest.mark.parametrize("at", [1, 2, 4, 7, 9])
def test_a_server_frozen_for_longer_than_all_tries_fails_the_run_and_the_next_completes_it(
    session: Any, keyspace: str, server: CassandraServer, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    scope = f"frozen at {at}"
    with monkeypatch.context() as patch:
        freeze(patch, server, at, tries=len(REPEATS_S) + 9)
        with pytest.raises(AlertStoreError, match=r"alerts .* cannot be written: .*is not known: run again"):
            run_evaluator(session, keyspace, scope, make_history(HOSTS), ttl_s=10)
    server.resume()

    with connect(server) as patient:
        # It comes as soon as the lease of the one that failed has ended, or was let go late.
        run_evaluator(patient, keyspace, scope, make_history(HOSTS), wait_s=100)
        check(patient, keyspace, scope, HOSTS)
