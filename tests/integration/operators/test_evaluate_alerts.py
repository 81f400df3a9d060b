"""EvaluateAlertsOperator over a real Cassandra and a real topic: told once, whatever runs or dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from airflow_provider_restrack.alert.ledger import read_open_alerts
from airflow_provider_restrack.notifications.kafka_alerts import KafkaAlertNotifier
from airflow_provider_restrack.operators.evaluate_alerts import AlertRoundError, EvaluateAlertsOperator
from airflow_provider_restrack.operators.provision import ProvisionOperator
from airflow_provider_restrack.operators.silence import SilenceOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.cassandra, pytest.mark.kafka]
ROOT = Path(__file__).resolve().parents[3]
RULES = [
    {
        "name": "cpu",
        "metric": "cpu_usage",
        "op": ">",
        "threshold": {"warning": 80, "critical": 90},
        "for": "2m",
    },
    {"name": "down", "metric": "up", "op": "==", "threshold": False, "severity": "critical"},
]


@pytest.fixture
def keyspace(
    unique: Callable[[str], str],
    cassandra_session: Any,
    cassandra_address: tuple[str, int],
    kafka_bootstrap: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """A keyspace as ProvisionOperator makes it, and Airflow's connections to the servers."""
    host, port = cassandra_address
    cassandra = {"conn_type": "cassandra", "host": host, "port": port}
    kafka = {"conn_type": "kafka", "extra": {"bootstrap.servers": kafka_bootstrap}}
    monkeypatch.setenv("AIRFLOW_CONN_CASSANDRA_DEFAULT", json.dumps(cassandra))
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_DEFAULT", json.dumps(kafka))
    name = unique("alerts")
    ProvisionOperator(task_id="provision", topics=[], keyspace=name, replication=1).execute({})
    yield name
    cassandra_session.execute(f"DROP KEYSPACE {name}")


class Fleet:
    """Writes samples, one a minute, the newest of which is of now."""

    def __init__(self, session: Any, keyspace: str) -> None:
        self._session, self._keyspace = session, keyspace
        self.now = datetime.now(tz=UTC)

    def write(self, host: str, values: list[float], end: timedelta = timedelta(0), up: bool = True) -> None:
        start = self.now + end - timedelta(minutes=len(values) - 1)
        for number, value in enumerate(values):
            at = start + timedelta(minutes=number)
            self._session.execute(
                f"INSERT INTO {self._keyspace}.system_metrics (host, day, timestamp, cpu_usage, up) "
                "VALUES (%s, %s, %s, %s, %s)",
                (host, at.date(), at, value, up),
            )
        self._session.execute(f"INSERT INTO {self._keyspace}.latest_metrics (host) VALUES (%s)", (host,))


@pytest.fixture
def fleet(cassandra_session: Any, keyspace: str) -> Fleet:
    return Fleet(cassandra_session, keyspace)


@pytest.fixture
def evaluate(keyspace: str, topic: str) -> Callable[..., dict[str, Any]]:
    """A runner of the operator with a notifier into the topic."""

    def run(**arguments: Any) -> dict[str, Any]:
        given: dict[str, Any] = {
            "rules": RULES,
            "evaluation_delay": 0,
            "scope": "night",
            "keyspace": keyspace,
            "notifiers": [KafkaAlertNotifier(topic=topic)],
        }
        return EvaluateAlertsOperator(task_id="alerts", **given | arguments).execute({})

    return run


@pytest.fixture
def told(kafka_bootstrap: str, topic: str) -> Callable[[], list[dict[str, Any]]]:
    """A reader of all messages of the topic, in the order of their times."""

    def read() -> list[dict[str, Any]]:
        consumer = Consumer({"bootstrap.servers": kafka_bootstrap, "group.id": topic})
        try:
            partitions = [TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(4)]
            wanted = sum(consumer.get_watermark_offsets(one, timeout=30)[1] for one in partitions)
            consumer.assign(partitions)
            messages = [consumer.poll(30) for _ in range(wanted)]
            return [json.loads(one.value()) for one in sorted(messages, key=lambda one: one.timestamp()[1])]
        finally:
            consumer.close()

    return read


