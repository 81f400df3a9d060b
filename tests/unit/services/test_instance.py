from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import services

if TYPE_CHECKING:
    from pathlib import Path


def test_an_unknown_instance_names_those_that_there_are() -> None:
    with pytest.raises(services.ServiceError, match="there is no instance 'prod': use one of dev, test"):
        services.instance("prod")


def test_connections_are_what_airflow_reads_from_its_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RESTRACK_HOME", str(tmp_path))
    dev = services.instance()
    connections = json.loads(json.dumps(dev.airflow_connections()))

    assert connections["kafka_default"] == {
        "conn_type": "kafka",
        "extra": {"bootstrap.servers": "127.0.0.1:9092"},
    }
    assert connections["cassandra_default"] == {
        "conn_type": "cassandra",
        "host": "127.0.0.1",
        "port": 9042,
        "extra": {"local_dc": "datacenter1"},
    }
    assert connections["ssh_default"] == {
        "conn_type": "ssh",
        "host": "127.0.0.1",
        "port": 2201,
        "login": dev.ssh.user,
        "extra": {
            "key_file": f"{tmp_path}/dev/ssh/client_key",
            "known_hosts": f"{tmp_path}/dev/ssh/known_hosts",
            "no_host_key_check": False,
        },
    }


def test_a_benchmark_chooses_heap_and_commit_log_of_cassandra() -> None:
    settings = services.instance("test", heap_mb=1024, commitlog_sync="periodic").cassandra.settings

    assert (settings.heap_mb, settings.commitlog_sync) == (1024, "periodic")
