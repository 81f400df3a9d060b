"""One task over millions of rows: whether its memory and its rate stay flat from the first minute on.

Prints a line for each part of the run, and writes ``build/bench/soak.json``. It fails if the table does not
hold what the topic does.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, TopicPartition
from tabulate import tabulate

from benchmarks import report
from benchmarks.loader import contenders, fill, verify
from benchmarks.loader.bench import Bench
from benchmarks.loader.clients import Task
from benchmarks.loader.servers import running_servers
from benchmarks.loader.works import INTERVAL, KEYSPACE, PARTITIONS, SEED_COLUMNS, Work

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger("benchmarks.loader.soak")

HOSTS = 1000
PARTS = 10
_SAMPLE_S = 1.0
_LIMIT_S = 1800.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What was seen of the run at a moment: rows below the committed offsets, and memory in MB."""

    seconds: float
    rows: int
    memory_mb: float


def main(argv: list[str] | None = None) -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loader.soak", description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000, help="to load (default: 5,000,000)")
    rows = parser.parse_args(argv).rows
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("cassandra").setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped then too
    work = Work("soak", HOSTS, -(-rows // HOSTS), SEED_COLUMNS)
    with running_servers() as instance:
        readings = soak(Bench(instance, Path()), work, rows)
    parts = divide(readings)
    print(tabulate([asdict(part) for part in parts], headers="keys", floatfmt=",.0f", intfmt=","))
    print(f"written: {report.write('soak', {'soak': {'restrack': summarize(readings, parts)}})}")
    return 0


def soak(bench: Bench, work: Work, rows: int) -> list[Reading]:
    """Fill a topic, load it by one task, and return what was seen every second.

    :raises ContenderError: if the task fails, or the table does not hold what the topic does.
    """
    filled = fill.fill_topic(bench.instance.kafka.bootstrap, work, rows)
    log.info("a topic of %d rows (%s between a host's) is filled", rows, INTERVAL)
    with bench.session() as session:
        fill.create_keyspace(session)
        with fill.fresh_table(session, work.columns) as table:
            task = Task(
                bench.instance.kafka.bootstrap, bench.instance.cassandra.address[1], filled.topic, table,
                work.columns, rows, f"soak-{uuid.uuid4().hex[:12]}",
            )  # fmt: skip
            readings = run(task)
            with bench.session() as reader:
                found = verify.read_contents(reader, f"{KEYSPACE}.{table}", work.columns)
    wrong = verify.describe_difference(filled.contents, found)
    if wrong:
        raise contenders.ContenderError(f"the table {wrong}")
    log.info("the table holds what the topic does: %s", found)
    return readings


def run(task: Task) -> list[Reading]:
    """Run the task in a process of its own and watch it from outside."""
    command = contenders.python_command("restrack")(task)
    consumer = Consumer({"bootstrap.servers": task.bootstrap, "group.id": task.group})
    partitions = [TopicPartition(task.topic, number) for number in range(PARTITIONS)]
    readings: list[Reading] = []
    started = time.monotonic()
    with subprocess.Popen(command, cwd=contenders.ROOT, stdout=subprocess.PIPE, text=True) as loader:
        try:
            while loader.poll() is None and time.monotonic() - started < _LIMIT_S:
                time.sleep(_SAMPLE_S)
                found = consumer.committed(partitions, timeout=10)
                rows = sum(max(0, one.offset) for one in found)
                readings.append(Reading(time.monotonic() - started, rows, _memory_mb(loader.pid)))
        finally:
            loader.kill()
            consumer.close()
        output = loader.stdout.read() if loader.stdout else ""
    if loader.returncode != 0:
        raise contenders.ContenderError(f"the loader ended with status {loader.returncode}: {output[-500:]}")
    log.info("%s", json.loads(output.splitlines()[-1]))
    return [reading for reading in readings if reading.rows]


def _memory_mb(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    kilobytes = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(kilobytes[0]) / 1024 if kilobytes else 0.0


@dataclass(frozen=True, slots=True)
class Part:
    """A tenth of the run."""

    until_seconds: float
    rows: int
    rows_per_second: float
    memory_mb: float


def divide(readings: Sequence[Reading], count: int = PARTS) -> list[Part]:
    """Return the rate and the most memory of equal parts of a run's time."""
    size = max(1, len(readings) // count)
    parts = []
    for start in range(0, len(readings) - size, size):
        taken = readings[start : start + size + 1]
        seconds = taken[-1].seconds - taken[0].seconds
        rows = taken[-1].rows - taken[0].rows
        memory = max(one.memory_mb for one in taken)
        parts.append(Part(taken[-1].seconds, taken[-1].rows, rows / seconds, memory))
    return parts


def summarize(readings: Sequence[Reading], parts: Sequence[Part]) -> dict[str, float]:
    """Return the figures of the whole run."""
    return {
        "rows": readings[-1].rows,
        "wall_seconds": readings[-1].seconds,
        "rows_per_second": readings[-1].rows / readings[-1].seconds,
        "rows_per_second_first_part": parts[0].rows_per_second,
        "rows_per_second_last_part": parts[-1].rows_per_second,
        "peak_mb": max(reading.memory_mb for reading in readings),
    }


if __name__ == "__main__":
    sys.exit(main())
