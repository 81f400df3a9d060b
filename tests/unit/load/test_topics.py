from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from airflow_provider_restrack.load.errors import ConfigurationError, KafkaUnavailableError
from airflow_provider_restrack.load.topics import (
    TopicPlan,
    TopicSpec,
    TopicsState,
    TopicState,
    build_admin,
    check_topics,
    create_topics,
    plan_topics,
    read_topics,
)

SPEC = TopicSpec("samples", 4, 3, 7 * 86400)
CONFIG = {"cleanup.policy": "delete", "retention.ms": "604800000", "max.message.bytes": "1048588"}
ORIGIN = "Kafka at k1:9092 (connection kafka_default)"


def _found(**changes: Any) -> TopicsState:
    return TopicsState(
        3, {"samples": TopicState(**{"partitions": 4, "replication": 3, "config": CONFIG, **changes})}
    )


def test_missing_topic_is_to_be_created() -> None:
    assert plan_topics([SPEC], TopicsState(3, {})) == TopicPlan((SPEC,), (), ())


def test_topic_of_the_same_shape_is_unchanged_whatever_else_it_sets() -> None:
    assert plan_topics([SPEC], _found()) == TopicPlan((), ("topic samples",), ())


@pytest.mark.parametrize(
    ("changes", "subject", "wanted", "found", "remedy"),
    [
        pytest.param(
            {"partitions": 2},
            "topic samples, partitions",
            "4",
            "2",
            "kafka-topics.sh --alter --topic samples --partitions 4",
            id="fewer-partitions",
        ),
        pytest.param(
            {"partitions": 8},
            "topic samples, partitions",
            "4",
            "8",
            "cannot be taken away",
            id="more-partitions",
        ),
        pytest.param(
            {"replication": 1}, "topic samples, replication", "3", "1", "reassign", id="replication"
        ),
        pytest.param(
            {"config": {**CONFIG, "retention.ms": "1000"}},
            "topic samples, retention.ms",
            "604800000",
            "1000",
            "kafka-configs.sh --alter --entity-type topics --entity-name samples"
            " --add-config retention.ms=604800000",
            id="retention",
        ),
        pytest.param(
            {"config": {**CONFIG, "cleanup.policy": "compact"}},
            "topic samples, cleanup.policy",
            "delete",
            "compact",
            "--add-config cleanup.policy=delete",
            id="cleanup-policy",
        ),
    ],
)
def test_each_other_shape_is_one_difference_with_its_remedy(
    changes: dict[str, Any], subject: str, wanted: str, found: str, remedy: str
) -> None:
    plan = plan_topics([SPEC], _found(**changes))
    (difference,) = plan.differences
    assert (difference.subject, difference.wanted, difference.found) == (subject, wanted, found)
    assert remedy in difference.remedy
    assert plan.create == ()


