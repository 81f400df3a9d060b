from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_restrack.hooks import kafka
from airflow_provider_restrack.hooks.kafka import KafkaClientHook


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a setter of the connection's extra."""

    def set_extra(**extra: Any) -> KafkaClientHook:
        value = json.dumps({"conn_type": "kafka", "extra": extra})
        monkeypatch.setenv("AIRFLOW_CONN_MY_KAFKA", value)
        return KafkaClientHook("my_kafka")

    return set_extra


def test_the_settings_are_those_of_the_connection(connect: Any) -> None:
    extra = {"bootstrap.servers": "b:1", "security.protocol": "SASL_SSL", "group.id": "g"}

    assert connect(**extra).config() == extra


def test_a_caller_may_change_what_it_gets(connect: Any) -> None:
    hook = connect(**{"bootstrap.servers": "b:1"})
    hook.config()["group.id"] = "mine"

    assert hook.config() == {"bootstrap.servers": "b:1"}


def test_a_connection_without_brokers_is_named(connect: Any) -> None:
    with pytest.raises(ValueError, match=r"Kafka connection 'my_kafka': .*bootstrap\.servers"):
        connect(acks="all").config()


def test_callbacks_are_resolved_only_when_they_are_allowed(
    connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = connect(**{"bootstrap.servers": "b:1", "error_cb": "json.dumps"})

    with pytest.raises(ValueError, match="callback_allowlist"):
        hook.config()
    monkeypatch.setenv("AIRFLOW__APACHE_KAFKA__CALLBACK_ALLOWLIST", "json.dumps")
    assert hook.config()["error_cb"] is json.dumps


def test_the_test_of_a_connection_says_who_does_not_answer(
    connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "TEST_TIMEOUT_S", 0.5)

    ok, message = connect(**{"bootstrap.servers": "127.0.0.1:1"}).test_connection()

    assert not ok
    assert "Kafka 127.0.0.1:1 did not answer in 0.5 s" in message


def test_the_test_of_a_connection_explains_settings_that_are_wrong(connect: Any) -> None:
    assert connect(acks="all").test_connection() == (
        False,
        "Kafka connection 'my_kafka': config['bootstrap.servers'] must be provided.",
    )
    ok, message = connect(**{"bootstrap.servers": "b:1", "no.such.setting": 1}).test_connection()
    assert (ok, message) == (
        False,
        "Kafka connection 'my_kafka' is not valid: No such configuration property: \"no.such.setting\"",
    )


def test_the_test_of_a_connection_passes_over_the_schema_registry(
    connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "TEST_TIMEOUT_S", 0.5)
    hook = connect(**{"bootstrap.servers": "127.0.0.1:1", "schema.registry.url": "http://r:8081"})

    assert "did not answer" in hook.test_connection()[1]
    assert hook.config()["schema.registry.url"] == "http://r:8081"
