"""What ``make demo`` shows of capacity: two months of history through the real pipeline, and its report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from demo import history_dag
from demo.history import FLEET

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).resolve().parents[2] / "example_dags"
TOPIC = "demo_history"

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.kafka,
    pytest.mark.cassandra,
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("airflow_environment", "empty_stores"),
]


@pytest.fixture
def report_dag(airflow_db: Path, kafka_admin: Any) -> Iterator[Any]:
    """The example DAG of the report, known to the metadata database; no topic is left behind."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(EXAMPLES, bundle_name="dags-folder", bundle_path=EXAMPLES)
    drop(kafka_admin)
    yield bag.dags["restrack_capacity"]
    drop(kafka_admin)


def drop(kafka_admin: Any) -> None:
    if TOPIC in kafka_admin.list_topics(timeout=30).topics:
        kafka_admin.delete_topics([TOPIC])[TOPIC].result(30)
    kafka_admin.delete_consumer_groups(["restrack-demo-history"])["restrack-demo-history"].exception(30)


def test_two_months_of_history_become_a_report(
    report_dag: Any, cassandra_session: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_RESTRACK_REPORTS", str(tmp_path / "reports"))

    for task in history_dag.dag.topological_sort():
        run: Any = getattr(task, "python_callable", lambda task=task: task.execute({}))
        run()
    dag_run = report_dag.test()

    states = {instance.task_id: str(instance.state) for instance in dag_run.get_task_instances()}
    assert set(states.values()) == {"success"}, states
    days = {row.host: row.days for row in cassandra_session.execute(
        "SELECT host, count(*) AS days FROM metrics.system_metrics_1d GROUP BY host, period"
    )}  # fmt: skip
    assert set(days) == {host.name for host in FLEET}
    (page,) = (tmp_path / "reports").glob("*/capacity.html")
    text = page.read_text()
    assert text.count("<svg") >= 3
    assert "gen-old-1" in text[text.index('id="silent"') :]
    assert "32 CPUs → " in text
    assert text.count('<th scope="row">gen-') == len(FLEET)
