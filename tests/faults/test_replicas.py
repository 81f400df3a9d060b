"""One of three nodes dies under replication: the load goes on as if nothing had happened."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka.admin import AdminClient

import services
from tests.faults.conftest import KAFKA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from services.cassandra import CassandraServer
    from services.kafka import KafkaServer
    from tests.faults.rig import Rig

pytestmark = [pytest.mark.kafka, pytest.mark.cassandra, pytest.mark.slow]


@pytest.fixture
def nodes(tmp_path: Path, jars: Path) -> Iterator[services.CassandraCluster]:
    """Return a running Cassandra of three nodes."""
    cluster = services.CassandraCluster(tmp_path / "nodes", jars)
    cluster.start()
    yield cluster
    cluster.stop()
    shutil.rmtree(tmp_path / "nodes", ignore_errors=True)


@pytest.fixture
def brokers(tmp_path: Path, jars: Path) -> Iterator[services.KafkaCluster]:
    """Return a running Kafka of three brokers."""
    cluster = services.KafkaCluster(tmp_path / "brokers", jars, more=KAFKA)
    cluster.start()
    yield cluster
    cluster.stop()
    shutil.rmtree(tmp_path / "brokers", ignore_errors=True)


def test_one_of_three_cassandras_killed_at_local_quorum_fails_no_load(
    make_rig: Callable[..., Rig],
    kafka: KafkaServer,
    nodes: services.CassandraCluster,
    times: Callable[[int, int], int],
) -> None:
    rig = make_rig(kafka.bootstrap, nodes.contact_points, nodes.port, replicas=3)
    for number in range(times(1, 3)):
        task = rig.start_busy(3000)
        nodes.nodes[number].kill()
        outcome = task.finish()
        assert outcome.done, f"{rig}: {outcome.log}"
        rig.check()
        if times(0, 1):
            nodes.nodes[number].start()
            rig.check()


def test_one_of_three_brokers_killed_fails_no_load(
    make_rig: Callable[..., Rig],
    cassandra: CassandraServer,
    brokers: services.KafkaCluster,
    times: Callable[[int, int], int],
) -> None:
    address, port = cassandra.address
    rig = make_rig(brokers.bootstrap, [address], port, copies=3)
    for _ in range(times(1, 4)):
        task = rig.start_busy(4000)
        leader = brokers.brokers[find_leader(rig)]
        leader.kill()
        outcome = task.finish()
        assert outcome.code == 0, f"{rig}: {outcome.log}"
        rig.check_commits()

        rig.send(500)
        rig.run_to_end()
        rig.check()
        leader.start()


def find_leader(rig: Rig) -> int:
    """Return the broker that leads a partition of the topic, any one."""
    topics: dict[str, Any] = AdminClient({"bootstrap.servers": rig.bootstrap}).list_topics(timeout=20).topics
    leader: int = topics[rig.topic].partitions[rig.random.randrange(4)].leader
    return leader
