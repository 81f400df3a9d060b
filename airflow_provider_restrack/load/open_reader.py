"""Opens what reads topics: a consumer of a connection's settings, and the reader over it."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from confluent_kafka import Consumer, KafkaException

from airflow_provider_restrack.load.brokers import Brokers, ask_topic_ids
from airflow_provider_restrack.load.client_config import (
    bootstrap_servers,
    build_consumer_config,
    offset_reset,
)
from airflow_provider_restrack.load.consume import Reader
from airflow_provider_restrack.load.errors import ConfigurationError
from airflow_provider_restrack.load.plan import Plan
from airflow_provider_restrack.load.topics import build_admin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_restrack.load.plan import ReadPolicy

log = logging.getLogger(__name__)


class Asker(Protocol):
    """Whose offsets are asked for, and over which connection."""

    @property
    def connection(self) -> str:
        """The id of the Airflow connection, for messages."""

    @property
    def group_id(self) -> str:
        """The consumer group."""


def open_reader(policy: ReadPolicy, config: Mapping[str, Any], *, now: Callable[[], float]) -> Reader:
    """Return a reader of the topics that has looked at their ends; the caller starts and closes it.

    :param config: the connection's settings; its ``auto.offset.reset`` is the policy's ``reset``.
    :raises ConfigurationError: if the connection asks for what loses data, or a topic or partition does not
        exist.
    :raises KafkaUnavailableError: if Kafka does not answer in ``connect_timeout_s``.
    """
    policy = replace(policy, reset=offset_reset(config, policy.connection))
    settings = build_consumer_config(
        config, group_id=policy.group_id, connection=policy.connection,
        joins=policy.partitions is None, follows=policy.follow,
    )  # fmt: skip
    if (poll_ms := settings.get("max.poll.interval.ms")) is not None:
        policy = replace(policy, hand_over_s=poll_ms / 3000)  # a third: a commit and a dead letter may follow
    consumer = open_consumer(settings, policy.connection)
    try:
        brokers = open_brokers(consumer, config, policy, policy.connect_timeout_s)
        plan = Plan(brokers, policy)
        admin = build_admin(config)
        brokers.topic_ids = ask_topic_ids(admin, policy.topics, timeout_s=policy.connect_timeout_s)
        return Reader(consumer, brokers, policy, plan, now=now)
    except BaseException:
        consumer.close()
        raise


def open_brokers(consumer: Any, config: Mapping[str, Any], asker: Asker, timeout_s: float) -> Brokers:
    """Return the questions that a consumer of a connection's settings can put, each within ``timeout_s``."""
    return Brokers(
        consumer,
        servers=bootstrap_servers(config),
        connection=asker.connection,
        group_id=asker.group_id,
        timeout_s=timeout_s,
    )


def open_consumer(settings: dict[str, Any], connection: str) -> Consumer:
    """Return a consumer of settings; the caller closes it.

    :raises ConfigurationError: if the client does not take them.
    """
    try:
        return Consumer(settings, logger=log)
    except (KafkaException, TypeError, ValueError) as error:
        raise ConfigurationError(f"Kafka connection {connection!r} is not valid: {error}") from error
