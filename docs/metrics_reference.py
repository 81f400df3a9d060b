"""Writes ``docs/metrics.md`` from the field list, so that the page cannot say something else than the code.

``python -m docs.metrics_reference`` writes it; with ``--check`` it only says whether the page is out of date.
"""

from __future__ import annotations

import argparse
import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_restrack.store.schema import FIELDS, KEYSPACE, TABLES, cql_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_provider_restrack.store.schema import Field, Table

PAGE = Path(__file__).with_name("metrics.md")
COMMAND = "python -m docs.metrics_reference"
# What a heading says beyond the group's name.
TITLES = {
    "identity": "Identity",
    "outcome": "Outcome of the collection",
    "cpu": "CPU",
    "memory": "Memory and swap",
    "disk": "Filesystems",
    "disk_io": "Disk I/O",
    "network": "Network",
    "processes": "Processes",
    "pressure": "Pressure stall information",
    "container": "Container limits",
    "counters": "Counters",
}
# How the values come about on Linux: fields, formula, source. Δ is the growth over the window.
DEFINITIONS: tuple[tuple[str, str, str], ...] = (
    ("up outcome error collector", "what came of asking the host", "the worker and the agent"),
    (
        "collect_seconds",
        "arrival of the sample − start of the connection or command",
        "the worker's monotonic clock",
    ),
    (
        "clock_skew",
        "host's clock − worker's at the middle of the round trip: bounded above by what the host read before"
        " the answer left, below by what had arrived since; null where the bounds contradict each other",
        "`CLOCK_REALTIME` of both; of the shell's collector `date +%s.%N`",
    ),
    ("boot_id", "as it is", "`/proc/sys/kernel/random/boot_id`"),
    ("uptime", "first number", "`/proc/uptime`"),
    (
        "window_seconds",
        'Δ time between the two snapshots, or with `rates="since_last_run"` Δ `uptime` since the last run',
        "`CLOCK_MONOTONIC`; `/proc/uptime`",
    ),
    (
        "cpu_usage cpu_core_usage",
        "100 × Δ busy / Δ total; busy = user + nice + system + irq + softirq + steal,"
        " total = busy + idle + iowait; guest time is within user and nice; null, as all shares,"
        " if a part of busy went back or the set of CPUs changed",
        "`/proc/stat`, line `cpu`, and `cpu0` … for each core",
    ),
    ("cpu_user", "100 × Δ (user + nice) / Δ total", "`/proc/stat`"),
    ("cpu_system", "100 × Δ (system + irq + softirq) / Δ total", "`/proc/stat`"),
    (
        "cpu_iowait cpu_steal",
        "100 × Δ of it / Δ total; iowait is null if it or idle went back",
        "`/proc/stat`",
    ),
    ("cpu_count", "lines `cpu0` …", "`/proc/stat`"),
    ("load_1m load_5m load_15m", "first three numbers", "`/proc/loadavg`"),
    ("memory_total", "MemTotal", "`/proc/meminfo`"),
    (
        "memory_available",
        "MemAvailable; before Linux 3.14 MemFree + Buffers + Cached − Shmem; MemFree if that exceeds all",
        "`/proc/meminfo`",
    ),
    ("memory_used memory_usage", "total − available; 100 × used / total", "`/proc/meminfo`"),
    (
        "swap_total swap_used swap_usage",
        "SwapTotal; SwapTotal − SwapFree; 100 × used / total",
        "`/proc/meminfo`",
    ),
    ("swap_in swap_out", "Δ pswpin or pswpout × page size / window", "`/proc/vmstat`"),
    (
        "disk_usage filesystem_usage",
        "100 × (blocks − free) / (blocks − free + available to users); df shows it rounded up",
        "`statvfs`; the shell's collector `stat -f`, else `df -P`",
    ),
    ("disk_total", "blocks × block size", "`statvfs` of `/`"),
    ("disk_used", "(blocks − free) × block size", "`statvfs` of `/`"),
    ("disk_free filesystem_free", "available to users × block size", "`statvfs`"),
    ("inode_usage", "100 × (inodes − free) / inodes; none where a filesystem counts none", "`statvfs`"),
    (
        "disk_io_read disk_io_write device_read device_write",
        "Δ sectors × 512 / window; a total is the sum over the devices that count once, null if one of them"
        " went back, or was not there before by name and `diskseq`",
        "`/proc/diskstats`, fields 6 and 10",
    ),
    (
        "disk_io_busy device_busy",
        "100 × Δ milliseconds with I/O in flight / window, at most 100; the greatest of the devices, null"
        " as their sums are",
        "`/proc/diskstats`, field 13 (iostat's %util)",
    ),
    (
        "network_io_recv network_io_sent interface_recv interface_sent",
        "Δ bytes / window; a total is the sum over the interfaces that count once, null if one of them went"
        " back, or was not there before by name and `ifindex`",
        "`/proc/net/dev`",
    ),
    (
        "network_errors network_drops",
        "Δ (received + sent) / window; null as the sum of bytes is",
        "`/proc/net/dev`, errs and drop",
    ),
    ("process_count", "directories that are numbers; null where a user sees only his own", "`/proc`"),
    ("process_running process_blocked", "procs_running, procs_blocked", "`/proc/stat`"),
    ("open_files", "first number", "`/proc/sys/fs/file-nr`"),
    (
        "tcp_connections",
        "lines in state 01 (established), as `ss -t state established`",
        "`/proc/net/tcp`, `tcp6`",
    ),
    (
        "pressure_cpu pressure_memory pressure_io",
        "`some avg60`; null on kernels without PSI",
        "`/proc/pressure`",
    ),
    (
        "container_cpu_usage",
        "100 × Δ CPU seconds / window / (quota / period)",
        "cgroup v2 `cpu.stat`, `cpu.max`; v1 `cpuacct.usage`, `cpu.cfs_quota_us`, `cpu.cfs_period_us`",
    ),
    (
        "container_memory_usage container_memory_limit",
        "100 × (usage − inactive file cache) / limit; of the nearest cgroup upwards that has one",
        "cgroup v2 `memory.current`, `memory.stat`, `memory.max`; v1 `memory.usage_in_bytes`,"
        " `memory.stat`, `memory.limit_in_bytes`",
    ),
    ("cpu_busy_seconds cpu_total_seconds", "busy and total of `cpu_usage`, since boot", "`/proc/stat`"),
    ("network_recv_bytes network_sent_bytes", "sum over the interfaces that count once", "`/proc/net/dev`"),
    (
        "disk_read_bytes disk_write_bytes",
        "sum of sectors × 512 over the devices that count once",
        "`/proc/diskstats`",
    ),
)
INTRODUCTION = f"""\
# Metrics reference

<!-- Written by `{COMMAND}` from airflow_provider_restrack/store/schema.py: change it there. -->

A sample is a flat JSON object. A field's name is the same everywhere: in Kafka, as Cassandra column, as the
metric of a rule. Every percentage is 0–100, every size is in bytes, every rate per second, every duration in
seconds. A value that could not be read is absent: null in JSON and in Cassandra, never 0. The unit of a map
or list is that of its values. "Rule" marks the metrics that a threshold can be set on; of a map, every value
is compared.
"""


