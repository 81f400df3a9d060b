"""The operator over Airflow connections and real sshd hosts, called directly and inside DAG runs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_restrack.hooks.ssh_fleet import SSHFleetHook
from airflow_provider_restrack.operators.remote_metrics import RemoteMetricsOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services import SshdServer

pytestmark = [pytest.mark.ssh, pytest.mark.airflow]

ROOT = Path(__file__).resolve().parents[3]
WINDOW_S = 0.1


def connection_of(server: SshdServer, *, host: str = "", **extra: Any) -> str:
    return json.dumps(
        {
            "conn_type": "ssh",
            "host": host,
            "login": server.user,
            "extra": {
                "key_file": str(server.client_key),
                "known_hosts": str(server.known_hosts),
                "look_for_keys": "false",
                **extra,
            },
        }
    )


def host_of(server: SshdServer, **more: Any) -> dict[str, Any]:
    return {"host": server.host.name, "address": server.address, "port": server.port, **more}


@pytest.fixture(autouse=True)
def ssh_connection(sshd_hosts: Sequence[SshdServer], monkeypatch: pytest.MonkeyPatch) -> None:
    """Define the connection of all hosts."""
    monkeypatch.setenv("AIRFLOW_CONN_SSH_DEFAULT", connection_of(sshd_hosts[0]))


def collect(**arguments: Any) -> list[dict[str, Any]]:
    operator = RemoteMetricsOperator(task_id="collect", **{"window": WINDOW_S, **arguments})
    return operator.execute({})


def test_hosts_are_sampled_through_one_connection(sshd_hosts: Sequence[SshdServer]) -> None:
    hosts = [host_of(server) for server in sshd_hosts]

    rows = collect(hosts=hosts, labels={"env": "test"})

    assert {row["host"]: row["outcome"] for row in rows} == {host["host"]: "ok" for host in hosts}
    assert all(row["labels"] == {"env": "test"} for row in rows)


def test_hosts_can_be_the_text_that_a_template_renders(sshd_hosts: Sequence[SshdServer]) -> None:
    server = sshd_hosts[0]

    (row,) = collect(hosts=f"{server.user}@{server.address}:{server.port}")
    (again,) = collect(hosts=str([host_of(server)]))

    assert (row["host"], row["outcome"]) == (server.address, "ok")
    assert (again["host"], again["outcome"]) == (server.host.name, "ok")


def test_a_host_with_a_connection_of_its_own_uses_it(
    sshd_hosts: Sequence[SshdServer], start_sshd: Callable[..., SshdServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = start_sshd("other")
    monkeypatch.setenv("AIRFLOW_CONN_SSH_OTHER", connection_of(other))

    rows = collect(
        hosts=[host_of(sshd_hosts[0]), host_of(other, ssh_conn_id="ssh_other"), host_of(sshd_hosts[1])]
    )

    assert [row["outcome"] for row in rows] == ["ok", "ok", "ok"]


def test_a_connection_that_is_not_defined_fails_the_task_by_name(sshd_hosts: Sequence[SshdServer]) -> None:
    with pytest.raises(Exception, match="ssh_missing"):
        collect(hosts=[host_of(sshd_hosts[0])], ssh_conn_id="ssh_missing")


def test_an_unknown_host_key_is_that_hosts_row(
    sshd_hosts: Sequence[SshdServer], start_sshd: Callable[..., SshdServer]
) -> None:
    stranger = start_sshd("stranger")

    rows = collect(hosts=[host_of(stranger), host_of(sshd_hosts[0])])

    assert {row["host"]: row["outcome"] for row in rows} == {
        "stranger": "hostkey_mismatch",
        sshd_hosts[0].host.name: "ok",
    }


@pytest.mark.parametrize(
    ("extra", "outcome"),
    [({"no_host_key_check": "true"}, "ok"), ({}, "hostkey_mismatch")],
)
def test_the_connection_decides_whether_new_host_keys_are_accepted(
    start_sshd: Callable[..., SshdServer],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    extra: dict[str, str],
    outcome: str,
) -> None:
    server = start_sshd("new")
    empty = tmp_path / "empty"
    empty.touch()
    monkeypatch.setenv("AIRFLOW_CONN_SSH_NEW", connection_of(server, known_hosts=str(empty), **extra))

    (row,) = collect(hosts=[host_of(server)], ssh_conn_id="ssh_new")

    assert row["outcome"] == outcome
    assert empty.read_text() == ""


def test_a_cipher_that_the_library_lacks_is_named(
    sshd_hosts: Sequence[SshdServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SSH_ODD", connection_of(sshd_hosts[0], ciphers=["rot13"]))

    (row,) = collect(hosts=[host_of(sshd_hosts[0])], ssh_conn_id="ssh_odd")

    assert row["outcome"] == "unreachable"
    assert "'ssh_odd': extra `ciphers`" in row["error"]


def test_ciphers_of_the_connection_are_used(
    start_sshd: Callable[..., SshdServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_sshd("picky", extra_config=["Ciphers aes256-ctr"])
    monkeypatch.setenv("AIRFLOW_CONN_SSH_PICKY", connection_of(server, ciphers=["aes256-ctr"]))

    (row,) = collect(hosts=[host_of(server)], ssh_conn_id="ssh_picky")

    assert row["outcome"] == "ok"


def test_testing_the_connection_logs_in(
    sshd_hosts: Sequence[SshdServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = sshd_hosts[0]
    monkeypatch.setenv("AIRFLOW_CONN_SSH_TEST", connection_of(server, host=f"{server.address}:{server.port}"))

    worked, message = SSHFleetHook("ssh_test").test_connection()

    assert worked, message
    assert f"{server.user}@[{server.address}]:{server.port}" in message


def test_testing_a_connection_whose_host_is_down_says_so(
    sshd_hosts: Sequence[SshdServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("AIRFLOW_CONN_SSH_TEST", connection_of(sshd_hosts[0], host=f"127.0.0.1:{port}"))

    worked, message = SSHFleetHook("ssh_test").test_connection()

    assert not worked
    assert "refused" in message


def test_a_signal_that_kills_the_task_ends_its_connections(sshd_hosts: Sequence[SshdServer]) -> None:
    operator = RemoteMetricsOperator(
        task_id="collect", hosts=[host_of(server) for server in sshd_hosts], samples=9, interval=60
    )
    before = signal.signal(signal.SIGUSR1, lambda *_: operator.on_kill())
    killed: list[float] = []

    def kill_between_samples() -> None:
        while operator._fleet is None or len(operator._fleet._samples) < len(sshd_hosts):
            threading.Event().wait(0.05)
        killed.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGUSR1)

    killer = threading.Thread(target=kill_between_samples)
    killer.start()
    try:
        with pytest.raises(RuntimeError, match=f"stopped with {len(sshd_hosts)} samples"):
            operator.execute({})
    finally:
        signal.signal(signal.SIGUSR1, before)
        killer.join()

    assert time.monotonic() - killed[0] < 2.5


DAG_FILE = """
import json, os, sys
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, task

