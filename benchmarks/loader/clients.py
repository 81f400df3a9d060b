"""The contenders in Python: each loads a topic into a table, in a process of its own, and prints its usage.

The clock runs from the first record to the last commit, as in the Go peer: joining a group is left out. Ours
is given its partitions, so that it need not join, and starts a little earlier: when its consumer begins to
fetch.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
import uuid
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.store.schema import FIELD_BY_NAME
from airflow_provider_restrack.store.session import CassandraPolicy, open_session
from benchmarks.loader.works import KEYSPACE, PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_CHUNK_RECORDS = 1000
_CONCURRENCY = 50  # more slows execute_concurrent down
_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Task:
    """What a contender is to load, from where to where."""

    bootstrap: str
    cassandra_port: int
    topic: str
    table: str
    columns: tuple[str, ...]
    rows: int
    group: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What a run took; CPU and memory are those of the client alone."""

    rows: int
    seconds: float
    cpu_seconds: float
    peak_mb: float


class Meter:
    """Measures from its making to ``stop``."""

    def __init__(self) -> None:
        self._began, self._cpu = time.perf_counter(), _cpu_seconds()

    def stop(self, rows: int, seconds: float | None = None) -> Usage:
        """Return what was used since.

        :param seconds: measured by the contender itself, in place of the meter's.
        """
        passed = time.perf_counter() - self._began
        return Usage(rows, passed if seconds is None else seconds, _cpu_seconds() - self._cpu, read_peak_mb())


def _cpu_seconds() -> float:
    """Return the CPU time of this process and of those it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def read_peak_mb() -> float:
    """Return the most memory that this process has held, in MB.

    From VmHWM: the maximum of getrusage counts the memory of the process that started this one.
    """
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def run_restrack(task: Task, session: Any) -> Usage:
    """Load as KafkaToCassandraOperator does, with its defaults."""
    from airflow_provider_restrack.load.loader import load
    from airflow_provider_restrack.load.policy import LoadPolicy

    policy = LoadPolicy(
        [task.topic], [f"{KEYSPACE}.{task.table}"], group_id=task.group, partitions=list(range(PARTITIONS))
    )
    meter = Meter()
    result = load(policy, {"bootstrap.servers": task.bootstrap}, session)
    return meter.stop(result.rows, result.seconds)


def run_provider(task: Task, session: Any) -> Usage:
    """Load with the Kafka provider's ConsumeFromTopicOperator and a function that stores one record."""
    extra = consumer_settings(task)
    os.environ["AIRFLOW_CONN_KAFKA_DEFAULT"] = json.dumps({"conn_type": "kafka", "extra": extra})
    from airflow.providers.apache.kafka.operators.consume import ConsumeFromTopicOperator

    insert = session.prepare(build_insert(task))
    to_values = build_values(task.columns)

    meters: list[Meter] = []

    def store(message: Any) -> None:
        if not meters:
            meters.append(Meter())
        session.execute(insert, to_values(json.loads(message.value())))

    operator = ConsumeFromTopicOperator(
        task_id="load",
        topics=[task.topic],
        apply_function=store,
        max_messages=task.rows,
        # It waits for a whole batch, and takes a batch for the least that is wanted.
        max_batch_size=min(_CHUNK_RECORDS, task.rows),
    )
    operator.execute({})
    return meters[0].stop(task.rows)


def run_execute_concurrent(task: Task, session: Any) -> Usage:
    """Load with the driver's own way of having many single rows in flight."""
    from cassandra.concurrent import execute_concurrent_with_args
    from confluent_kafka import Consumer

    insert = session.prepare(build_insert(task))
    to_values = build_values(task.columns)
    consumer = Consumer(consumer_settings(task))
    consumer.subscribe([task.topic])
    messages = consumer.consume(1, _WAIT_S)
    meter, rows = Meter(), 0
    while rows < task.rows:
        messages += consumer.consume(min(_CHUNK_RECORDS, task.rows - rows) - len(messages), _WAIT_S)
        if not messages:
            raise TimeoutError(f"topic {task.topic} gave nothing for {_WAIT_S:g} s, after {rows} rows")
        parameters = [to_values(json.loads(message.value() or b"")) for message in messages]
        execute_concurrent_with_args(session, insert, parameters, concurrency=_CONCURRENCY)
        consumer.commit(asynchronous=False)
        rows += len(messages)
        messages = []
    usage = meter.stop(rows)
    consumer.close()
    return usage


def consumer_settings(task: Task) -> dict[str, Any]:
    """Return the settings of a group's member that reads from the oldest record and commits by hand."""
    return {
        "bootstrap.servers": task.bootstrap,
        "group.id": task.group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    }


def build_insert(task: Task) -> str:
    """Return the INSERT that binds all columns."""
    marks = ", ".join("?" * len(task.columns))
    return f"INSERT INTO {KEYSPACE}.{task.table} ({', '.join(task.columns)}) VALUES ({marks})"


def build_values(columns: Sequence[str]) -> Callable[[dict[str, Any]], list[Any]]:
    """Return a function that makes the driver's values of a decoded sample; null stays unset."""
    from cassandra.query import UNSET_VALUE

    ids = [index for index, name in enumerate(columns) if FIELD_BY_NAME[name].type == "uuid"]
    day, timestamp = columns.index("day"), columns.index("timestamp")

    def to_values(sample: dict[str, Any]) -> list[Any]:
        values = [sample.get(name) for name in columns]
        taken = datetime.fromisoformat(sample["timestamp"])
        values[timestamp], values[day] = taken, taken.date()
        for index in ids:
            values[index] = uuid.UUID(values[index])
        return [UNSET_VALUE if value is None else value for value in values]

    return to_values


RUNNERS: dict[str, Callable[[Task, Any], Usage]] = {
    "restrack": run_restrack,
    "provider": run_provider,
    "execute-concurrent": run_execute_concurrent,
}


def main(argv: list[str] | None = None) -> int:
    """Run one contender, and print its usage as the last line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loader.clients", description=__doc__)
    parser.add_argument("contender", choices=RUNNERS)
    parser.add_argument("task", help="the task as JSON")
    arguments = parser.parse_args(argv)
    fields = json.loads(arguments.task)
    task = Task(**{**fields, "columns": tuple(fields["columns"])})
    # The policy of a connection that sets no more than the address, as CassandraSessionHook makes it.
    with open_session(CassandraPolicy(("127.0.0.1",), task.cassandra_port)) as session:
        usage = RUNNERS[arguments.contender](task, session)
    print(json.dumps(asdict(usage)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
