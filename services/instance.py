"""One instance: a Kafka, a Cassandra and a fleet of sshd hosts that start and stop together."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from services import install
from services.cassandra import CASSANDRA_VERSION, LOCAL_DC, CassandraServer, CassandraSettings
from services.errors import ServiceError
from services.kafka import KAFKA_VERSION, KafkaServer, KafkaSettings
from services.layout import INSTANCES, SSHD_NAMES, home, jars_home
from services.server import locked, start_all
from services.sshd import SshdFleet, SshdHost

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from services.cassandra import CommitlogSync
    from services.layout import Ports
    from services.server import Server

log = logging.getLogger("services")


def prepare(jars: Path | None = None) -> None:
    """Make sure that Java, sshd and the jars are there, with whatever downloads that takes.

    :raises ServiceError: with the command to run, if something is missing and cannot be installed.
    """
    log.info("java: %s", install.require_java())
    log.info("sshd: %s", install.require_sshd())
    for server, version in (("kafka", KAFKA_VERSION), ("cassandra", CASSANDRA_VERSION)):
        log.info("%s: %s", server, install.require_jars(server, version, jars or jars_home()))


class Instance:
    """The servers of one instance.

    :param directory: of all its data, keys and logs.
    :param jars: the directory of downloaded jars, which instances share.
    :param heap_mb: of Cassandra; 512 is enough for tests, a benchmark wants 1024.
    :param commitlog_sync: of Cassandra, see CassandraSettings.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        ports: Ports,
        jars: Path,
        *,
        heap_mb: int = 512,
        commitlog_sync: CommitlogSync = "batch",
    ) -> None:
        self.name = name
        self.directory = directory
        self.jars = jars
        self.kafka = KafkaServer(
            KafkaSettings(directory / "kafka", jars, ports.kafka, ports.kafka_controller)
        )
        self.cassandra = CassandraServer(
            CassandraSettings(
                directory / "cassandra",
                jars,
                ports.cassandra,
                ports.cassandra_storage,
                ports.cassandra_storage_ssl,
                heap_mb=heap_mb,
                commitlog_sync=commitlog_sync,
            )
        )
        hosts = [SshdHost(host, port) for host, port in zip(SSHD_NAMES, ports.sshd, strict=True)]
        self.ssh = SshdFleet(directory / "ssh", hosts)

    def __repr__(self) -> str:
        return f"<Instance {self.name} {'running' if self.running else 'not running'}>"

    @property
    def servers(self) -> tuple[Server, ...]:
        """All servers, the quickest to stop first."""
        return (*self.ssh.hosts, self.kafka, self.cassandra)

    @property
    def running(self) -> bool:
        """Whether every server runs."""
        return all(server.running for server in self.servers)

    def start(self) -> tuple[Server, ...]:
        """Start the servers that do not run, wait until all answer, and return those that this call started.

        :raises ServiceError: if one cannot start; those that this call started are stopped again.
        """
        with self._locked():
            prepare(self.jars)
            self.ssh.write_known_hosts()
            return start_all(self.servers)

    def stop(self) -> tuple[Server, ...]:
        """Stop the servers that run, and return them."""
        with self._locked():
            return tuple(server for server in self.servers if server.stop())

    def airflow_connections(self) -> dict[str, dict[str, Any]]:
        """Return Airflow's connections to these servers, in the form of ``AIRFLOW_CONN_<ID>`` as JSON."""
        address, port = self.cassandra.address
        host = self.ssh.hosts[0]
        ssh_extra = {
            "key_file": str(self.ssh.client_key),
            "known_hosts": str(self.ssh.known_hosts),
            "no_host_key_check": False,
        }
        return {
            "kafka_default": {"conn_type": "kafka", "extra": {"bootstrap.servers": self.kafka.bootstrap}},
            "cassandra_default": {
                "conn_type": "cassandra",
                "host": address,
                "port": port,
                "extra": {"local_dc": LOCAL_DC},
            },
            "ssh_default": {
                "conn_type": "ssh",
                "host": host.address,
                "port": host.port,
                "login": self.ssh.user,
                "extra": ssh_extra,
            },
        }

    @contextmanager
    def _locked(self) -> Iterator[None]:
        waiting = f"another process starts or stops the instance {self.name}"
        with locked(self.directory / "lock", waiting):
            yield


def instance(name: str = "dev", *, heap_mb: int = 512, commitlog_sync: CommitlogSync = "batch") -> Instance:
    """Return an instance by its name; nothing is started by that.

    :param heap_mb: of Cassandra, from its next start on.
    :param commitlog_sync: likewise.

    :raises ServiceError: if there is none of that name.
    """
    if name not in INSTANCES:
        raise ServiceError(f"there is no instance {name!r}: use one of {', '.join(INSTANCES)}")
    return Instance(
        name, home() / name, INSTANCES[name], jars_home(), heap_mb=heap_mb, commitlog_sync=commitlog_sync
    )
