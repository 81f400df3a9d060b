"""The example DAGs run for real, by ``dag.test()``: samples of four hosts go through Kafka into Cassandra."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime, timedelta
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


def test_an_alert_is_told_once_however_often_it_is_evaluated(
    run_dag: Callable[[str], dict[str, str]], read_topic: Callable[[str], list[dict]], cassandra_session: Any
) -> None:
    """A sample of two minutes ago, so that it lies before the evaluation's delay, breaches the rule."""
    run_dag("restrack_provision")
    at = datetime.now(tz=UTC) - timedelta(minutes=2)
    cassandra_session.execute(
        "INSERT INTO metrics.system_metrics (host, day, timestamp, up) VALUES ('web-1', %s, %s, true)",
        (at.date(), at),
    )
    cassandra_session.execute("INSERT INTO metrics.latest_metrics (host) VALUES ('web-1')")

    for _ in range(2):
        assert run_dag("restrack_alerts") == {"provision": "success", "alerts": "success"}

    (alert,) = read_topic("system_alerts")
    assert (alert["instance"], alert["kind"], alert["current"]) == ("is_up/web-1", "firing", True)
    assert "restrack_alerts" in alert["url"]
    (row,) = cassandra_session.execute("SELECT scope, transition FROM metrics.alert_history")
    assert tuple(row) == ("restrack_alerts.alerts", "fired")


def test_the_rollups_of_what_is_loaded(
    run_dag: Callable[[str], dict[str, str]], cassandra_session: Any
) -> None:
    """Samples of two hours ago, so that their buckets are final, go through both DAGs."""
    run_dag("restrack_provision")
    moment = datetime.now(tz=UTC) - timedelta(hours=2)
    for number in range(3):
        at = moment + timedelta(seconds=10 * number)
        cassandra_session.execute(
            "INSERT INTO metrics.system_metrics (host, day, timestamp, cpu_usage) "
            "VALUES ('web-1', %s, %s, %s)",
            (at.date(), at, float(number)),
        )
    cassandra_session.execute("INSERT INTO metrics.latest_metrics (host) VALUES ('web-1')")

    assert set(run_dag("restrack_rollup_hourly").values()) == {"success"}
    hourly = list(cassandra_session.execute("SELECT cpu_usage FROM metrics.system_metrics_1h"))
    assert run_dag("restrack_rollup_daily") == {"reconcile": "success"}

    assert sum(row.cpu_usage.count for row in hourly) == 3
    assert list(cassandra_session.execute("SELECT cpu_usage FROM metrics.system_metrics_1h")) == hourly


def test_the_capacity_report_is_written_and_linked(
    examples: dict[str, Any],
    run_dag: Callable[[str], dict[str, str]],
    cassandra_session: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    run_dag("restrack_provision")
    today = datetime.now(tz=UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for number in range(40):
        day = today - timedelta(days=number + 1)
        full = f"{{count: 96, min: 0, max: {90 - number + number % 2 / 10}, sum: 96, last: 1, p95: 50}}"
        cassandra_session.execute(
            "INSERT INTO metrics.system_metrics_1d (host, period, timestamp, filesystem_usage) "
            f"VALUES ('web-1', '{day.year}', %s, {{'/': {full}}})",
            (day,),
        )
    cassandra_session.execute("INSERT INTO metrics.latest_metrics (host) VALUES ('web-1')")
    monkeypatch.setenv("AIRFLOW_VAR_RESTRACK_REPORTS", str(tmp_path))
    monkeypatch.setenv("AIRFLOW_VAR_RESTRACK_REPORTS_URL", "https://reports.example.com")

    dag_run = examples["restrack_capacity"].test()

    assert {str(instance.state) for instance in dag_run.get_task_instances()} == {"success"}
    (page,) = tmp_path.glob("*/capacity.html")
    assert "web-1 /: filesystem_usage" in page.read_text()
    with create_session() as session:
        links = session.scalars(
            XComModel.get_many(
                key="_link_CapacityReportLink", run_id=dag_run.run_id, dag_ids=dag_run.dag_id
            ).with_only_columns(XComModel.value)
        ).all()
    address = f"https://reports.example.com/{page.parent.name}/capacity.html"
    assert list(links) == [address]
