from __future__ import annotations

import base64
from pathlib import Path
from xml.etree import ElementTree

import pytest

from services import kafka

SETTINGS = kafka.KafkaSettings(Path("/data/kafka"), Path("/data/jars"), 9092, 9093)


def read_properties() -> dict[str, str]:
    return dict(line.split("=", 1) for line in kafka.build_properties(SETTINGS).splitlines())


def test_every_listener_is_on_loopback() -> None:
    listeners = "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093"
    properties = read_properties()

    assert properties["listeners"] == properties["advertised.listeners"] == listeners
    assert properties["controller.quorum.bootstrap.servers"] == "127.0.0.1:9093"


def test_one_broker_is_enough_for_every_internal_topic_and_makes_no_topic_by_itself() -> None:
    properties = read_properties()
    replicas = [value for name, value in properties.items() if "replication.factor" in name or "isr" in name]

    assert replicas == ["1"] * 5
    assert properties["auto.create.topics.enable"] == "false"
    assert properties["log.dirs"] == "/data/kafka/data"


def test_a_cluster_id_is_sixteen_bytes_and_never_looks_like_an_option() -> None:
    ids = [kafka.build_cluster_id() for _ in range(500)]

    assert {len(base64.urlsafe_b64decode(one + "==")) for one in ids} == {16}
    assert not [one for one in ids if one.startswith("-")]


def test_the_log_is_at_info_in_a_file_of_bounded_size() -> None:
    root = ElementTree.fromstring(kafka.build_log4j(Path("/data/kafka/kafka.log")))
    (appender,) = root.iter("RollingFile")

    assert appender.get("fileName") == "/data/kafka/kafka.log"
    assert appender.find("SizeBasedTriggeringPolicy").get("size") == "10 MB"  # type: ignore[union-attr]
    assert next(root.iter("Root")).get("level") == "INFO"


def test_a_kafka_names_where_clients_connect() -> None:
    server = kafka.KafkaServer(SETTINGS)

    assert (server.bootstrap, server.endpoint, server.ports) == (
        "127.0.0.1:9092",
        "127.0.0.1:9092",
        (9092, 9093),
    )


@pytest.mark.parametrize(("heap_mb", "initial"), [(512, "-Xms256m"), (128, "-Xms128m")])
def test_the_first_heap_is_never_larger_than_the_last(
    heap_mb: int, initial: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka.install, "require_java", lambda: "/java")
    monkeypatch.setattr(kafka.install, "require_jars", lambda *_: Path("/jars"))
    settings = kafka.KafkaSettings(Path("/data/kafka"), Path("/data/jars"), 9092, 9093, heap_mb=heap_mb)
    command = kafka.KafkaServer(settings).command()

    assert initial in command
    assert f"-Xmx{heap_mb}m" in command
