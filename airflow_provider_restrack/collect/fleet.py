"""Samples of many hosts at once: a coordinator that never waits for any one of them.

Each sample is taken by a daemon thread of its own. Whatever hangs in there (a name lookup, a stuck call of a
library) holds nothing but that thread: at its deadline the coordinator writes the host's row and goes on.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_restrack import clock
from airflow_provider_restrack.collect.sample import CollectError, Reading, build_down_row, build_up_row
from airflow_provider_restrack.collect.schedule import Job, Schedule, SchedulePolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from airflow_provider_restrack.collect.inventory import Target

log = logging.getLogger(__name__)

# A session reports its own timeout a moment after its deadline, and says in which step it was.
GRACE_S = 0.5
_PROGRESS_S = 5.0
_MAX_FAILURES_LOGGED = 20
# For threads to notice that their connections are closed; those that hang are daemons and are left.
_JOIN_S = 1.5


class HostSession(Protocol):
    """One host, and how to take a sample of it."""

    def collect(self, deadline: float) -> Reading:
        """Take one sample, connecting first where needed; may block, even beyond the monotonic ``deadline``.

        :raises CollectError: with the outcome of the row.
        """

    def abort(self) -> None:
        """Cut what ``collect`` works on, from another thread or a signal handler: must return at once."""

    def close(self) -> None:
        """Let go of what is kept between samples."""


class FleetStoppedError(RuntimeError):
    """The collection was stopped from outside before it was done."""


@dataclass(frozen=True, slots=True)
class FleetResult:
    """All samples in the order of their arrival, and the hosts that have none with ``up``."""

    samples: list[dict[str, Any]]
    failed_hosts: tuple[str, ...]
    hosts: int
    skipped_slots: int

    @property
    def outcomes(self) -> dict[str, int]:
        """How many samples have each outcome, the most frequent first."""
        return dict(Counter(str(sample["outcome"]) for sample in self.samples).most_common())


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a thread brings back: the sample or why there is none, and when."""

    job: Job
    result: Reading | CollectError
    moment: datetime
    finished: float


