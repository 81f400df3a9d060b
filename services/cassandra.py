"""Cassandra as one node or several, from its own jars, with settings for small machines."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from services import install
from services.layout import ADDRESS
from services.ports import accepts
from services.server import Server

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cassandra.cluster import Cluster

CASSANDRA_VERSION = "5.0.8"
LOCAL_DC = "datacenter1"
CommitlogSync = Literal["batch", "periodic"]

# What Cassandra's own jvm17-server.options open to it; without them it ends at its start.
_EXPORTS = (
    "java.base/jdk.internal.misc",
    "java.base/java.lang.ref",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.management/com.sun.jmx.remote.security",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "jdk.unsupported/sun.misc",
)
_OPENS = (
    "java.base/java.lang.module",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.util.jar",
    "java.base/sun.nio.ch",
    "java.base/java.io",
    "java.base/java.lang.reflect",
    "java.base/java.lang",
    "java.base/java.util",
    "java.base/java.nio",
    "jdk.management/com.sun.management.internal",
)
_NO_WAITS = (
    "-Dcassandra.skip_wait_for_gossip_to_settle=0",
    "-Dcassandra.superuser_setup_delay_ms=0",
)
# One node has nobody to gossip with, and no tokens to share.
_ALONE = ("-Dcassandra.ring_delay_ms=0", "-Dcassandra.initial_token=0")
_IN_A_CLUSTER = ("-Dcassandra.ring_delay_ms=5000",)  # for so long a node asks its seed before it gives up


@dataclass(frozen=True, slots=True)
class CassandraSettings:
    """What may differ between Cassandras.

    :param jars: the directory that all instances share.
    :param commitlog_sync: ``periodic``, Cassandra's own default, acknowledges before the row is safe: a crash
        then loses the last 100 ms, which other replicas make up for. This one node has none: ``batch``
        is the default here, at half the writes a second; a benchmark wants ``periodic``.
    :param address: of loopback, on which the node listens.
    :param seed: in a cluster of several nodes, the address of its first node.
    :param more: further keys of ``cassandra.yaml``, which win over ours.
    :param jvm_options: further options of Java.
    """

    directory: Path
    jars: Path
    port: int
    storage_port: int
    storage_port_ssl: int
    heap_mb: int = 512
    commitlog_sync: CommitlogSync = "batch"
    direct_memory_mb: int = 512
    address: str = ADDRESS
    seed: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    jvm_options: tuple[str, ...] = ()


def build_yaml(settings: CassandraSettings) -> str:
    """Return the text of ``cassandra.yaml``: JSON values, which are YAML too, with quotes settled."""
    data = settings.directory / "data"
    seeds = f"{settings.seed or settings.address}:{settings.storage_port}"
    keys = {
        "cluster_name": "restrack",
        "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
        "endpoint_snitch": "SimpleSnitch",
        # A new node of a development cluster has no rows to take over from the others.
        **({"num_tokens": 1} if settings.seed is None else {"num_tokens": 16, "auto_bootstrap": False}),
        "storage_port": settings.storage_port,
        "ssl_storage_port": settings.storage_port_ssl,
        "native_transport_port": settings.port,
        "listen_address": settings.address,
        "rpc_address": settings.address,
        "seed_provider": [
            {
                "class_name": "org.apache.cassandra.locator.SimpleSeedProvider",
                "parameters": [{"seeds": seeds}],
            }
        ],
        "data_file_directories": [str(data / "data")],
        **{
            f"{kind}_directory": str(data / kind)
            for kind in ("commitlog", "saved_caches", "hints", "cdc_raw")
        },
        "commitlog_sync": settings.commitlog_sync,
        **({"commitlog_sync_period": "10s"} if settings.commitlog_sync == "periodic" else {}),
        "auto_snapshot": False,
        "hinted_handoff_enabled": False,
        "disk_access_mode": "standard",
        "memtable_allocation_type": "heap_buffers",
        "commitlog_segment_size": "5MiB",
        **settings.more,
    }
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in keys.items())


def build_logback(log_file: Path) -> str:
    """Return a logback configuration: INFO into one file, which stays below 20 MB with its predecessor."""
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<configuration scan="false">
  <appender name="file" class="ch.qos.logback.core.rolling.RollingFileAppender">
    <file>{log_file}</file>
    <rollingPolicy class="ch.qos.logback.core.rolling.FixedWindowRollingPolicy">
      <fileNamePattern>{log_file}.%i</fileNamePattern>
      <minIndex>1</minIndex>
      <maxIndex>1</maxIndex>
    </rollingPolicy>
    <triggeringPolicy class="ch.qos.logback.core.rolling.SizeBasedTriggeringPolicy">
      <maxFileSize>10MB</maxFileSize>
    </triggeringPolicy>
    <encoder><pattern>%date{{ISO8601}} %-5level %logger{{0}}: %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="file"/></root>
</configuration>
"""


