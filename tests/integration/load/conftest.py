"""What the loader's tests on real servers share: tables, topics and samples."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from airflow_provider_restrack import clock
from airflow_provider_restrack.load.loader import load
from airflow_provider_restrack.load.policy import LoadPolicy, LoadResult
from airflow_provider_restrack.store import schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime


def build_sample(now: datetime, host: str = "web-1", *, age_s: float = 60, **fields: Any) -> dict[str, Any]:
    """Return a finished sample, small but with fields of every kind."""
    timestamp = clock.format_utc(now - timedelta(seconds=age_s))
    return {
        "host": host,
        "timestamp": timestamp,
        "id": str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{host} {timestamp}")),
        "labels": {"role": "web"},
        "up": True,
        "outcome": "ok",
        "error": None,
        "cpu_usage": 12.5,
        "cpu_count": 4,
        "cpu_core_usage": [10.0, 15.0],
        "memory_total": 2**34,
        "filesystem_usage": {"/": 40.25},
        "a_field_of_the_future": {"nested": [1, 2]},
    } | fields


@dataclass
class Pipeline:
    """A topic and a keyspace with both tables, and the ways to fill, load and read them."""

    bootstrap: str
    topic: str
    keyspace: str
    session: Any
    policy: LoadPolicy

    @property
    def config(self) -> dict[str, Any]:
        return {"bootstrap.servers": self.bootstrap}

    def send(
        self, *values: Any, partition: int | None = None, topic: str | None = None, **message: Any
    ) -> None:
        """Send dicts as JSON, and bytes as they are; all to one partition if given."""
        producer = Producer(self.config)
        where = {} if partition is None else {"partition": partition}
        for value in values:
            raw = json.dumps(value).encode() if isinstance(value, dict) else value
            key = value.get("host") if isinstance(value, dict) else None
            producer.produce(topic or self.topic, value=raw, **({"key": key} | where | message))
            producer.poll(0)
        assert producer.flush(30) == 0

    def load(self, **changes: Any) -> LoadResult:
        return load(replace(self.policy, **changes), self.config, self.session)

    def rows(self, table: str = "system_metrics") -> list[dict[str, Any]]:
        found = self.session.execute(f"SELECT * FROM {self.keyspace}.{table}")
        return sorted((row._asdict() for row in found), key=lambda row: (row["host"], row["timestamp"]))

    def committed(self) -> dict[int, int]:
        """Return the group's offsets of the partitions that have one."""
        consumer = Consumer(self.config | {"group.id": self.policy.group_id})
        try:
            found = consumer.committed(
                [TopicPartition(self.topic, number) for number in range(4)], timeout=20
            )
        finally:
            consumer.close()
        return {entry.partition: entry.offset for entry in found if entry.offset >= 0}

    def read(self, topic: str, count: int) -> list[Any]:
        return read_messages(self.bootstrap, topic, count)


def read_messages(bootstrap: str, topic: str, count: int) -> list[Any]:
    """Return the first ``count`` messages of a topic, or those that come within 20 s."""
    settings = {"bootstrap.servers": bootstrap, "group.id": f"{topic}-reader", "enable.auto.commit": False}
    consumer = Consumer(settings | {"auto.offset.reset": "earliest"})
    try:
        consumer.subscribe([topic])
        messages: list[Any] = []
        for _ in range(40):
            if len(messages) >= count:
                break
            messages += [found for found in consumer.consume(count, 0.5) if found.error() is None]
        return messages
    finally:
        consumer.close()


@pytest.fixture
def read_topic(kafka_bootstrap: str) -> Callable[[str, int], list[Any]]:
    """Return a reader of the first messages of a topic."""
    return partial(read_messages, kafka_bootstrap)


@pytest.fixture
def pipeline(
    kafka_bootstrap: str, cassandra_session: Any, topic: str, keyspace: str, unique: Callable[[str], str]
) -> Pipeline:
    """Return a pipeline over a fresh topic and fresh tables."""
    for table in schema.TABLES:
        cassandra_session.execute(schema.build_create_table(table, keyspace))
    policy = LoadPolicy(
        topics=[topic],
        tables=[f"{keyspace}.system_metrics", f"{keyspace}.latest_metrics"],
        group_id=unique("group"),
        origin="a_dag.load",
    )
    return Pipeline(kafka_bootstrap, topic, keyspace, cassandra_session, policy)


@pytest.fixture
def sample() -> Callable[..., dict[str, Any]]:
    """Return the builder of samples; their ages count from the start of the test."""
    return partial(build_sample, clock.utc_now())


@pytest.fixture
def dead_letter_topic(kafka_admin: Any, unique: Callable[[str], str]) -> Iterator[str]:
    """Return a fresh topic with one partition."""
    from confluent_kafka.admin import NewTopic

    name = unique("dead")
    kafka_admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])[name].result(30)
    yield name
    kafka_admin.delete_topics([name])[name].result(30)
