"""Samples that go straight to a real Kafka, and retries that go on where the try before them ended."""

from __future__ import annotations

import json
import signal
import socket
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from airflow_provider_restrack.load.errors import ConfigurationError
from airflow_provider_restrack.operators.remote_metrics import RemoteMetricsOperator, TooManyFailedHostsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services import SshdServer

pytestmark = [pytest.mark.ssh, pytest.mark.kafka]


@dataclass
class FakeTaskInstance:
    """A task instance as far as it is asked: it has no database behind it."""

    try_number: int = 1
    map_index: int = -1
    run_id: str = "run_1"
    dag_id: str = "dag"
    task_id: str = "collect"
    pushed: list[Any] = field(default_factory=list)

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed.append(value)


@dataclass
class FakeDagRun:
    """A run that has started just now."""

    start_date: datetime | None = None
    run_after: datetime = field(default_factory=lambda: datetime.now(tz=UTC))


def context_of(**of_the_task: Any) -> Any:
    return {"ti": FakeTaskInstance(**of_the_task), "dag_run": FakeDagRun()}


@pytest.fixture(autouse=True)
def connections(
    sshd_hosts: Sequence[SshdServer], kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = sshd_hosts[0]
    ssh = {
        "conn_type": "ssh",
        "login": server.user,
        "extra": {"key_file": str(server.client_key), "known_hosts": str(server.known_hosts)},
    }
    kafka = {"conn_type": "kafka", "extra": {"bootstrap.servers": kafka_bootstrap}}
    monkeypatch.setenv("AIRFLOW_CONN_SSH_DEFAULT", json.dumps(ssh))
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_DEFAULT", json.dumps(kafka))


@pytest.fixture
def read_topic(kafka_bootstrap: str, topic: str) -> Callable[[], list[Any]]:
    """Return a reader of all records of the topic."""

    def read() -> list[Any]:
        consumer = Consumer({"bootstrap.servers": kafka_bootstrap, "group.id": topic})
        partitions = [TopicPartition(topic, number, 0) for number in _numbers(consumer, topic)]
        ends = [consumer.get_watermark_offsets(each, timeout=20)[1] for each in partitions]
        consumer.assign(partitions)
        records = [consumer.poll(20) for _ in range(sum(ends))]
        assert all(record is not None and record.error() is None for record in records)
        consumer.close()
        return records

    return read


def _numbers(consumer: Consumer, topic: str) -> list[int]:
    return list(consumer.list_topics(topic, timeout=20).topics[topic].partitions)


def hosts_of(servers: Sequence[SshdServer], *down: str) -> list[dict[str, Any]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    up = [
        {"host": server.host.name, "address": server.address, "port": server.port, "username": server.user}
        for server in servers
    ]
    return [*up, *({"host": name, "address": "127.0.0.1", "port": port} for name in down)]


def make(topic: str, hosts: Any, **arguments: Any) -> RemoteMetricsOperator:
    return RemoteMetricsOperator(
        task_id="collect", hosts=hosts, topic=topic, **{"window": 0.1, "host_timeout": 20.0, **arguments}
    )


def test_each_sample_is_published_and_the_task_returns_a_summary(
    topic: str, sshd_hosts: Sequence[SshdServer], read_topic: Callable[[], list[Any]]
) -> None:
    names = [server.host.name for server in sshd_hosts]

    summary = make(topic, hosts_of(sshd_hosts, "down")).execute(context_of(map_index=3))

    assert isinstance(summary, dict)
    seconds, slowest = summary.pop("seconds"), summary.pop("slowest")
    assert summary == {
        "topic": topic,
        "hosts": 4,
        "delivered": 4,
        "delivered_before": 0,
        "outcomes": {"ok": 3, "unreachable": 1},
        "failed": 1,
        "failed_hosts": ["down"],
    }
    assert {entry["host"] for entry in slowest} == {*names, "down"}
    assert seconds > 0
    records = {record.key().decode(): record for record in read_topic()}
    assert sorted(records) == sorted([*names, "down"])
    assert all(json.loads(record.value())["host"] == host for host, record in records.items())
    assert {tuple(record.headers()) for record in records.values()} == {
        (("restrack_run", b"dag/run_1/collect/3"),)
    }


def test_a_retry_asks_only_the_hosts_that_have_no_sample_yet(
    topic: str, sshd_hosts: Sequence[SshdServer], read_topic: Callable[[], list[Any]]
) -> None:
    first, second = context_of(try_number=1), context_of(try_number=2)
    with pytest.raises(TooManyFailedHostsError):
        make(topic, hosts_of(sshd_hosts, "late"), max_failed_fraction=0).execute(first)
    now_up = {**hosts_of(sshd_hosts)[0], "host": "late"}

    summary = make(topic, [*hosts_of(sshd_hosts), now_up], max_failed_fraction=0).execute(second)

    assert first["ti"].pushed[0]["failed_hosts"] == ["late"]
    assert isinstance(summary, dict)
    assert (summary["delivered"], summary["delivered_before"], summary["outcomes"]) == (1, 3, {"ok": 1})
    assert summary["failed"] == 0
    found = [(record.key().decode(), json.loads(record.value())["up"]) for record in read_topic()]
    assert sorted(found) == sorted(
        [*((server.host.name, True) for server in sshd_hosts), ("late", False), ("late", True)]
    )


@pytest.mark.parametrize(
    "other", [{"run_id": "run_2"}, {"map_index": 1}, {"task_id": "more"}, {"dag_id": "other"}], ids=str
)
def test_what_another_task_has_published_counts_for_nothing(
    topic: str, sshd_hosts: Sequence[SshdServer], other: dict[str, Any]
) -> None:
    hosts = hosts_of(sshd_hosts[:1])
    make(topic, hosts).execute(context_of(**other))

    summary = make(topic, hosts).execute(context_of(try_number=2))

    assert isinstance(summary, dict)
    assert (summary["delivered"], summary["delivered_before"]) == (1, 0)


def test_what_is_older_than_the_run_counts_for_nothing(topic: str, sshd_hosts: Sequence[SshdServer]) -> None:
    hosts = hosts_of(sshd_hosts[:1])
    make(topic, hosts).execute(context_of())
    again = context_of(try_number=2)
    again["dag_run"].start_date = datetime.now(tz=UTC) + timedelta(hours=1)  # cleared and started anew

    summary = make(topic, hosts).execute(again)

    assert isinstance(summary, dict)
    assert (summary["delivered"], summary["delivered_before"]) == (1, 0)


def test_a_retry_of_several_samples_takes_those_that_are_missing(
    topic: str, sshd_hosts: Sequence[SshdServer]
) -> None:
    hosts = hosts_of(sshd_hosts[:2])
    make(topic, hosts[:1], samples=2, interval=2.0).execute(context_of())

    summary = make(topic, hosts, samples=3, interval=2.0).execute(context_of(try_number=2))

    assert isinstance(summary, dict)
    assert (summary["delivered"], summary["delivered_before"]) == (4, 2)


def test_samples_of_a_killed_task_are_published_and_its_retry_takes_the_others(
    topic: str, sshd_hosts: Sequence[SshdServer], read_topic: Callable[[], list[Any]]
) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    mute = {"host": "mute", "address": "127.0.0.1", "port": listener.getsockname()[1]}
    operator = make(topic, [*hosts_of(sshd_hosts), mute])
    before = signal.signal(signal.SIGUSR1, lambda *_: operator.on_kill())

    def kill_when_all_others_are_taken() -> None:
        while operator._fleet is None or operator._fleet._outcomes.total() < len(sshd_hosts):
            threading.Event().wait(0.05)
        signal.raise_signal(signal.SIGUSR1)

    killer = threading.Thread(target=kill_when_all_others_are_taken)
    killer.start()
    try:
        with pytest.raises(RuntimeError, match="stopped with 3 samples"):
            operator.execute(context_of())
    finally:
        signal.signal(signal.SIGUSR1, before)
        killer.join()
        listener.close()

    summary = make(topic, [*hosts_of(sshd_hosts), mute]).execute(context_of(try_number=2))

    assert isinstance(summary, dict)
    assert (summary["delivered"], summary["delivered_before"]) == (1, 3)
    assert len(read_topic()) == 4


def test_a_topic_that_does_not_exist_fails_the_task_before_any_host_is_asked(
    sshd_hosts: Sequence[SshdServer],
) -> None:
    log_before = sshd_hosts[0].log_file.read_text().count("Connection from")

    with pytest.raises(ConfigurationError, match="no_such_topic"):
        make("no_such_topic", hosts_of(sshd_hosts[:1])).execute(context_of())

    assert sshd_hosts[0].log_file.read_text().count("Connection from") == log_before


def test_this_machine_is_published_too(topic: str, read_topic: Callable[[], list[Any]]) -> None:
    make(topic, None).execute(context_of())

    (record,) = read_topic()
    assert record.key().decode() == socket.gethostname()
