"""The example DAGs run for real, by ``dag.test()``: samples of four hosts go through Kafka into Cassandra."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = Path(__file__).resolve().parents[2] / "example_dags"

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.kafka,
    pytest.mark.cassandra,
    pytest.mark.ssh,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("airflow_environment", "empty_stores"),
]


@pytest.fixture(scope="module")
def examples(airflow_db: Path) -> dict[str, Any]:
    """The example DAGs, known to the metadata database as dag.test() needs them."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(EXAMPLES, bundle_name="dags-folder", bundle_path=EXAMPLES)
    assert bag.import_errors == {}
    return bag.dags


@pytest.fixture
def run_dag(examples: dict[str, Any]) -> Callable[[str], dict[str, str]]:
    """A runner of one DAG that returns task id → state."""

    def run(dag_id: str) -> dict[str, str]:
        dag_run = examples[dag_id].test()
        return {instance.task_id: str(instance.state) for instance in dag_run.get_task_instances()}

    return run


def test_the_pipeline_stores_what_it_published_and_the_alert_reaches_its_topic(
    run_dag: Callable[[str], dict[str, str]], read_topic: Callable[[str], list[dict]], cassandra_session: Any
) -> None:
    states = run_dag("restrack_pipeline")

    assert set(states.values()) == {"success"}
    published = read_topic("system_metrics")
    assert {sample["host"] for sample in published} == {"web-1", "web-2", "db-1", socket.gethostname()}
    assert all(sample["up"] for sample in published)
    rows = list(
        cassandra_session.execute("SELECT JSON host, id, cpu_count, memory_total FROM metrics.system_metrics")
    )
    stored = {row["host"]: row for row in (json.loads(row[0]) for row in rows)}
    assert len(rows) == len(published)
    for sample in published:
        names = ("id", "cpu_count", "memory_total")
        assert {name: stored[sample["host"]][name] for name in names} == {
            name: sample[name] for name in names
        }
    alerts = read_topic("system_alerts")
    assert {alert["host"] for alert in alerts} == {sample["host"] for sample in published}
    assert {alert["rule"] for alert in alerts} == {"is_up"}


def test_a_second_run_of_the_pipeline_adds_its_own_samples_only(
    run_dag: Callable[[str], dict[str, str]], read_topic: Callable[[str], list[dict]], cassandra_session: Any
) -> None:
    run_dag("restrack_pipeline")
    run_dag("restrack_pipeline")

    published = {sample["id"] for sample in read_topic("system_metrics")}
    stored = [str(row.id) for row in cassandra_session.execute("SELECT id FROM metrics.system_metrics")]
    latest = [row.host for row in cassandra_session.execute("SELECT host FROM metrics.latest_metrics")]
    assert len(published) == 8
    assert sorted(stored) == sorted(published)
    assert len(latest) == 4


def test_the_production_set_collects_in_mapped_chunks_and_loads(
    run_dag: Callable[[str], dict[str, str]], read_topic: Callable[[str], list[dict]], cassandra_session: Any
) -> None:
    assert run_dag("restrack_provision") == {"provision": "success"}
    assert set(run_dag("restrack_collect").values()) == {"success"}
    assert run_dag("restrack_load") == {"load": "success"}

    published = {sample["id"] for sample in read_topic("system_metrics")}
    stored = [str(row.id) for row in cassandra_session.execute("SELECT id FROM metrics.system_metrics")]
    assert len(published) == 3
    assert sorted(stored) == sorted(published)


def test_a_celery_worker_samples_itself(
    run_dag: Callable[[str], dict[str, str]], read_topic: Callable[[str], list[dict]]
) -> None:
    run_dag("restrack_provision")
    assert set(run_dag("restrack_celery_workers").values()) == {"success"}

    published = read_topic("system_metrics")
    assert [sample["host"] for sample in published] == [socket.gethostname()] * 3
    assert {sample["labels"]["queue"] for sample in published} == {"worker-1", "worker-2", "worker-3"}
