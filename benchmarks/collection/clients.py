"""The contenders: each asks all hosts in a process of its own, and prints its usage."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.collection.task import Meter, Task, Usage
from benchmarks.collection.works import WINDOW_S

if TYPE_CHECKING:
    from collections.abc import Callable

ANSIBLE = Path("build/bench/ansible")
_LIMIT_S = 120


def run_restrack(task: Task) -> Usage:
    """Ask as RemoteMetricsOperator does, through Airflow's connection; importing Airflow is not counted."""
    extra = {"key_file": task.client_key, "known_hosts": task.known_hosts, "look_for_keys": "false"}
    connection = {"conn_type": "ssh", "login": task.user, "port": task.port, "extra": extra}
    os.environ["AIRFLOW_CONN_SSH_DEFAULT"] = json.dumps(connection)
    from airflow_provider_restrack.hooks.ssh_fleet import SSHFleetHook
    from airflow_provider_restrack.operators.remote_metrics import RemoteMetricsOperator

    SSHFleetHook("ssh_default").policy()
    operator = RemoteMetricsOperator(
        task_id="collect",
        hosts=list(task.addresses),
        window=WINDOW_S,
        concurrency=task.concurrency,
        host_timeout=_LIMIT_S,
        connect_timeout=_LIMIT_S / 2,
        python=task.python,
    )
    meter = Meter()
    rows = operator.execute({})
    return meter.stop(sum(bool(row["up"]) for row in rows if isinstance(row, dict)))


def run_ssh(task: Task) -> Usage:
    """Start an ``ssh`` for each host, with the same agent, so many at a time."""
    from airflow_provider_restrack.clock import utc_now
    from airflow_provider_restrack.collect.frames import (
        AgentRun,
        FrameScanner,
        new_sentinel,
        read_agent_source,
    )

    run = AgentRun(read_agent_source(), WINDOW_S, task.python)
    options = ["BatchMode=yes", "IdentitiesOnly=yes", f"UserKnownHostsFile={task.known_hosts}"]
    base = ["ssh", "-F", "none", "-i", task.client_key, "-p", str(task.port), "-l", task.user]
    base += [part for option in options for part in ("-o", option)]

    def ask(address: str) -> bool:
        sentinel = new_sentinel()
        command = [*base, address, run.command(sentinel, _LIMIT_S)]
        done = subprocess.run(command, input=run.source, capture_output=True, timeout=_LIMIT_S, check=False)
        return FrameScanner(sentinel).feed(done.stdout, utc_now())

    meter = Meter()
    with ThreadPoolExecutor(task.concurrency) as pool:
        return meter.stop(sum(pool.map(ask, task.addresses)))


def run_ansible(task: Task) -> Usage:
    """Gather facts with ``ansible -m setup``: forks raised, pipelining on, host keys checked."""
    directory = Path(task.directory)
    inventory = directory / "inventory.ini"
    inventory.write_text("".join(f"{address}\n" for address in task.addresses))
    config = directory / "ansible.cfg"
    config.write_text(
        f"[defaults]\nforks = {task.concurrency}\nhost_key_checking = True\nremote_user = {task.user}\n"
        f"remote_port = {task.port}\nprivate_key_file = {task.client_key}\n"
        f"interpreter_python = {task.python}\nlocal_tmp = {directory}/local\ntimeout = {_LIMIT_S}\n"
        f"[ssh_connection]\npipelining = True\ncontrol_path_dir = {directory}/cp\n"
        "ssh_args = -F none -o IdentitiesOnly=yes -o ControlMaster=auto -o ControlPersist=5s"
        f" -o UserKnownHostsFile={task.known_hosts}\n"
    )
    environment = {**os.environ, "ANSIBLE_CONFIG": str(config), "ANSIBLE_HOME": str(directory / "home")}
    program = str(ANSIBLE.resolve() / "bin" / "ansible")
    command = [program, "all", "-i", str(inventory), "-m", "setup", "--one-line"]
    meter = Meter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return meter.stop(sum(" | SUCCESS => " in line for line in done.stdout.splitlines()))


_NAIVE = """
import base64, json, os, sys
from datetime import datetime
from airflow.sdk import DAG
from airflow.providers.ssh.operators.ssh import SSHOperator

TASK = json.loads(open(os.environ["RESTRACK_BENCH_TASK"]).read())
AGENT = base64.b64encode(open(os.environ["RESTRACK_BENCH_AGENT"], "rb").read()).decode()
COMMAND = f"echo {AGENT} | base64 -d | {TASK['python']} -B - --window 1 --sentinel s"
with DAG("bench_naive", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
    SSHOperator.partial(
        task_id="ask", ssh_conn_id="ssh_default", command=COMMAND, conn_timeout=60, cmd_timeout=60
    ).expand(remote_host=TASK["addresses"])
if __name__ == "__main__":
    run = dag.test()
    states = [str(ti.state) for ti in run.get_task_instances()]
    print("states", json.dumps(states), flush=True)
"""


def run_naive(task: Task) -> Usage:
    """Map one SSHOperator task over the hosts; ``dag.test`` runs them in turn, in one process."""
    from airflow_provider_restrack.collect.tiers import read_agent_source

    directory = Path(task.directory)
    (directory / "agent.py").write_bytes(read_agent_source())
    dags = directory / "dags"
    dags.mkdir(exist_ok=True)
    (dags / "naive.py").write_text(_NAIVE)
    task.write(directory / "naive.json")
    keys = [line.split(" ", 1)[1] for line in Path(task.known_hosts).read_text().splitlines() if line.strip()]
    extra = {"key_file": task.client_key, "host_key": keys[0], "look_for_keys": "false"}
    connection = {"conn_type": "ssh", "host": "-", "login": task.user, "port": task.port, "extra": extra}
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(directory / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_SSH_DEFAULT": json.dumps(connection),
        "RESTRACK_BENCH_TASK": str(directory / "naive.json"),
        "RESTRACK_BENCH_AGENT": str(directory / "agent.py"),
    }
    migrate = [sys.executable, "-m", "airflow", "db", "migrate"]
    subprocess.run(migrate, env=environment, capture_output=True, check=True)
    meter = Meter()
    command = [sys.executable, str(dags / "naive.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("states ")]
    return meter.stop(json.loads(lines[-1].removeprefix("states ")).count("success") if lines else 0)


RUNNERS: dict[str, Callable[[Task], Usage]] = {
    "restrack": run_restrack,
    "ssh": run_ssh,
    "ansible": run_ansible,
    "one-task-per-host": run_naive,
}


def main() -> int:
    """Run one contender; its usage is the last line of standard output."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.collection.clients", description=__doc__)
    parser.add_argument("contender", choices=RUNNERS)
    parser.add_argument("task", type=Path)
    arguments = parser.parse_args()
    print(json.dumps(asdict(RUNNERS[arguments.contender](Task.read(arguments.task)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