class Fleet:
    """Takes the samples of all targets; made for one ``run``."""

    def __init__(
        self, targets: Sequence[Target], policy: SchedulePolicy, open_session: Callable[[Target], HostSession]
    ) -> None:
        self._targets: Mapping[str, Target] = {target.host: target for target in targets}
        self._schedule = Schedule(self._targets, policy)
        self._open_session = open_session
        self._sessions: dict[str, HostSession] = {}
        # SimpleQueue, as its put can interrupt its own get: `stop` is called from signal handlers.
        self._answers: queue.SimpleQueue[_Answer | None] = queue.SimpleQueue()
        self._threads: dict[Job, threading.Thread] = {}
        self._samples: list[dict[str, Any]] = []
        self._failures = 0
        self._stopped = False
        self._next_progress = 0.0

    def run(self) -> FleetResult:
        """Take all samples; every host has a row for each slot that was not skipped.

        :raises FleetStoppedError: if ``stop`` was called.
        """
        self._next_progress = clock.monotonic() + _PROGRESS_S
        try:
            while not self._schedule.done:
                self._refuse_stopped()
                self._start_due()
                self._take_answers()
                self._give_up_late()
                self._log_progress()
        finally:
            # Also when Airflow's timeout, which is no Exception, comes up through here.
            self._close_all()
        return self._summarize()

    def stop(self) -> None:
        """End all connections at once and let ``run`` fail; safe in a signal handler."""
        self._stopped = True
        self._answers.put(None)
        for session in list(self._sessions.values()):
            session.abort()

    def _refuse_stopped(self) -> None:
        if self._stopped:
            raise FleetStoppedError(
                f"stopped with {len(self._samples)} samples taken; all connections are closed"
            )

    def _start_due(self) -> None:
        for job in self._schedule.start_due(clock.monotonic()):
            session = self._sessions.get(job.host)
            if session is None:
                session = self._sessions[job.host] = self._open_session(self._targets[job.host])
            thread = threading.Thread(
                target=_work, args=(session, job, self._answers), name=f"restrack-{job.host}", daemon=True
            )
            self._threads[job] = thread
            thread.start()

    def _take_answers(self) -> None:
        now = clock.monotonic()
        wait = min(self._schedule.wait_seconds(now, GRACE_S), max(0.0, self._next_progress - now))
        try:
            answer = self._answers.get(timeout=wait)
            while True:
                if answer is not None:
                    self._take(answer)
                answer = self._answers.get_nowait()
        except queue.Empty:
            return

    def _take(self, answer: _Answer) -> None:
        if not self._schedule.finish(answer.job, answer.finished):
            return  # given up before: its row is written
        self._threads = {job: thread for job, thread in self._threads.items() if thread.is_alive()}
        target = self._targets[answer.job.host]
        seconds = answer.finished - answer.job.started
        if isinstance(answer.result, Reading):
            self._samples.append(build_up_row(target, answer.result, seconds))
        else:
            self._fail(target, answer.moment, answer.result, seconds)
        if isinstance(answer.result, CollectError) or answer.job.last:
            self._sessions.pop(answer.job.host, None)  # its thread closes it

    def _give_up_late(self) -> None:
        now = clock.monotonic()
        for job in self._schedule.give_up(now, GRACE_S):
            self._sessions.pop(job.host).abort()
            self._threads.pop(job, None)  # it may never end
            target = self._targets[job.host]
            message = (
                f"{target.address}: given up after {now - job.started:.1f} s: either its name was not"
                " resolved, or its sshd took the command and did not run it; try `ssh` from this worker, and"
                " see host_timeout"
            )
            self._fail(target, clock.utc_now(), CollectError("timeout", message), now - job.started)

    def _fail(self, target: Target, moment: datetime, error: CollectError, seconds: float) -> None:
        row = build_down_row(target, moment, error.outcome, str(error), seconds)
        self._samples.append(row)
        self._failures += 1
        if self._failures <= _MAX_FAILURES_LOGGED:
            log.warning("%s: %s: %s", target.host, row["outcome"], row["error"])
        elif self._failures == _MAX_FAILURES_LOGGED + 1:
            log.warning("More hosts fail; their rows say why")

    def _log_progress(self) -> None:
        now = clock.monotonic()
        if now >= self._next_progress:
            self._next_progress = now + _PROGRESS_S
            log.info(
                "%d samples of %d hosts taken, %d failed, %d hosts being asked",
                len(self._samples),
                len(self._targets),
                self._failures,
                self._schedule.running,
            )

    def _close_all(self) -> None:
        # All sockets first: a thread that waits on one of many closes would delay those after it.
        for session in self._sessions.values():
            session.abort()
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()
        until = clock.monotonic() + _JOIN_S
        for thread in self._threads.values():
            thread.join(max(0.0, until - clock.monotonic()))

    def _summarize(self) -> FleetResult:
        up = {sample["host"] for sample in self._samples if sample["up"]}
        result = FleetResult(
            samples=self._samples,
            failed_hosts=tuple(host for host in self._targets if host not in up),
            hosts=len(self._targets),
            skipped_slots=self._schedule.skipped,
        )
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in result.outcomes.items())
        log.info("%d samples of %d hosts: %s", len(result.samples), result.hosts, outcomes)
        if result.skipped_slots:
            log.warning(
                "%d samples were skipped, as the ones before them were not done: raise interval or"
                " concurrency, or lower host_timeout",
                result.skipped_slots,
            )
        return result


def _work(session: HostSession, job: Job, answers: queue.SimpleQueue[_Answer | None]) -> None:
    """Take one sample in a thread of its own, and bring back what came of it, whatever that is."""
    result: Reading | CollectError
    try:
        result = session.collect(job.deadline)
    except CollectError as error:
        result = error
    except TimeoutError as error:
        result = CollectError("timeout", f"no sample within host_timeout ({error})")
    except Exception as error:  # one host's surprise is that host's row; the log has the rest
        log.exception("%s: unexpected error", job.host)
        result = CollectError("parse_error", f"unexpected {type(error).__name__}: {error}")
    answers.put(_Answer(job, result, clock.utc_now(), clock.monotonic()))
    if job.last or isinstance(result, CollectError):
        session.close()
