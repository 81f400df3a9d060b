from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from services import ServiceError, cassandra, cluster, kafka

if TYPE_CHECKING:
    from pathlib import Path


def test_nodes_differ_in_address_and_directory_and_ask_the_first(tmp_path: Path) -> None:
    nodes = cluster.CassandraCluster(
        tmp_path, tmp_path / "jars", 3, more={"hinted_handoff_enabled": True}
    ).nodes
    keys = [yaml.safe_load(cassandra.build_yaml(node.settings)) for node in nodes]

    assert [one["listen_address"] for one in keys] == ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
    assert [one["rpc_address"] for one in keys] == ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
    (seeds,) = {one["seed_provider"][0]["parameters"][0]["seeds"] for one in keys}
    assert seeds == f"127.0.0.2:{keys[0]['storage_port']}"
    assert len({one["commitlog_directory"] for one in keys}) == 3
    assert {(one["num_tokens"], one["auto_bootstrap"], one["hinted_handoff_enabled"]) for one in keys} == {
        (16, False, True)
    }


def test_a_node_of_a_cluster_takes_no_fixed_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jamm-0.4.0.jar").touch()
    monkeypatch.setattr(cassandra.install, "require_java", lambda: "/java")
    monkeypatch.setattr(cassandra.install, "require_jars", lambda *_: tmp_path)
    (node,) = cluster.CassandraCluster(tmp_path, tmp_path, 1).nodes
    alone = cassandra.CassandraServer(cassandra.CassandraSettings(tmp_path, tmp_path, 9042, 7010, 7011))

    assert "-Dcassandra.initial_token=0" not in node.command()
    assert "-XX:TieredStopAtLevel=1" in node.command()
    assert "-Dcassandra.initial_token=0" in alone.command()


def test_brokers_know_each_other_and_share_a_cluster_id(tmp_path: Path) -> None:
    brokers = cluster.KafkaCluster(tmp_path, tmp_path / "jars", 3, more={"num.partitions": 6}).brokers
    texts = [kafka.build_properties(broker.settings) for broker in brokers.values()]
    all_properties = [dict(line.split("=", 1) for line in text.splitlines()) for text in texts]

    assert [one["node.id"] for one in all_properties] == ["1", "2", "3"]
    (voters,) = {one["controller.quorum.voters"] for one in all_properties}
    controllers = [one["listeners"].rpartition("//")[2] for one in all_properties]
    assert voters.split(",") == [f"{number}@{where}" for number, where in enumerate(controllers, 1)]
    assert len({broker.settings.cluster_id for broker in brokers.values()}) == 1
    for one in all_properties:
        assert "controller.quorum.bootstrap.servers" not in one
        assert (one["offsets.topic.replication.factor"], one["transaction.state.log.min.isr"]) == ("3", "2")
        assert one["num.partitions"] == "6"


def test_a_cluster_lists_every_broker_to_clients(tmp_path: Path) -> None:
    made = cluster.KafkaCluster(tmp_path, tmp_path / "jars", 2)

    assert made.bootstrap.split(",") == [broker.bootstrap for broker in made.brokers.values()]
    assert len(set(made.bootstrap.split(","))) == 2


def test_a_first_node_that_cannot_start_starts_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = cluster.CassandraCluster(tmp_path, tmp_path / "jars", 2)
    started: list[str] = []

    def refuse(servers: tuple[cassandra.CassandraServer, ...]) -> None:
        started.extend(server.name for server in servers)
        raise ServiceError("no room")

    monkeypatch.setattr(cluster, "start_all", refuse)
    with pytest.raises(ServiceError, match="no room"):
        made.start()

    assert started == ["cassandra-1"]