def build_page() -> str:
    """Return the whole page."""
    groups = [(name, list(fields)) for name, fields in groupby(FIELDS, key=lambda field: field.group)]
    sections = [INTRODUCTION, *(_build_group(name, fields) for name, fields in groups)]
    sections += [_build_definitions(), _build_tables()]
    return "\n".join(sections)


def main(arguments: Sequence[str] | None = None, page: Path = PAGE) -> int:
    """Write the page, or with ``--check`` compare it; return the exit code."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Write docs/metrics.md from the field list.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if the page is out of date"
    )
    wanted = build_page()
    if not parser.parse_args(arguments).check:
        page.write_text(wanted, encoding="utf-8")
        return 0
    if page.exists() and page.read_text(encoding="utf-8") == wanted:
        return 0
    sys.stderr.write(f"docs/{page.name} is out of date: run `{COMMAND}` (make docs) and commit it.\n")
    return 1


def _build_group(name: str, fields: Iterable[Field]) -> str:
    rows = [
        (f"`{field.name}`", f"`{field.type}`", field.unit, "yes" if field.is_metric else "", field.meaning)
        for field in fields
    ]
    return f"## {TITLES[name]}\n\n" + _build_table(("field", "type", "unit", "rule", "meaning"), rows)


def _build_definitions() -> str:
    rows = [
        (", ".join(f"`{name}`" for name in names.split()), formula, source)
        for names, formula, source in DEFINITIONS
    ]
    note = (
        "On Linux, by every collector; psutil reads the same files. Elsewhere psutil gives its own; what a\n"
        "system lacks is null. Δ is the growth over the window. The tests hold these beside `df`, `free`,\n"
        "`vmstat`, `iostat`, `ip -s link`, `ss`, `ps` and `uptime`, under load.\n\n"
    )
    return "## How each value is made\n\n" + note + _build_table(("fields", "formula", "source"), rows)


def _build_tables() -> str:
    rows = [
        (f"`{KEYSPACE}.{table.name}`", f"`{_build_key(table)}`", _build_ttl(table), table.meaning)
        for table in TABLES
    ]
    frozen = next(field for field in FIELDS if cql_type(field) != field.type)
    note = (
        "Each table has one column a field, of the type above; maps and lists are frozen, such as\n"
        f"`{frozen.name} {cql_type(frozen)}`. `ProvisionOperator` creates them; its argument `ttl`\n"
        "sets another lifetime of rows.\n"
    )
    head = ("table", "primary key", "rows live", "holds")
    return "## Tables in Cassandra\n\n" + _build_table(head, rows) + "\n" + note


def _build_key(table: Table) -> str:
    clustering = "".join(f", {name}" for name in table.clustering)
    order = "".join(f" {name} DESC" for name in table.clustering)
    key = f"({', '.join(table.partition_key)})"
    return f"({key}{clustering}), ordered by{order}" if clustering else key


def _build_ttl(table: Table) -> str:
    days, rest = divmod(int(table.options["default_time_to_live"]), 86400)
    return f"{days} days" if not rest else f"{days * 86400 + rest} s"


def _build_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


if __name__ == "__main__":
    sys.exit(main())
