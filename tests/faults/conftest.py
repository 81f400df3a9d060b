"""Servers for tests that break them: of their own, on free ports; the shared instance is never touched.

The tests are short by default. ``RESTRACK_FAULTS=full`` (``make test-faults``) repeats each fault more often
and lets it last longer; ``RESTRACK_FAULTS_SEED`` repeats the random choices of a run that failed.
"""

from __future__ import annotations

import os
import random
import shutil
from typing import TYPE_CHECKING, Any

import pytest

import services
from services.cassandra import CassandraServer, CassandraSettings
from services.cluster import SHORT_LIVED
from services.kafka import KafkaServer, KafkaSettings
from services.server import start_all
from tests.faults.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FULL = os.environ.get("RESTRACK_FAULTS") == "full"
# A member of the group that was killed is missed by the broker after this time, by default 45 s.
SESSION_MS = 3000
KAFKA = {"group.min.session.timeout.ms": 1000, "broker.session.timeout.ms": 4000}
CLIENT = {
    "session.timeout.ms": SESSION_MS,
    "heartbeat.interval.ms": 500,
    # Little is read ahead, so that a load has many chunks, and commits between them.
    "queued.max.messages.kbytes": 1024,
    "fetch.message.max.bytes": 131_072,
    "fetch.queue.backoff.ms": 100,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of this directory the time that the full set takes."""
    for item in items:
        if "make_rig" in getattr(item, "fixturenames", ()) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(1800 if FULL else 600))


@pytest.fixture(scope="session")
def jars() -> Path:
    """Return the directory of the servers' jars."""
    return services.instance("test").jars


@pytest.fixture(scope="session")
def broken(
    tmp_path_factory: pytest.TempPathFactory, jars: Path
) -> Iterator[tuple[KafkaServer, CassandraServer]]:
    """Return a Kafka and a Cassandra that run when a test begins, and that it may break."""
    directory = tmp_path_factory.mktemp("faults")
    port, controller, native, storage, storage_ssl = services.find_free_ports(5)
    kafka = KafkaServer(
        KafkaSettings(directory / "kafka", jars, port, controller, more=KAFKA, jvm_options=SHORT_LIVED)
    )
    cassandra = CassandraServer(
        CassandraSettings(
            directory / "cassandra", jars, native, storage, storage_ssl, jvm_options=SHORT_LIVED
        )
    )
    yield kafka, cassandra
    for server in (kafka, cassandra):
        server.kill()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def kafka(broken: tuple[KafkaServer, CassandraServer]) -> KafkaServer:
    """Return the Kafka to break."""
    start_all(broken)
    return broken[0]


@pytest.fixture
def cassandra(broken: tuple[KafkaServer, CassandraServer]) -> CassandraServer:
    """Return the Cassandra to break."""
    start_all(broken)
    return broken[1]


@pytest.fixture
def times() -> Callable[[int, int], int]:
    """Return a chooser between the short number and the full one."""
    return lambda short, full: full if FULL else short


@pytest.fixture
def make_rig(tmp_path: Path, unique: Callable[[str], str]) -> Iterator[Callable[..., Rig]]:
    """Return a maker of rigs over given servers."""
    made: list[Rig] = []

    def make(bootstrap: str, contact_points: list[str], port: int, **changes: Any) -> Rig:
        seed = int(os.environ.get("RESTRACK_FAULTS_SEED") or random.SystemRandom().randrange(10**6))
        rig = Rig(unique("faults"), seed, tmp_path, bootstrap, contact_points, port, client=CLIENT, **changes)
        made.append(rig)
        rig.create()
        return rig

    yield make
    for rig in made:
        rig.close()


@pytest.fixture
def rig(make_rig: Callable[..., Rig], kafka: KafkaServer, cassandra: CassandraServer) -> Iterator[Rig]:
    """Return a fresh rig on the servers to break."""
    address, port = cassandra.address
    yield make_rig(kafka.bootstrap, [address], port)
    for server in (kafka, cassandra):
        server.resume()
