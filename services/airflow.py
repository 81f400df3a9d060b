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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from services.errors import ServiceError
from services.layout import ADDRESS
from services.server import Server

if TYPE_CHECKING:
    from collections.abc import Mapping

APPEAR_LIMIT_S = 120.0
ENDED = frozenset({"success", "failed"})
_COMPONENTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")


class AirflowServer(Server):
    """One Airflow: scheduler, DAG processor, triggerer and API server, with a home of its own.

    :param home: AIRFLOW_HOME (database, logs, history of runs); made if it is missing, kept between starts.
    :param port: of the API server and UI. The two after it serve the logs of workers and triggers.
    :param dags: the folder of DAG files.
    :param connections: conn_id → connection as a dict, imported at start so that the admin pages show them.
    :param variables: imported likewise.
    """

    ready_limit_s = 180.0
    stop_signal = signal.SIGINT  # the only one that `airflow standalone` hands on to its components

    def __init__(
        self,
        home: Path,
        port: int,
        dags: Path,
        connections: Mapping[str, Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__("airflow", home, (port, port + 1, port + 2))
        self.port = port
        self.dags = dags
        self.connections = connections or {}
        self.variables = variables or {}
        self._token = ""

    @property
    def endpoint(self) -> str:
        """Where clients connect, as ``address:port``."""
        return f"{ADDRESS}:{self.port}"

    @property
    def url(self) -> str:
        """Where the UI is."""
        return f"http://{self.endpoint}"

    @property
    def log_file(self) -> Path:
        """Where all of Airflow's components write."""
        return self.console

    def environment(self) -> dict[str, str]:
        """Return the environment of every Airflow process of this home."""
        settings = {
            "CORE__DAGS_FOLDER": self.dags,
            "CORE__LOAD_EXAMPLES": False,
            "CORE__PARALLELISM": 4,
            "CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
            "API__HOST": ADDRESS,
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
        return {**inherited, **airflow, "AIRFLOW_HOME": str(self.directory), "PATH": path, "NO_COLOR": "1"}

    def configure(self) -> None:
        """Migrate the database, and import connections and variables."""
        self.cli("db", "migrate")
        self._import("connections", self.connections)
        self._import("variables", self.variables)

    def command(self) -> list[str]:
        """Return what runs all components in the foreground."""
        return [sys.executable, "-m", "airflow", "standalone"]

    def probe(self, timeout_s: float) -> bool:
        """Tell whether all components say that they are healthy."""
        try:
            health = httpx.get(f"{self.url}/api/v2/monitor/health", timeout=timeout_s).json()
        except (httpx.HTTPError, ValueError):
            return False
        return all((health.get(part) or {}).get("status") == "healthy" for part in _COMPONENTS)

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
            raise ServiceError(
                f"airflow {' '.join(arguments)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
        return done.stdout

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Call the REST API (``/api/v2`` + path) and return its JSON.

        :raises ServiceError: if it refuses, with its answer.
        """
        answer = httpx.request(
            method,
            f"{self.url}/api/v2{path}",
            json=body,
            headers={"Authorization": f"Bearer {self._login()}"},
            timeout=30,
        )
        if answer.is_error:
            raise ServiceError(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json()

    def credentials(self) -> tuple[str, str]:
        """Return user and password of the UI, which Airflow made at its first start."""
        passwords = json.loads((self.directory / "simple_auth_manager_passwords.json.generated").read_text())
        return "admin", str(passwords["admin"])

    def unpause(self, dag_id: str) -> None:
        """Unpause a DAG, waiting until the DAG processor has found it."""
        deadline = time.monotonic() + APPEAR_LIMIT_S
        while True:
            try:
                self.call("PATCH", f"/dags/{dag_id}", {"is_paused": False})
            except ServiceError:
                if time.monotonic() > deadline:
                    errors = self.call("GET", "/importErrors")
                    raise ServiceError(f"the DAG {dag_id} did not appear; import errors: {errors}") from None
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

        :raises ServiceError: if it has not ended in time, with the states of its tasks.
        """
        deadline = time.monotonic() + limit_s
        while (state := self.run_state(dag_id, run_id)) not in ENDED:
            if time.monotonic() > deadline:
                raise ServiceError(f"{dag_id} {run_id} is {state}: {self.task_states(dag_id, run_id)}")
            time.sleep(0.5)
        return state

    def xcom(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """Return what a task returned."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        return self.call("GET", f"{path}?deserialize=true")["value"]

    def extra_links(self, dag_id: str, run_id: str, task_id: str) -> dict[str, str | None]:
        """Return the links of a task by their names, as the UI gets them."""
        links = self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/links")
        return dict(links["extra_links"])

    def _import(self, kind: str, entries: Mapping[str, Any]) -> None:
        if not entries:
            return
        path = self.directory / f"{kind}.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(dict(entries)))
        overwrite = ("--overwrite",) if kind == "connections" else ()
        self.cli(kind, "import", *overwrite, str(path))

    def _login(self) -> str:
        if not self._token:
            user, password = self.credentials()
            answer = httpx.post(
                f"{self.url}/auth/token", json={"username": user, "password": password}, timeout=30
            )
            answer.raise_for_status()
            self._token = answer.json()["access_token"]
        return self._token
