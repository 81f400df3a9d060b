"""Creates topics: compares what is wanted with what the brokers have, and creates only what is missing.

Planning is pure; ``read_topics`` and ``create_topics`` are the only parts that talk to Kafka.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined] # two are documented there, but not declared
    AdminClient,
    ConfigResource,
    NewTopic,
)

from airflow_provider_restrack import clock
from airflow_provider_restrack.load.errors import ConfigurationError, KafkaUnavailableError
from airflow_provider_restrack.store.provision import Difference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

log = logging.getLogger(__name__)

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_POLL_S = 0.1
# How to reach the brokers. The rest of a connection's settings belong to producers and consumers, and
# librdkafka warns about each that an admin client has no use for.
_CONNECTION_SETTINGS = (
    "bootstrap.servers", "metadata.broker.list", "security.", "sasl.", "https.", "ssl.", "enable.ssl.",
    "enable.sasl.", "client.", "socket.", "broker.", "reconnect.", "connections.", "api.version.", "oauth_cb",
    "error_cb", "debug",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic that is wanted; ``retention_s`` None keeps records for ever, ``config`` has more settings."""

    name: str
    partitions: int
    replication: int
    retention_s: float | None
    config: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name in {".", ".."}:
            raise ConfigurationError(
                f"topic {self.name!r} is no valid name: use letters, digits, '.', '_' and '-', at most 249"
            )
        for name in ("partitions", "replication"):
            if getattr(self, name) < 1:
                raise ConfigurationError(
                    f"topic {self.name}: {name} must be 1 or more, it is {getattr(self, name)}"
                )
        if self.retention_s is not None and self.retention_s <= 0:
            raise ConfigurationError(
                f"topic {self.name}: retention must be more than 0 s, it is {self.retention_s}"
            )

    @property
    def settings(self) -> dict[str, str]:
        """The settings that an existing topic is compared by."""
        retention = -1 if self.retention_s is None else round(self.retention_s * 1000)
        return {"cleanup.policy": "delete", "retention.ms": str(retention), **self.config}

    @property
    def creation_settings(self) -> dict[str, str]:
        """The settings of a new topic: of three copies two must be written for a record to count as kept."""
        return {"min.insync.replicas": str(max(1, self.replication - 1)), **self.settings}


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as the brokers have it."""

    partitions: int
    replication: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TopicsState:
    """What exists of the wanted topics, and how many brokers are up."""

    brokers: int
    topics: Mapping[str, TopicState]


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """What to do: topics to create, or the differences that forbid it."""

    create: tuple[TopicSpec, ...]
    unchanged: tuple[str, ...]
    differences: tuple[Difference, ...]


def plan_topics(wanted: Iterable[TopicSpec], found: TopicsState) -> TopicPlan:
    """Compare wanted and found, and return the topics to create and all differences of the others.

    :raises ConfigurationError: if a topic to create asks for more copies than brokers are up.
    """
    create: list[TopicSpec] = []
    unchanged: list[str] = []
    differences: list[Difference] = []
    for spec in wanted:
        state = found.topics.get(spec.name)
        if state is not None:
            unchanged.append(f"topic {spec.name}")
            differences += _compare(spec, state)
            continue
        if spec.replication > found.brokers:
            up = f"{found.brokers} broker{'s are' if found.brokers != 1 else ' is'} up"
            raise ConfigurationError(
                f"topic {spec.name} asks for {spec.replication} copies, and {up}. Set its replication to at"
                " most that number (arguments topics or replication), or start more brokers."
            )
        create.append(spec)
    return TopicPlan(tuple(create), tuple(unchanged), tuple(differences))


def _compare(spec: TopicSpec, state: TopicState) -> list[Difference]:
    """Return how an existing topic differs, each with the command that mends it."""
    subject, name = f"topic {spec.name}", spec.name
    differences = []
    if state.partitions != spec.partitions:
        if spec.partitions > state.partitions:
            remedy = (
                f"Run: kafka-topics.sh --alter --topic {name} --partitions {spec.partitions} "
                "(records of a host may then change partition once)."
            )
        else:
            remedy = "Partitions cannot be taken away: change the argument topics, or use another name."
        found = str(state.partitions)
        differences.append(Difference(f"{subject}, partitions", str(spec.partitions), found, remedy))
    if state.replication != spec.replication:
        remedy = "Change the argument topics or replication, or move it by kafka-reassign-partitions.sh."
        found = str(state.replication)
        differences.append(Difference(f"{subject}, replication", str(spec.replication), found, remedy))
    for key, value in spec.settings.items():
        if state.config.get(key) != value:
            alter = f"kafka-configs.sh --alter --entity-type topics --entity-name {name}"
            remedy = f"Run: {alter} --add-config {key}={value}"
            found = state.config.get(key, "unset")
            differences.append(Difference(f"{subject}, {key}", value, found, remedy))
    return differences


def build_admin(config: Mapping[str, Any]) -> Any:
    """Return an admin client for the brokers that a connection's settings name."""
    settings = {key: value for key, value in config.items() if key.startswith(_CONNECTION_SETTINGS)}
    # Half a second between attempts: the default floods the log while a broker is down.
    return AdminClient(
        {"reconnect.backoff.ms": 500, "reconnect.backoff.max.ms": 2000, **settings}, logger=log
    )


