"""The evaluator that is killed: EvaluateAlertsOperator again and again, in a process that never ends.

Its argument is a JSON object.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time

from airflow_provider_restrack.notifications.kafka_alerts import KafkaAlertNotifier
from airflow_provider_restrack.operators.evaluate_alerts import EvaluateAlertsOperator

log = logging.getLogger(__name__)


def main() -> None:
    """Evaluate for ever."""
    os.dup2(2, 1)  # nobody reads the pipe while it runs: Airflow's lines would fill it
    arguments = json.loads(sys.argv[1])
    logging.basicConfig(level="WARNING", format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("cassandra").setLevel("CRITICAL")
    operator = EvaluateAlertsOperator(
        task_id="alerts",
        rules=arguments["rules"],
        scope="night",
        keyspace=arguments["keyspace"],
        notifiers=[KafkaAlertNotifier(topic=arguments["topic"])],
        evaluation_delay="1s",
        on_pipeline_error="ignore",
        lease_wait="5s",
    )
    while True:
        try:
            operator.execute({})
        except Exception as error:
            log.warning("failed: %s", error)
        time.sleep(0.3)


if __name__ == "__main__":
    main()