def kinds(messages: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(message["instance"], message["kind"], message["severity"]) for message in messages]


def test_an_alert_from_its_start_to_its_end(
    fleet: Fleet, evaluate: Any, told: Any, cassandra_session: Any, keyspace: str
) -> None:
    fleet.write("db-1", [50, 85, 85, 85])
    fleet.write("db-2", [10, 10, 10, 10])
    first = evaluate()
    again = evaluate()
    fleet.write("db-1", [95, 95, 95], timedelta(minutes=3))
    early = evaluate()

    assert (first["changed"], first["open"], first["told"]) == ({"fired": 1}, {"warning": 1}, {"firing": 1})
    assert (again["changed"], again["told"], again["open"]) == ({}, {}, {"warning": 1})
    assert early["changed"] == {}  # samples of the future are not looked at
    (message,) = told()
    assert (message["instance"], message["kind"], message["current"]) == ("cpu/db-1", "firing", 85)
    opened = read_open_alerts(cassandra_session, keyspace)
    assert [(record.key.host, record.severity) for record in opened["night"]] == [("db-1", "warning")]
    history = list(
        cassandra_session.execute(
            f"SELECT rule, transition, severity FROM {keyspace}.alert_history WHERE host = 'db-1'"
        )
    )
    assert [tuple(row) for row in history] == [("cpu", "fired", "warning")]


def test_the_end_is_told_once_with_what_it_was(fleet: Fleet, evaluate: Any, told: Any) -> None:
    fleet.write("db-1", [50, 85, 99, 85], timedelta(minutes=-3))
    evaluate()
    fleet.write("db-1", [20, 20])
    evaluate()
    evaluate()

    assert kinds(told()) == [("cpu/db-1", "firing", "warning"), ("cpu/db-1", "resolved", "warning")]
    ended = told()[-1]
    assert (ended["current"], ended["peak"], ended["duration_seconds"]) == (20, 99, 240)


def test_evaluators_at_once_tell_once(fleet: Fleet, evaluate: Any, told: Any) -> None:
    for number in range(5):
        fleet.write(f"db-{number}", [95, 95, 95, 95])
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: evaluate(), range(4)))

    assert sorted(result["messages"] for result in results) == [0, 0, 0, 1]
    assert [sum(result["changed"].values()) for result in results if result["changed"]] == [5]
    assert len(told()) == 5