def read_topics(admin: Any, names: Sequence[str], *, origin: str, timeout_s: float) -> TopicsState:
    """Read what exists of the named topics. It asks for all topics: to ask for one can create it.

    :param origin: what the brokers are called in messages, such as ``Kafka at host:9092 (connection
        kafka_default)``.
    :raises KafkaUnavailableError: if no broker answers in time, or it refuses to tell.
    """
    try:
        metadata = admin.list_topics(timeout=timeout_s)
        # One with an error has no partitions yet: another run is creating it at this moment.
        topics = {name: topic for name, topic in metadata.topics.items() if topic.error is None}
        existing = [name for name in names if name in topics]
        resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in existing]
        configs = admin.describe_configs(resources, request_timeout=timeout_s) if resources else {}
        settings = {
            resource.name: {key: entry.value for key, entry in found.result().items()}
            for resource, found in configs.items()
        }
    except KafkaException as error:
        raise _unavailable(error, origin, timeout_s, "list topics and their settings") from error
    found_topics = {name: _describe(topics[name], settings[name]) for name in existing}
    return TopicsState(len(metadata.brokers), found_topics)


def _describe(topic: Any, config: Mapping[str, str]) -> TopicState:
    copies = [len(partition.replicas) for partition in topic.partitions.values()]
    return TopicState(len(copies), min(copies, default=0), config)


def check_topics(admin: Any, plan: TopicPlan, *, origin: str, timeout_s: float) -> None:
    """Let the brokers check the topics to create, and create none.

    :raises KafkaUnavailableError: if one would be refused; the message has the broker's reason.
    """
    _request(admin, plan, origin=origin, timeout_s=timeout_s, validate_only=True)


def create_topics(
    admin: Any,
    plan: TopicPlan,
    *,
    origin: str,
    timeout_s: float,
    now: Callable[[], float] = clock.monotonic,
    sleep: Callable[[float], None] = clock.sleep,
) -> None:
    """Create the plan's topics and wait until every partition of them has a leader.

    A topic that another run creates at the same time counts as created; the caller compares its shape
    afterwards.

    :raises KafkaUnavailableError: if the brokers refuse one or do not answer in time.
    """
    if not plan.create:
        return
    taken = _request(admin, plan, origin=origin, timeout_s=timeout_s, validate_only=False)
    # A topic of another run may have fewer partitions: that is a difference, and not one still to come.
    partitions = {spec.name: 1 if spec.name in taken else spec.partitions for spec in plan.create}
    deadline = now() + timeout_s
    while waiting := _list_unready(admin, partitions, origin=origin, timeout_s=timeout_s):
        if now() >= deadline:
            raise KafkaUnavailableError(
                f"{origin} created {', '.join(waiting)}, but not every partition has a leader"
                f" after {timeout_s:g} s. Check the brokers' logs, and run it again."
            )
        sleep(_POLL_S)


def _request(
    admin: Any, plan: TopicPlan, *, origin: str, timeout_s: float, validate_only: bool
) -> frozenset[str]:
    """Send one request for all topics of a plan, check each answer, and return those that exist by now."""
    if not plan.create:
        return frozenset()
    topics = [
        NewTopic(spec.name, spec.partitions, spec.replication, config=spec.creation_settings)
        for spec in plan.create
    ]
    answers = admin.create_topics(
        topics, operation_timeout=timeout_s, request_timeout=timeout_s, validate_only=validate_only
    )
    taken = set()
    for name, answer in answers.items():
        try:
            answer.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise _unavailable(error, origin, timeout_s, f"create topic {name}") from error
            taken.add(name)
    return frozenset(taken)


def _list_unready(admin: Any, partitions: Mapping[str, int], *, origin: str, timeout_s: float) -> list[str]:
    """Return the new topics, of so many partitions, that clients cannot use yet."""
    try:
        topics = admin.list_topics(timeout=timeout_s).topics
    except KafkaException as error:
        raise _unavailable(error, origin, timeout_s, "list topics") from error
    return [name for name, count in partitions.items() if not _is_ready(topics.get(name), count)]


def _is_ready(topic: Any, partitions: int) -> bool:
    if topic is None or topic.error is not None or len(topic.partitions) < partitions:
        return False
    return all(partition.leader >= 0 for partition in topic.partitions.values())


def _unavailable(error: KafkaException, origin: str, timeout_s: float, what: str) -> KafkaUnavailableError:
    """Tell brokers that do not answer from brokers that refuse."""
    cause = error.args[0]
    if cause.code() in {KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN}:  # noqa: SLF001 - the client's public names
        return KafkaUnavailableError(
            f"{origin} does not answer within {timeout_s:g} s: {cause.str()}."
            " Check bootstrap.servers, security.protocol and that a broker is up."
        )
    return KafkaUnavailableError(f"{origin} refuses to {what}: {cause.str()}")
