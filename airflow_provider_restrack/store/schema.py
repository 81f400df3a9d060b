"""The fields of a sample and the tables that keep it, as data.

Everything that knows a field's name or type derives it from here: CREATE statements, the agent's contract test,
rules' metric names and the metrics reference in ``docs/``. A new metric is one line in ``FIELDS`` and one in the agent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

KEYSPACE = "metrics"
TOPIC = "system_metrics"
DEAD_LETTER_TOPIC = "system_metrics_dead_letters"
ALERT_TOPIC = "system_alerts"

RAW_TTL_S = 14 * 24 * 3600
# As long as hints are kept (3 h), for tables whose rows expire by TTL and are not deleted: no tombstone has to
# outlive a repair. In the table of newest samples each field that a sample lacks is a tombstone, which has to outlive
# the older records that may still be loaded: it is kept as long as rows are.
GC_GRACE_S = 10800

WriteMode = Literal["merge", "replace"]
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,47}")


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a sample: the Kafka field, the Cassandra column and the metric of that name.

    ``unit`` is that of the value, or of each value of a map or list; empty where there is none.
    """

    name: str
    type: str
    unit: str
    group: str
    meaning: str

    @property
    def is_metric(self) -> bool:
        """Whether a rule can compare it with a threshold: a number, a truth value, or a map of numbers."""
        return self.type in _METRIC_TYPES and self.group != "identity"


@dataclass(frozen=True, slots=True)
class Table:
    """A table: which columns make its key, how a row is written, its storage options.

    ``columns`` are name → CQL type, those of a sample if left out; ``user_types`` are the definitions of the
    user-defined types that they use: name → field → CQL type.
    """

    name: str
    partition_key: tuple[str, ...]
    clustering: tuple[str, ...]
    write_mode: WriteMode
    options: Mapping[str, str]
    meaning: str
    columns: Mapping[str, str] = field(default_factory=lambda: SAMPLE_COLUMNS)
    user_types: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def primary_key(self) -> tuple[str, ...]:
        """The key columns, partition first."""
        return self.partition_key + self.clustering


_METRIC_TYPES = frozenset({"double", "int", "bigint", "boolean", "map<text,double>"})

_PERCENT, _BYTES, _BYTES_PER_S, _SECONDS = "%", "bytes", "bytes/s", "s"

