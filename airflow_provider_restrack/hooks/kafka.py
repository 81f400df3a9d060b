"""Kafka from Airflow's ordinary ``kafka`` connection, as settings for clients that the cores build
themselves.

The provider's hook resolves callbacks and cloud tokens; this one keeps that and returns the settings, so that
producer, consumer and admin client each get their own.
"""

from __future__ import annotations

from typing import Any, cast

from airflow.providers.apache.kafka.hooks.base import KafkaBaseHook

TEST_TIMEOUT_S = 10


class KafkaClientHook(KafkaBaseHook):
    """Give the settings of a ``kafka`` connection, whose extra holds librdkafka's.

    Importing this module imports the provider's hook, and that confluent-kafka: import it where a task runs.

    :param kafka_config_id: id of the connection.
    """

    hook_name = "Kafka (Restrack)"

    def __init__(self, kafka_config_id: str = KafkaBaseHook.default_conn_name) -> None:
        super().__init__(kafka_config_id=kafka_config_id)  # type: ignore[no-untyped-call] # the provider's own

    def _get_client(self, config: dict[str, Any]) -> dict[str, Any]:
        return config

    def config(self) -> dict[str, Any]:
        """Return the resolved settings, in a dict that the caller may change.

        :raises ValueError: if the connection names no ``bootstrap.servers``, or a callback that is not
            allowed.
        """
        try:
            return dict(cast("dict[str, Any]", self.get_conn))
        except ValueError as error:
            raise ValueError(f"Kafka connection {self.kafka_config_id!r}: {error}") from error

    def test_connection(self) -> tuple[bool, str]:
        """List the topics, in bounded time; return the verdict and the words for a person."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        from airflow_provider_restrack.load.client_config import librdkafka_settings

        try:
            config = self.config()
            client = AdminClient(librdkafka_settings(config), logger=self.log)
        except KafkaException as error:
            return False, f"Kafka connection {self.kafka_config_id!r} is not valid: {error.args[0].str()}"
        except (ValueError, TypeError) as error:
            return False, str(error)
        servers = config["bootstrap.servers"]
        try:
            topics = client.list_topics(timeout=TEST_TIMEOUT_S).topics
        except KafkaException as error:
            return False, f"Kafka {servers} did not answer in {TEST_TIMEOUT_S} s: {error.args[0].str()}"
        return True, f"Kafka {servers} has {len(topics)} topics"
