from __future__ import annotations

from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
import yaml

import services
from services import ServiceError, layout


def flatten(ports: Any) -> list[int]:
    return [*astuple(ports)[:-1], *ports.sshd]


def test_no_two_servers_of_any_instance_share_a_port() -> None:
    every = [port for ports in layout.INSTANCES.values() for port in flatten(ports)]

    assert len(every) == len(set(every))
    assert max(every) < 32768


def test_the_environment_moves_all_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RESTRACK_HOME", str(tmp_path))
    dev = services.instance("dev")

    assert dev.directory == tmp_path / "dev"
    assert dev.jars == tmp_path / "jars"
    assert all(server.directory.is_relative_to(tmp_path / "dev") for server in dev.servers)


def test_the_data_lie_in_the_repository_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESTRACK_HOME", raising=False)

    assert layout.home() == Path(__file__).resolve().parents[3] / ".restrack"


def test_a_path_that_would_break_a_class_path_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTRACK_HOME", "/data/a:b")

    with pytest.raises(ServiceError, match=r"/data/a:b, for its :: set RESTRACK_HOME"):
        layout.home()


def test_compose_publishes_the_ports_of_the_dev_instance_on_loopback_only() -> None:
    composed = yaml.safe_load((layout.ROOT / "compose.yaml").read_text())["services"]
    dev = layout.INSTANCES["dev"]
    wanted = {
        "kafka": dev.kafka,
        "cassandra": dev.cassandra,
        **dict(zip(layout.SSHD_NAMES, dev.sshd, strict=True)),
    }
    published = {name: one["ports"] for name, one in composed.items()}
    inner = {"kafka": 9092, "cassandra": 9042}

    assert published == {name: [f"127.0.0.1:{port}:{inner.get(name, 22)}"] for name, port in wanted.items()}


def test_compose_runs_the_versions_that_run_without_docker() -> None:
    composed = yaml.safe_load((layout.ROOT / "compose.yaml").read_text())["services"]

    from services.cassandra import CASSANDRA_VERSION
    from services.kafka import KAFKA_VERSION

    assert composed["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"
    assert composed["cassandra"]["image"] == f"cassandra:{CASSANDRA_VERSION}"