# fmt: off
FIELDS: tuple[Field, ...] = (  # one line a field
    Field("host", "text", "", "identity", "name of the host, as the DAG calls it"),
    Field("day", "date", "", "identity", "UTC day of `timestamp`; derived by the loader"),
    Field("timestamp", "timestamp", "", "identity", "when the sample was taken: the collecting worker's clock, UTC, milliseconds"),
    Field("id", "uuid", "", "identity", "UUIDv5 of host and timestamp: the same sample has the same id however often it is sent"),
    Field("labels", "map<text,text>", "", "identity", "labels that the DAG gave to the host"),
    Field("up", "boolean", "", "outcome", "whether the host answered with a sample"),
    Field("outcome", "text", "", "outcome", "ok, partial, unreachable, auth_failed, hostkey_mismatch, timeout, no_python or parse_error"),
    Field("error", "text", "", "outcome", "why the sample is missing or partial"),
    Field("collector", "text", "", "outcome", "what read the values: psutil, procfs where the host's Python lacks it, or sh where there is no Python"),
    Field("collect_seconds", "double", _SECONDS, "outcome", "time from the start of the connection or command to the sample"),
    Field("clock_skew", "double", _SECONDS, "outcome", "host's clock minus worker's; its error is half the round trip"),
    Field("boot_id", "text", "", "outcome", "the kernel's random id of this boot"),
    Field("uptime", "double", _SECONDS, "outcome", "time since the host booted"),
    Field("window_seconds", "double", _SECONDS, "outcome", "time that rates and CPU shares are averaged over"),
    Field("cpu_usage", "double", _PERCENT, "cpu", "share of CPU time in use: 100 − idle − iowait"),
    Field("cpu_user", "double", _PERCENT, "cpu", "share of CPU time in user mode, nice included"),
    Field("cpu_system", "double", _PERCENT, "cpu", "share of CPU time in the kernel, irq and softirq included"),
    Field("cpu_iowait", "double", _PERCENT, "cpu", "share of CPU time idle with disk I/O outstanding"),
    Field("cpu_steal", "double", _PERCENT, "cpu", "share of CPU time that the hypervisor gave to others"),
    Field("cpu_count", "int", "CPUs", "cpu", "logical CPUs online"),
    Field("cpu_core_usage", "list<double>", _PERCENT, "cpu", "`cpu_usage` of each logical CPU, in the kernel's order"),
    Field("load_1m", "double", "tasks", "cpu", "load average of 1 minute"),
    Field("load_5m", "double", "tasks", "cpu", "load average of 5 minutes"),
    Field("load_15m", "double", "tasks", "cpu", "load average of 15 minutes"),
    Field("memory_total", "bigint", _BYTES, "memory", "usable physical memory"),
    Field("memory_used", "bigint", _BYTES, "memory", "total − available"),
    Field("memory_available", "bigint", _BYTES, "memory", "what new work can have without swapping (MemAvailable)"),
    Field("memory_usage", "double", _PERCENT, "memory", "used / total"),
    Field("swap_total", "bigint", _BYTES, "memory", "swap space"),
    Field("swap_used", "bigint", _BYTES, "memory", "swap space in use"),
    Field("swap_usage", "double", _PERCENT, "memory", "used / total of swap; null without swap"),
    Field("swap_in", "double", _BYTES_PER_S, "memory", "read from swap"),
    Field("swap_out", "double", _BYTES_PER_S, "memory", "written to swap"),
    Field("disk_usage", "double", _PERCENT, "disk", "of the root filesystem, as df: used / (used + available to users)"),
    Field("disk_total", "bigint", _BYTES, "disk", "size of the root filesystem"),
    Field("disk_used", "bigint", _BYTES, "disk", "used on the root filesystem"),
    Field("disk_free", "bigint", _BYTES, "disk", "available to users on the root filesystem"),
    Field("filesystem_usage", "map<text,double>", _PERCENT, "disk", "`disk_usage` of each mounted filesystem"),
    Field("filesystem_free", "map<text,double>", _BYTES, "disk", "available to users on each mounted filesystem"),
    Field("inode_usage", "map<text,double>", _PERCENT, "disk", "inodes in use on each mounted filesystem that counts them"),
    Field("disk_io_read", "double", _BYTES_PER_S, "disk_io", "read from whole disks"),
    Field("disk_io_write", "double", _BYTES_PER_S, "disk_io", "written to whole disks"),
    Field("disk_io_busy", "double", _PERCENT, "disk_io", "share of time that the busiest disk had I/O in flight"),
    Field("device_read", "map<text,double>", _BYTES_PER_S, "disk_io", "read from each disk"),
    Field("device_write", "map<text,double>", _BYTES_PER_S, "disk_io", "written to each disk"),
    Field("device_busy", "map<text,double>", _PERCENT, "disk_io", "share of time that each disk had I/O in flight"),
    Field("network_io_recv", "double", _BYTES_PER_S, "network", "received over all kept interfaces"),
    Field("network_io_sent", "double", _BYTES_PER_S, "network", "sent over all kept interfaces"),
    Field("network_errors", "double", "packets/s", "network", "receive and send errors"),
    Field("network_drops", "double", "packets/s", "network", "received and sent packets dropped"),
    Field("interface_recv", "map<text,double>", _BYTES_PER_S, "network", "received by each kept interface"),
    Field("interface_sent", "map<text,double>", _BYTES_PER_S, "network", "sent by each kept interface"),
    Field("process_count", "int", "processes", "processes", "processes"),
    Field("process_running", "int", "tasks", "processes", "tasks that run or could run (procs_running)"),
    Field("process_blocked", "int", "tasks", "processes", "tasks that wait for I/O (procs_blocked)"),
    Field("open_files", "bigint", "files", "processes", "file handles allocated by the kernel"),
    Field("tcp_connections", "int", "connections", "processes", "established TCP connections, IPv4 and IPv6"),
    Field("pressure_cpu", "double", _PERCENT, "pressure", "time that some task waited for a CPU (PSI some, 60 s average)"),
    Field("pressure_memory", "double", _PERCENT, "pressure", "time that some task waited for memory (PSI some, 60 s average)"),
    Field("pressure_io", "double", _PERCENT, "pressure", "time that some task waited for I/O (PSI some, 60 s average)"),
    Field("container_cpu_usage", "double", _PERCENT, "container", "CPU use of the cgroup, of its quota; only with a quota"),
    Field("container_memory_usage", "double", _PERCENT, "container", "memory use of the cgroup, of its limit; only with a limit"),
    Field("container_memory_limit", "bigint", _BYTES, "container", "memory limit of the cgroup; only with a limit"),
    Field("cpu_busy_seconds", "double", _SECONDS, "counters", "CPU time in use since boot, over all CPUs"),
    Field("cpu_total_seconds", "double", _SECONDS, "counters", "CPU time since boot, over all CPUs"),
    Field("network_recv_bytes", "bigint", _BYTES, "counters", "received since boot over all kept interfaces"),
    Field("network_sent_bytes", "bigint", _BYTES, "counters", "sent since boot over all kept interfaces"),
    Field("disk_read_bytes", "bigint", _BYTES, "counters", "read since boot from whole disks"),
    Field("disk_write_bytes", "bigint", _BYTES, "counters", "written since boot to whole disks"),
)
# fmt: on

FIELD_BY_NAME: Mapping[str, Field] = MappingProxyType({one.name: one for one in FIELDS})


