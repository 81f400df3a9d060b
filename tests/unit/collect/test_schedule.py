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


def test_a_job_is_made_again_once_within_its_own_time() -> None:
    schedule = plan("a")
    (job,) = schedule.start_due(0)

    assert schedule.retry(job, 1, 2)
    assert schedule.running == 0
    assert schedule.start_due(2.9) == []
    (again,) = schedule.start_due(3)

    assert (again.attempt, again.slot, again.started, again.deadline) == (1, 0, 0, 30)
    assert not schedule.retry(again, 4, 2)
    assert schedule.finish(again, 4)
    assert schedule.done


def test_the_wait_for_a_place_takes_nothing_of_a_second_attempts_time() -> None:
    schedule = plan("ab", concurrency=1)
    (first,) = schedule.start_due(0)
    schedule.retry(first, 1, 2)
    (other,) = schedule.start_due(1)
    schedule.finish(other, 23)

    (again,) = schedule.start_due(23)

    assert (again.host, again.started, again.deadline) == ("a", 20, 50)


def test_no_attempt_is_planned_for_a_time_that_is_over() -> None:
    schedule = plan("a")
    (job,) = schedule.start_due(0)

    assert not schedule.retry(job, 29, 1)
    assert schedule.finish(job, 29)


def test_a_job_that_was_given_up_is_not_made_again() -> None:
    schedule = plan("a", samples=3)
    (job,) = schedule.start_due(0)
    schedule.give_up(31, grace_s=0.5)

    assert not schedule.retry(job, 20, 1)


def test_the_next_slot_keeps_its_time_after_a_second_attempt() -> None:
    schedule = plan("a", samples=2)
    (job,) = schedule.start_due(0)
    schedule.retry(job, 1, 2)
    (again,) = schedule.start_due(3)
    schedule.finish(again, 5)

    assert schedule.start_due(9.9) == []
    assert [job.slot for job in schedule.start_due(10)] == [1]


def test_samples_that_were_taken_before_are_left_out() -> None:
    schedule = Schedule("abc", SchedulePolicy(3, 10, 32, 30), taken={"a": 3, "b": 2})

    assert [(job.host, job.slot, job.last) for job in schedule.start_due(50)] == [
        ("b", 2, True),
        ("c", 0, False),
    ]


def test_hosts_behind_one_bastion_are_asked_some_at_a_time_and_hold_up_no_others() -> None:
    behind = dict.fromkeys("abcd", "bastion")
    schedule = Schedule("abcdef", SchedulePolicy(1, 10, 32, 30, bastion_concurrency=2), bastions=behind)

    first = schedule.start_due(0)
    schedule.finish(first[0], 1)
    second = schedule.start_due(1)
    for job in (*first[1:], *second):
        schedule.finish(job, 2)
    third = schedule.start_due(2)

    assert [[job.host for job in jobs] for jobs in (first, second, third)] == [
        ["a", "b", "e", "f"],
        ["c"],
        ["d"],
    ]
    assert not schedule.done
    schedule.finish(third[0], 3)
    assert schedule.done


def test_the_cadence_is_that_of_the_first_start_however_late_each_start_is() -> None:
    schedule = plan("a", samples=1000, interval=1)
    starts = []
    now = 100.0
    while not schedule.done:
        for job in schedule.start_due(now):
            starts.append(now)
            schedule.finish(job, now + 0.3)
        now += schedule.wait_seconds(now, grace_s=0.5) + 0.004  # the wait is never exact

    assert len(starts) == 1000
    assert max(abs(start - 100.0 - slot) for slot, start in enumerate(starts)) < 0.01
