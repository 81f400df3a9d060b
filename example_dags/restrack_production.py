"""
The pipeline split as it grows: each part has a schedule of its own, and hosts are collected in mapped chunks.

``restrack_provision`` runs once. ``restrack_collect`` takes the hosts of the Variable ``restrack_hosts`` in
chunks, one mapped task each, and updates an Asset when the samples are in Kafka. ``restrack_load`` runs when
that Asset is updated. ``restrack_alert`` waits in the triggerer, and takes no worker slot while it waits.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG, Asset, task

from airflow_provider_restrack.notifications.kafka import KafkaNotifier
from airflow_provider_restrack.operators.kafka_publish import KafkaPublishOperator
from airflow_provider_restrack.operators.kafka_to_cassandra import KafkaToCassandraOperator
from airflow_provider_restrack.operators.provision import ProvisionOperator
from airflow_provider_restrack.operators.remote_metrics import RemoteMetricsOperator
from airflow_provider_restrack.sensors.threshold import ThresholdSensor

SAMPLES = Asset("restrack_samples")
HOSTS_PER_TASK = 250
RULES = [
    {"name": "cpu_high", "metric": "cpu_usage", "op": ">", "threshold": 90, "for": "10m"},
    {"name": "disk_nearly_full", "metric": "filesystem_usage", "op": ">", "threshold": 90, "for": "10m"},
    {"name": "host_down", "metric": "up", "op": "==", "threshold": False, "for": "10m"},
]
COMMON = {
    "start_date": datetime(2026, 1, 1),
    "catchup": False,
    "max_active_runs": 1,
    "default_args": {
        "retries": 1,
        "retry_delay": timedelta(minutes=1),
        "on_failure_callback": KafkaNotifier(topic="system_alerts"),
    },
    "tags": ["restrack"],
    "doc_md": __doc__,
}


@task
def chunk_hosts(hosts: str) -> list[list[object]]:
    """Cut the JSON list of hosts into lists of at most ``HOSTS_PER_TASK``."""
    import json

    fleet = json.loads(hosts)
    return [fleet[start : start + HOSTS_PER_TASK] for start in range(0, len(fleet), HOSTS_PER_TASK)]


with DAG("restrack_provision", schedule="@once", **COMMON):
    ProvisionOperator(task_id="provision", replication="{{ var.value.get('restrack_replication', '3') }}")

with DAG("restrack_collect", schedule="*/5 * * * *", **COMMON):
    collect = RemoteMetricsOperator.partial(task_id="collect").expand(
        hosts=chunk_hosts("{{ var.value.restrack_hosts }}")
    )
    KafkaPublishOperator(task_id="publish", topic="system_metrics", records=collect.output, outlets=[SAMPLES])

with DAG("restrack_load", schedule=[SAMPLES], **COMMON):
    KafkaToCassandraOperator(
        task_id="load",
        topics=["system_metrics"],
        tables=["metrics.system_metrics", "metrics.latest_metrics"],
        ttl=14 * 24 * 3600,
        dead_letter_topic="system_metrics_dead_letters",
    )

with DAG("restrack_alert", schedule="*/10 * * * *", params={"rules": RULES}, **COMMON):
    threshold = ThresholdSensor(
        task_id="threshold",
        rules="{{ var.value.get('restrack_rules', params.rules | tojson) }}",
        deferrable=True,
        poke_interval=60,
        timeout=timedelta(minutes=9),
        soft_fail=True,
    )
    KafkaPublishOperator(task_id="notify", topic="system_alerts", records=threshold.output)
