"""kill -9 of the task, of Cassandra and of Kafka, at random moments of a load."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.conftest import FULL

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.cassandra import CassandraServer
    from services.kafka import KafkaServer
    from tests.faults.rig import Rig

_KILLS = 6

pytestmark = [pytest.mark.kafka, pytest.mark.cassandra, pytest.mark.slow]


@pytest.mark.parametrize("series", range(10 if FULL else 1))  # each with tables of its own, which stay small
def test_a_task_killed_at_random_moments_loses_nothing(rig: Rig, series: int) -> None:
    rig.send(1500)
    began = time.monotonic()
    rig.run_to_end()
    whole = time.monotonic() - began

    kills = 0
    while kills < _KILLS:
        # A third at any moment of the process, the others while it stores rows.
        if rig.random.random() < 1 / 3:
            rig.send(1500)
            task = rig.start()
            task.runs_for(rig.random.uniform(0, whole))
        else:
            task = rig.start_busy(1500)
        kills += task.kill()
    rig.check_commits()

    rig.run_to_end()
    rig.check()


def test_a_cassandra_killed_in_mid_load_loses_nothing(
    rig: Rig, cassandra: CassandraServer, times: Callable[[int, int], int]
) -> None:
    for _ in range(times(1, 5)):
        task = rig.start_busy(4000)
        cassandra.kill()
        if times(0, 1):
            assert task.finish().code != 0, "a load ends well without Cassandra"
        cassandra.start()
        task.finish()
        rig.check_commits()

    rig.run_to_end()
    rig.check()


def test_a_kafka_killed_in_mid_load_loses_nothing(
    rig: Rig, kafka: KafkaServer, times: Callable[[int, int], int]
) -> None:
    for _ in range(times(1, 5)):
        task = rig.start_busy(4000)
        kafka.kill()
        if times(0, 1):
            assert task.finish(200).code != 0, "a load ends well without Kafka"
        kafka.start()
        task.finish()
        rig.check_commits()

    rig.run_to_end()
    rig.check()
