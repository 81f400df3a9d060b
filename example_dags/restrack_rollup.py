"""
Rollups of the samples in Cassandra, for the years after the samples are gone.

``restrack_rollup_hourly`` rolls up each hour after its end, the hosts of the Variable
``restrack_rollup_hosts`` in chunks, one mapped task each, or all hosts in one task. ``restrack_rollup_daily``
does the last 48 hours again, for samples that came late. Needs the extra ``capacity``.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG, task

from airflow_provider_restrack.operators.provision import ProvisionOperator
from airflow_provider_restrack.operators.rollup import RollupOperator

HOSTS_PER_TASK = 250
COMMON = {
    "start_date": datetime(2026, 1, 1),
    "catchup": False,
    "max_active_runs": 1,
    "default_args": {"retries": 1, "retry_delay": timedelta(minutes=1)},
    "tags": ["restrack"],
    "doc_md": __doc__,
}


@task
def chunk_hosts(hosts: str) -> list[list[str] | None]:
    """Cut the JSON list of hosts into lists of at most ``HOSTS_PER_TASK``; without any, one task for all."""
    import json

    fleet = json.loads(hosts)
    chunks = [fleet[start : start + HOSTS_PER_TASK] for start in range(0, len(fleet), HOSTS_PER_TASK)]
    return chunks or [None]


with DAG("restrack_rollup_hourly", schedule="@hourly", **COMMON):
    provision = ProvisionOperator(
        task_id="provision", topics=[], replication="{{ var.value.get('restrack_replication', '3') }}"
    )
    rollup = RollupOperator.partial(task_id="rollup").expand(
        hosts=chunk_hosts("{{ var.value.get('restrack_rollup_hosts', '[]') }}")
    )
    provision >> rollup

with DAG("restrack_rollup_daily", schedule="15 0 * * *", **COMMON):
    RollupOperator(task_id="reconcile", lookback="48h")