def cql_type(one: Field) -> str:
    """Return a field's column type; collections are frozen, so that writing one leaves no range tombstone."""
    return f"frozen<{one.type}>" if "<" in one.type else one.type


SAMPLE_COLUMNS: Mapping[str, str] = MappingProxyType({one.name: cql_type(one) for one in FIELDS})

SYSTEM_METRICS = Table(
    name="system_metrics",
    partition_key=("host", "day"),
    clustering=("timestamp",),
    write_mode="merge",
    options=MappingProxyType(
        {
            # One SSTable window a day, so that expired days are dropped as whole files.
            "compaction": "{'class': 'TimeWindowCompactionStrategy', 'compaction_window_unit': 'DAYS',"
            " 'compaction_window_size': 1}",
            "default_time_to_live": str(RAW_TTL_S),
            "gc_grace_seconds": str(GC_GRACE_S),
            "comment": "'samples of hosts, one row a sample'",
        }
    ),
    meaning="every sample, newest first within a host's UTC day",
)
LATEST_METRICS = Table(
    name="latest_metrics",
    partition_key=("host",),
    clustering=(),
    write_mode="replace",
    options=MappingProxyType(
        {
            # Every row is overwritten at each interval: levelled compaction keeps a read to one or two SSTables.
            "compaction": "{'class': 'LeveledCompactionStrategy'}",
            "default_time_to_live": str(RAW_TTL_S),
            "gc_grace_seconds": str(RAW_TTL_S),
            "comment": "'the newest sample of every host'",
        }
    ),
    meaning="the newest sample of every host; each row replaces the one before it whole",
)
TABLES: tuple[Table, ...] = (SYSTEM_METRICS, LATEST_METRICS)
TABLE_BY_NAME: Mapping[str, Table] = MappingProxyType({table.name: table for table in TABLES})


def with_life(table: Table, ttl_s: int) -> Table:
    """Return a table whose rows live so long, and its tombstones too where these live as long as rows."""
    options = {**table.options, "default_time_to_live": str(ttl_s)}
    if table.options["gc_grace_seconds"] == table.options["default_time_to_live"]:
        options["gc_grace_seconds"] = str(max(GC_GRACE_S, ttl_s))
    return replace(table, options=MappingProxyType(options))


def check_identifier(value: str, what: str) -> str:
    """Return ``value`` if it can stand in CQL as it is, unquoted.

    :param what: what it names, for the message: ``keyspace``, ``table`` …
    :raises ValueError: if it is not made of lower-case letters, digits and underscores, or is over 48 characters.
    """
    if not _IDENTIFIER.fullmatch(str(value)):
        raise ValueError(f"{what} {value!r} is no valid name: use a-z, 0-9 and _, at most 48, a letter first")
    return value


def split_table_name(name: str) -> tuple[str, str]:
    """Split ``keyspace.table`` and check both parts.

    :raises ValueError: if it has not exactly two parts, or one of them is no identifier.
    """
    keyspace, dot, table = str(name).partition(".")
    if not dot:
        raise ValueError(
            f"table {name!r} lacks its keyspace: write it as keyspace.table, such as {KEYSPACE}.{name}"
        )
    return check_identifier(keyspace, "keyspace"), check_identifier(table, "table")


def read_samples_keyspace(name: str) -> str:
    """Return the keyspace of a table of samples, given as ``keyspace.system_metrics``.

    :raises ValueError: if it is another table: rules are evaluated over single samples, not over rollups.
    """
    keyspace, table = split_table_name(name)
    if table != SYSTEM_METRICS.name:
        raise ValueError(
            f"table {name!r} is no table of samples: rules are evaluated over {keyspace}.{SYSTEM_METRICS.name}"
        )
    return keyspace


def build_create_table(table: Table, keyspace: str = KEYSPACE) -> str:
    """Return the CREATE TABLE statement of a table, in the given keyspace."""
    columns = ",\n    ".join(f"{name} {cql}" for name, cql in table.columns.items())
    options = dict(table.options)
    clauses = [f"{name} = {value}" for name, value in options.items()]
    if table.clustering:
        order = ", ".join(f"{name} DESC" for name in table.clustering)
        clauses.insert(0, f"CLUSTERING ORDER BY ({order})")
    key = ", ".join((f"({', '.join(table.partition_key)})", *table.clustering))
    return (
        f"CREATE TABLE IF NOT EXISTS {check_identifier(keyspace, 'keyspace')}.{table.name} (\n"
        f"    {columns},\n    PRIMARY KEY ({key})\n) WITH " + "\n    AND ".join(clauses)
    )


def build_create_type(name: str, fields: Mapping[str, str], keyspace: str = KEYSPACE) -> str:
    """Return the CREATE TYPE statement of a user-defined type, in the given keyspace."""
    inside = ", ".join(f"{field_name} {cql}" for field_name, cql in fields.items())
    return f"CREATE TYPE IF NOT EXISTS {check_identifier(keyspace, 'keyspace')}.{name} ({inside})"
