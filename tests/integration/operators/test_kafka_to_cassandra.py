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
    from pathlib import Path

pytestmark = [pytest.mark.kafka, pytest.mark.cassandra]


@pytest.fixture
def connections(
    kafka_bootstrap: str,
    cassandra_address: tuple[str, int],
    cassandra_session: Any,
    topic: str,
    keyspace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Airflow's connections to both servers, a topic with one sample and fresh tables."""
    extra = {"bootstrap.servers": kafka_bootstrap, "group.id": "somebody"}
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_DEFAULT", json.dumps({"conn_type": "kafka", "extra": extra}))
    host, port = cassandra_address
    connection = {"conn_type": "cassandra", "host": host, "port": port}
    monkeypatch.setenv("AIRFLOW_CONN_CASSANDRA_DEFAULT", json.dumps(connection))
    for table in schema.TABLES:
        cassandra_session.execute(schema.build_create_table(table, keyspace))
    sample = {"host": "web-1", "timestamp": clock.format_utc(clock.utc_now()), "up": True, "cpu_usage": 7.5}
    KafkaPublishOperator(task_id="publish", topic=topic, records=sample).execute({})


@pytest.fixture
def load(connections: None, topic: str, keyspace: str) -> Callable[..., dict[str, Any]]:
    """Return a runner of the operator over that topic."""

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


ASSET_DAG = """
from datetime import datetime
from airflow.sdk import DAG, Asset
from airflow_provider_restrack.operators.kafka_to_cassandra import KafkaToCassandraOperator

with DAG({dag_id!r}, schedule=None, start_date=datetime(2026, 1, 1)):
    KafkaToCassandraOperator(
        task_id="load", topics=[{topic!r}], tables=[{table!r}], group_id={topic!r}, outlets=[Asset({asset!r})]
    )
"""


@pytest.mark.airflow
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_event_of_an_asset_in_the_database_has_the_counts_of_the_load(
    connections: None,
    airflow_db: Path,
    topic: str,
    keyspace: str,
    unique: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session

    dag_id, table = unique("dag"), f"{keyspace}.latest_metrics"
    asset = f"cassandra://cassandra-1:9042/{table.replace('.', '/')}"
    text = ASSET_DAG.format(dag_id=dag_id, topic=topic, table=table, asset=asset)
    (tmp_path / "load.py").write_text(text)
    local = "airflow.dag_processing.bundles.local.LocalDagBundle"
    bundle = {"name": "dags-folder", "classpath": local, "kwargs": {"path": str(tmp_path)}}
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([bundle]))
    bag = DagBag(tmp_path, bundle_name="dags-folder", bundle_path=tmp_path)

    run = bag.dags[dag_id].test()

    assert [str(instance.state) for instance in run.get_task_instances()] == ["success"]
    with create_session() as session:
        found = session.query(AssetEvent.extra).join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        [(extra,)] = found.filter(AssetModel.uri == asset).all()
    assert (extra["records"], extra["tables"], extra["lag_after"]) == (1, {table: 1}, 0)
