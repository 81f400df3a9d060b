"""Start the servers and Airflow, run the pipeline over four hosts under load, and show what it found; then
load two months of generated history, and make the capacity report of it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

import services
from airflow_provider_restrack.store import read, schema
from airflow_provider_restrack.store.session import CassandraPolicy, open_session
from demo.burn import load_on_all_cpus
from demo.history import DAYS, FLEET
from demo.reports import served
from demo.show import describe_alert, describe_report, table_of_hosts
from services.airflow import ENDED, AirflowServer
from services.layout import ADDRESS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from services import Instance

DAG_ID = "restrack_pipeline"
HISTORY_DAG_ID = "restrack_demo_history"
REPORT_DAG_ID = "restrack_capacity"
ROOT = Path(__file__).resolve().parent.parent
UI_PORT = 8080
BURN_LIMIT_S = 600.0
MOST_RUNS = 6
# The rules of the DAG ask for ten minutes; nobody waits that long for a demo.
RULES = [{"name": "cpu_high", "metric": "cpu_usage", "op": ">", "threshold": 80, "for": "20s"}]


def main(argv: list[str] | None = None) -> int:
    """Run the demo; 0 when the rows were stored, the alert fired and the report was written."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end by itself, and stop all that it started")
    parser.add_argument(
        "--port", type=int, default=UI_PORT, help="port of Airflow's UI (default: %(default)s)"
    )
    options = parser.parse_args(argv)
    for ending in (signal.SIGINT, signal.SIGTERM):  # a shell starts background jobs with SIGINT ignored
        signal.signal(ending, _interrupt)
    try:
        with ExitStack() as stack:
            return run(stack, port=options.port, once=options.once)
    except KeyboardInterrupt:
        say("stopped")
        return 0 if not options.once else 130


def run(stack: ExitStack, *, port: int, once: bool) -> int:
    """Start everything on the stack, which stops it in reverse order; run the pipeline; show the outcome."""
    say("checking Java, sshd and the jars of Kafka and Cassandra; the first time they are downloaded …")
    services.prepare()
    instance = services.instance("dev")
    for name, server in (
        ("Kafka", instance.kafka),
        ("Cassandra", instance.cassandra),
        ("sshd hosts", instance.ssh),
    ):
        stack.enter_context(started(name, server))
    reports = instance.directory / "reports"
    url = stack.enter_context(served(reports, ADDRESS, port + 3))
    airflow = build_airflow(instance, port, reports, url)
    stack.enter_context(started("Airflow (scheduler, triggerer, DAG processor, API server)", airflow))
    evidence = watch_until_alert(airflow)
    show_outcome(instance, airflow, evidence)
    reported = report_on_history(airflow)
    if not once:
        say("Everything stays up, and the pipeline runs every five minutes. Ctrl-C stops it all.")
        signal.pause()
    return 0 if evidence and reported else 1


def build_airflow(instance: Instance, port: int, reports: Path, url: str) -> AirflowServer:
    """Return the demo's Airflow, with connections to the servers and the fleet's hosts in a Variable."""
    dags = instance.directory / "dags"
    shutil.rmtree(dags, ignore_errors=True)
    shutil.copytree(ROOT / "example_dags", dags, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "demo" / "history_dag.py", dags / f"{HISTORY_DAG_ID}.py")
    os.environ["PYTHONPATH"] = str(ROOT)  # the DAG of the history imports the demo
    hosts = [{"host": host.name, "address": host.address, "port": host.port} for host in instance.ssh.hosts]
    return AirflowServer(
        home=instance.directory / "airflow",
        port=port,
        dags=dags,
        connections=instance.airflow_connections(),
        variables={
            "restrack_hosts": json.dumps(hosts),
            "restrack_replication": "1",
            "restrack_rules": json.dumps(RULES),
            "restrack_reports": str(reports),
            "restrack_reports_url": url,
        },
    )


