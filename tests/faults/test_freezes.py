"""SIGSTOP of the task, of Cassandra and of Kafka for longer than the timeouts, and SIGCONT."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.conftest import SESSION_MS

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.cassandra import CassandraServer
    from services.kafka import KafkaServer
    from tests.faults.rig import Rig

pytestmark = [pytest.mark.kafka, pytest.mark.cassandra, pytest.mark.slow]


def test_a_task_that_wakes_after_another_has_done_its_work_does_no_harm(
    rig: Rig, times: Callable[[int, int], int]
) -> None:
    for _ in range(times(1, 5)):
        frozen = rig.start_busy(4000)
        frozen.suspend()
        # The next runs take its partitions over, at the latest when its session has expired, and newer
        # samples of the same hosts come: what the frozen one still holds is old by then.
        rig.send(1000)
        rig.run_to_end()
        rig.check()

        frozen.resume()
        frozen.finish()
        rig.check_commits()

    rig.run_to_end()
    rig.check()


def test_a_task_frozen_for_longer_than_its_session_goes_on_or_is_repeated(
    rig: Rig, times: Callable[[int, int], int]
) -> None:
    task = rig.start_busy(4000)
    for _ in range(times(1, 4)):
        if task.runs_for(rig.random.uniform(0.1, 0.6)):
            task.suspend()
            task.runs_for(SESSION_MS / 1000 + times(1, 12))
            task.resume()
    task.finish()
    rig.check_commits()

    rig.run_to_end()
    rig.check()


def test_a_cassandra_frozen_for_longer_than_the_timeouts_loses_nothing(
    rig: Rig, cassandra: CassandraServer, times: Callable[[int, int], int]
) -> None:
    rig.request_timeout_s = 2.0
    task = rig.start_busy(4000)
    cassandra.suspend()
    task.runs_for(times(6, 60))
    cassandra.resume()
    task.finish()
    rig.check_commits()

    rig.run_to_end()
    rig.check()


def test_a_kafka_frozen_for_longer_than_the_timeouts_loses_nothing(
    rig: Rig, kafka: KafkaServer, times: Callable[[int, int], int]
) -> None:
    task = rig.start_busy(4000)
    kafka.suspend()
    task.runs_for(times(8, 90))
    kafka.resume()
    task.finish()
    rig.check_commits()

    rig.run_to_end()
    rig.check()
