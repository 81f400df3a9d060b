"""A real Airflow on loopback: ``airflow standalone`` in a home of its own, and the REST calls that drive it.

The demo shows it, and the end-to-end tests run DAGs through its scheduler.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping

START_LIMIT_S = 180.0
STOP_LIMIT_S = 30.0
ENDED = frozenset({"success", "failed"})


class AirflowError(RuntimeError):
    """Airflow did not start, or refused a call."""


@dataclass
class Airflow:
    """One Airflow: its home (database, logs, DAG run history), port and DAGs folder.

    :param home: AIRFLOW_HOME; made if it is missing, kept between starts.
    :param port: of the API server and UI. The two after it serve the logs of workers and triggers.
    :param dags: the folder of DAG files.
    :param connections: conn_id → connection as a dict, imported at start so that the admin pages show them.
    :param variables: imported likewise.
    """

    home: Path
    port: int
    dags: Path
    connections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    _token: str = field(default="", init=False, repr=False)

    @property
    def url(self) -> str:
        """Where the UI is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """Where all of Airflow's components write."""
        return self.home / "standalone.log"

    def environment(self) -> dict[str, str]:
        """Return the environment of every Airflow process of this home."""
        settings = {
            "CORE__DAGS_FOLDER": self.dags,
            "CORE__LOAD_EXAMPLES": False,
            "CORE__PARALLELISM": 4,
            "CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
            "API__HOST": "127.0.0.1",
            "API__PORT": self.port,
            "API__BASE_URL": self.url,
            "API__WORKERS": 1,
            "DAG_PROCESSOR__REFRESH_INTERVAL": 10,
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": 10,
            "LOGGING__WORKER_LOG_SERVER_PORT": self.port + 1,
            "LOGGING__TRIGGER_LOG_SERVER_PORT": self.port + 2,
            "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": 1,
            "USAGE_DATA_COLLECTION__ENABLED": False,
        }
        airflow = {f"AIRFLOW__{name}": str(value) for name, value in settings.items()}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{inherited.get('PATH', '')}"
        return {**inherited, **airflow, "AIRFLOW_HOME": str(self.home), "PATH": path, "NO_COLOR": "1"}

    def start(self) -> None:
        """Migrate the database, import connections and variables, start all components, wait for them.

        :raises AirflowError: if it ends, or does not answer in time; the message holds the end of its log.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        self.cli("db", "migrate")
        self._import("connections", self.connections)
        self._import("variables", self.variables)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "airflow", "standalone"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment(),
                start_new_session=True,  # a terminal's Ctrl-C goes to the caller alone, which stops in order
            )
        self._wait_ready(self._process)

    def cli(self, *arguments: str) -> str:
        """Run ``airflow ARGUMENTS`` in this home and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise AirflowError(
                f"airflow {' '.join(arguments)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
        return done.stdout

    def stop(self) -> None:
        """End all components: by SIGINT, as Ctrl-C would, and by SIGKILL what is left after a while."""
        if self._process is None:
            return
        family = self._family(self._process.pid)
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        _, left = psutil.wait_procs(family, timeout=STOP_LIMIT_S)
        for process in left:
            process.kill()
        self._process.wait()
        self._process = None

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Call the REST API (``/api/v2`` + path) and return its JSON.

        :raises AirflowError: if it refuses, with its answer.
        """
        answer = httpx.request(
            method,
            f"{self.url}/api/v2{path}",
            json=body,
            headers={"Authorization": f"Bearer {self._login()}"},
            timeout=30,
        )
        if answer.is_error:
            raise AirflowError(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json()

    def credentials(self) -> tuple[str, str]:
        """Return user and password of the UI, which Airflow made at its first start."""
        passwords = json.loads((self.home / "simple_auth_manager_passwords.json.generated").read_text())
        return "admin", str(passwords["admin"])

    def unpause(self, dag_id: str) -> None:
        """Unpause a DAG, waiting until the DAG processor has found it."""
        deadline = time.monotonic() + START_LIMIT_S
        while True:
            try:
                self.call("PATCH", f"/dags/{dag_id}", {"is_paused": False})
            except AirflowError:
                if time.monotonic() > deadline:
                    errors = self.call("GET", "/importErrors")
                    raise AirflowError(f"the DAG {dag_id} did not appear; import errors: {errors}") from None
                time.sleep(0.5)
            else:
                return

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run of a DAG and return its run id."""
        run = self.call("POST", f"/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": dict(conf or {})})
        return str(run["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a run: queued, running, success or failed."""
        return str(self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str]:
        """Return task id → state (empty for none yet) of a run."""
        found = self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")
        return {ti["task_id"]: ti["state"] or "" for ti in found["task_instances"]}

    def wait_run(self, dag_id: str, run_id: str, limit_s: float = 300.0) -> str:
        """Wait until a run has ended and return its state.

        :raises AirflowError: if it has not ended in time, with the states of its tasks.
        """
        deadline = time.monotonic() + limit_s
        while (state := self.run_state(dag_id, run_id)) not in ENDED:
            if time.monotonic() > deadline:
                raise AirflowError(f"{dag_id} {run_id} is {state}: {self.task_states(dag_id, run_id)}")
            time.sleep(0.5)
        return state

    def xcom(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """Return what a task returned."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        return self.call("GET", f"{path}?deserialize=true")["value"]

    def _import(self, kind: str, entries: Mapping[str, Any]) -> None:
        if not entries:
            return
        path = self.home / f"{kind}.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(dict(entries)))
        overwrite = ("--overwrite",) if kind == "connections" else ()
        self.cli(kind, "import", *overwrite, str(path))

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while not self._healthy():
            if process.poll() is not None or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-2000:]
                self.stop()
                raise AirflowError(f"airflow standalone did not start; the end of {self.log}:\n{tail}")
            time.sleep(0.5)

    def _healthy(self) -> bool:
        try:
            health = httpx.get(f"{self.url}/api/v2/monitor/health", timeout=5).json()
        except (httpx.HTTPError, ValueError):
            return False
        parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all((health.get(part) or {}).get("status") == "healthy" for part in parts)

    def _login(self) -> str:
        if not self._token:
            user, password = self.credentials()
            answer = httpx.post(
                f"{self.url}/auth/token", json={"username": user, "password": password}, timeout=30
            )
            answer.raise_for_status()
            self._token = answer.json()["access_token"]
        return self._token

    @staticmethod
    def _family(pid: int) -> list[psutil.Process]:
        try:
            parent = psutil.Process(pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []
