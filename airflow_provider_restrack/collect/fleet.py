"""Samples of many hosts at once: a coordinator that never waits for any one of them.

Each sample is taken by a daemon thread of its own. Whatever hangs in there (a name lookup, a stuck call of a
library) holds nothing but that thread: at its deadline the coordinator writes the host's row and goes on.
"""

from __future__ import annotations

import heapq
import logging
import queue
import random
import threading
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_restrack import clock
from airflow_provider_restrack.collect.garbage import Sweeper
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
_MAX_WORST = 5
# Between a connection that failed and the other attempt: an sshd that dropped logins has a moment to work
# some off, and those that it dropped do not come back all at once.
_RETRY_DELAY_S = (0.5, 2.0)
# For threads to notice that their connections are closed; those that hang are daemons and are left.
_JOIN_S = 1.5


class TransientError(CollectError):
    """A connection that failed in a way that may pass: the host is asked once more."""


class HostSession(Protocol):
    """One host, and how to take a sample of it."""

    def collect(self, deadline: float) -> Reading:
        """Take one sample, connecting first where needed; may block, even beyond the monotonic ``deadline``.

        :raises TransientError: if another attempt may succeed.
        :raises CollectError: with the outcome of the row.
        """

    def abort(self) -> None:
        """Cut what ``collect`` works on, from another thread or a signal handler: must return at once."""

    def close(self) -> None:
        """Let go of what is kept between samples."""


class FleetStoppedError(RuntimeError):
    """The collection was stopped from outside before it was done."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a fleet is: its hosts, samples taken (those that failed among them), hosts being asked."""

    hosts: int
    done: int
    failed: int
    running: int


@dataclass(frozen=True, slots=True)
class FleetResult:
    """What came of a fleet.

    :ivar samples: all of them in the order of their arrival; none if they were handed on one by one.
    :ivar outcomes: how many samples have each outcome, the most frequent first.
    :ivar failed_hosts: those that have no sample with ``up``.
    :ivar slowest: the hosts whose samples took longest, with the seconds, the slowest first.
    """

    samples: list[dict[str, Any]]
    outcomes: dict[str, int]
    failed_hosts: tuple[str, ...]
    hosts: int
    skipped_slots: int
    slowest: tuple[tuple[str, float], ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a thread brings back: the sample or why there is none, and when."""

    job: Job
    result: Reading | CollectError
    moment: datetime
    finished: float


class Fleet:
    """Takes the samples of all targets; made for one ``run``.

    :param take: is given each sample as it arrives, in place of the result; what it raises ends the run.
    :param report: is told of the progress, every few seconds and at the end.
    :param taken: how many samples of a host, by its name, there are already and need not be taken.
    :param bastions: what each host that is behind a bastion is reached through, by the host's name.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        policy: SchedulePolicy,
        open_session: Callable[[Target], HostSession],
        *,
        take: Callable[[dict[str, Any]], None] | None = None,
        report: Callable[[Progress], None] | None = None,
        taken: Mapping[str, int] | None = None,
        bastions: Mapping[str, str] | None = None,
    ) -> None:
        self._targets: Mapping[str, Target] = {target.host: target for target in targets}
        self._schedule = Schedule(self._targets, policy, taken=taken, bastions=bastions)
        self._open_session = open_session
        self._sessions: dict[str, HostSession] = {}
        # SimpleQueue, as its put can interrupt its own get: `stop` is called from signal handlers.
        self._answers: queue.SimpleQueue[_Answer | None] = queue.SimpleQueue()
        self._threads: dict[Job, threading.Thread] = {}
        self._ending: deque[threading.Thread] = deque()
        self._samples: list[dict[str, Any]] = []
        self._hand_on = take or self._samples.append
        self._report = report
        self._up: set[str] = set(taken or ())
        self._outcomes: Counter[str] = Counter()
        self._slowest: list[tuple[float, str]] = []
        self._failures = 0
        self._sweeper = Sweeper(len(self._targets))
        self._stopped = False
        self._started = self._next_progress = 0.0

    def run(self) -> FleetResult:
        """Take all samples; every host has a row for each slot that was not skipped.

        :raises FleetStoppedError: if ``stop`` was called.
        """
        self._started = clock.monotonic()
        self._next_progress = self._started + _PROGRESS_S
        with self._sweeper:
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
                f"stopped with {self._outcomes.total()} samples taken; all connections are closed"
            )

    def _start_due(self) -> None:
        for job in self._schedule.start_due(clock.monotonic()):
            session = self._sessions.get(job.host)
            if session is None:
                session = self._sessions[job.host] = self._open_session(self._targets[job.host])
            self._start_thread(session, job)

    def _start_thread(self, session: HostSession, job: Job) -> None:
        thread = threading.Thread(
            target=_work, args=(session, job, self._answers), name=f"restrack-{job.host}", daemon=True
        )
        self._threads[job] = thread
        try:
            thread.start()
        except RuntimeError as error:  # one host's row: the samples of the others are not to be lost
            del self._threads[job]
            session.close()
            self._answers.put(_Answer(job, _explain_lack(job, error), clock.utc_now(), clock.monotonic()))

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
        self._let_end(answer.job)
        self._sweeper.note_done()
        if isinstance(answer.result, TransientError) and self._plan_retry(answer):
            return
        if not self._schedule.finish(answer.job, answer.finished):
            return  # given up before: its row is written
        target = self._targets[answer.job.host]
        seconds = answer.finished - answer.job.started
        if isinstance(answer.result, Reading):
            self._keep(build_up_row(target, answer.result, seconds))
        else:
            self._fail(target, answer.moment, _tell_attempt(answer), seconds)
        if isinstance(answer.result, CollectError) or answer.job.last:
            self._sessions.pop(answer.job.host, None)  # its thread closes it

    def _let_end(self, job: Job) -> None:
        """Remember the thread of a job that has answered until it ends: it may have a connection to close."""
        thread = self._threads.pop(job, None)
        if thread is not None:
            self._ending.append(thread)
        while self._ending and not self._ending[0].is_alive():
            self._ending.popleft()

    def _plan_retry(self, answer: _Answer) -> bool:
        delay_s = random.uniform(*_RETRY_DELAY_S)  # noqa: S311 - spreads the load, hides nothing
        if not self._schedule.retry(answer.job, answer.finished, delay_s):
            return False
        self._sessions.pop(answer.job.host, None)
        log.debug("%s: once more in %.1f s: %s", answer.job.host, delay_s, answer.result)
        return True

    def _keep(self, row: dict[str, Any]) -> None:
        self._outcomes[row["outcome"]] += 1
        if row["up"]:
            self._up.add(row["host"])
        slow = (row["collect_seconds"], row["host"])
        (heapq.heappush if len(self._slowest) < _MAX_WORST else heapq.heappushpop)(self._slowest, slow)
        self._hand_on(row)

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
        self._failures += 1
        if self._failures <= _MAX_FAILURES_LOGGED:
            log.warning("%s: %s: %s", target.host, row["outcome"], row["error"])
        elif self._failures == _MAX_FAILURES_LOGGED + 1:
            log.warning("More hosts fail; their rows say why")
        self._keep(row)

    def _log_progress(self) -> None:
        now = clock.monotonic()
        if now >= self._next_progress:
            self._next_progress = now + _PROGRESS_S
            progress = self._tell_progress()
            log.info(
                "%d samples of %d hosts taken, %d failed, %d hosts being asked",
                progress.done,
                progress.hosts,
                progress.failed,
                progress.running,
            )

    def _tell_progress(self) -> Progress:
        done = self._outcomes.total()
        progress = Progress(len(self._targets), done, self._failures, self._schedule.running)
        if self._report is not None:
            self._report(progress)
        return progress

    def _close_all(self) -> None:
        # All sockets first: a thread that waits on one of many closes would delay those after it.
        for session in self._sessions.values():
            session.abort()
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()
        until = clock.monotonic() + _JOIN_S
        for thread in (*self._ending, *self._threads.values()):
            thread.join(max(0.0, until - clock.monotonic()))

    def _summarize(self) -> FleetResult:
        self._tell_progress()
        result = FleetResult(
            samples=self._samples,
            outcomes=dict(self._outcomes.most_common()),
            failed_hosts=tuple(host for host in self._targets if host not in self._up),
            hosts=len(self._targets),
            skipped_slots=self._schedule.skipped,
            slowest=tuple((host, seconds) for seconds, host in sorted(self._slowest, reverse=True)),
            seconds=clock.monotonic() - self._started,
        )
        log.info("%s", summarize(result))
        if result.skipped_slots:
            log.warning(
                "%d samples were skipped, as the ones before them were not done: raise interval or"
                " concurrency, or lower host_timeout",
                result.skipped_slots,
            )
        return result


def _tell_attempt(answer: _Answer) -> CollectError:
    """Return the error of an answer, which says so if it is the second."""
    error = answer.result
    assert isinstance(error, CollectError)
    return CollectError(error.outcome, f"{error} (at the second attempt)") if answer.job.attempt else error


def summarize(result: FleetResult) -> str:
    """Return a line on a fleet: samples by outcome, the slowest hosts, and some of those that failed."""
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in result.outcomes.items())
    slowest = ", ".join(f"{host} {seconds:.1f} s" for host, seconds in result.slowest)
    failed = ", ".join(result.failed_hosts[:_MAX_FAILURES_LOGGED])
    more = len(result.failed_hosts) - _MAX_FAILURES_LOGGED
    return "; ".join(
        [
            f"{sum(result.outcomes.values())} samples of {result.hosts} hosts in {result.seconds:.1f} s:"
            f" {outcomes or 'none was left to take'}",
            *([f"slowest: {slowest}"] if slowest else []),
            *([f"failed: {failed}{f' and {more} more' if more > 0 else ''}"] if failed else []),
        ]
    )


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
        if _is_lack_of_threads(error):
            result = _explain_lack(job, error)
        else:
            log.exception("%s: unexpected error", job.host)
            result = CollectError("parse_error", f"unexpected {type(error).__name__}: {error}")
    answers.put(_Answer(job, result, clock.utc_now(), clock.monotonic()))
    if job.last or isinstance(result, CollectError):
        session.close()


def _is_lack_of_threads(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and "start new thread" in str(error)


def _explain_lack(job: Job, error: Exception) -> TransientError:
    return TransientError(
        "unreachable",
        f"{job.host}: not asked, as this worker cannot start more threads ({error}): lower concurrency, or"
        " raise its limits (ulimit -u, the container's pids)",
    )
