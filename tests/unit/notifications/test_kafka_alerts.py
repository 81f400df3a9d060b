"""What is sent of the alerts of a context; real delivery is an integration test."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from airflow_provider_restrack.notifications.kafka_alerts import KafkaAlertNotifier

ALERTS = [{"id": "1", "host": "a"}, {"id": "2", "host": "b"}]


class Recorder(KafkaAlertNotifier):
    """Keeps what would be sent."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sent: list[Any] = []

    def _send(self, alerts: Any) -> None:
        self.sent.append(alerts)


def test_the_alerts_of_the_context_are_sent() -> None:
    notifier = Recorder(topic="alerts")
    notifier.notify({"alerts": ALERTS})  # type: ignore[typeddict-unknown-key]
    assert notifier.sent == [ALERTS]


def test_a_context_without_alerts_names_the_operator_and_the_other_notifier() -> None:
    with pytest.raises(ValueError, match=r"EvaluateAlertsOperator.*KafkaNotifier"):
        Recorder(topic="alerts").notify({})


def test_topic_connection_and_headers_are_templates() -> None:
    notifier = Recorder(
        topic="{{ team }}-alerts", kafka_config_id="{{ team }}", headers={"team": "{{ team }}"}
    )
    notifier.render_template_fields({"team": "ops"})  # type: ignore[typeddict-unknown-key]
    assert (notifier.topic, notifier.kafka_config_id, notifier.headers) == (
        "ops-alerts",
        "ops",
        {"team": "ops"},
    )


def test_it_can_be_awaited() -> None:
    notifier = Recorder(topic="alerts")
    asyncio.run(notifier.async_notify({"alerts": ALERTS}))  # type: ignore[typeddict-unknown-key]
    assert notifier.sent == [ALERTS]
