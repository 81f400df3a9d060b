"""A real load on a real host is told once, and so is its end, whatever is killed in between.

The load is connections, as the machine's own are few and nothing else on it makes hundreds. Cassandra, the
loader and the evaluator are killed by SIGKILL, at the start of the load and at its end. What is then recorded
must be what an evaluation finds that was never disturbed, over the samples that were taken.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from airflow_provider_restrack.alert.evaluate import to_ms
from airflow_provider_restrack.alert.fleet import evaluate_fleet
from airflow_provider_restrack.alert.records import Book
from airflow_provider_restrack.alert.rules import parse_rules
from airflow_provider_restrack.operators.remote_metrics import RemoteMetricsOperator
from airflow_provider_restrack.store.alert_tables import ALERT_TABLES
from airflow_provider_restrack.store.schema import build_create_table
from airflow_provider_restrack.store.session import open_session
from tests.faults.task import Task
from tests.unit.alert.fleet_fakes import MemoryReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from services import SshdServer
    from services.cassandra import CassandraServer
    from services.kafka import KafkaServer
    from tests.faults.rig import Rig

pytestmark = [
    pytest.mark.kafka, pytest.mark.cassandra, pytest.mark.ssh, pytest.mark.slow, pytest.mark.e2e,
    pytest.mark.timeout(600),
]  # fmt: skip
CONNECTIONS = 150
HOST = "busy-1"
PATIENCE_S = 240.0


class Stage:
    """The pipeline around a rig: a host that is sampled each second, a loader, an evaluator."""

    def __init__(self, rig: Rig, host: SshdServer, directory: Path, threshold: int) -> None:
        self.rig, self._host, self._directory = rig, host, directory
        self.alerts = f"{rig.name}_alerts"
        self.rule = {
            "name": "connections", "metric": "tcp_connections", "op": ">", "threshold": threshold,
            "for": "4s", "clear_for": "3s",
        }  # fmt: skip
        self.loader: Task | None = None
        self.evaluator: Task | None = None
        self._evaluators = 0
        self._stop = threading.Event()
        self._collector = threading.Thread(target=self._collect, name="collector")

    def create(self) -> None:
        """Make the topic and the tables of alerts, and begin to collect."""
        admin = AdminClient({"bootstrap.servers": self.rig.bootstrap})
        admin.create_topics([NewTopic(self.alerts, 1, 1)])[self.alerts].result(30)
        with open_session(self.rig._cassandra()) as session:
            for table in ALERT_TABLES:
                session.execute(build_create_table(table, self.rig.name))
        self._collector.start()

    def close(self) -> None:
        self.kill()
        self.end_collection()

    def end_collection(self) -> None:
        self._stop.set()
        if self._collector.is_alive():
            self._collector.join(60)

    def _collect(self) -> None:
        host = {"host": HOST, "address": self._host.address, "port": self._host.port}
        context: Any = {
            "ti": SimpleNamespace(
                dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=1, xcom_push=lambda **_: None
            ),
            "dag_run": SimpleNamespace(start_date=None, run_after=None),
        }
        while not self._stop.is_set():
            RemoteMetricsOperator(
                task_id="collect", hosts=[host], topic=self.rig.topic, window=0.1, samples=4, interval=1.0
            ).execute(context)

    def kill(self) -> None:
        """Kill the loader and the evaluator."""
        for task in (self.loader, self.evaluator):
            if task is not None:
                task.kill()
        self.loader = self.evaluator = None

    def keep_running(self) -> None:
        """Start what does not run: Airflow repeats a task that has ended."""
        if self.loader is not None and not self.loader.running:
            self.loader.finish()
            self.loader = None
        self.loader = self.loader or self.rig.start(follow=True, max_seconds=600.0)
        self.evaluator = self.evaluator or self._evaluate()

    def _evaluate(self) -> Task:
        arguments = {"rules": [self.rule], "keyspace": self.rig.name, "topic": self.alerts}
        log = self._directory / f"alerts-{self._evaluators}.log"
        self._evaluators += 1
        return Task(arguments, log, "tests.faults.run_alerts")

    def await_message(self, kind: str) -> None:
        """Wait until something is told."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            self.keep_running()
            if any(message["kind"] == kind for message in self.read(self.alerts)):
                return
            time.sleep(0.5)
        logs = "\n".join(path.read_text()[-1500:] for path in sorted(self._directory.glob("*.log")))
        raise AssertionError(f"{self.rig}: nothing is {kind} after {PATIENCE_S:g} s\n{logs}")

    def read(self, topic: str) -> list[dict[str, Any]]:
        """Return all records of a topic."""
        consumer = Consumer({"bootstrap.servers": self.rig.bootstrap, "group.id": f"{topic}_reader"})
        try:
            numbers = consumer.list_topics(topic, timeout=30).topics[topic].partitions
            wanted = [TopicPartition(topic, number, OFFSET_BEGINNING) for number in numbers]
            count = sum(consumer.get_watermark_offsets(one, timeout=30)[1] for one in wanted)
            consumer.assign(wanted)
            messages = [consumer.poll(30) for _ in range(count)]
        finally:
            consumer.close()
        assert all(message is not None and message.error() is None for message in messages)
        return [json.loads(message.value()) for message in messages]


