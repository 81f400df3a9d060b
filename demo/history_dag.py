"""
Two months of generated history through the real pipeline: Kafka, KafkaToCassandraOperator, RollupOperator.

Samples live 14 days. These are loaded without a ``ttl`` of the loader's, so that they live 14 days from now
on, not from their own time: long enough to be rolled up, which ``raw_ttl=0`` allows. Elsewhere rollups are
made while samples are fresh.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import DAG, task

from airflow_provider_restrack.operators.kafka_to_cassandra import KafkaToCassandraOperator
from airflow_provider_restrack.operators.provision import ProvisionOperator
from airflow_provider_restrack.operators.rollup import RollupOperator
from demo.history import DAYS, FLEET

TOPIC = "demo_history"


@task
def generate() -> int:
    """Publish the history of the generated fleet up to now, and return how many samples that are."""
    from airflow_provider_restrack import clock
    from airflow_provider_restrack.hooks.kafka import KafkaClientHook
    from airflow_provider_restrack.load.publish import PublishPolicy, publish
    from demo.history import make_samples

    policy = PublishPolicy(topic=TOPIC, timeout_s=180)
    return publish(list(make_samples(clock.utc_now())), policy, KafkaClientHook("kafka_default").config())


with DAG(
    "restrack_demo_history",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    tags=["restrack"],
    doc_md=__doc__,
) as dag:
    provision = ProvisionOperator(
        task_id="provision", topics={TOPIC: {"partitions": 4, "retention": "1d"}}, replication=1
    )
    load = KafkaToCassandraOperator(
        task_id="load",
        topics=[TOPIC],
        tables=["metrics.system_metrics", "metrics.latest_metrics"],
        group_id="restrack-demo-history",
    )
    rollup = RollupOperator(
        task_id="rollup",
        hosts=[host.name for host in FLEET],
        tiers=["1h", "1d"],
        lookback=f"{DAYS + 1}d",
        raw_ttl=0,
    )
    provision >> generate() >> load >> rollup
