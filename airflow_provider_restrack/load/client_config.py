"""Turns a connection's settings into those of a producer or consumer, and refuses the ones that lose data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.load.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_restrack.load.positions import Reset

# Settings of one kind of client are noise to the other: librdkafka warns about each on every start.
_CONSUMER_ONLY = (
    "group.id", "group.instance.id", "group.protocol", "auto.offset.reset", "enable.auto.commit", "on_commit",
    "auto.commit.interval.ms", "enable.auto.offset.store", "enable.partition.eof", "isolation.level",
    "session.timeout.ms", "heartbeat.interval.ms", "max.poll.interval.ms", "partition.assignment.strategy",
    "fetch.min.bytes", "fetch.max.bytes", "fetch.wait.max.ms", "max.partition.fetch.bytes",
    "queued.min.messages", "queued.max.messages.kbytes", "check.crcs",
)  # fmt: skip
_PRODUCER_ONLY = (
    "acks", "request.required.acks", "enable.idempotence", "linger.ms", "queue.buffering.max.ms",
    "compression.type", "compression.codec", "batch.size", "batch.num.messages", "message.timeout.ms",
    "delivery.timeout.ms", "queue.buffering.max.messages", "queue.buffering.max.kbytes", "transactional.id",
)  # fmt: skip
# A connection serves many tasks, which can share no member's id; the reader needs the protocol that it knows.
_NEVER_TAKEN = ("group.instance.id", "group.protocol", "group.remote.assignor", "on_commit")
# With partitions assigned by hand, what only members of a group have would be refused or warned about.
_MEMBERS_ONLY = ("heartbeat.interval.ms", "max.poll.interval.ms", "partition.assignment.strategy")
# A task that is killed leaves its partitions to its retry after this, not after librdkafka's 45 s; and others
# learn at the next heartbeat that a task has come or gone.
_SESSION_MS, _HEARTBEAT_MS = 15_000, 1_000
_POLL_INTERVAL_MS = 300_000  # librdkafka's default
_FOLLOW_METADATA_MS = 30_000  # new partitions are found so late; librdkafka's default is 5 minutes
_RESETS: Mapping[str, Reset] = {
    **dict.fromkeys(("earliest", "smallest", "beginning"), "earliest"),
    **dict.fromkeys(("latest", "largest", "end"), "latest"),
    **dict.fromkeys(("error", "none"), "error"),
}
_REGISTRY_PREFIX = "schema.registry."
_PREFETCH_KB = 16384  # librdkafka's default of 64 MB is most of what a small worker has
# A fetch that finds nothing holds the connection so long, and questions after offsets wait behind it.
_FETCH_WAIT_MS = 100
_MAX_DEAD_LETTER_BYTES = 100_000_000
# It must hold the largest dead letter. librdkafka's default of 1 GB, and as much again for the records that
# wait for their reports, is a worker's end when every record is bad and the brokers are slow.
_DEAD_LETTER_QUEUE_KB = 131_072
# A commit that finds no coordinator blocks for a session's length, and no signal is handled meanwhile: with
# librdkafka's 45 s a task's timeout came as much later. There is no session to keep: members have those.
COMMIT_TRY_MS = 6_000


def bootstrap_servers(config: Mapping[str, Any]) -> str:
    """Return the brokers that the settings name, for messages."""
    return str(
        config.get("bootstrap.servers") or config.get("metadata.broker.list") or "no bootstrap.servers"
    )


def librdkafka_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a connection's settings without those of the schema registry, which librdkafka refuses."""
    return {name: value for name, value in config.items() if not name.startswith(_REGISTRY_PREFIX)}


def build_producer_config(config: Mapping[str, Any], *, connection: str, timeout_s: float) -> dict[str, Any]:
    """Return the settings of a producer that waits for all replicas and never doubles or reorders a record.

    :param config: the connection's own settings; they win where they lose nothing.
    :param connection: id of the connection, for messages.
    :param timeout_s: seconds after which an undelivered record counts as failed.
    :raises ConfigurationError: if the connection asks for fewer acknowledgements, no idempotence or
        transactions.
    """
    _refuse_nested(config, connection)
    _require(config, ("acks", "request.required.acks"), ("all", "-1"), connection)
    _require(config, ("enable.idempotence",), ("true", "t", "1"), connection)
    if "transactional.id" in config:
        raise ConfigurationError(
            f"Kafka connection {connection!r} sets transactional.id, and records of an uncommitted"
            " transaction are never read: remove it from the connection's extra"
        )
    settings = {"linger.ms": 20, "compression.type": "lz4"} | librdkafka_settings(config)
    for name in (*_CONSUMER_ONLY, "request.required.acks", "delivery.timeout.ms"):
        settings.pop(name, None)
    return settings | {
        "acks": "all",
        "enable.idempotence": True,
        "message.timeout.ms": max(1, int(timeout_s * 1000)),
    }


