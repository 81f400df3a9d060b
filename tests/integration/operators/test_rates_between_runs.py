"""Counters really go from one DAG run to the next, of plain and of mapped tasks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.airflow

ROOT = Path(__file__).resolve().parents[3]
DAG_FILE = """
import json, os
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, task

from airflow_provider_restrack.operators.remote_metrics import RemoteMetricsOperator

with DAG("restrack_test_rates", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:

    @task
    def write(samples, parts, logical_date=None):
        rows = [*samples, *(row for part in parts for row in part)]
        with open(f"{os.environ['RESTRACK_TEST_OUT']}/{logical_date:%d}.json", "w") as file:
            json.dump(rows, file)

    plain = RemoteMetricsOperator(task_id="plain", rates="since_last_run")
    partial = RemoteMetricsOperator.partial(task_id="mapped", rates="since_last_run")
    write(plain.output, partial.expand(labels=[{"a": "b"}]).output)

if __name__ == "__main__":
    for day in (1, 2):
        run = dag.test(logical_date=datetime(2026, 2, day, tzinfo=UTC))
        assert str(run.state) == "success", run.state
"""


@pytest.mark.slow
def test_the_second_run_of_a_dag_has_rates_since_its_first(airflow_db: Path, tmp_path: Path) -> None:
    (tmp_path / "rates.py").write_text(DAG_FILE)
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(airflow_db),
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path),
        "RESTRACK_TEST_OUT": str(tmp_path),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, str(tmp_path / "rates.py")]

    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110)

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"{day}.json").read_text()) for day in ("01", "02"))
    assert len(second) == 2
    for before, after in zip(first, second, strict=True):
        assert after["window_seconds"] == pytest.approx(after["uptime"] - before["uptime"], abs=0.01)
        assert 0 <= after["cpu_usage"] <= 100
        assert after["cpu_total_seconds"] > before["cpu_total_seconds"]
