"""Real servers of an instance of its own, on free ports: the shared instance is not disturbed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import services
from services import process
from services.cassandra import build_cluster
from services.ports import is_free

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.kafka, pytest.mark.cassandra, pytest.mark.ssh, pytest.mark.slow]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[services.Instance]:
    """An instance that is not started, whose path holds a space as a home directory may."""
    kafka, controller, cassandra, storage, ssl, *hosts = services.find_free_ports(8)
    ports = services.Ports(kafka, controller, cassandra, storage, ssl, tuple(hosts))
    directory = tmp_path_factory.mktemp("an instance")
    instance = services.Instance("scratch", directory, ports, services.instance("test").jars)
    yield instance
    instance.stop()


@contextmanager
def listening(port: int) -> Iterator[None]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen()
        yield


def test_a_taken_port_is_named_and_what_was_started_before_it_is_stopped(scratch: services.Instance) -> None:
    port = scratch.cassandra.address[1]
    with listening(port), pytest.raises(services.ServiceError) as caught:
        scratch.start()

    assert f"cassandra cannot start: port {port} is taken by pid {os.getpid()} " in str(caught.value)
    assert [server for server in scratch.servers if server.running] == []


def test_a_second_start_finds_all_servers_of_the_first(scratch: services.Instance) -> None:
    assert scratch.start() == scratch.servers
    pids = [server.pid for server in scratch.servers]

    assert scratch.start() == ()
    assert [server.pid for server in scratch.servers] == pids
    assert scratch.running


def test_every_server_listens_on_loopback_only(scratch: services.Instance) -> None:
    scratch.start()
    listened = [address for server in scratch.servers for address in listening_addresses(server.pid)]

    assert len(listened) >= len(scratch.servers)
    assert set(listened) <= {
        "0100007F",
        "0000000000000000FFFF00000100007F",
    }  # 127.0.0.1, and as IPv6 writes it


def listening_addresses(pid: int | None) -> list[str]:
    """The addresses on which a process listens, in the kernel's notation."""
    sockets = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    tables = [Path(f"/proc/net/{table}").read_text().splitlines() for table in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table]
    return [row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]


def test_a_crash_of_kafka_loses_no_acknowledged_message(
    scratch: services.Instance, unique: Callable[[str], str]
) -> None:
    scratch.kafka.start()
    topic = unique("kept")
    produce(scratch.kafka.bootstrap, topic, [f"message {number}" for number in range(100)])
    assert scratch.kafka.kill()
    assert not scratch.kafka.running
    assert scratch.kafka.start()

    assert consume(scratch.kafka.bootstrap, topic) == {f"message {number}" for number in range(100)}


def test_a_crash_of_cassandra_loses_no_acknowledged_row(
    scratch: services.Instance, unique: Callable[[str], str]
) -> None:
    scratch.cassandra.start()
    keyspace = unique("kept")
    with session(scratch) as before:
        replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
        before.execute(f"CREATE KEYSPACE {keyspace} WITH replication = {replication}")
        before.execute(f"CREATE TABLE {keyspace}.rows (id int PRIMARY KEY)")
        for number in range(100):
            before.execute(f"INSERT INTO {keyspace}.rows (id) VALUES ({number})")
    assert scratch.cassandra.kill()
    assert scratch.cassandra.start()

    with session(scratch) as after:
        assert {row.id for row in after.execute(f"SELECT id FROM {keyspace}.rows")} == set(range(100))


