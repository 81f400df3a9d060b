"""The trigger in a real triggerer, for a deferred sensor and in an AssetWatcher."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from airflow_provider_restrack import clock
from airflow_provider_restrack.store.schema import TABLES, build_create_table
from services.airflow import AirflowServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cassandra.cluster import Session

    import services

UI_PORT = 18180
LIMIT_S = 120.0
DAGS = """
from airflow.sdk import DAG, Asset, AssetWatcher, task
from airflow_provider_restrack.sensors.threshold import ThresholdSensor
from airflow_provider_restrack.triggers.threshold import ThresholdTrigger

RULE = {{"name": "cpu_high", "metric": "cpu_usage", "op": ">", "threshold": 90, "for": "2m"}}
WHERE = {{"table": "{keyspace}.system_metrics", "hosts": ["db-1"]}}

ARGUMENTS = dict(rules=[RULE], deferrable=True, poke_interval=1, timeout=300, **WHERE)

with DAG("wait", schedule=None):
    ThresholdSensor(task_id="threshold", **ARGUMENTS) >> ThresholdSensor(
        task_id="clear", until="clear", **ARGUMENTS
    )

trigger = ThresholdTrigger(rules=[RULE], poll_interval=1, **WHERE)
asset = Asset("hot_hosts", watchers=[AssetWatcher(name="cpu", trigger=trigger)])
with DAG("handle", schedule=[asset]):
    @task
    def payloads(triggering_asset_events=None):
        return [event.extra["payload"] for events in triggering_asset_events.values() for event in events]
    payloads()
"""

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.cassandra,
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(400),
]


@pytest.fixture
def store(cassandra_session: Session, keyspace: str) -> Callable[..., None]:
    """Create the tables; return a function that stores samples of db-1, one a minute."""
    for table in TABLES:
        cassandra_session.execute(build_create_table(table, keyspace))

    columns, marks = "(host, day, timestamp, cpu_usage)", "(%s, %s, %s, %s)"

    def insert(*values: float, newest_age: int = 0) -> None:
        now = clock.utc_now()
        for age, value in enumerate(reversed(values), newest_age):
            time = now - timedelta(minutes=age)
            cassandra_session.execute(
                f"INSERT INTO {keyspace}.system_metrics {columns} VALUES {marks}",
                ("db-1", time.date(), time, value),
            )

    return insert


@pytest.fixture
def airflow(test_instance: services.Instance, keyspace: str, tmp_path: Path) -> Iterator[AirflowServer]:
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "threshold.py").write_text(DAGS.format(keyspace=keyspace))
    running = AirflowServer(
        home=tmp_path / "airflow", port=UI_PORT, dags=dags, connections=test_instance.airflow_connections()
    )
    running.start()
    yield running
    running.stop()


def wait_until(found: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + LIMIT_S
    while not (value := found()):
        assert time.monotonic() < deadline, f"{what} did not happen in {LIMIT_S:g} s"
        time.sleep(0.2)
    return value


def test_a_sensor_is_resumed_and_a_watcher_starts_one_run_for_a_breach(
    store: Callable[..., None], airflow: AirflowServer
) -> None:
    store(50, 50, 50, 50, 50, newest_age=5)
    airflow.unpause("wait")
    airflow.unpause("handle")
    run_id = airflow.trigger("wait")
    wait_until(lambda: airflow.task_states("wait", run_id).get("threshold") == "deferred", "the deferral")

    store(97, 98, 99)

    wait_until(lambda: airflow.task_states("wait", run_id).get("clear") == "deferred", "the second deferral")
    (evidence,) = airflow.xcom("wait", run_id, "threshold")
    assert (evidence["host"], evidence["peak"]) == ("db-1", 99.0)
    assert f"/dags/wait/runs/{quote(run_id)}/tasks/threshold" in evidence["run_url"]

    store(40)

    assert airflow.wait_run("wait", run_id, LIMIT_S) == "success"
    over = airflow.xcom("wait", run_id, "clear")
    assert [(one["host"], one["current"]) for one in over["ended"]] == [("db-1", 40.0)]
    assert f"/dags/wait/runs/{quote(run_id)}/tasks/clear" in over["run_url"]
    (run,) = wait_until(lambda: airflow.call("GET", "/dags/handle/dagRuns")["dag_runs"], "a run of handle")
    assert airflow.wait_run("handle", run["dag_run_id"], LIMIT_S) == "success"
    (payload,) = airflow.xcom("handle", run["dag_run_id"], "payloads")
    assert (payload["status"], payload["evidence"][0]["peak"]) == ("breach", 99.0)
    assert len(airflow.call("GET", "/dags/handle/dagRuns")["dag_runs"]) == 1
