"""
Alerts on what every fleet is watched for, told once: the presets, evaluated every five minutes.

It takes the rules of the Variable ``restrack_rules`` (JSON, or ``file:PATH``), or all presets, and the hosts
that have samples. Alerts go to the log and to the topic ``system_alerts``; any notifier can stand beside
these, such as that of apache-airflow-providers-smtp: ``SmtpNotifier(to="ops@example.org",
subject="{{ alert_title }}", html_content="<pre>{{ alert_text }}</pre>")``.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, BaseNotifier

from airflow_provider_restrack.alert.presets import presets
from airflow_provider_restrack.notifications.kafka_alerts import KafkaAlertNotifier
from airflow_provider_restrack.operators.evaluate_alerts import EvaluateAlertsOperator
from airflow_provider_restrack.operators.provision import ProvisionOperator


class LogNotifier(BaseNotifier):
    """Writes alerts into the task's log."""

    template_fields = ("text",)

    def __init__(self, text: str = "{{ alert_title }}\n{{ alert_text }}") -> None:
        super().__init__()
        self.text = text

    def notify(self, context: Any) -> None:  # noqa: ARG002 - Airflow's signature
        """Log the text."""
        self.log.warning("%s", self.text)


with DAG(
    "restrack_alerts",
    schedule="*/5 * * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 1, "retry_delay": timedelta(minutes=1)},
    params={"rules": presets()},
    tags=["restrack"],
    doc_md=__doc__,
):
    provision = ProvisionOperator(
        task_id="provision", replication="{{ var.value.get('restrack_replication', '3') }}"
    )
    alerts = EvaluateAlertsOperator(
        task_id="alerts",
        rules="{{ var.value.get('restrack_rules', params.rules | tojson) }}",
        notifiers=[LogNotifier(), KafkaAlertNotifier(topic="system_alerts")],
        loader={"topic": "system_metrics", "group_id": "restrack-loader"},
    )
    provision >> alerts
