from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import pytest
import yaml

from services import cassandra

SETTINGS = cassandra.CassandraSettings(Path("/data/my cassandra"), Path("/data/jars"), 9042, 7010, 7011)


def test_every_address_is_loopback_and_every_directory_below_its_own() -> None:
    keys = yaml.safe_load(cassandra.build_yaml(SETTINGS))

    assert keys["listen_address"] == keys["rpc_address"] == "127.0.0.1"
    assert keys["seed_provider"][0]["parameters"] == [{"seeds": "127.0.0.1:7010"}]
    assert (keys["native_transport_port"], keys["storage_port"], keys["ssl_storage_port"]) == (
        9042,
        7010,
        7011,
    )
    directories = [value for key, value in keys.items() if key.endswith("_directory")]
    assert len(directories) == 4
    for directory in (*directories, *keys["data_file_directories"]):
        assert directory.startswith("/data/my cassandra/data/")


def test_settings_spare_a_small_machine() -> None:
    keys = yaml.safe_load(cassandra.build_yaml(SETTINGS))

    assert keys["disk_access_mode"] == "standard"
    assert keys["memtable_allocation_type"] == "heap_buffers"
    assert keys["commitlog_segment_size"] == "5MiB"
    assert keys["auto_snapshot"] is False


@pytest.mark.parametrize(("mode", "period"), [("batch", None), ("periodic", "10s")])
def test_only_a_periodic_commit_log_has_a_period(
    mode: Literal["batch", "periodic"], period: str | None
) -> None:
    keys = yaml.safe_load(cassandra.build_yaml(dataclasses.replace(SETTINGS, commitlog_sync=mode)))

    assert (keys["commitlog_sync"], keys.get("commitlog_sync_period")) == (mode, period)


def test_the_log_is_at_info_in_a_file_of_bounded_size() -> None:
    root = ElementTree.fromstring(cassandra.build_logback(Path("/data/cassandra.log")))

    assert root.findtext("appender/file") == "/data/cassandra.log"
    assert root.findtext("appender/triggeringPolicy/maxFileSize") == "10MB"
    assert [one.get("level") for one in root.iter("root")] == ["INFO"]


def test_the_heap_is_a_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "jamm-0.4.0.jar").touch()
    monkeypatch.setattr(cassandra.install, "require_java", lambda: "/java")
    monkeypatch.setattr(cassandra.install, "require_jars", lambda *_: tmp_path)
    settings = cassandra.CassandraSettings(tmp_path / "c", tmp_path, 9042, 7010, 7011, heap_mb=1024)
    command = cassandra.CassandraServer(settings).command()

    assert {"-Xms1024m", "-Xmx1024m", f"-javaagent:{tmp_path}/jamm-0.4.0.jar"} <= set(command)
    assert command[-1] == "org.apache.cassandra.service.CassandraDaemon"
