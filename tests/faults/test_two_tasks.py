"""Two loaders at once on one group and topic, as after a task that Airflow wrongly believes dead."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.rig import Rig

pytestmark = [pytest.mark.kafka, pytest.mark.cassandra, pytest.mark.slow]


def test_two_tasks_at_once_lose_nothing(rig: Rig) -> None:
    rig.send(4000)
    first, second = rig.start(), rig.start()
    for task in (first, second):
        outcome = task.finish()
        assert outcome.code == 0, f"{rig}: {outcome.log}"
    rig.check_commits()

    rig.run_to_end()
    rig.check()


def test_tasks_that_come_and_go_in_mid_batch_lose_nothing(rig: Rig, times: Callable[[int, int], int]) -> None:
    for _ in range(times(1, 10)):
        first = rig.start_busy(3000)
        second = rig.start()  # the group hands partitions over while both store rows
        second.runs_for(rig.random.uniform(1.0, 4.0))
        second.kill()
        first.finish()
        rig.check_commits()

    rig.run_to_end()
    rig.check()