from airflow_provider_restrack.operators.remote_metrics import RemoteMetricsOperator

HOSTS = json.loads(os.environ["RESTRACK_TEST_HOSTS"])
OUT = os.environ["RESTRACK_TEST_OUT"]

with DAG("restrack_test_collect", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:

    @task
    def list_chunks():
        return [HOSTS[:2], HOSTS[2:]]

    @task(trigger_rule="all_done")
    def write(kind, samples):
        with open(f"{OUT}/{kind}.json", "w") as file:
            json.dump([list(part) if isinstance(part, list) else part for part in samples], file)

    mapped = RemoteMetricsOperator.partial(task_id="mapped", window=0.1).expand(hosts=list_chunks())
    write.override(task_id="write_mapped")("mapped", mapped.output)

    failing = RemoteMetricsOperator(
        task_id="failing", window=0.1, hosts=[HOSTS[0], {"host": "down", "address": "127.0.0.1", "port": 1}],
        max_failed_fraction=0.0,
    )
    write.override(task_id="write_failing")("failing", failing.output)

    slow = RemoteMetricsOperator(
        task_id="slow", window=0.1, hosts=HOSTS, samples=9, interval=60,
        execution_timeout=timedelta(seconds=3),
    )

if __name__ == "__main__":
    run = dag.test()
    print(json.dumps({ti.task_id: str(ti.state) for ti in run.get_task_instances()}), file=sys.stderr)
"""


@pytest.mark.slow
def test_in_a_dag_hosts_are_mapped_and_a_failed_task_still_hands_on_its_samples(
    sshd_hosts: Sequence[SshdServer], airflow_db: Path, tmp_path: Path
) -> None:
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "collect.py").write_text(DAG_FILE)
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(airflow_db),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "RESTRACK_TEST_HOSTS": json.dumps([host_of(server) for server in sshd_hosts]),
        "RESTRACK_TEST_OUT": str(tmp_path),
        "PYTHONPATH": str(ROOT),
    }

    done = subprocess.run(
        [sys.executable, str(dags / "collect.py")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
    )

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    states = json.loads(done.stderr.strip().splitlines()[-1])
    assert (states["mapped"], states["failing"], states["slow"]) == ("success", "failed", "failed")
    mapped = json.loads((tmp_path / "mapped.json").read_text())
    assert [[row["outcome"] for row in part] for part in mapped] == [["ok", "ok"], ["ok"]]
    failing = json.loads((tmp_path / "failing.json").read_text())
    assert {row["host"]: row["outcome"] for row in failing} == {
        sshd_hosts[0].host.name: "ok",
        "down": "unreachable",
    }
    assert "AirflowTaskTimeout" in done.stdout + done.stderr
