"""How far a group has loaded, as a time; the real brokers' answers are an integration test."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, KafkaError

from airflow_provider_restrack.load import lag as module
from airflow_provider_restrack.load.errors import ConfigurationError, KafkaUnavailableError
from airflow_provider_restrack.load.lag import LagQuestion, find_oldest_waiting
from tests.unit.load.fakes import FakeConsumer, FakeMessage, end_of_partition, topics

QUESTION = LagQuestion(("t",), "loader", "my_kafka", timeout_s=5)
CONFIG = {"bootstrap.servers": "b:1"}


def sent(at_ms: int, at: int = 0, where: int = 0) -> FakeMessage:
    return FakeMessage(b"{}", at, where, moment=(1, at_ms))


def ask(monkeypatch: pytest.MonkeyPatch, consumer: FakeConsumer, question: LagQuestion = QUESTION) -> Any:
    monkeypatch.setattr(module, "open_consumer", lambda settings, connection: consumer)
    return find_oldest_waiting(question, CONFIG)


def two_partitions(**changes: Any) -> FakeConsumer:
    values: dict[str, Any] = {
        "metadata": topics(t=2),
        "offsets": {("t", 0): 5, ("t", 1): 7},
        "ends": {("t", 0): (0, 9), ("t", 1): (0, 9)},
    }
    return FakeConsumer(**values | changes)


def test_the_oldest_of_all_partitions_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = two_partitions(batches=[[sent(3000, 5)], [sent(4000, 6), sent(2000, 7, 1), sent(1000, 8, 1)]])

    assert ask(monkeypatch, consumer) == 2000
    assert consumer.named("subscribe") + consumer.named("commit") == []


def test_nothing_is_read_if_all_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = two_partitions(offsets={("t", 0): 9, ("t", 1): 9})

    assert ask(monkeypatch, consumer) is None
    assert consumer.named("assign") == []


def test_a_group_that_has_loaded_nothing_waits_for_the_first_record(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = FakeConsumer(ends={("t", 0): (3, 9)}, batches=[[sent(3000, 3)]])

    assert ask(monkeypatch, consumer) == 3000
    assert consumer.named("assign") == [{("t", 0): 3}]


def test_a_rest_of_which_only_gaps_are_left_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = FakeConsumer(ends={("t", 0): (0, 9)}, offsets={("t", 0): 8}, batches=[[end_of_partition(9)]])

    assert ask(monkeypatch, consumer) is None


def test_a_record_without_a_time_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    message = replace(sent(-1), moment=(TIMESTAMP_NOT_AVAILABLE, -1))

    assert ask(monkeypatch, FakeConsumer(ends={("t", 0): (0, 9)}, batches=[[message]])) is None


def test_an_error_is_told_with_the_name_of_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    message = FakeMessage(None, failure=KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    consumer = FakeConsumer(ends={("t", 0): (0, 9)}, batches=[[message]])

    with pytest.raises(KafkaUnavailableError, match=r"my_kafka.*cannot be read"):
        ask(monkeypatch, consumer)
    assert consumer.calls[-1][0] == "close"


def test_records_that_do_not_come_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KafkaUnavailableError, match=r"t\[0\] in 0 s"):
        ask(monkeypatch, FakeConsumer(ends={("t", 0): (0, 9)}), replace(QUESTION, timeout_s=0.0))


def test_a_topic_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="'none'"):
        ask(monkeypatch, FakeConsumer(), replace(QUESTION, topics=("none",)))