def test_more_copies_than_brokers_are_refused_only_for_a_topic_to_create() -> None:
    with pytest.raises(
        ConfigurationError, match=r"samples asks for 3 copies, and 1 broker is up\. Set its replication"
    ):
        plan_topics([SPEC], TopicsState(1, {}))
    existing = _found()
    assert plan_topics([SPEC], TopicsState(1, existing.topics)).differences == ()


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "ä", "x" * 250])
def test_name_that_kafka_would_refuse_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="is no valid name"):
        TopicSpec(name, 1, 1, None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param((0, 1, 1.0), "partitions must be 1 or more", id="partitions"),
        pytest.param((1, 0, 1.0), "replication must be 1 or more", id="replication"),
        pytest.param((1, 1, 0.0), "retention must be more than 0", id="retention"),
    ],
)
def test_numbers_below_one_are_refused(settings: tuple[int, int, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"topic a: {message}"):
        TopicSpec("a", *settings)


@pytest.mark.parametrize(("replication", "expected"), [(1, "1"), (2, "1"), (3, "2")])
def test_new_topic_waits_for_all_copies_but_one(replication: int, expected: str) -> None:
    assert TopicSpec("a", 1, replication, None).creation_settings["min.insync.replicas"] == expected


def test_topic_without_retention_keeps_records_for_ever() -> None:
    assert TopicSpec("a", 1, 1, None).settings == {"cleanup.policy": "delete", "retention.ms": "-1"}


class FakeAdmin:
    """An admin client that plays metadata answers one after the other, the last again and again."""

    def __init__(self, *answers: Any, failures: dict[str, int] | None = None) -> None:
        self._answers = list(answers)
        self._failures = failures or {}
        self.created: list[tuple[str, int, int, dict[str, str], bool]] = []
        self.described: list[str] = []

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> Any:
        assert topic is None, "asking for one topic can create it"
        assert timeout > 0
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def describe_configs(self, resources: list[Any], *, request_timeout: float) -> dict[Any, Future[Any]]:
        self.described += [resource.name for resource in resources]
        entries = {key: SimpleNamespace(value=value) for key, value in CONFIG.items()}
        return {resource: _done(entries) for resource in resources}

    def create_topics(
        self, topics: list[Any], *, operation_timeout: float, request_timeout: float, validate_only: bool
    ) -> dict[str, Future[None]]:
        answers = {}
        for topic in topics:
            record = (
                topic.topic,
                topic.num_partitions,
                topic.replication_factor,
                topic.config,
                validate_only,
            )
            self.created.append(record)
            code = self._failures.get(topic.topic)
            answers[topic.topic] = _done(None) if code is None else _failed(code)
        return answers


def _done(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future


def _failed(code: int) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(KafkaException(KafkaError(code, "the broker's reason")))
    return future


def _metadata(leaders: dict[str, list[int]], brokers: int = 3) -> Any:
    topics = {
        name: SimpleNamespace(
            error=None,
            partitions={
                number: SimpleNamespace(leader=leader, replicas=[1, 2, 3])
                for number, leader in enumerate(found)
            },
        )
        for name, found in leaders.items()
    }
    return SimpleNamespace(brokers=dict.fromkeys(range(brokers)), topics=topics)


class FakeClock:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


PLAN = TopicPlan((SPEC,), (), ())


def test_reading_asks_for_the_settings_of_existing_topics_only() -> None:
    admin = FakeAdmin(_metadata({"samples": [1, 2], "other": [1]}))
    found = read_topics(admin, ["samples", "missing"], origin=ORIGIN, timeout_s=5)
    assert found == TopicsState(3, {"samples": TopicState(2, 3, CONFIG)})
    assert admin.described == ["samples"]


def test_broker_that_does_not_answer_is_named_with_a_remedy() -> None:
    admin = FakeAdmin(KafkaException(KafkaError(KafkaError._TRANSPORT)))
    with pytest.raises(KafkaUnavailableError) as caught:
        read_topics(admin, ["samples"], origin=ORIGIN, timeout_s=5)
    assert str(caught.value).startswith(f"{ORIGIN} does not answer within 5 s")
    assert "Check bootstrap.servers" in str(caught.value)


def test_creating_waits_until_every_partition_has_a_leader() -> None:
    admin = FakeAdmin(
        _metadata({}), _metadata({"samples": [1, 1, -1, 1]}), _metadata({"samples": [1, 1, 2, 1]})
    )
    clock = FakeClock()
    create_topics(admin, PLAN, origin=ORIGIN, timeout_s=5, now=clock.now, sleep=clock.sleep)
    assert clock.time == pytest.approx(0.2)
    settings = {"cleanup.policy": "delete", "retention.ms": "604800000", "min.insync.replicas": "2"}
    assert admin.created == [("samples", 4, 3, settings, False)]


def test_topic_without_a_leader_fails_after_the_timeout() -> None:
    clock = FakeClock()
    admin = FakeAdmin(_metadata({"samples": [1, -1, 1, 1]}))
    with pytest.raises(
        KafkaUnavailableError, match="created samples, but not every partition has a leader after 5 s"
    ):
        create_topics(admin, PLAN, origin=ORIGIN, timeout_s=5, now=clock.now, sleep=clock.sleep)
    assert clock.time == pytest.approx(5, abs=0.2)


def test_topic_that_another_run_creates_meanwhile_is_taken() -> None:
    admin = FakeAdmin(_metadata({"samples": [1] * 4}), failures={"samples": KafkaError.TOPIC_ALREADY_EXISTS})
    create_topics(admin, PLAN, origin=ORIGIN, timeout_s=5)
    assert len(admin.created) == 1


def test_topic_that_another_run_creates_with_fewer_partitions_is_left_to_the_comparison() -> None:
    admin = FakeAdmin(_metadata({"samples": [1, 1]}), failures={"samples": KafkaError.TOPIC_ALREADY_EXISTS})
    clock = FakeClock()
    create_topics(admin, PLAN, origin=ORIGIN, timeout_s=5, now=clock.now, sleep=clock.sleep)
    assert clock.time == 0


def test_topic_that_another_run_is_creating_is_no_difference() -> None:
    metadata = _metadata({"samples": []})
    metadata.topics["samples"].error = KafkaError(KafkaError.LEADER_NOT_AVAILABLE)
    found = read_topics(FakeAdmin(metadata), ["samples"], origin=ORIGIN, timeout_s=5)
    assert plan_topics([SPEC], found) == TopicPlan((SPEC,), (), ())


def test_refused_topic_is_named_with_the_broker_s_reason() -> None:
    admin = FakeAdmin(_metadata({}), failures={"samples": KafkaError.POLICY_VIOLATION})
    with pytest.raises(KafkaUnavailableError, match="refuses to create topic samples: the broker's reason"):
        check_topics(admin, PLAN, origin=ORIGIN, timeout_s=5)
    assert [record[-1] for record in admin.created] == [True]


def test_nothing_to_create_asks_nothing() -> None:
    admin = FakeAdmin(_metadata({}))
    empty = TopicPlan((), ("topic samples",), ())
    check_topics(admin, empty, origin=ORIGIN, timeout_s=5)
    create_topics(admin, empty, origin=ORIGIN, timeout_s=5)
    assert admin.created == []


def test_admin_client_takes_how_to_connect_and_no_setting_of_consumers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    admin = build_admin(
        {
            "bootstrap.servers": "127.0.0.1:1",
            "group.id": "g",
            "auto.offset.reset": "earliest",
            "security.protocol": "PLAINTEXT",
            "client.id": "restrack",
            "https.ca.location": "probe",
        }
    )
    with pytest.raises(KafkaException):
        admin.list_topics(timeout=0.1)
    assert "consumer property" not in caplog.text


def test_admin_client_trusts_what_the_connection_says_of_https() -> None:
    """Of OAuth's token endpoint: without it the login of a private one fails."""
    with pytest.raises(KafkaException, match=r"https\.ca"):
        build_admin({"bootstrap.servers": "127.0.0.1:1", "https.ca.location": "/a", "https.ca.pem": "b"})