def test_an_end_of_sshd_ends_its_open_sessions(scratch: services.Instance) -> None:
    scratch.ssh.start()
    host = scratch.ssh.hosts[0]
    options = [
        "-o",
        f'UserKnownHostsFile="{host.known_hosts}"',
        "-o",
        "BatchMode=yes",
        "-i",
        str(host.client_key),
    ]
    ssh = ["ssh", "-F", "none", *options, "-p", str(host.port), f"{host.user}@{host.address}"]
    client = subprocess.Popen([*ssh, "echo $$; exec sleep 60"], stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    with client.stdout:
        session_process = process.identify(int(client.stdout.readline()))
        assert session_process is not None
        scratch.ssh.stop()

        assert not process.is_alive(session_process)
        assert client.wait(30) == 255


def test_an_orderly_stop_frees_every_port_and_keeps_the_data(
    scratch: services.Instance, unique: Callable[[str], str]
) -> None:
    scratch.start()
    topic = unique("kept")
    produce(scratch.kafka.bootstrap, topic, ["before the stop"])
    running = {server.name: server.live for server in scratch.servers}

    assert scratch.stop() == scratch.servers
    assert [port for server in scratch.servers for port in server.ports if not is_free(port)] == []
    assert [name for name, live in running.items() if live is not None and process.is_alive(live)] == []
    assert scratch.kafka.start()
    assert consume(scratch.kafka.bootstrap, topic) == {"before the stop"}


def test_the_host_keys_stay_the_same_over_a_restart(scratch: services.Instance) -> None:
    scratch.ssh.start()
    known = scratch.ssh.known_hosts.read_text()
    scratch.ssh.kill()
    scratch.ssh.start()

    assert scratch.ssh.known_hosts.read_text() == known
    assert scratch.ssh.client_key.stat().st_mode & 0o777 == 0o600


def test_a_configuration_that_sshd_refuses_is_reported_with_its_line(
    start_sshd: Callable[..., services.SshdServer],
) -> None:
    with pytest.raises(
        services.ServiceError, match=r"sshd odd: sshd refuses .*\n.*line 1: Bad .*: NoSuchKeyword"
    ):
        start_sshd("odd", extra_config=["NoSuchKeyword yes"])


def test_an_interrupted_start_leaves_nothing_running(tmp_path: Path) -> None:
    """SIGINT to ``python -m services start``, as Ctrl-C sends it, while Kafka and Cassandra come up."""
    ports = services.find_free_ports(8)
    script = f"""
import logging, pathlib, services, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it
logging.basicConfig(level="INFO", stream=sys.stdout, format="%(message)s")
ports = services.Ports(*{ports[:5]}, {ports[5:]})
jars = services.instance("test").jars
services.Instance("cut", pathlib.Path({str(tmp_path / "cut")!r}), ports, jars).start()
"""
    starter = subprocess.Popen(
        [sys.executable, "-u", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert starter.stdout is not None
    with starter.stdout:
        output = []
        for line in starter.stdout:
            output.append(line)
            if line.startswith("cassandra starts"):
                starter.send_signal(signal.SIGINT)
        assert starter.wait(60) == -signal.SIGINT, "".join(output)
    cut = services.Instance("cut", tmp_path / "cut", services.Ports(*ports[:5], tuple(ports[5:])), tmp_path)

    assert [server for server in cut.servers if server.running] == []
    assert [port for port in ports if not is_free(port)] == []


def produce(bootstrap: str, topic: str, messages: list[str]) -> None:
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])[topic].result(30)
    failed: list[Any] = []
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    for message in messages:
        producer.produce(topic, message, on_delivery=lambda error, _: failed.append(error) if error else None)
    assert (producer.flush(30), failed) == (0, [])


def consume(bootstrap: str, topic: str) -> set[str]:
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "lifecycle", "enable.auto.commit": False}
    )
    try:
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=30)
        consumer.assign([TopicPartition(topic, 0, 0)])
        found: set[str] = set()
        while len(found) < end:
            message = consumer.poll(30)
            assert message is not None, f"{len(found)} of {end} messages came"
            assert message.error() is None, message.error()
            found.add(message.value().decode())
    finally:
        consumer.close()
    return found


@contextmanager
def session(instance: services.Instance) -> Iterator[Any]:
    cluster = build_cluster(instance.cassandra.address)
    try:
        yield cluster.connect()
    finally:
        cluster.shutdown()
