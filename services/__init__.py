"""Kafka, Cassandra and sshd hosts on loopback for development, tests and the demo, without Docker."""

from services.cluster import CassandraCluster, KafkaCluster
from services.errors import ServiceError
from services.instance import Instance, instance, prepare
from services.layout import Ports
from services.ports import find_free_ports
from services.sshd import SshdFleet, SshdHost, SshdServer

__all__ = [
    "CassandraCluster",
    "Instance",
    "KafkaCluster",
    "Ports",
    "ServiceError",
    "SshdFleet",
    "SshdHost",
    "SshdServer",
    "find_free_ports",
    "instance",
    "prepare",
]
