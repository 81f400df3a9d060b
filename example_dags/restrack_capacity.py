"""
What will be full, and who has too much or too little: once a week, as a page and pictures.

``forecast`` reads the daily rollups that ``restrack_rollup`` keeps, ``report`` writes into a folder by the
date of the run, below the Variable ``restrack_reports`` (default: ``/opt/airflow/reports``). If a web server
serves that folder, give its address in ``restrack_reports_url``: the link of the task leads there. Needs the
extra ``capacity``.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG

from airflow_provider_restrack.operators.forecast import ForecastOperator
from airflow_provider_restrack.operators.provision import ProvisionOperator
from airflow_provider_restrack.operators.report import CapacityReportOperator

DAY = "{{ dag_run.run_after | ds }}"

with DAG(
    "restrack_capacity",
    description="Forecasts and the capacity report, every Monday",
    schedule="0 6 * * 1",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 1, "retry_delay": timedelta(minutes=1)},
    tags=["restrack"],
    doc_md=__doc__,
):
    provision = ProvisionOperator(
        task_id="provision", topics=[], replication="{{ var.value.get('restrack_replication', '3') }}"
    )
    forecast = ForecastOperator(task_id="forecast")
    report = CapacityReportOperator(
        task_id="report",
        path="{{ var.value.get('restrack_reports', '/opt/airflow/reports') }}/" + DAY,
        url_prefix="{% set url = var.value.get('restrack_reports_url', '') %}{% if url %}{{ url }}/"
        + DAY
        + "{% endif %}",
    )
    provision >> forecast >> report
