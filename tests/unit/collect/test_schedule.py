"""When jobs are due, as timelines: no thread, no sleep."""

from __future__ import annotations

import pytest

from airflow_provider_restrack.collect.schedule import (
    Schedule,
    SchedulePolicy,
    exceeds_failed_fraction,
    next_slot,
)


def plan(
    hosts: str, *, samples: int = 1, interval: float = 10, concurrency: int = 32, timeout: float = 30
) -> Schedule:
    return Schedule(hosts, SchedulePolicy(samples, interval, concurrency, timeout))


def test_all_hosts_start_at_once_up_to_the_concurrency() -> None:
    schedule = plan("abc", concurrency=2)

    first = schedule.start_due(100)

    assert [(job.host, job.deadline, job.last) for job in first] == [("a", 130, True), ("b", 130, True)]
    assert schedule.start_due(101) == []
    assert schedule.finish(first[0], 101)
    assert [job.host for job in schedule.start_due(102)] == ["c"]


def test_a_deadline_counts_from_the_start_and_not_from_the_queue() -> None:
    schedule = plan("ab", concurrency=1)
    (job,) = schedule.start_due(0)
    schedule.finish(job, 25)

    assert [job.deadline for job in schedule.start_due(25)] == [55]


def test_samples_of_a_host_are_an_interval_apart() -> None:
    schedule = plan("a", samples=3)
    starts = []
    for now in range(40):
        for job in schedule.start_due(now):
            starts.append((now, job.slot, job.last))
            schedule.finish(job, now + 0.9)

    assert starts == [(0, 0, False), (10, 1, False), (20, 2, True)]
    assert schedule.done
    assert schedule.skipped == 0


def test_a_host_that_waits_for_its_turn_has_its_own_slots() -> None:
    schedule = plan("ab", samples=2, concurrency=1)
    (job,) = schedule.start_due(0)
    schedule.finish(job, 4)
    (job,) = schedule.start_due(4)
    schedule.finish(job, 5)

    assert schedule.start_due(9.9) == []
    assert [job.host for job in schedule.start_due(10)] == ["a"]


def test_slots_that_pass_while_a_sample_runs_are_skipped_and_counted() -> None:
    schedule = plan("a", samples=6)
    (job,) = schedule.start_due(0)
    schedule.finish(job, 25)

    (job,) = schedule.start_due(25)

    assert (job.slot, schedule.skipped) == (2, 1)


def test_a_slow_host_does_not_go_on_beyond_its_last_slot() -> None:
    schedule = plan("a", samples=3)
    (job,) = schedule.start_due(0)
    schedule.finish(job, 30)

    assert schedule.done
    assert schedule.skipped == 2


def test_a_job_beyond_its_deadline_is_given_up_once_and_its_late_result_dropped() -> None:
    schedule = plan("ab", concurrency=1)
    (job,) = schedule.start_due(0)

    assert schedule.give_up(30.4, grace_s=0.5) == []
    assert schedule.give_up(30.5, grace_s=0.5) == [job]
    assert schedule.give_up(31, grace_s=0.5) == []
    assert not schedule.finish(job, 32)
    assert [job.host for job in schedule.start_due(32)] == ["b"]


def test_a_late_result_does_not_end_the_job_that_came_after() -> None:
    schedule = plan("a", samples=9)
    (stuck,) = schedule.start_due(0)
    schedule.give_up(31, grace_s=0.5)
    (again,) = schedule.start_due(31)

    assert not schedule.finish(stuck, 32)
    assert schedule.finish(again, 33)


@pytest.mark.parametrize(
    ("now", "expected"),
    [pytest.param(1, 8, id="next-slot"), pytest.param(9, 0, id="overdue")],
)
def test_the_wait_ends_with_the_next_slot(now: float, expected: float) -> None:
    schedule = plan("a", samples=2, interval=9)
    (job,) = schedule.start_due(0)
    schedule.finish(job, 0.5)

    assert schedule.wait_seconds(now, grace_s=0.5) == expected


def test_the_wait_ends_with_a_deadline_while_all_places_are_taken() -> None:
    schedule = plan("ab", concurrency=1)
    schedule.start_due(0)

    assert schedule.wait_seconds(10, grace_s=0.5) == 20.5


@pytest.mark.parametrize(
    ("slot", "elapsed", "expected"), [(0, 0.0, 1), (0, 9.9, 1), (0, 10.0, 1), (0, 20.0, 2), (3, 10.0, 4)]
)
def test_the_next_slot_is_the_newest_due_or_the_one_after(slot: int, elapsed: float, expected: int) -> None:
    assert next_slot(slot, elapsed, 10.0) == expected


@pytest.mark.parametrize(
    ("failed", "hosts", "fraction", "expected"),
    [
        ("", 4, 0.0, False),
        ("a", 4, 0.0, True),
        ("a", 4, 0.25, False),
        ("ab", 4, 0.25, True),
        ("abcd", 4, 1.0, False),
    ],
)
def test_the_failed_fraction_is_exceeded_only_beyond_it(
    failed: str, hosts: int, fraction: float, expected: bool
) -> None:
    assert exceeds_failed_fraction(failed, hosts, fraction) is expected
