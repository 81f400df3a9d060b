"""When each host's next sample is due: all decisions of the fan-out, with time as an argument and no thread
in sight.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


@dataclass(frozen=True, slots=True)
class SchedulePolicy:
    """How many samples of each host, how far apart (s), how many hosts at a time, how long one may take
    (s).
    """

    samples: int
    interval_s: float
    concurrency: int
    host_timeout_s: float


@dataclass(frozen=True, slots=True)
class Job:
    """One sample of one host, from its start; ``last`` means that no other of this host can follow."""

    host: str
    slot: int
    started: float
    deadline: float
    last: bool


class Schedule:
    """Which jobs wait, run and are due.

    A host's slots lie ``interval`` apart from its own first start. A slot that passes while the one before it
    still runs is skipped and counted, so a slow host never makes the whole take longer than its slots plus
    one timeout.
    """

    def __init__(self, hosts: Iterable[str], policy: SchedulePolicy) -> None:
        self._policy = policy
        # The position keeps hosts that are due at the same time in the order of the list.
        self._waiting = [(0.0, position, host, 0) for position, host in enumerate(hosts)]
        self._first_start: dict[str, float] = {}
        self._positions = {host: position for _, position, host, _ in self._waiting}
        self._running: dict[str, Job] = {}
        self.skipped = 0

    @property
    def done(self) -> bool:
        """Whether nothing runs or waits."""
        return not self._waiting and not self._running

    @property
    def running(self) -> int:
        """How many jobs run."""
        return len(self._running)

    def start_due(self, now: float) -> list[Job]:
        """Return the jobs to start now; they count as running from here on."""
        jobs = []
        while self._waiting and len(self._running) < self._policy.concurrency and self._waiting[0][0] <= now:
            _, _, host, slot = heapq.heappop(self._waiting)
            self._first_start.setdefault(host, now)
            deadline, last = now + self._policy.host_timeout_s, slot >= self._policy.samples - 1
            self._running[host] = job = Job(host, slot, now, deadline, last)
            jobs.append(job)
        return jobs

    def finish(self, job: Job, now: float) -> bool:
        """Take the end of a job; return False if it was given up before, so that its late result is
        dropped.
        """
        if self._running.get(job.host) is not job:
            return False
        del self._running[job.host]
        self._plan_next(job, now)
        return True

    def give_up(self, now: float, grace_s: float) -> list[Job]:
        """Return the jobs that are ``grace_s`` beyond their deadline; they no longer count as running.

        The grace lets a job report its own timeout, which says in which step it was.
        """
        late = [job for job in self._running.values() if now >= job.deadline + grace_s]
        for job in late:
            self.finish(job, now)
        return late

    def wait_seconds(self, now: float, grace_s: float) -> float:
        """Return how long nothing has to be done, unless a job ends."""
        moments = [job.deadline + grace_s for job in self._running.values()]
        if self._waiting and len(self._running) < self._policy.concurrency:
            moments.append(self._waiting[0][0])
        return max(0.0, min(moments, default=now) - now)

    def _plan_next(self, job: Job, now: float) -> None:
        first = self._first_start[job.host]
        slot = next_slot(job.slot, now - first, self._policy.interval_s)
        planned = min(slot, self._policy.samples)
        self.skipped += max(0, planned - job.slot - 1)
        if slot < self._policy.samples:
            due = first + slot * self._policy.interval_s
            heapq.heappush(self._waiting, (due, self._positions[job.host], job.host, slot))


def next_slot(slot: int, elapsed_s: float, interval_s: float) -> int:
    """Return the slot after ``slot``: the next one, or the newest that is already due ``elapsed_s`` after
    slot 0.
    """
    return max(slot + 1, int(elapsed_s // interval_s))


def exceeds_failed_fraction(failed: Collection[str], hosts: int, max_fraction: float) -> bool:
    """Whether more than the allowed share of hosts failed; a fraction of 1 allows all to fail."""
    return hosts > 0 and len(failed) / hosts > max_fraction
