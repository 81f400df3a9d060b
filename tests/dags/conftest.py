"""Fixtures of the DAG tests: the examples write to fixed topics and a fixed keyspace, which start empty."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_restrack.store import schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import services

TOPICS = (schema.TOPIC, schema.DEAD_LETTER_TOPIC, schema.ALERT_TOPIC)


@pytest.fixture(scope="session")
def fleet(sshd_hosts: Sequence[services.SshdServer]) -> list[dict[str, Any]]:
    """The sshd hosts in the form that RemoteMetricsOperator takes."""
    return [{"host": host.name, "address": host.address, "port": host.port} for host in sshd_hosts]


@pytest.fixture
def empty_stores(kafka_admin: Any, cassandra_session: Any) -> Iterator[None]:
    """No topic and no keyspace of the examples before the test, and none after it."""
    drop_all(kafka_admin, cassandra_session)
    yield
    drop_all(kafka_admin, cassandra_session)


def drop_all(kafka_admin: Any, cassandra_session: Any) -> None:
    there = [name for name in TOPICS if name in kafka_admin.list_topics(timeout=30).topics]
    for future in (kafka_admin.delete_topics(there) if there else {}).values():
        future.result(30)
    groups = kafka_admin.delete_consumer_groups(["restrack-loader"])
    groups["restrack-loader"].exception(30)  # there may be none
    cassandra_session.execute(f"DROP KEYSPACE IF EXISTS {schema.KEYSPACE}", timeout=60)


@pytest.fixture
def airflow_environment(
    monkeypatch: pytest.MonkeyPatch,
    test_instance: services.Instance,
    kafka_bootstrap: str,
    cassandra_address: tuple[str, int],
    fleet: list[dict[str, Any]],
    airflow_db: Any,
) -> None:
    """Airflow's connections and Variables for the examples, in the environment."""
    for conn_id, connection in test_instance.airflow_connections().items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))
    for name, value in variables(fleet).items():
        monkeypatch.setenv(f"AIRFLOW_VAR_{name.upper()}", value)


def variables(fleet: list[dict[str, Any]]) -> dict[str, str]:
    """The Variables that adapt the examples to the test servers; the rule holds on any machine that is up."""
    rule = {"name": "is_up", "metric": "up", "op": "==", "threshold": True, "for": 0}
    return {
        "restrack_hosts": json.dumps(fleet),
        "restrack_replication": "1",
        "restrack_rules": json.dumps([rule]),
    }


@pytest.fixture
def read_topic(kafka_bootstrap: str) -> Callable[[str], list[dict[str, Any]]]:
    """A reader of all records of a topic, from its start to its end."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

    def read(topic: str) -> list[dict[str, Any]]:
        consumer = Consumer(
            {"bootstrap.servers": kafka_bootstrap, "group.id": "tests", "enable.auto.commit": False}
        )
        try:
            partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
            ends = {
                p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=30) for p in partitions
            }
            consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
            wanted = sum(high - low for low, high in ends.values())
            records: list[dict[str, Any]] = []
            while len(records) < wanted:
                message = consumer.poll(30)
                assert message is not None, f"{topic}: {len(records)} of {wanted} records came"
                assert message.error() is None
                records.append(json.loads(message.value()))
            return records
        finally:
            consumer.close()

    return read
