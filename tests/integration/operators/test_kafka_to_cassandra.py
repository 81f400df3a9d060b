"""``KafkaToCassandraOperator`` with connections of Airflow and the real servers."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_restrack import clock
from airflow_provider_restrack.load.errors import ConfigurationError
from airflow_provider_restrack.operators.kafka_publish import KafkaPublishOperator
from airflow_provider_restrack.operators.kafka_to_cassandra import KafkaToCassandraOperator
from airflow_provider_restrack.store import schema

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.kafka, pytest.mark.cassandra]


@pytest.fixture
def load(
    kafka_bootstrap: str,
    cassandra_address: tuple[str, int],
    cassandra_session: Any,
    topic: str,
    keyspace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., dict[str, Any]]:
    """Return a runner of the operator, over a topic with one sample and fresh tables."""
    extra = {"bootstrap.servers": kafka_bootstrap, "group.id": "somebody"}
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_DEFAULT", json.dumps({"conn_type": "kafka", "extra": extra}))
    host, port = cassandra_address
    connection = {"conn_type": "cassandra", "host": host, "port": port}
    monkeypatch.setenv("AIRFLOW_CONN_CASSANDRA_DEFAULT", json.dumps(connection))
    for table in schema.TABLES:
        cassandra_session.execute(schema.build_create_table(table, keyspace))
    sample = {"host": "web-1", "timestamp": clock.format_utc(clock.utc_now()), "up": True, "cpu_usage": 7.5}
    KafkaPublishOperator(task_id="publish", topic=topic, records=sample).execute({})

    def run(**changes: Any) -> dict[str, Any]:
        arguments = {
            "topics": [topic],
            "tables": [f"{keyspace}.system_metrics", f"{keyspace}.latest_metrics"],
            "group_id": topic,
            "ttl": schema.RAW_TTL_S,
        }
        task = KafkaToCassandraOperator(task_id="load", **arguments | changes)
        return task.execute({"ti": SimpleNamespace(dag_id="a_dag")})  # type: ignore[typeddict-item]

    return run


def test_a_published_sample_is_stored_in_both_tables(
    load: Any, cassandra_session: Any, keyspace: str
) -> None:
    result = load()

    assert json.loads(json.dumps(result)) == result
    assert (result["records"], result["rows"], result["lag_before"], result["lag_after"]) == (1, 2, 1, 0)
    for table in ("system_metrics", "latest_metrics"):
        [row] = cassandra_session.execute(f"SELECT host, up, cpu_usage FROM {keyspace}.{table}")
        assert tuple(row) == ("web-1", True, 7.5)
    assert load()["records"] == 0


def test_a_connection_that_commits_by_itself_is_refused(
    load: Any, kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = {"bootstrap.servers": kafka_bootstrap, "enable.auto.commit": True}
    monkeypatch.setenv("AIRFLOW_CONN_GREEDY", json.dumps({"conn_type": "kafka", "extra": extra}))

    with pytest.raises(ConfigurationError, match=r"'greedy' sets enable\.auto\.commit=true"):
        load(kafka_config_id="greedy")
    assert load()["records"] == 1


def test_an_unreachable_cassandra_fails_with_its_connection_and_loses_nothing(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = {"conn_type": "cassandra", "host": "127.0.0.1", "port": 1, "extra": {"connect_timeout": 1}}
    monkeypatch.setenv("AIRFLOW_CONN_NOBODY", json.dumps(connection))

    with pytest.raises(RuntimeError, match=r"127\.0\.0\.1 port 1.*nobody"):
        load(cassandra_conn_id="nobody")
    assert load()["records"] == 1


def test_a_missing_table_is_named_with_the_connection(load: Any, keyspace: str) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"{keyspace}\.missing does not exist .*'cassandra_default'"
    ):
        load(tables=[f"{keyspace}.missing"])
