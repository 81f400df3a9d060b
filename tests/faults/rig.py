"""A topic, a keyspace and a group on servers that may be broken, and the checks that nothing came to harm."""

from __future__ import annotations

import logging
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from cassandra import InvalidRequest, OperationTimedOut, ReadFailure, ReadTimeout, Unavailable
from cassandra.cluster import NoHostAvailable
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from airflow_provider_restrack.store import schema
from airflow_provider_restrack.store.session import CassandraError, CassandraPolicy, open_session
from tests.faults.ledger import Ledger, Record, Row, Sent, find_differences, find_lost, to_row
from tests.faults.task import Outcome, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

PARTITIONS = 4
_MOST_RUNS = 12
_FEW = 10
_SILENT = logging.getLogger("tests.faults")
# How long a question of the test's own is put again to servers of which one has just died: several on two
# cores answer late. What the loader makes of that is what is tested.
_PATIENCE_S = 120.0
_LATE = (
    ReadTimeout,
    ReadFailure,
    OperationTimedOut,
    Unavailable,
    NoHostAvailable,
    CassandraError,
    KafkaException,
)

T = TypeVar("T")


def ask(question: Callable[[], T], *late: type[Exception]) -> T:
    """Return the answer of servers that may be late, which these errors say too."""
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return question()
        except (*_LATE, *late):
            if time.monotonic() > end:
                raise
            time.sleep(1)


def _catch(task: Task, samples: float) -> bool:
    """Wait until a loader has stored so many samples, and tell whether it still runs then."""
    while task.runs_for(0.005):
        if task.stored >= samples:
            return task.running
    return False


