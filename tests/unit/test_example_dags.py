"""The example DAGs parse with no connection configured, without any network, and import no driver."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DAG_IDS = {
    "restrack_pipeline",
    "restrack_provision",
    "restrack_collect",
    "restrack_load",
    "restrack_alert",
    "restrack_alerts",
    "restrack_celery_workers",
    "restrack_rollup_hourly",
    "restrack_rollup_daily",
    "restrack_capacity",
}

# Run in a process of its own: what the tests import must not count, and a refused socket must not spread.
PARSE = """
import json, socket, sys
def refuse(*arguments, **options):
    raise AssertionError(f"parsing a DAG file must not open a connection: {arguments}")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG, BaseNotifier, BaseOperator, BaseSensorOperator, task
airflows_own = set(sys.modules)
bag = DagBag(sys.argv[1])
heavy = {"numpy", "pyarrow", "cassandra", "confluent_kafka", "paramiko", "psutil", "msgspec", "matplotlib"}
drivers = sorted(heavy & (set(sys.modules) - airflows_own))
print(json.dumps({
    "errors": bag.import_errors,
    "drivers": drivers,
    "dags": {dag_id: sorted(dag.task_ids) for dag_id, dag in bag.dags.items()},
    "retry": {dag_id: [[task.retries, task.retry_delay.total_seconds()] for task in dag.tasks]
              for dag_id, dag in bag.dags.items()},
    "schedules": {dag_id: str(dag.schedule) for dag_id, dag in bag.dags.items()},
}))
"""


@pytest.fixture(scope="module")
def parsed() -> dict:
    """What a DAG processor gets of the example DAGs on a machine with no connection and no network."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_CONN_")}
    done = subprocess.run(
        [sys.executable, "-c", PARSE, str(ROOT / "example_dags")],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_all_example_dags_parse(parsed: dict) -> None:
    assert parsed["errors"] == {}
    assert set(parsed["dags"]) == DAG_IDS


def test_parsing_imports_no_driver(parsed: dict) -> None:
    assert parsed["drivers"] == []


def test_the_pipeline_collects_every_five_minutes_and_retries_once_after_a_minute(parsed: dict) -> None:
    assert parsed["schedules"]["restrack_pipeline"] == "*/5 * * * *"
    assert parsed["retry"]["restrack_pipeline"] == [[1, 60.0]] * len(parsed["dags"]["restrack_pipeline"])


def test_the_pipeline_has_every_step(parsed: dict) -> None:
    assert parsed["dags"]["restrack_pipeline"] == [
        "collect_hosts",
        "collect_worker",
        "load",
        "notify",
        "provision",
        "publish",
        "threshold",
    ]


def test_every_queue_of_celery_workers_has_its_own_tasks(parsed: dict) -> None:
    assert len(parsed["dags"]["restrack_celery_workers"]) == 6
