"""
Celery workers that collect themselves: a task per queue, each taken by the worker that serves it.

Start every worker with a queue of its own name beside the common one,
``airflow celery worker --queues default,worker-1``, and name those queues below. No SSH is needed: without
``hosts`` the machine that runs the task is the one that is sampled.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG

from airflow_provider_restrack.operators.kafka_publish import KafkaPublishOperator
from airflow_provider_restrack.operators.remote_metrics import RemoteMetricsOperator

QUEUES = ["worker-1", "worker-2", "worker-3"]

with DAG(
    "restrack_celery_workers",
    description="Each Celery worker samples itself",
    schedule="*/5 * * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 1, "retry_delay": timedelta(minutes=1)},
    tags=["restrack"],
    doc_md=__doc__,
):
    for queue in QUEUES:  # Airflow refuses `.expand(queue=…)`: a plain loop makes the tasks
        collect = RemoteMetricsOperator(
            task_id=f"collect_{queue}",
            queue=queue,
            labels={"queue": queue},
            execution_timeout=timedelta(minutes=2),  # a worker that is gone must not hold the run
        )
        KafkaPublishOperator(task_id=f"publish_{queue}", topic="system_metrics", records=collect.output)