@contextmanager
def hold_connections(count: int) -> Iterator[None]:
    """Keep so many connections established, each with two ends on this machine."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=count))
        for _ in range(count):
            stack.enter_context(socket.create_connection(server.getsockname()))
            stack.enter_context(server.accept()[0])
        yield


def count_connections() -> int:
    """Return how many are established on this machine: state 01 of /proc/net/tcp."""
    total = 0
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(FileNotFoundError), Path(name).open() as stream:
            total += sum(line.split()[3] == "01" for line in stream.readlines()[1:])
    return total


@pytest.fixture
def stage(
    rig: Rig,
    kafka: KafkaServer,
    cassandra: CassandraServer,
    start_sshd: Callable[..., SshdServer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Stage]:
    """A stage on servers that may be broken, with Airflow's connections to them in the environment."""
    host = start_sshd(HOST)
    address, port = cassandra.address
    connections = {
        "ssh": {
            "conn_type": "ssh", "login": host.user,
            "extra": {"key_file": str(host.client_key), "known_hosts": str(host.known_hosts)},
        },
        "kafka": {"conn_type": "kafka", "extra": {"bootstrap.servers": kafka.bootstrap}},
        "cassandra": {"conn_type": "cassandra", "host": address, "port": port},
    }  # fmt: skip
    for name, value in connections.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}_DEFAULT", json.dumps(value))
    made = Stage(rig, host, tmp_path, count_connections() + CONNECTIONS)
    made.create()
    yield made
    made.close()


def find_expected(stage: Stage, samples: list[dict[str, Any]]) -> list[tuple[str, int, int]]:
    """Return the transitions of one evaluation of all samples: kind, time and since."""
    rows = sorted(
        (
            {"timestamp": datetime.fromisoformat(one["timestamp"]), "tcp_connections": one["tcp_connections"]}
            for one in samples
            if one["up"]
        ),
        key=lambda row: row["timestamp"],
    )
    start, end = (to_ms(row["timestamp"]) for row in (rows[0], rows[-1]))
    found = evaluate_fleet(parse_rules(stage.rule), MemoryReader({HOST: rows}), None, Book(start), end)
    return [(move.kind, move.at_ms, move.since_ms) for move in found.transitions]


def read_recorded(stage: Stage, table: str) -> list[tuple[str, int, int]]:
    with open_session(stage.rig._cassandra()) as session:
        rows = session.execute(
            f"SELECT transition, toUnixTimestamp(at), toUnixTimestamp(since) FROM {stage.rig.name}.{table}"
        )
        return sorted((tuple(row) for row in rows), key=lambda row: row[1])


def test_a_load_and_its_end_are_told_once_whatever_is_killed(
    stage: Stage, cassandra: CassandraServer
) -> None:
    stage.keep_running()
    while not stage.read(stage.rig.topic):
        time.sleep(0.2)

    with hold_connections(CONNECTIONS):
        began_ms = time.time() * 1000
        time.sleep(stage.rig.random.uniform(0, 3))
        stage.kill()
        stage.keep_running()
        time.sleep(stage.rig.random.uniform(0, 8))
        cassandra.kill()
        cassandra.start()
        stage.await_message("firing")
        stage.kill()
        stage.keep_running()
    time.sleep(stage.rig.random.uniform(0, 8))
    stage.kill()
    stage.await_message("resolved")
    stage.end_collection()

    told = stage.read(stage.alerts)
    recorded = read_recorded(stage, "alert_history")
    samples = stage.read(stage.rig.topic)
    assert recorded == find_expected(stage, samples)
    assert recorded == read_recorded(stage, "alert_history_by_rule")
    assert [kind for kind, _, _ in recorded] == ["fired", "resolved"]
    # One message each; one that was sent again, as its evaluator died before it could note that, has its id.
    assert [one["kind"] for one in {one["id"]: one for one in told}.values()] == ["firing", "resolved"]
    assert told[-1]["peak"] >= stage.rule["threshold"] > told[-1]["current"]
    _, fired_ms, since_ms = recorded[0]
    assert since_ms >= began_ms - 1000
    # Within `for`, give or take a tenth of an interval, and the one interval until there is a sample.
    times = sorted(to_ms(datetime.fromisoformat(one["timestamp"])) for one in samples)
    longest = max(later - earlier for earlier, later in pairwise(times))
    assert 4000 - longest / 10 <= fired_ms - since_ms <= 4000 + longest
