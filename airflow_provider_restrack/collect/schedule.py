"""When each host's next sample is due: all decisions of the fan-out, with time as an argument and no thread
in sight.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping


@dataclass(frozen=True, slots=True)
class SchedulePolicy:
    """How many samples of each host, how far apart (s), how many hosts at a time, how long one may take
    (s).

    :ivar bastion_concurrency: how many at a time of the hosts that one bastion leads to.
    """

    samples: int
    interval_s: float
    concurrency: int
    host_timeout_s: float
    bastion_concurrency: int = 8


@dataclass(frozen=True, slots=True)
class Job:
    """One sample of one host, from its start; ``last`` means that no other of this host can follow.

    :ivar attempt: 0 at first, 1 when it is made again after a connection that failed.
    """

    host: str
    slot: int
    started: float
    deadline: float
    last: bool
    attempt: int = 0


class Schedule:
    """Which jobs wait, run and are due.

    A host's slots lie ``interval`` apart from its own first start. A slot that passes while the one before it
    still runs is skipped and counted, so a slow host never makes the whole take longer than its slots plus
    one timeout.

    :param taken: how many samples of a host there are already; its first slots are left out.
    :param bastions: the bastion of each host that is behind one.
    """

    def __init__(
        self,
        hosts: Iterable[str],
        policy: SchedulePolicy,
        *,
        taken: Mapping[str, int] | None = None,
        bastions: Mapping[str, str] | None = None,
    ) -> None:
        self._policy = policy
        self._bastions = bastions or {}
        taken = taken or {}
        # The position keeps hosts that are due at the same time in the order of the list.
        self._positions = {host: position for position, host in enumerate(hosts)}
        self._waiting = [
            (0.0, position, host, taken.get(host, 0))
            for host, position in self._positions.items()
            if taken.get(host, 0) < policy.samples
        ]
        self._first_start: dict[str, float] = {}
        self._running: dict[str, Job] = {}
        self._deadlines: list[tuple[float, int, Job]] = []
        self._starts = itertools.count()
        self._again: dict[str, tuple[Job, float]] = {}
        self._in_use: Counter[str] = Counter()
        # Due, but behind a bastion that is in full use.
        self._held: dict[str, list[tuple[float, int, str, int]]] = {}
        self.skipped = 0

    @property
    def done(self) -> bool:
        """Whether nothing runs or waits; what a bastion holds back waits for one of its hosts that runs."""
        return not self._waiting and not self._running

    @property
    def running(self) -> int:
        """How many jobs run."""
        return len(self._running)

    def start_due(self, now: float) -> list[Job]:
        """Return the jobs to start now; they count as running from here on."""
        jobs = []
        while self._waiting and len(self._running) < self._policy.concurrency and self._waiting[0][0] <= now:
            entry = heapq.heappop(self._waiting)
            bastion = self._bastions.get(entry[2])
            if bastion is not None and self._in_use[bastion] >= self._policy.bastion_concurrency:
                heapq.heappush(self._held.setdefault(bastion, []), entry)
            else:
                jobs.append(self._start(entry[2], entry[3], now))
        return jobs

    def finish(self, job: Job, now: float) -> bool:
        """Take the end of a job; return False if it was given up before, so that its late result is
        dropped.
        """
        if not self._release(job):
            return False
        self._plan_next(job, now)
        return True

    def retry(self, job: Job, now: float, delay_s: float) -> bool:
        """Make a job once more after ``delay_s``, within the time that is left of its own; return False if
        it has been made again already, or there is no time.

        Waiting for a free place afterwards takes nothing of that time.
        """
        due = now + delay_s
        if job.attempt > 0 or due >= job.deadline or not self._release(job):
            return False
        self._again[job.host] = job, due
        heapq.heappush(self._waiting, (due, self._positions[job.host], job.host, job.slot))
        return True

    def give_up(self, now: float, grace_s: float) -> list[Job]:
        """Return the jobs that are ``grace_s`` beyond their deadline; they no longer count as running.

        The grace lets a job report its own timeout, which says in which step it was.
        """
        late = []
        while (job := self._most_urgent()) is not None and now >= job.deadline + grace_s:
            self.finish(job, now)
            late.append(job)
        return late

    def wait_seconds(self, now: float, grace_s: float) -> float:
        """Return how long nothing has to be done, unless a job ends."""
        urgent = self._most_urgent()
        moments = [] if urgent is None else [urgent.deadline + grace_s]
        if self._waiting and len(self._running) < self._policy.concurrency:
            moments.append(self._waiting[0][0])
        return max(0.0, min(moments, default=now) - now)

    def _start(self, host: str, slot: int, now: float) -> Job:
        # As if the slots that were taken before had been taken in this run.
        self._first_start.setdefault(host, now - slot * self._policy.interval_s)
        before, due = self._again.pop(host, (None, now))
        started = now if before is None else now - (due - before.started)
        deadline = started + self._policy.host_timeout_s
        last = slot >= self._policy.samples - 1
        job = Job(host, slot, started, deadline, last, attempt=0 if before is None else 1)
        self._running[host] = job
        heapq.heappush(self._deadlines, (deadline, next(self._starts), job))
        if host in self._bastions:
            self._in_use[self._bastions[host]] += 1
        return job

    def _release(self, job: Job) -> bool:
        """Free the place of a job; return False if it has none."""
        if self._running.get(job.host) is not job:
            return False
        del self._running[job.host]
        bastion = self._bastions.get(job.host)
        if bastion is not None:
            self._in_use[bastion] -= 1
            if self._held.get(bastion):
                heapq.heappush(self._waiting, heapq.heappop(self._held[bastion]))
        return True

    def _most_urgent(self) -> Job | None:
        """Return the running job whose deadline is the next."""
        while self._deadlines:
            job = self._deadlines[0][2]
            if self._running.get(job.host) is job:
                return job
            heapq.heappop(self._deadlines)
        return None

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
