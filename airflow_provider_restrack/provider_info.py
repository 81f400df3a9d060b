"""What Airflow is told of this provider: the ``apache_airflow_provider`` entry point."""

from __future__ import annotations

from typing import Any

_NAME = "Restrack"
_PACKAGE = "airflow_provider_restrack"
_DOCS = "/docs/airflow-provider-restrack"


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description, in the form of Airflow's ``provider_info.schema.json``.

    It names no connection type: the ordinary ``ssh``, ``kafka`` and ``cassandra`` connections are used.
    """
    return {
        "package-name": "airflow-provider-restrack",
        "name": _NAME,
        "description": (
            "Track CPU, memory, disk and network use of a fleet of servers: over SSH or on Celery workers, "
            "through Kafka into Cassandra, with alerts on thresholds."
        ),
        "integrations": [
            {
                "integration-name": _NAME,
                "external-doc-url": "https://pypi.org/project/airflow-provider-restrack/",
                "how-to-guide": [f"{_DOCS}/{page}.md" for page in _HOW_TO_GUIDES],
                "tags": ["service"],
            }
        ],
        "operators": _modules(
            "operators",
            "remote_metrics",
            "kafka_publish",
            "kafka_to_cassandra",
            "provision",
            "forecast",
            "rollup",
            "evaluate_alerts",
            "silence",
            "report",
        ),
        "sensors": _modules("sensors", "threshold"),
        "hooks": _modules("hooks", "ssh_fleet", "kafka", "cassandra"),
        "triggers": _modules("triggers", "threshold"),
        "extra-links": [f"{_PACKAGE}.operators.report.CapacityReportLink"],
        "notifications": [
            f"{_PACKAGE}.notifications.kafka.KafkaNotifier",
            f"{_PACKAGE}.notifications.kafka_alerts.KafkaAlertNotifier",
        ],
    }


_HOW_TO_GUIDES = (
    "remote_metrics",
    "kafka_publish",
    "kafka_to_cassandra",
    "provision",
    "forecast",
    "rollup",
    "report",
    "history",
    "threshold",
    "evaluate_alerts",
    "alerting",
    "silence",
    "kafka_notifier",
    "connections",
)


def _modules(kind: str, *names: str) -> list[dict[str, Any]]:
    return [{"integration-name": _NAME, "python-modules": [f"{_PACKAGE}.{kind}.{name}" for name in names]}]