class CassandraServer(Server):
    """A node of Cassandra on loopback, in data centre ``datacenter1``."""

    ready_limit_s = 120.0

    def __init__(self, settings: CassandraSettings, name: str = "cassandra") -> None:
        ports = (settings.port, settings.storage_port, settings.storage_port_ssl)
        super().__init__(name, settings.directory, ports, address=settings.address)
        self.settings = settings

    @property
    def address(self) -> tuple[str, int]:
        """Host and port for drivers."""
        return self.settings.address, self.settings.port

    @property
    def endpoint(self) -> str:
        """Where clients connect, as ``address:port``."""
        return f"{self.settings.address}:{self.settings.port}"

    @property
    def log_file(self) -> Path:
        """The log that tells why it does not run."""
        return self.directory / "cassandra.log"

    def configure(self) -> None:
        """Write its configuration."""
        (self.directory / "cassandra.yaml").write_text(build_yaml(self.settings))
        (self.directory / "logback.xml").write_text(build_logback(self.log_file))

    def command(self) -> list[str]:
        """Return the command that runs it in the foreground."""
        lib = install.require_jars("cassandra", CASSANDRA_VERSION, self.settings.jars)
        (agent,) = lib.glob("jamm-*.jar")
        heap = self.settings.heap_mb
        return [
            install.require_java(),
            f"-javaagent:{agent}",
            *(f"-Xms{heap}m", f"-Xmx{heap}m", "-XX:+UseG1GC"),
            f"-XX:MaxDirectMemorySize={self.settings.direct_memory_mb}m",
            f"-XX:ErrorFile={self.directory}/hs_err.log",
            *self.settings.jvm_options,
            "-Djdk.attach.allowAttachSelf=true",
            "-Dio.netty.tryReflectionSetAccessible=true",
            *(f"--add-exports={name}=ALL-UNNAMED" for name in _EXPORTS),
            *(f"--add-opens={name}=ALL-UNNAMED" for name in _OPENS),
            f"-Dlogback.configurationFile={self.directory / 'logback.xml'}",
            f"-Dcassandra.config={(self.directory / 'cassandra.yaml').as_uri()}",
            f"-Dcassandra.storagedir={self.directory / 'data'}",
            "-Dcassandra-foreground=true",
            *_NO_WAITS,
            *(_ALONE if self.settings.seed is None else _IN_A_CLUSTER),
            *("-cp", f"{lib}/*", "org.apache.cassandra.service.CassandraDaemon"),
        ]

    def probe(self, timeout_s: float) -> bool:
        """Tell whether a driver session connects."""
        if not accepts(self.settings.port, timeout_s, self.settings.address):
            return False
        from cassandra import DriverException
        from cassandra.cluster import NoHostAvailable

        cluster = build_cluster(self.address, timeout_s)
        try:
            cluster.connect()
        except (NoHostAvailable, DriverException, OSError):
            return False
        finally:
            cluster.shutdown()
        return True


def build_cluster(address: tuple[str, int], timeout_s: float = 10.0) -> Cluster:
    """Return an unconnected driver cluster for a development node; who connects it shuts it down."""
    from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
    from cassandra.policies import DCAwareRoundRobinPolicy, TokenAwarePolicy

    profile = ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(LOCAL_DC)), request_timeout=30.0
    )
    host, port = address
    return Cluster(
        [host],
        port=port,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        connect_timeout=timeout_s,
        control_connection_timeout=timeout_s,
        protocol_version=5,
    )