def watch_until_alert(airflow: AirflowServer) -> list[dict[str, Any]]:
    """Run the pipeline under load until its sensor finds the breach; return the sensor's evidence."""
    with load_on_all_cpus(BURN_LIMIT_S) as cpus:
        say(f"{cpus} CPUs under load; the rule: cpu_usage > {RULES[0]['threshold']} % for {RULES[0]['for']}")
        airflow.unpause(DAG_ID)
        for number in range(1, MOST_RUNS + 1):
            run_id = airflow.trigger(DAG_ID)
            state, tasks = follow(airflow, DAG_ID, run_id, f"run {number}")
            if state != "success":
                say(f"run {number} failed; its logs are in the UI and under {airflow.directory / 'logs'}")
                return []
            if tasks.get("threshold") == "success":
                return list(airflow.xcom(DAG_ID, run_id, "threshold"))
    say(f"no alert after {MOST_RUNS} runs")
    return []


def follow(airflow: AirflowServer, dag_id: str, run_id: str, name: str) -> tuple[str, dict[str, str]]:
    """Print each task of a run as it ends, until the run has ended; return the states of run and tasks."""
    shown: set[str] = set()
    while True:
        state = airflow.run_state(dag_id, run_id)
        tasks = airflow.task_states(dag_id, run_id)
        for task_id, task_state in tasks.items():
            if task_id not in shown and task_state in {
                "success",
                "failed",
                "skipped",
                "up_for_retry",
                "upstream_failed",
            }:
                shown.add(task_id)
                say(f"{name}: {task_id} {task_state}")
        if state in ENDED:
            return state, tasks
        time.sleep(0.5)


def show_outcome(instance: Instance, airflow: AirflowServer, evidence: list[dict[str, Any]]) -> None:
    """Print the newest row of every host as Cassandra has it, the alert, and where the UI is."""
    address, port = instance.cassandra.address
    policy = CassandraPolicy(contact_points=(address,), port=port, local_dc="datacenter1")
    with open_session(policy) as session:
        rows = read.read_latest(session, schema.KEYSPACE)
    print(f"\nThe newest row of every host ({schema.KEYSPACE}.{schema.LATEST_METRICS.name}):\n")
    print(table_of_hosts(rows))
    print("\nWhat the ThresholdSensor found:\n")
    print("\n".join(describe_alert(alert) for alert in evidence) or "  nothing")
    user, password = airflow.credentials()
    print(f"\nAirflow's UI: {airflow.url}/dags/{DAG_ID}   user: {user}   password: {password}\n", flush=True)


def report_on_history(airflow: AirflowServer) -> bool:
    """Load the generated history through the pipeline, make the report, and tell where it is."""
    say(f"history: {DAYS} days of {len(FLEET)} generated hosts, through Kafka into Cassandra, and rollups")
    for dag_id in (HISTORY_DAG_ID, REPORT_DAG_ID):
        airflow.unpause(dag_id)
        run_id = airflow.trigger(dag_id)
        state, _ = follow(airflow, dag_id, run_id, dag_id.removeprefix("restrack_"))
        if state != "success":
            say(f"{dag_id} failed; its logs are in the UI and under {airflow.directory / 'logs'}")
            return False
    found = airflow.xcom(REPORT_DAG_ID, run_id, "report")
    link = airflow.extra_links(REPORT_DAG_ID, run_id, "report").get("Capacity report") or ""
    print(describe_report(found, link), flush=True)
    return bool(link) and httpx.get(link, timeout=30).status_code == httpx.codes.OK


@contextmanager
def started(name: str, server: Any) -> Iterator[None]:
    """Start a server, saying so; stop it at the end if it did not run before."""
    ran = server.running
    begin = time.monotonic()
    say(f"{name}: {'runs already' if ran else 'starting …'}")
    try:
        server.start()
        if not ran:
            say(f"{name}: up after {time.monotonic() - begin:.0f} s")
        yield
    finally:
        if not ran:
            stop(name, server.stop)


def stop(name: str, action: Callable[[], None]) -> None:
    """Stop a server; a second Ctrl-C must not leave it running."""
    previous = {ending: signal.signal(ending, signal.SIG_IGN) for ending in (signal.SIGINT, signal.SIGTERM)}
    say(f"{name}: stopping …")
    try:
        action()
    finally:
        for ending, handler in previous.items():
            signal.signal(ending, handler)


def say(text: str) -> None:
    """Print a line with the time of day."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def _interrupt(signum: int, frame: Any) -> None:  # noqa: ARG001 - the form of a signal handler
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
