from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_restrack.load.client_config import (
    bootstrap_servers,
    build_consumer_config,
    build_dead_letter_config,
    build_producer_config,
    librdkafka_settings,
    offset_reset,
)
from airflow_provider_restrack.load.errors import ConfigurationError

BASE = {"bootstrap.servers": "b:1", "sasl.password": "secret"}


def producer(**extra: Any) -> dict[str, Any]:
    return build_producer_config(BASE | extra, connection="my_kafka", timeout_s=7)


def consumer(**extra: Any) -> dict[str, Any]:
    return build_consumer_config(BASE | extra, group_id="g", connection="my_kafka")


def test_a_producer_waits_for_all_replicas_and_never_doubles() -> None:
    assert producer() == BASE | {
        "acks": "all", "enable.idempotence": True, "message.timeout.ms": 7000, "linger.ms": 20,
        "compression.type": "lz4",
    }  # fmt: skip


def test_harmless_settings_of_the_connection_win() -> None:
    made = producer(**{"compression.type": "zstd", "linger.ms": 0, "acks": -1, "enable.idempotence": "True"})

    assert (made["compression.type"], made["linger.ms"], made["acks"]) == ("zstd", 0, "all")


def test_a_producer_is_spared_the_consumers_settings() -> None:
    assert "group.id" not in producer(**{"group.id": "x", "enable.auto.commit": True})


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("acks", 1),
        ("acks", "0"),
        ("request.required.acks", 1),
        ("enable.idempotence", False),
        ("enable.idempotence", "false"),
        ("transactional.id", "x"),
    ],
)
def test_a_connection_that_can_lose_or_double_records_is_refused(setting: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"'my_kafka' sets {setting}"):
        producer(**{setting: value})


def test_a_consumer_commits_only_what_it_is_told_to() -> None:
    made = consumer(**{"group.id": "theirs", "auto.offset.reset": "latest", "enable.auto.offset.store": True})

    assert (made["group.id"], made["auto.offset.reset"]) == ("g", "error")
    assert (made["enable.auto.commit"], made["enable.auto.offset.store"], made["enable.partition.eof"]) == (
        False,
        False,
        True,
    )


@pytest.mark.parametrize("value", [True, "true", "True", " true "])
def test_a_connection_that_commits_by_itself_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"'my_kafka' sets enable\.auto\.commit=true"):
        consumer(**{"enable.auto.commit": value})


@pytest.mark.parametrize("value", [False, "false"])
def test_a_connection_that_says_what_is_done_anyway_is_not(value: Any) -> None:
    assert consumer(**{"enable.auto.commit": value})["enable.auto.commit"] is False


def member(**extra: Any) -> dict[str, Any]:
    return build_consumer_config(BASE | extra, group_id="g", connection="my_kafka", joins=True)


def test_a_member_is_missed_soon_and_shares_cooperatively() -> None:
    made = member(**{"partition.assignment.strategy": "range", "group.instance.id": "x"})

    assert made["partition.assignment.strategy"] == "cooperative-sticky"
    assert (made["session.timeout.ms"], made["heartbeat.interval.ms"]) == (15_000, 1_000)
    assert "group.instance.id" not in made
    assert made["enable.auto.commit"] is False


@pytest.mark.parametrize(
    ("extra", "session", "beat"),
    [
        ({"session.timeout.ms": "45000"}, 45_000, 1_000),
        ({"session.timeout.ms": 1_500}, 1_500, 500),
        ({"heartbeat.interval.ms": 3_000}, 15_000, 3_000),
        ({"max.poll.interval.ms": 6_000}, 6_000, 1_000),
    ],
)
def test_the_connections_own_timeouts_win(extra: dict[str, Any], session: int, beat: int) -> None:
    made = member(**extra)

    assert (made["session.timeout.ms"], made["heartbeat.interval.ms"]) == (session, beat)


def test_a_timeout_that_is_no_number_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"'my_kafka' sets session\.timeout\.ms='soon'"):
        member(**{"session.timeout.ms": "soon"})


def test_who_follows_finds_new_partitions_sooner() -> None:
    made = build_consumer_config(BASE, group_id="g", connection="c", joins=True, follows=True)

    assert made["topic.metadata.refresh.interval.ms"] == 30_000
    assert "topic.metadata.refresh.interval.ms" not in member()


@pytest.mark.parametrize(
    ("value", "reset"),
    [("beginning", "earliest"), ("Latest", "latest"), ("largest", "latest"), ("none", "error")],
)
def test_the_reset_has_many_names(value: str, reset: str) -> None:
    assert offset_reset({"auto.offset.reset": value}, "c") == reset
    assert offset_reset({}, "c") == "earliest"
    with pytest.raises(ConfigurationError, match=r"'c' sets auto\.offset\.reset='newest'.*'earliest'"):
        offset_reset({"auto.offset.reset": "newest"}, "c")


def test_a_consumer_is_spared_the_producers_settings() -> None:
    unwanted = {"acks": "1", "linger.ms": 5, "group.instance.id": "x", "heartbeat.interval.ms": 10_000}

    assert set(unwanted) & set(consumer(**unwanted)) == set()


def test_dead_letters_may_be_as_large_as_what_was_read() -> None:
    made = build_dead_letter_config(BASE | {"message.max.bytes": 1000}, connection="c", timeout_s=1)

    assert made["message.max.bytes"] == 100_000_000


def test_dead_letters_that_wait_take_little_memory_and_the_largest_fits() -> None:
    made = build_dead_letter_config(
        BASE | {"queue.buffering.max.kbytes": 1_048_576}, connection="c", timeout_s=1
    )

    assert made["message.max.bytes"] <= made["queue.buffering.max.kbytes"] * 1024 <= 2**27


@pytest.mark.parametrize("build", [producer, consumer])
def test_settings_that_would_go_past_the_checks_are_refused(build: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"'my_kafka' sets default\.topic\.config.*one level up"):
        build(**{"default.topic.config": {"auto.offset.reset": "latest"}})


def test_a_commit_without_an_answer_is_given_up_before_a_signal_must_wait_long() -> None:
    assert consumer(**{"session.timeout.ms": 45_000})["session.timeout.ms"] <= 6_000


def test_no_message_names_a_secret() -> None:
    with pytest.raises(ConfigurationError) as refused:
        producer(acks=0)

    assert "secret" not in str(refused.value)
    assert bootstrap_servers(BASE) == "b:1"
    assert bootstrap_servers({}) == "no bootstrap.servers"


def test_settings_of_the_schema_registry_are_kept_from_the_clients() -> None:
    registry = {"schema.registry.url": "http://r:8081", "schema.registry.basic.auth.user.info": "me:secret"}

    assert librdkafka_settings(BASE | registry) == BASE
    assert producer(**registry) == producer()
    assert consumer(**registry) == consumer()
