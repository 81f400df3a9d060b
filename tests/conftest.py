"""Fixtures of all tests: Airflow's home is a scratch directory, set before anything imports Airflow.

The servers are real ones, of the instance ``test`` of services/. They are started when the first test asks
for them and stopped at the end, unless they ran before: ``python -m services start --instance test`` keeps
them between runs. A server that cannot start fails the tests; none is ever skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
AIRFLOW_HOME = ROOT / ".restrack" / "test" / "airflow"
os.environ["AIRFLOW_HOME"] = str(AIRFLOW_HOME)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(ROOT / "example_dags")
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"

import hypothesis  # noqa: E402 - Airflow reads its environment when it is imported
import pytest  # noqa: E402

import services  # noqa: E402
from services.server import locked  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from services.server import Server

# How fast examples are made is the machine's matter: a loaded one, or a first run, fails no test by that.
hypothesis.settings.register_profile(
    "restrack", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("restrack")

# The links between network devices in these /sys trees form rings, in which pytest would walk without an end.
collect_ignore = ["unit/collect/agent_cases"]
# Threads that libraries keep for the whole process, by the start of their names.
LASTING_THREADS = (
    "shared-cassandra-session",  # the pool of the session fixture, which grows with use
)
THREAD_LIMIT_S = 5.0


@pytest.fixture
def unique() -> Callable[[str], str]:
    """Return a maker of names that no other test uses."""
    return lambda prefix: f"{prefix}_{uuid.uuid4().hex[:12]}"


@pytest.fixture(autouse=True)
def _no_leaked_thread() -> Iterator[None]:
    """Fail a test that leaves a thread behind which would keep the process from ending."""
    before = set(threading.enumerate())
    yield
    leaked = [
        thread
        for thread in set(threading.enumerate()) - before
        if not thread.daemon and not thread.name.startswith(LASTING_THREADS)
    ]
    for thread in leaked:
        thread.join(THREAD_LIMIT_S)
    alive = [thread.name for thread in leaked if thread.is_alive()]
    assert not alive, f"the test leaves threads running: {alive}"


@pytest.fixture(scope="session")
def test_instance() -> services.Instance:
    """Return the instance ``test``; its servers run only once a fixture below has asked for them."""
    return services.instance("test")


@contextmanager
def _started(*servers: Server) -> Iterator[None]:
    """Start those servers that do not run, and stop exactly those at the end."""
    with ExitStack() as stack:
        for server in servers:
            if server.start():
                stack.callback(server.stop)
        yield


@pytest.fixture(scope="session")
def kafka_bootstrap(test_instance: services.Instance) -> Iterator[str]:
    """Return ``bootstrap.servers`` of a running Kafka that creates no topic by itself."""
    with _started(test_instance.kafka):
        yield test_instance.kafka.bootstrap


@pytest.fixture(scope="session")
def cassandra_address(test_instance: services.Instance) -> Iterator[tuple[str, int]]:
    """Return host and port of a running Cassandra, one node in ``datacenter1``."""
    with _started(test_instance.cassandra):
        yield test_instance.cassandra.address


@pytest.fixture(scope="session")
def sshd_hosts(test_instance: services.Instance) -> Iterator[Sequence[services.SshdServer]]:
    """Return three running hosts: name, address, port, user, client_key, known_hosts, public_key of each."""
    test_instance.ssh.write_known_hosts()
    with _started(*test_instance.ssh.hosts):
        yield test_instance.ssh.hosts


@pytest.fixture(scope="session")
def cassandra_session(cassandra_address: tuple[str, int]) -> Iterator[Any]:
    """Return a plain driver session, shared by all tests."""
    from services.cassandra import build_cluster

    cluster = build_cluster(cassandra_address)
    cluster.executor._thread_name_prefix = "shared-cassandra-session"
    try:
        yield cluster.connect()
    finally:
        cluster.shutdown()


@pytest.fixture
def keyspace(cassandra_session: Any, unique: Callable[[str], str]) -> Iterator[str]:
    """Return the name of a fresh keyspace with one replica, dropped afterwards."""
    name = unique("test")
    replication = "{'class': 'NetworkTopologyStrategy', 'datacenter1': 1}"
    cassandra_session.execute(f"CREATE KEYSPACE {name} WITH replication = {replication}")
    yield name
    cassandra_session.execute(f"DROP KEYSPACE IF EXISTS {name}")


@pytest.fixture(scope="session")
def kafka_admin(kafka_bootstrap: str) -> Any:
    """Return an admin client, shared by all tests."""
    from confluent_kafka.admin import AdminClient

    return AdminClient({"bootstrap.servers": kafka_bootstrap})


@pytest.fixture
def topic(kafka_admin: Any, unique: Callable[[str], str]) -> Iterator[str]:
    """Return the name of a fresh topic with 4 partitions, deleted afterwards."""
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import NewTopic

    name = unique("test")
    kafka_admin.create_topics([NewTopic(name, num_partitions=4, replication_factor=1)])[name].result(30)
    for _ in range(300):  # a broker that is busy tells of it a moment after it was made
        if name in kafka_admin.list_topics(timeout=30).topics:
            break
        threading.Event().wait(0.1)
    yield name
    try:
        kafka_admin.delete_topics([name])[name].result(30)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:  # the test may have deleted it
            raise


@pytest.fixture
def start_sshd(tmp_path: Path) -> Iterator[Callable[..., services.SshdServer]]:
    """Return a starter of more sshd on free ports: ``start_sshd("odd", extra_config=["ForceCommand …"])``.

    Each has a host key, a client key and a ``known_hosts`` of its own, and is stopped after the test.
    """
    fleets: list[services.SshdFleet] = []

    def start(name: str = "extra", extra_config: Sequence[str] = ()) -> services.SshdServer:
        (port,) = services.find_free_ports(1)
        host = services.SshdHost(name, port, tuple(extra_config))
        fleets.append(services.SshdFleet(tmp_path / f"sshd-{name}-{port}", [host]))
        fleets[-1].start()
        return fleets[-1].hosts[0]

    yield start
    for fleet in fleets:
        fleet.stop()


@pytest.fixture(scope="session")
def airflow_db() -> Path:
    """Migrate Airflow's database in AIRFLOW_HOME, once for each version of Airflow, and return that home."""
    from importlib.metadata import version

    stamp = AIRFLOW_HOME / f"migrated-{version('apache-airflow')}"
    with locked(AIRFLOW_HOME / "migrate.lock", "another test session migrates Airflow's database"):
        if not (stamp.exists() and (AIRFLOW_HOME / "airflow.db").exists()):
            command = [sys.executable, "-m", "airflow", "db", "migrate"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=110)
            assert done.returncode == 0, (
                f"airflow db migrate failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
            stamp.touch()
    return AIRFLOW_HOME
