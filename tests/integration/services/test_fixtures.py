from __future__ import annotations

import sqlite3
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import services


@pytest.mark.kafka
def test_a_fresh_topic_has_four_partitions(kafka_admin: Any, topic: str) -> None:
    assert len(kafka_admin.list_topics(topic, timeout=10).topics[topic].partitions) == 4


@pytest.mark.kafka
def test_kafka_creates_no_topic_by_itself(kafka_admin: Any, unique: Callable[[str], str]) -> None:
    name = unique("absent")
    kafka_admin.list_topics(name, timeout=10)

    assert name not in kafka_admin.list_topics(timeout=10).topics


@pytest.mark.cassandra
def test_a_fresh_keyspace_takes_rows(cassandra_session: Any, keyspace: str) -> None:
    cassandra_session.execute(f"CREATE TABLE {keyspace}.rows (id int PRIMARY KEY, note text)")
    cassandra_session.execute(f"INSERT INTO {keyspace}.rows (id, note) VALUES (1, 'here')")

    assert cassandra_session.execute(f"SELECT note FROM {keyspace}.rows").one().note == "here"


def run_ssh(host: services.SshdServer, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Log into a host as the ordinary client does, with its host key checked."""
    checks = [f"UserKnownHostsFile={host.known_hosts}", "StrictHostKeyChecking=yes", "BatchMode=yes"]
    arguments = [part for check in checks for part in ("-o", check)]
    login = ["-i", str(host.client_key), "-p", str(host.port), f"{host.user}@{host.address}"]
    ssh = ["ssh", "-F", "none", *arguments, *login, *command]
    return subprocess.run(ssh, capture_output=True, text=True, timeout=30, **options)


@pytest.mark.ssh
def test_every_host_lets_the_client_key_in_under_its_own_checked_host_key(
    sshd_hosts: Sequence[services.SshdServer],
) -> None:
    assert [host.name for host in sshd_hosts] == ["web-1", "web-2", "db-1"]
    assert len({host.public_key for host in sshd_hosts}) == 3
    for host in sshd_hosts:
        done = run_ssh(host, "python3", "-", input="print(40 + 2)")
        assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr


@pytest.mark.ssh
def test_a_host_refuses_another_key(sshd_hosts: Sequence[services.SshdServer], tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    host = sshd_hosts[0]
    options = [
        "-o",
        f"UserKnownHostsFile={host.known_hosts}",
        "-o",
        "BatchMode=yes",
        "-o",
        "IdentitiesOnly=yes",
    ]
    login = ["-i", str(tmp_path / "key"), "-p", str(host.port), f"{host.user}@{host.address}", "true"]
    done = subprocess.run(["ssh", "-F", "none", *options, *login], capture_output=True, text=True, timeout=30)

    assert done.returncode == 255
    assert "Permission denied" in done.stderr


@pytest.mark.ssh
def test_an_extra_host_runs_the_command_that_is_forced_on_it(
    start_sshd: Callable[..., services.SshdServer],
) -> None:
    host = start_sshd("noisy", extra_config=["ForceCommand echo noise; exit 7"])
    done = run_ssh(host, "python3", "--version")

    assert (done.returncode, done.stdout) == (7, "noise\n")


@pytest.mark.airflow
def test_the_metadata_database_is_migrated(airflow_db: Path) -> None:
    with sqlite3.connect(airflow_db / "airflow.db") as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    database.close()

    assert {"dag_run", "task_instance", "xcom"} <= tables