def build_dead_letter_config(
    config: Mapping[str, Any], *, connection: str, timeout_s: float
) -> dict[str, Any]:
    """Return the settings of the dead letters' producer: it must take whatever the consumer could read."""
    settings = build_producer_config(config, connection=connection, timeout_s=timeout_s)
    return settings | {
        "message.max.bytes": _MAX_DEAD_LETTER_BYTES,
        "queue.buffering.max.kbytes": _DEAD_LETTER_QUEUE_KB,
    }


def build_consumer_config(
    config: Mapping[str, Any], *, group_id: str, connection: str, joins: bool = False, follows: bool = False
) -> dict[str, Any]:
    """Return the settings of a consumer that commits only what it is told to.

    A connection's ``group.id`` gives way to the operator's. Its ``auto.offset.reset`` is kept from the
    client: an offset that the topic no longer has is found and counted by the reader, which then does what
    ``offset_reset`` says.

    :param joins: whether it joins the group, and not only commits to it.
    :param follows: whether it reads on past the end, and so has to find new partitions.
    :raises ConfigurationError: if the connection asks for automatic commits, which lose records that are read
        but not stored.
    """
    _refuse_nested(config, connection)
    if _text(config.get("enable.auto.commit", "false")) in ("true", "t", "1"):
        raise ConfigurationError(
            f"Kafka connection {connection!r} sets enable.auto.commit=true, which commits records before they"
            " are stored: remove it from the connection's extra or set it to false"
        )
    unwanted = {*_PRODUCER_ONLY, *_NEVER_TAKEN, *(() if joins else _MEMBERS_ONLY)}
    settings = {"queued.max.messages.kbytes": _PREFETCH_KB, "fetch.wait.max.ms": _FETCH_WAIT_MS}
    if follows:
        settings["topic.metadata.refresh.interval.ms"] = _FOLLOW_METADATA_MS
    settings |= {name: value for name, value in librdkafka_settings(config).items() if name not in unwanted}
    return settings | {
        "group.id": group_id,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
        **(_member_settings(config, connection) if joins else {"session.timeout.ms": COMMIT_TRY_MS}),
    }


def offset_reset(config: Mapping[str, Any], connection: str) -> Reset:
    """Return what a connection's ``auto.offset.reset`` says, by whichever of its names; else ``earliest``.

    :raises ConfigurationError: if librdkafka knows no such value.
    """
    value = config.get("auto.offset.reset", "earliest")
    try:
        return _RESETS[_text(value)]
    except KeyError:
        raise ConfigurationError(
            f"Kafka connection {connection!r} sets auto.offset.reset={value!r}: it must be one of"
            f" {sorted(_RESETS)}"
        ) from None


def _member_settings(config: Mapping[str, Any], connection: str) -> dict[str, Any]:
    """Return a member's timeouts, which the connection may set, and how the group shares its partitions.

    Cooperative: a task that comes or goes takes nothing from the others but what it is to read itself.
    """
    poll = _milliseconds(config, "max.poll.interval.ms", _POLL_INTERVAL_MS, connection)
    session = _milliseconds(config, "session.timeout.ms", min(_SESSION_MS, poll), connection)
    beat = _milliseconds(config, "heartbeat.interval.ms", min(_HEARTBEAT_MS, session // 3), connection)
    return {
        "max.poll.interval.ms": poll,
        "session.timeout.ms": session,
        "heartbeat.interval.ms": beat,
        "partition.assignment.strategy": "cooperative-sticky",
    }


def _milliseconds(config: Mapping[str, Any], name: str, default: int, connection: str) -> int:
    value = config.get(name, default)
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"Kafka connection {connection!r} sets {name}={value!r}: it must be a number of milliseconds"
        ) from None


def _refuse_nested(config: Mapping[str, Any], connection: str) -> None:
    """Refuse a second set of settings: they win over ours, and ``auto.offset.reset`` there skips records."""
    if "default.topic.config" in config:
        raise ConfigurationError(
            f"Kafka connection {connection!r} sets default.topic.config, whose settings go past all checks:"
            " move them one level up in the connection's extra"
        )


def _require(
    config: Mapping[str, Any], names: tuple[str, ...], allowed: tuple[str, ...], connection: str
) -> None:
    for name in names:
        if name in config and _text(config[name]) not in allowed:
            raise ConfigurationError(
                f"Kafka connection {connection!r} sets {name}={config[name]!r}, which can lose or double"
                f" records: remove it from the connection's extra or set it to {allowed[0]}"
            )


def _text(value: object) -> str:
    return str(value).strip().lower()
