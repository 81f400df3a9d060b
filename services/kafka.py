"""Kafka as one process or several, each broker and controller in one, from its own jars."""

from __future__ import annotations

import base64
import shutil
import subprocess
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services import install
from services.errors import ServiceError
from services.layout import ADDRESS
from services.ports import accepts
from services.server import Server

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KAFKA_VERSION = "4.3.1"


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """What may differ between Kafkas.

    :param jars: the directory that all instances share.
    :param voters: in a cluster of several brokers, each one's ``node id@address:controller port``.
    :param cluster_id: of that cluster; a broker alone makes its own.
    :param more: further properties, which win over ours.
    :param jvm_options: further options of Java.
    """

    directory: Path
    jars: Path
    port: int
    controller_port: int
    heap_mb: int = 512
    node_id: int = 1
    voters: tuple[str, ...] = ()
    cluster_id: str | None = None
    more: Mapping[str, object] = field(default_factory=dict)
    jvm_options: tuple[str, ...] = ()


def build_properties(settings: KafkaSettings) -> str:
    """Return the text of ``server.properties``."""
    client, controller = f"{ADDRESS}:{settings.port}", f"{ADDRESS}:{settings.controller_port}"
    listeners = f"PLAINTEXT://{client},CONTROLLER://{controller}"
    replicas = min(3, len(settings.voters) or 1)
    properties = {
        "process.roles": "broker,controller",
        "node.id": settings.node_id,
        **(
            {"controller.quorum.voters": ",".join(settings.voters)}
            if settings.voters
            else {"controller.quorum.bootstrap.servers": controller}
        ),
        "listeners": listeners,
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": settings.directory / "data",
        "num.partitions": 4,
        # A topic that is missing must be an error here, as it is in production.
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": replicas,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": max(1, replicas - 1),
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": max(1, replicas - 1),
        "group.initial.rebalance.delay.ms": 0,
        "num.network.threads": 2,
        "num.io.threads": 4,
        **settings.more,
    }
    return "".join(f"{name}={value}\n" for name, value in properties.items())


def build_log4j(log_file: Path) -> str:
    """Return a log4j2 configuration: INFO into one file, which stays below 20 MB with its predecessor."""
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="WARN">
  <Appenders>
    <RollingFile name="file" fileName="{log_file}" filePattern="{log_file}.%i">
      <PatternLayout pattern="%d{{ISO8601}} %-5p %c{{1}}: %m%n"/>
      <SizeBasedTriggeringPolicy size="10 MB"/>
      <DefaultRolloverStrategy max="1"/>
    </RollingFile>
  </Appenders>
  <Loggers>
    <Root level="INFO"><AppenderRef ref="file"/></Root>
  </Loggers>
</Configuration>
"""


def build_cluster_id() -> str:
    """Return a cluster id of Kafka's form: 16 random bytes in URL-safe base64, no dash first."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()).startswith("-"):
        pass
    return text


class KafkaServer(Server):
    """A broker of Kafka on loopback, formatted at its first start only."""

    def __init__(self, settings: KafkaSettings, name: str = "kafka") -> None:
        super().__init__(name, settings.directory, (settings.port, settings.controller_port))
        self.settings = settings

    @property
    def bootstrap(self) -> str:
        """The value of ``bootstrap.servers``."""
        return f"{ADDRESS}:{self.settings.port}"

    endpoint = bootstrap

    @property
    def log_file(self) -> Path:
        """The log that tells why it does not run."""
        return self.directory / "kafka.log"

    def configure(self) -> None:
        """Write its configuration, and format its data directory once."""
        (self.directory / "server.properties").write_text(build_properties(self.settings))
        (self.directory / "log4j2.xml").write_text(build_log4j(self.log_file))
        # The marker, because a format that is interrupted leaves a directory that looks formatted.
        marker = self.directory / "formatted"
        if not marker.exists():
            shutil.rmtree(self.directory / "data", ignore_errors=True)
            marker.write_text(self._format() + "\n")

    def _format(self) -> str:
        cluster_id = self.settings.cluster_id or build_cluster_id()
        properties = str(self.directory / "server.properties")
        tool = [*self._java(64), "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", properties]
        if not self.settings.voters:
            tool.append("--standalone")
        done = subprocess.run(tool, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            raise ServiceError(
                f"{self.name}: its data directory cannot be formatted\n{done.stdout}{done.stderr}"
            )
        return cluster_id

    def command(self) -> list[str]:
        """Return the command that runs it in the foreground."""
        return [*self._java(self.settings.heap_mb), "kafka.Kafka", str(self.directory / "server.properties")]

    def _java(self, heap_mb: int) -> list[str]:
        lib = install.require_jars("kafka", KAFKA_VERSION, self.settings.jars)
        return [
            install.require_java(),
            f"-Xms{min(heap_mb, 256)}m",
            f"-Xmx{heap_mb}m",
            "-XX:+UseG1GC",
            *self.settings.jvm_options,
            f"-XX:ErrorFile={self.directory}/hs_err.log",
            f"-Dlog4j2.configurationFile={self.directory / 'log4j2.xml'}",
            "-cp",
            f"{lib}/*",
        ]

    def probe(self, timeout_s: float) -> bool:
        """Tell whether it answers a metadata request."""
        if not accepts(self.settings.port, timeout_s):
            return False
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        try:
            return bool(admin.list_topics(timeout=timeout_s).brokers)
        except KafkaException:
            return False
