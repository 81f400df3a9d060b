"""Fills topics with a work's samples, and makes the tables that they are loaded into."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from confluent_kafka import Producer

from airflow_provider_restrack.load.topics import (
    TopicSpec,
    build_admin,
    create_topics,
    plan_topics,
    read_topics,
)
from airflow_provider_restrack.store.schema import FIELD_BY_NAME, SYSTEM_METRICS, cql_type
from benchmarks.loader.verify import Contents, RowPacker
from benchmarks.loader.works import KEY, KEYSPACE, PARTITIONS, generate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.loader.works import Work

_DELIVERY_LIMIT_S = 120.0
_POLL_EVERY = 1000


@dataclass(frozen=True, slots=True)
class Filled:
    """A topic, and what a table holds once all of it is loaded."""

    topic: str
    contents: Contents


def fill_topic(bootstrap: str, work: Work, rows: int) -> Filled:
    """Make a topic of the first samples of a work, keyed by host as the provider publishes them.

    :raises RuntimeError: if Kafka does not acknowledge all of them.
    """
    topic = f"{work.name}-{rows}"
    config = {"bootstrap.servers": bootstrap}
    _create_topic(config, topic)
    failures: list[str] = []
    producer = Producer(config | {"linger.ms": 20, "compression.type": "lz4", "acks": "all"})
    encode = msgspec.json.Encoder().encode
    packer, contents = RowPacker(work.columns), Contents()
    for sample in generate(work, rows):
        while True:
            try:
                producer.produce(
                    topic,
                    encode(sample),
                    sample["host"],
                    on_delivery=lambda error, _message: failures.append(str(error)) if error else None,
                )
                break
            except BufferError:  # the queue is full: wait for reports to make room
                producer.poll(0.1)
        contents.add(packer.pack(sample))
        if contents.rows % _POLL_EVERY == 0:
            producer.poll(0)
    left = producer.flush(_DELIVERY_LIMIT_S)
    if left or failures:
        raise RuntimeError(f"topic {topic}: {left + len(failures)} records were not stored: {failures[:1]}")
    return Filled(topic, contents)


def _create_topic(config: dict[str, str], topic: str) -> None:
    admin = build_admin(config)
    wanted = [TopicSpec(topic, PARTITIONS, replication=1, retention_s=None)]
    found = read_topics(admin, [topic], origin="the benchmark's Kafka", timeout_s=30)
    create_topics(admin, plan_topics(wanted, found), origin="the benchmark's Kafka", timeout_s=30)


def create_keyspace(session: Any) -> None:
    """Make the keyspace of all tables, with one replica."""
    replication = "{'class': 'NetworkTopologyStrategy', 'datacenter1': 1}"
    session.execute(f"CREATE KEYSPACE IF NOT EXISTS {KEYSPACE} WITH replication = {replication}")


@contextmanager
def fresh_table(session: Any, columns: Sequence[str]) -> Iterator[str]:
    """Yield the name of an empty table, stored as ``system_metrics`` is, and drop it after."""
    table = f"run_{uuid.uuid4().hex[:12]}"
    session.execute(build_table(table, columns), timeout=60.0)
    try:
        yield table
    finally:
        session.execute(f"DROP TABLE {KEYSPACE}.{table}", timeout=60.0)


def build_table(table: str, columns: Sequence[str]) -> str:
    """Return the CREATE TABLE of a table with some columns of a sample and the key of ``system_metrics``."""
    typed = ", ".join(f"{name} {cql_type(FIELD_BY_NAME[name])}" for name in columns)
    host, day, timestamp = KEY
    options = "".join(f" AND {name} = {value}" for name, value in SYSTEM_METRICS.options.items())
    return (
        f"CREATE TABLE {KEYSPACE}.{table} ({typed}, PRIMARY KEY (({host}, {day}), {timestamp}))"
        f" WITH CLUSTERING ORDER BY ({timestamp} DESC){options}"
    )
