"""Several nodes of one server on one machine, each killed, suspended and started by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from services.cassandra import CassandraServer, CassandraSettings
from services.kafka import KafkaServer, KafkaSettings, build_cluster_id
from services.layout import ADDRESS
from services.ports import find_free_ports
from services.server import start_all

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_NODE_HEAP_MB = 384
# Only Java's quick compiler: for the minutes that such a node lives the other one costs more than it saves.
SHORT_LIVED = ("-XX:TieredStopAtLevel=1",)


class CassandraCluster:
    """A Cassandra of several nodes, on the addresses 127.0.0.2, 127.0.0.3 and so on and on the same ports.

    :param directory: of all its nodes' data and logs.
    :param jars: the directory of downloaded jars, which instances share.
    :param more: keys of ``cassandra.yaml`` for all nodes.
    """

    def __init__(
        self, directory: Path, jars: Path, nodes: int = 3, *, more: Mapping[str, Any] | None = None
    ) -> None:
        port, storage, storage_ssl = find_free_ports(3)
        addresses = [f"127.0.0.{number + 2}" for number in range(nodes)]
        self.nodes = tuple(
            CassandraServer(
                CassandraSettings(
                    directory / f"cassandra-{number}",
                    jars,
                    port,
                    storage,
                    storage_ssl,
                    heap_mb=_NODE_HEAP_MB,
                    direct_memory_mb=_NODE_HEAP_MB,
                    address=address,
                    seed=addresses[0],
                    more=more or {},
                    jvm_options=SHORT_LIVED,
                ),
                f"cassandra-{number}",
            )
            for number, address in enumerate(addresses, 1)
        )
        self.contact_points = tuple(addresses)
        self.port = port

    def start(self) -> None:
        """Start the nodes that do not run: the first before the others, which ask it who is there.

        :raises ServiceError: if one cannot start; none of them runs then.
        """
        try:
            start_all(self.nodes[:1])
            start_all(self.nodes[1:])
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Kill all nodes: what they acknowledged stays, and none waits for another that ends too."""
        for node in self.nodes:
            node.kill()


class KafkaCluster:
    """A Kafka of several brokers, each of which votes for the controller too.

    :param directory: of all its brokers' data and logs.
    :param jars: the directory of downloaded jars, which instances share.
    :param more: properties for all brokers.
    """

    def __init__(
        self, directory: Path, jars: Path, brokers: int = 3, *, more: Mapping[str, object] | None = None
    ) -> None:
        free = find_free_ports(2 * brokers)
        ports, controllers = free[:brokers], free[brokers:]
        voters = tuple(f"{number}@{ADDRESS}:{port}" for number, port in enumerate(controllers, 1))
        cluster_id = build_cluster_id()
        self.brokers = {
            number: KafkaServer(
                KafkaSettings(
                    directory / f"kafka-{number}",
                    jars,
                    port,
                    controller,
                    heap_mb=_NODE_HEAP_MB,
                    node_id=number,
                    voters=voters,
                    cluster_id=cluster_id,
                    more=more or {},
                    jvm_options=SHORT_LIVED,
                ),
                f"kafka-{number}",
            )
            for number, (port, controller) in enumerate(zip(ports, controllers, strict=True), 1)
        }
        self.bootstrap = ",".join(broker.bootstrap for broker in self.brokers.values())

    def start(self) -> None:
        """Start the brokers that do not run.

        :raises ServiceError: if one cannot start; those that this call started are stopped again.
        """
        start_all(self.brokers.values())

    def stop(self) -> None:
        """Kill all brokers: what they acknowledged stays; the last would wait for a controller in vain."""
        for broker in self.brokers.values():
            broker.kill()