KILLED = """
import json, os, signal, sys
from airflow_provider_restrack.notifications.kafka_alerts import KafkaAlertNotifier
from airflow_provider_restrack.operators.evaluate_alerts import EvaluateAlertsOperator

class Deadly(KafkaAlertNotifier):
    def notify(self, context):
        if sys.argv[3] == "after":
            super().notify(context)
        os.kill(os.getpid(), signal.SIGKILL)

Deadly.__name__ = "KafkaAlertNotifier"
EvaluateAlertsOperator(
    task_id="alerts", rules=json.loads(sys.argv[4]), evaluation_delay=0, scope="night", keyspace=sys.argv[1],
    notifiers=[Deadly(topic=sys.argv[2])],
).execute({})
"""


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_evaluator_that_is_killed_at_the_message_is_taken_up(
    fleet: Fleet, evaluate: Any, told: Any, keyspace: str, topic: str, when: str
) -> None:
    fleet.write("db-1", [95, 95, 95, 95])
    command = [sys.executable, "-c", KILLED, keyspace, topic, when, json.dumps(RULES)]
    killed = subprocess.run(command, env=os.environ, cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    result = evaluate()  # waits for the lease of the dead one to end
    evaluate()

    assert (result["changed"], result["told"]) == ({}, {"firing": 1})
    messages = told()
    assert len(messages) == (1 if when == "before" else 2)
    assert len({message["id"] for message in messages}) == 1


def test_a_message_that_kafka_did_not_take_is_told_by_the_next_run(
    fleet: Fleet, evaluate: Any, told: Any, unique: Callable[[str], str], topic: str
) -> None:
    fleet.write("db-1", [95, 95, 95, 95])
    with pytest.raises(
        AlertRoundError, match="not told, the next run does it: KafkaAlertNotifier: Configuration"
    ):
        evaluate(notifiers=[KafkaAlertNotifier(topic=unique("none"), timeout=10)])
    evaluate(notifiers=[KafkaAlertNotifier(topic=topic)])
    evaluate(notifiers=[KafkaAlertNotifier(topic=topic)])

    assert kinds(told()) == [("cpu/db-1", "firing", "critical")]


def test_an_alert_that_ends_before_anybody_took_it_is_told_once(
    fleet: Fleet, evaluate: Any, told: Any, unique: Callable[[str], str], topic: str
) -> None:
    fleet.write("db-1", [50, 85, 85, 85], timedelta(minutes=-3))
    with pytest.raises(AlertRoundError, match="not told"):
        evaluate(notifiers=[KafkaAlertNotifier(topic=unique("none"), timeout=10)])
    fleet.write("db-1", [20, 20])
    evaluate(notifiers=[KafkaAlertNotifier(topic=topic)])
    evaluate(notifiers=[KafkaAlertNotifier(topic=topic)])

    (message,) = told()
    assert kinds([message]) == [("cpu/db-1", "resolved", "warning")]
    assert (message["told_before"], message["peak"], message["duration_seconds"]) == (None, 85, 240)


def test_a_silence_that_a_dag_sets_is_kept_until_it_is_over(
    fleet: Fleet, evaluate: Any, told: Any, keyspace: str
) -> None:
    silence = SilenceOperator(
        task_id="silence", host="db-*", duration="1h", keyspace=keyspace, comment="moved"
    )
    silence.execute({"ti": SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1)})  # type: ignore[arg-type,typeddict-item]
    fleet.write("db-1", [95, 95, 95, 95])
    fleet.write("web-1", [95, 95, 95, 95])

    result = evaluate()

    assert (result["changed"], result["suppressed"]) == ({"fired": 2}, {"silence": 1})
    assert kinds(told()) == [("cpu/web-1", "firing", "critical")]


def test_a_host_that_is_down_is_told_as_that_alone(fleet: Fleet, evaluate: Any, told: Any) -> None:
    fleet.write("db-1", [95, 95, 95, 95])
    fleet.write("db-1", [95], timedelta(seconds=1), up=False)
    fleet.now += timedelta(seconds=1)
    while datetime.now(tz=UTC) <= fleet.now:
        pass

    result = evaluate()

    assert result["suppressed"] == {"inhibited": 1}
    assert kinds(told()) == [("down/db-1", "firing", "critical")]


def test_rules_that_are_gone_end_their_alerts(fleet: Fleet, evaluate: Any, told: Any) -> None:
    fleet.write("db-1", [95, 95, 95, 95])
    evaluate()
    result = evaluate(rules=RULES[1:])

    assert (result["changed"], result["open"]) == ({"resolved": 1}, {})
    assert [(message["kind"], message["reason"]) for message in told()] == [
        ("firing", ""),
        ("resolved", "removed"),
    ]


def test_a_loader_that_lags_is_an_error_of_the_pipeline(
    fleet: Fleet,
    evaluate: Any,
    told: Any,
    kafka_bootstrap: str,
    kafka_admin: Any,
    unique: Callable[[str], str],
) -> None:
    from confluent_kafka.admin import NewTopic

    samples = unique("samples")
    kafka_admin.create_topics([NewTopic(samples, 1, 1)])[samples].result(30)
    producer = Producer({"bootstrap.servers": kafka_bootstrap})
    producer.produce(samples, b"{}", timestamp=int((fleet.now - timedelta(hours=1)).timestamp() * 1000))
    assert producer.flush(30) == 0
    fleet.write("db-1", [95, 95, 95, 95])
    loader = {"topic": samples, "group_id": unique("loader")}

    with pytest.raises(AlertRoundError, match="the loader lags: samples are loaded up to"):
        evaluate(loader=loader)
    result = evaluate(loader=loader, on_pipeline_error="warn")

    kafka_admin.delete_topics([samples])[samples].result(30)
    assert "the loader lags" in result["pipeline"]
    assert len(told()) == 1