@dataclass
class Rig:
    """What one test works with.

    :param contact_points: of Cassandra.
    :param copies: of every record in Kafka.
    :param replicas: of every row in Cassandra.
    :param client: further settings of the loader's Kafka connection.
    :param request_timeout_s: of the loader's writes.
    """

    name: str
    seed: int
    directory: Path
    bootstrap: str
    contact_points: Sequence[str]
    port: int
    copies: int = 1
    replicas: int = 1
    client: dict[str, Any] = field(default_factory=dict)
    request_timeout_s: float = 10.0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.ledger = Ledger(self.seed)
        self.topic, self.dead_letters = f"{self.name}_topic", f"{self.name}_dead"
        self._tasks: list[Task] = []

    def create(self) -> None:
        """Make the topics and the tables."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        settings = {"max.message.bytes": "8000000", "min.insync.replicas": str(max(1, self.copies - 1))}
        wanted = {self.topic: PARTITIONS, self.dead_letters: 1}
        topics = [NewTopic(name, count, self.copies, config=settings) for name, count in wanted.items()]
        for made in admin.create_topics(topics).values():
            made.result(30)
        # Nodes that have only just started take seconds, and another may not know of the keyspace yet.
        ask(self._create_tables, InvalidRequest)

    def _create_tables(self) -> None:
        with open_session(self._cassandra()) as session:
            replication = f"{{'class': 'NetworkTopologyStrategy', 'datacenter1': {self.replicas}}}"
            session.execute(f"CREATE KEYSPACE IF NOT EXISTS {self.name} WITH replication = {replication}")
            for table in schema.TABLES:
                session.execute(schema.build_create_table(table, self.name))

    def send(self, count: int) -> None:
        """Send so many further samples of the ledger's."""
        self.send_records(self.ledger.make(count))

    def send_records(self, records: Sequence[Record]) -> None:
        """Send records and note where Kafka has put them; each must be acknowledged."""
        settings = {
            "acks": "all",
            "enable.idempotence": True,
            "message.max.bytes": 8_000_000,
            "linger.ms": 20,
        }
        producer = Producer({"bootstrap.servers": self.bootstrap, **settings}, logger=_SILENT)
        failures: list[str] = []

        def report(record: Record, error: KafkaError | None, message: Any) -> None:
            if error is None:
                self.ledger.sent.append(Sent(record, message.partition(), message.offset()))
            else:
                failures.append(error.str())

        for record in records:
            producer.produce(
                self.topic,
                record.value,
                record.key,
                on_delivery=lambda error, message, record=record: report(record, error, message),
            )
            producer.poll(0)
        assert producer.flush(100) == 0
        assert not failures, failures[:_FEW]

    def start(self, **policy: Any) -> Task:
        """Start a loader."""
        wanted = {
            "topics": [self.topic],
            "tables": [f"{self.name}.system_metrics", f"{self.name}.latest_metrics"],
            "group_id": self.name,
            "dead_letter_topic": self.dead_letters,
        }
        client = {"bootstrap.servers": self.bootstrap, "reconnect.backoff.max.ms": 1000, **self.client}
        cassandra = {
            "contact_points": list(self.contact_points),
            "port": self.port,
            "request_timeout_s": self.request_timeout_s,
        }
        arguments = {"policy": wanted | policy, "kafka": client, "cassandra": cassandra}
        task = Task(arguments, self.directory / f"task-{len(self._tasks)}.log")
        self._tasks.append(task)
        return task

    def start_busy(self, count: int, most: float = 0.6) -> Task:
        """Send samples and return a loader that has stored a part of them, chosen at random."""
        return self.start_busy_with(self.ledger.make(count), most)

    def start_busy_with(self, records: Sequence[Record], most: float = 0.6) -> Task:
        """Send records and return a loader that has stored a part of them, chosen at random.

        :param most: how large the part may be.
        :raises AssertionError: with its log, if it has ended before it could be caught at that.
        """
        for _ in range(_MOST_RUNS):
            self.send_records(records)
            task = self.start()
            if _catch(task, len(records) * self.random.uniform(0.05, most)):
                return task
            outcome = task.finish()
            assert outcome.code == 0, f"{self}: the load failed before the fault\n{outcome.log}"
            records = self.ledger.make(len(records) * 3 // 2)  # it was faster than the look at it
        raise AssertionError(f"{self}: no load of {len(records)} records is caught before its end")

    def run_to_end(self) -> list[Outcome]:
        """Run loaders, as Airflow repeats a task, until one has left nothing behind."""
        outcomes: list[Outcome] = []
        while not outcomes or not outcomes[-1].done:
            assert len(outcomes) < _MOST_RUNS, f"{self}: no run succeeds\n{outcomes[-1]}"
            outcomes.append(self.start().finish())
        return outcomes

    def check_commits(self) -> None:
        """Check that everything before the committed offsets is stored, whatever has happened."""
        committed, _ = self.offsets()
        lost = find_lost(
            self.ledger.sent, committed, self.rows("system_metrics"), self.rows("latest_metrics")
        )
        assert not lost, f"{self}: {len(lost)} records are lost, such as {lost[:_FEW]}"

    def check(self) -> None:
        """Check every key and value of both tables, and that the group is at the ends."""
        differences = find_differences(
            self.ledger.rows, self.rows("system_metrics"), schema.SYSTEM_METRICS.primary_key
        )
        differences += find_differences(
            self.ledger.latest(), self.rows("latest_metrics"), schema.LATEST_METRICS.primary_key
        )
        committed, ends = self.offsets()
        differences += [
            f"partition {number} is committed to {committed.get(number)} of {end}"
            for number, end in ends.items()
            if committed.get(number, 0) != end
        ]
        assert not differences, f"{self}: {len(differences)} differences, such as {differences[:_FEW]}"

    def rows(self, table: str) -> list[Row]:
        """Return all rows of a table."""
        with open_session(self._cassandra()) as session:
            return ask(lambda: [to_row(one) for one in session.execute(f"SELECT * FROM {self.name}.{table}")])

    def offsets(self) -> tuple[dict[int, int], dict[int, int]]:
        """Return the group's committed offsets and the ends of the topic's partitions."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.name}, logger=_SILENT)
        wanted = [TopicPartition(self.topic, number) for number in range(PARTITIONS)]
        try:
            found = ask(lambda: consumer.committed(wanted, timeout=30))
            ends = {
                one.partition: ask(lambda one=one: consumer.get_watermark_offsets(one, timeout=30)[1])
                for one in wanted
            }
        finally:
            consumer.close()
        return {one.partition: one.offset for one in found if one.offset >= 0}, ends

    def read_dead_letters(self) -> list[Any]:
        """Return every message of the dead-letter topic."""
        settings = {"group.id": f"{self.name}_reader", "enable.auto.commit": False}
        consumer = Consumer({"bootstrap.servers": self.bootstrap, **settings}, logger=_SILENT)
        try:
            where = TopicPartition(self.dead_letters, 0, 0)
            _, end = consumer.get_watermark_offsets(where, timeout=30)
            consumer.assign([where])
            messages: list[Any] = []
            while len(messages) < end:
                message = consumer.poll(30)
                assert message is not None, f"{len(messages)} of {end} dead letters came"
                assert message.error() is None, message.error()
                messages.append(message)
        finally:
            consumer.close()
        return messages

    def close(self) -> None:
        """End the loaders that still run."""
        for task in self._tasks:
            if task.running:
                task.kill()

    def __str__(self) -> str:
        return f"seed {self.seed} (RESTRACK_FAULTS_SEED={self.seed} repeats it)"

    def _cassandra(self) -> CassandraPolicy:
        points = tuple(self.contact_points)
        return CassandraPolicy(contact_points=points, port=self.port, request_timeout_s=60.0)
