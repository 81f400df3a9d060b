"""What parsing a DAG imports: of each operator, in a fork of one process that has imported Airflow only."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = [
    "numpy", "cassandra", "confluent_kafka", "msgspec", "matplotlib", "pyarrow", "paramiko",
    "airflow.providers.apache.kafka",
]  # fmt: skip

# What a DAG file makes of each module.
MADE = {
    "operators.evaluate_alerts": "EvaluateAlertsOperator(task_id='t', rules=presets())",
    "operators.forecast": "ForecastOperator(task_id='t', metrics=['memory_usage'])",
    "operators.kafka_publish": "KafkaPublishOperator(task_id='t', topic='t', records=[])",
    "operators.kafka_to_cassandra": "KafkaToCassandraOperator(task_id='t', topics=['t'], tables=['m.t'])",
    "operators.provision": "ProvisionOperator(task_id='t')",
    "operators.remote_metrics": "RemoteMetricsOperator(task_id='t', hosts=['web-1'])",
    "operators.report": "CapacityReportOperator(task_id='t', path='/tmp', metrics=['memory_usage'])",
    "operators.rollup": "RollupOperator(task_id='t')",
    "operators.silence": "SilenceOperator(task_id='t', duration='1h')",
    "sensors.threshold": "ThresholdSensor(task_id='t', rules=presets())",
    "notifications.kafka": "KafkaNotifier(topic='t')",
    "notifications.kafka_alerts": "KafkaAlertNotifier(topic='t')",
}

RUN = """
import json, os, sys
import airflow.providers.common.compat.sdk as sdk
sdk.BaseOperator, sdk.BaseSensorOperator
airflows_own = set(sys.modules)
made, heavy = json.loads(sys.argv[1])

def list_heavy(code):
    exec(code)
    return sorted(name for name in heavy if name in set(sys.modules) - airflows_own)

found = {}
for module, code in made.items():
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            os.write(write, json.dumps(list_heavy(code)).encode())
        except BaseException as error:
            os.write(write, json.dumps(repr(error)).encode())
        os._exit(0)
    os.close(write)
    with open(read) as pipe:
        found[module] = json.loads(pipe.read() or '"nothing"')
    os.wait()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def imported() -> dict[str, list[str] | str]:
    """Return the heavy modules that a DAG file with this operator imports beyond Airflow's own, by module."""
    package = "airflow_provider_restrack"
    made = {
        module: f"from {package}.alert.presets import presets\n"
        f"from {package}.{module} import {call.partition('(')[0]}\n"
        f"{call}"
        for module, call in MADE.items()
    }
    command = [sys.executable, "-c", RUN, json.dumps([made, HEAVY])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("module", MADE)
def test_parsing_a_dag_imports_nothing_heavy(imported: dict[str, list[str] | str], module: str) -> None:
    assert imported[module] == []
