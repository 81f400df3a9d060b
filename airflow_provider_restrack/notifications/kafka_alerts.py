"""Alerts as Kafka messages, one for each alert, for whoever handles them by program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseNotifier

from airflow_provider_restrack.notify import notify_in_thread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context


class KafkaAlertNotifier(BaseNotifier):
    """Send what an EvaluateAlertsOperator tells to a topic: one JSON message for each alert.

    A message has the fields of an alert as they are given to every notifier (``alerts``): ``id``,
    ``alert_id``, ``instance``, ``kind`` (firing, escalated, deescalated, repeat, flapping, resolved), and so
    on. Its ``id`` is also the header ``message_id``. It stays the same if a task is killed after sending and
    its retry sends the message again, so a consumer that drops ids it knows handles each once.

    Messages are sent with ``acks=all``. If one is not acknowledged, the notifier fails, and the operator's
    next run sends all of the call again.

    :param topic: an existing topic. (templated)
    :param key_field: field of the alert whose text is the Kafka key: ``host``, so that the messages of a host
        stay in order, or as ``alert_id`` or ``instance``.
    :param kafka_config_id: id of a ``kafka`` connection. (templated)
    :param headers: headers of each message. (templated)
    :param timeout: seconds for the whole call.
    """

    template_fields: Sequence[str] = ("topic", "kafka_config_id", "headers")

    def __init__(
        self,
        *,
        topic: str,
        key_field: str = "host",
        kafka_config_id: str = "kafka_default",
        headers: Mapping[str, str] | None = None,
        timeout: float = 30,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.topic = topic
        self.key_field = key_field
        self.kafka_config_id = kafka_config_id
        self.headers = headers
        self.timeout = timeout

    def notify(self, context: Context) -> None:
        """Send the alerts of the context and wait until Kafka has acknowledged all.

        :raises ValueError: if the context has none: only EvaluateAlertsOperator gives them.
        """
        given: Mapping[str, Any] = context
        alerts = given.get("alerts")
        if alerts is None:
            raise ValueError(
                "the context has no alerts: give KafkaAlertNotifier to the notifiers of an"
                " EvaluateAlertsOperator; for callbacks of tasks there is KafkaNotifier"
            )
        self._send(alerts)
        self.log.info("Sent %d alerts to topic %s", len(alerts), self.topic)

    async def async_notify(self, context: Context) -> None:
        """As ``notify``, without blocking the event loop."""
        await notify_in_thread(self, context)

    def _send(self, alerts: Sequence[Mapping[str, Any]]) -> None:
        """Publish the alerts. A seam for tests."""
        from airflow_provider_restrack.hooks.kafka import KafkaClientHook
        from airflow_provider_restrack.load.publish import PublishPolicy, publish

        policy = PublishPolicy(
            topic=self.topic,
            key_field=self.key_field,
            headers=self.headers,
            timeout_s=self.timeout,
            connection=self.kafka_config_id,
            id_field="id",
        )
        publish(alerts, policy, KafkaClientHook(self.kafka_config_id).config())
