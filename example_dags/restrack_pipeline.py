"""
The whole pipeline in one DAG: collect every 5 minutes, buffer in Kafka, keep in Cassandra, watch thresholds.

It uses the connections ``ssh_default``, ``kafka_default`` and ``cassandra_default``; Variables adapt it:

- ``restrack_hosts``: JSON list of the hosts to collect over SSH, such as ``["web-1", "ops@10.0.0.7:2222"]``
- ``restrack_replication``: copies that Kafka and Cassandra keep (3; 1 on a single node)
- ``restrack_rules``: JSON list of threshold rules, in place of those below
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG

from airflow_provider_restrack.notifications.kafka import KafkaNotifier
from airflow_provider_restrack.operators.kafka_publish import KafkaPublishOperator
from airflow_provider_restrack.operators.kafka_to_cassandra import KafkaToCassandraOperator
from airflow_provider_restrack.operators.provision import ProvisionOperator
from airflow_provider_restrack.operators.remote_metrics import RemoteMetricsOperator
from airflow_provider_restrack.sensors.threshold import ThresholdSensor

RULES = [
    {"name": "cpu_high", "metric": "cpu_usage", "op": ">", "threshold": 90, "for": "10m"},
    {"name": "memory_high", "metric": "memory_usage", "op": ">", "threshold": 95, "for": "10m"},
    {"name": "disk_nearly_full", "metric": "filesystem_usage", "op": ">", "threshold": 90, "for": "10m"},
    {"name": "host_down", "metric": "up", "op": "==", "threshold": False, "for": "10m"},
]

with DAG(
    "restrack_pipeline",
    description="Collect, publish, load and watch, every 5 minutes",
    schedule="*/5 * * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={
        "retries": 1,
        "retry_delay": timedelta(minutes=1),
        "on_failure_callback": KafkaNotifier(topic="system_alerts"),
    },
    params={"rules": RULES},
    tags=["restrack"],
    doc_md=__doc__,
):
    replication = "{{ var.value.get('restrack_replication', '3') }}"
    provision = ProvisionOperator(task_id="provision", replication=replication)

    collect_worker = RemoteMetricsOperator(task_id="collect_worker")
    collect_hosts = RemoteMetricsOperator(task_id="collect_hosts", hosts="{{ var.value.restrack_hosts }}")

    publish = KafkaPublishOperator(
        task_id="publish", topic="system_metrics", records=[collect_worker.output, collect_hosts.output]
    )
    load = KafkaToCassandraOperator(
        task_id="load",
        topics=["system_metrics"],
        tables=["metrics.system_metrics", "metrics.latest_metrics"],
        ttl=14 * 24 * 3600,
        dead_letter_topic="system_metrics_dead_letters",
    )
    # Looks once: a run in which nothing is breached skips what follows.
    threshold = ThresholdSensor(
        task_id="threshold",
        rules="{{ var.value.get('restrack_rules', params.rules | tojson) }}",
        timeout=0,
        soft_fail=True,
    )
    notify = KafkaPublishOperator(task_id="notify", topic="system_alerts", records=threshold.output)

    provision >> [collect_worker, collect_hosts] >> publish >> load >> threshold >> notify
