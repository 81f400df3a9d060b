"""The pipeline through a real scheduler, undisturbed and with Cassandra killed in its middle."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from services.airflow import AirflowServer
from tests.dags.conftest import variables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import services

ROOT = Path(__file__).resolve().parents[2]
DAG_ID = "restrack_pipeline"
UI_PORT = 18080

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.kafka,
    pytest.mark.cassandra,
    pytest.mark.ssh,
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def airflow(
    test_instance: services.Instance,
    kafka_bootstrap: str,
    cassandra_address: tuple[str, int],
    fleet: list[dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[AirflowServer]:
    """A whole Airflow, new: scheduler, DAG processor, triggerer and API server."""
    home = tmp_path_factory.mktemp("airflow")
    running = AirflowServer(
        home=home,
        port=UI_PORT,
        dags=without_schedule(home / "dags"),
        connections=test_instance.airflow_connections(),
        variables=variables(fleet),
    )
    running.start()
    yield running
    running.stop()


def without_schedule(folder: Path) -> Path:
    """The pipeline without its schedule: a run by schedule would mix its samples with the test's."""
    text = (ROOT / "example_dags" / f"{DAG_ID}.py").read_text()
    scheduled = 'schedule="*/5 * * * *"'
    assert scheduled in text
    folder.mkdir()
    (folder / f"{DAG_ID}.py").write_text(text.replace(scheduled, "schedule=None"))
    return folder


def wait_for(states: Callable[[], dict[str, str]], task_id: str, wanted: set[str], limit_s: float) -> str:
    """Wait until a task is in one of the wanted states."""
    deadline = time.monotonic() + limit_s
    while (state := states().get(task_id, "")) not in wanted:
        assert time.monotonic() < deadline, f"{task_id} is {state!r}, wanted {wanted}: {states()}"
        time.sleep(0.1)
    return state


def test_the_scheduler_runs_the_pipeline(
    airflow: AirflowServer,
    empty_stores: None,
    read_topic: Callable[[str], list[dict]],
    cassandra_session: Any,
) -> None:
    airflow.unpause(DAG_ID)
    run_id = airflow.trigger(DAG_ID)

    assert airflow.wait_run(DAG_ID, run_id) == "success"
    evidence = airflow.xcom(DAG_ID, run_id, "threshold")
    assert {alert["rule"] for alert in evidence} == {"is_up"}
    published = {sample["id"] for sample in read_topic("system_metrics")}
    stored = [str(row.id) for row in cassandra_session.execute("SELECT id FROM metrics.system_metrics")]
    assert sorted(stored) == sorted(published)


def test_cassandra_killed_in_the_middle_fails_the_load_and_the_retry_stores_every_sample_once(
    airflow: AirflowServer,
    empty_stores: None,
    test_instance: services.Instance,
    read_topic: Callable[[str], list[dict]],
    cassandra_session: Any,
) -> None:
    airflow.unpause(DAG_ID)
    run_id = airflow.trigger(DAG_ID)

    def states() -> dict[str, str]:
        return airflow.task_states(DAG_ID, run_id)

    wait_for(states, "provision", {"success"}, 120)
    test_instance.cassandra.kill()
    try:
        wait_for(states, "load", {"up_for_retry"}, 180)
    finally:
        test_instance.cassandra.start()

    assert airflow.wait_run(DAG_ID, run_id) == "success"
    assert states()["load"] == "success"
    published = Counter(sample["id"] for sample in read_topic("system_metrics"))
    stored = Counter(str(row.id) for row in rows_when_back(cassandra_session))
    assert len(published) >= 4
    assert stored == Counter(set(published))


def rows_when_back(session: Any) -> list[Any]:
    """Read all ids; the session of the tests has to reconnect to the restarted node first."""
    from cassandra.cluster import NoHostAvailable

    deadline = time.monotonic() + 60
    while True:
        try:
            return list(session.execute("SELECT id FROM metrics.system_metrics"))
        except NoHostAvailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
