"""The coordinator with hand-written sessions: what it does with answers, errors, hangs and stops."""

from __future__ import annotations

import itertools
import json
import logging
import queue
import random
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_restrack import clock
from airflow_provider_restrack.collect import fleet as fleets
from airflow_provider_restrack.collect.fleet import (
    Fleet,
    FleetResult,
    FleetStoppedError,
    Progress,
    TransientError,
    summarize,
)
from airflow_provider_restrack.collect.inventory import Target
from airflow_provider_restrack.collect.sample import CollectError, Reading
from airflow_provider_restrack.collect.schedule import SchedulePolicy

if TYPE_CHECKING:
    from collections.abc import Callable

READING = Reading({"outcome": "ok", "cpu_usage": 1.0}, datetime(2026, 1, 1, tzinfo=UTC), 0.0)


class FakeSession:
    """Plays its answers in turn and records what was asked of it."""

    def __init__(self, *answers: Reading | BaseException | Callable[[FakeSession], Reading]) -> None:
        self.answers = list(answers)
        self.calls: list[str] = []
        self.aborted = threading.Event()
        self.closed = threading.Event()

    def collect(self, deadline: float) -> Reading:
        self.calls.append("collect")
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer if isinstance(answer, Reading) else answer(self)

    def abort(self) -> None:
        self.calls.append("abort")
        self.aborted.set()

    def close(self) -> None:
        self.calls.append("close")
        self.closed.set()


def hang(session: FakeSession) -> Reading:
    """Play a call that ends only when its connection is cut."""
    session.aborted.wait(30)
    raise CollectError("unreachable", "too late")


def hang_for_ever(_session: FakeSession) -> Reading:
    """Play a call that nothing ends, such as a name lookup."""
    threading.Event().wait(60)
    raise AssertionError


class AirflowTaskTimeoutLike(BaseException):
    """Stands for Airflow's timeout, which is no Exception."""


def make_fleet(
    sessions: dict[str, list[FakeSession]], options: dict[str, Any] | None = None, **policy: float
) -> Fleet:
    """Return a fleet whose hosts open the given sessions in turn."""
    settings = {"samples": 1, "interval_s": 0.05, "concurrency": 8, "host_timeout_s": 5.0, **policy}
    waiting = {host: list(each) for host, each in sessions.items()}
    return Fleet(
        [Target(host, host) for host in sessions],
        SchedulePolicy(**settings),  # type: ignore[arg-type]
        lambda target: waiting[target.host].pop(0),
        **(options or {}),
    )


def test_every_host_has_a_row_and_failures_are_told_apart() -> None:
    result = make_fleet(
        {
            "up": [FakeSession(READING)],
            "down": [FakeSession(CollectError("unreachable", "no route"))],
            "slow": [FakeSession(TimeoutError("the time is over"))],
        }
    ).run()

    assert {row["host"]: (row["up"], row["outcome"]) for row in result.samples} == {
        "up": (True, "ok"),
        "down": (False, "unreachable"),
        "slow": (False, "timeout"),
    }
    assert result.failed_hosts == ("down", "slow")
    assert result.outcomes == {"ok": 1, "unreachable": 1, "timeout": 1}
    assert result.hosts == 3


def test_a_surprise_of_one_host_is_its_row_and_its_traceback_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    result = make_fleet(
        {"odd": [FakeSession(IndexError("pop from empty"))], "up": [FakeSession(READING)]}
    ).run()

    rows = {row["host"]: row for row in result.samples}
    assert rows["odd"]["error"] == "unexpected IndexError: pop from empty"
    assert rows["up"]["outcome"] == "ok"
    assert any(record.exc_info for record in caplog.records)


def test_the_log_shows_nothing_that_moves_its_lines(caplog: pytest.LogCaptureFixture) -> None:
    make_fleet({"odd": [FakeSession(CollectError("parse_error", "said \x1b[2J\nerror: forged"))]}).run()

    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "odd: parse_error: said  [2J error: forged"
    ]


def test_one_session_serves_all_samples_of_a_host_and_is_closed() -> None:
    session = FakeSession(READING, READING, READING)

    result = make_fleet({"a": [session]}, samples=3, interval_s=0.5).run()

    assert len(result.samples) == 3
    assert session.calls.count("collect") == 3
    assert session.closed.is_set()


def test_after_a_failure_the_next_sample_has_a_new_session() -> None:
    broken, fresh = FakeSession(CollectError("unreachable", "gone")), FakeSession(READING)

    result = make_fleet({"a": [broken, fresh]}, samples=2, interval_s=0.5).run()

    assert [row["outcome"] for row in result.samples] == ["unreachable", "ok"]
    assert result.failed_hosts == ()
    assert broken.closed.is_set()


@pytest.mark.parametrize("call", [hang, hang_for_ever])
def test_a_call_that_hangs_is_given_up_and_delays_nobody(call: Callable[[FakeSession], Reading]) -> None:
    stuck = FakeSession(call)
    started = time.monotonic()

    result = make_fleet({"stuck": [stuck], "up": [FakeSession(READING)]}, host_timeout_s=0.2).run()

    assert [(row["host"], row["outcome"]) for row in result.samples] == [("up", "ok"), ("stuck", "timeout")]
    assert "stuck: given up" in result.samples[1]["error"]
    assert "see host_timeout" in result.samples[1]["error"]
    assert stuck.aborted.is_set()
    assert time.monotonic() - started < 10


def test_hosts_that_hang_give_their_place_to_those_that_wait() -> None:
    sessions = {f"stuck-{number}": [FakeSession(hang)] for number in range(4)}

    result = make_fleet({**sessions, "up": [FakeSession(READING)]}, concurrency=4, host_timeout_s=0.1).run()

    assert result.outcomes == {"timeout": 4, "ok": 1}


def test_no_more_hosts_than_the_concurrency_are_asked_at_once() -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def count(_session: FakeSession) -> Reading:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        threading.Event().wait(0.02)
        with lock:
            now[0] -= 1
        return READING

    make_fleet({f"h{number}": [FakeSession(count)] for number in range(12)}, concurrency=3).run()

    assert most == [3]


def test_stop_cuts_every_connection_and_fails_the_run() -> None:
    asked = threading.Event()

    def tell_and_hang(session: FakeSession) -> Reading:
        asked.set()
        return hang(session)

    busy, idle = FakeSession(tell_and_hang), FakeSession(READING, READING)
    fleet = make_fleet({"idle": [idle], "busy": [busy]}, samples=2, interval_s=60)
    threading.Thread(target=lambda: (asked.wait(), fleet.stop())).start()
    started = time.monotonic()

    with pytest.raises(FleetStoppedError, match="all connections are closed"):
        fleet.run()

    assert time.monotonic() - started < 2
    assert busy.closed.is_set()
    assert idle.closed.is_set()


def test_a_fleet_that_was_stopped_before_it_ran_asks_nobody() -> None:
    session = FakeSession(READING)
    fleet = make_fleet({"a": [session]})
    fleet.stop()

    with pytest.raises(FleetStoppedError):
        fleet.run()

    assert session.calls == []


def test_connections_are_closed_when_airflows_timeout_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    session = FakeSession(hang)
    fleet = make_fleet({"a": [session]})

    def interrupt() -> None:
        raise AirflowTaskTimeoutLike

    monkeypatch.setattr(fleet, "_take_answers", interrupt)
    with pytest.raises(AirflowTaskTimeoutLike):
        fleet.run()

    assert session.closed.is_set()


def test_skipped_samples_are_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    def take_long(_session: FakeSession) -> Reading:
        threading.Event().wait(0.3)
        return READING

    with caplog.at_level(logging.INFO):
        result = make_fleet({"a": [FakeSession(take_long)]}, samples=3, interval_s=0.1).run()

    assert (len(result.samples), result.skipped_slots) == (1, 2)
    assert "2 samples were skipped" in caplog.text


def test_the_log_names_some_failing_hosts_and_not_thousands(caplog: pytest.LogCaptureFixture) -> None:
    sessions = {f"h{number}": [FakeSession(CollectError("timeout", "mute"))] for number in range(50)}

    with caplog.at_level(logging.INFO):
        make_fleet(sessions).run()

    assert caplog.text.count("mute") == 20
    assert "50 timeout" in caplog.text


def test_samples_are_json() -> None:
    result = make_fleet({"a": [FakeSession(READING)], "b": [FakeSession(CollectError("timeout", "x"))]}).run()

    assert json.loads(json.dumps(result.samples, allow_nan=False)) == result.samples


class ScarceThread(threading.Thread):
    """Plays a worker that has no thread for one of its hosts."""

    def start(self) -> None:
        if self.name == "restrack-late":
            raise RuntimeError("can't start new thread")
        super().start()


def lack_thread(_session: FakeSession) -> Reading:
    """Play Paramiko, which needs another thread for its connection."""
    raise RuntimeError("can't start new thread")


def test_a_host_for_which_there_is_no_thread_has_a_row_and_the_others_their_samples(
    soon: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(threading, "Thread", ScarceThread)
    late, half = ([FakeSession(answer), FakeSession(answer)] for answer in (READING, lack_thread))

    result = make_fleet({"a": [FakeSession(READING)], "late": late, "half": half}).run()

    rows = {row["host"]: row for row in result.samples}
    assert {host: row["outcome"] for host, row in rows.items()} == {
        "a": "ok",
        "late": "unreachable",
        "half": "unreachable",
    }
    assert all("lower concurrency" in rows[host]["error"] for host in ("late", "half"))
    assert "(at the second attempt)" in rows["late"]["error"]
    assert [session.calls for session in late] == [["close"], ["close"]]
    assert not any(record.exc_info for record in caplog.records)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make second attempts follow at once."""
    monkeypatch.setattr(fleets, "_RETRY_DELAY_S", (0.0, 0.01))


@pytest.mark.usefixtures("soon")
def test_a_connection_that_failed_is_made_once_more() -> None:
    dropped, fresh = FakeSession(TransientError("unreachable", "banner")), FakeSession(READING)

    result = make_fleet({"a": [dropped, fresh]}).run()

    assert [row["outcome"] for row in result.samples] == ["ok"]
    assert dropped.closed.wait(5)


@pytest.mark.usefixtures("soon")
def test_a_connection_that_fails_twice_is_one_row_that_says_so(caplog: pytest.LogCaptureFixture) -> None:
    sessions = [FakeSession(TransientError("unreachable", "refused")) for _ in range(2)]

    (row,) = make_fleet({"a": sessions}).run().samples

    assert (row["outcome"], row["error"]) == ("unreachable", "refused (at the second attempt)")
    assert caplog.text.count("refused") == 1


def test_what_no_other_attempt_can_mend_is_not_tried_again() -> None:
    refused = FakeSession(CollectError("auth_failed", "wrong key"))

    result = make_fleet({"a": [refused]}).run()

    assert result.outcomes == {"auth_failed": 1}


def test_samples_are_handed_on_as_they_arrive_and_not_kept() -> None:
    taken: list[dict[str, Any]] = []
    sessions = {"a": [FakeSession(READING)], "b": [FakeSession(CollectError("timeout", "x"))]}

    result = make_fleet(sessions, {"take": taken.append}).run()

    assert sorted(row["host"] for row in taken) == ["a", "b"]
    assert result.samples == []
    assert (result.outcomes, result.failed_hosts) == ({"ok": 1, "timeout": 1}, ("b",))


def test_a_sample_that_cannot_be_handed_on_ends_the_run() -> None:
    def refuse(_row: dict[str, Any]) -> None:
        raise RuntimeError("queue full")

    with pytest.raises(RuntimeError, match="queue full"):
        make_fleet({"a": [FakeSession(READING)]}, {"take": refuse}).run()


def test_samples_that_exist_already_are_not_taken_again() -> None:
    result = make_fleet({"a": [], "b": [FakeSession(READING)]}, {"taken": {"a": 1}}).run()

    assert [row["host"] for row in result.samples] == ["b"]
    assert (result.hosts, result.failed_hosts) == (2, ())


def test_progress_is_told_while_it_runs_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fleets, "_PROGRESS_S", 0.05)
    told: list[Progress] = []
    two_told = threading.Event()

    def report(progress: Progress) -> None:
        told.append(progress)
        if len(told) == 2:
            two_told.set()

    def wait(_session: FakeSession) -> Reading:
        two_told.wait(30)
        return READING

    sessions = {"slow": [FakeSession(wait)], "down": [FakeSession(CollectError("timeout", "mute"))]}
    with caplog.at_level(logging.INFO):
        make_fleet(sessions, {"report": report}, host_timeout_s=60).run()

    assert told[1] == Progress(hosts=2, done=1, failed=1, running=1)
    assert told[-1] == Progress(hosts=2, done=2, failed=1, running=0)
    assert "1 samples of 2 hosts taken, 1 failed, 1 hosts being asked" in caplog.text


def test_the_summary_names_the_slowest_and_some_of_the_failed() -> None:
    failed = tuple(f"h{number}" for number in range(25))
    result = FleetResult([], {"ok": 3, "timeout": 25}, failed, 28, 0, (("h1", 9.96), ("h2", 1.0)), 12.34)

    said = summarize(result)

    assert said.startswith("28 samples of 28 hosts in 12.3 s: 3 ok, 25 timeout; slowest: h1 10.0 s, h2 1.0 s")
    assert said.endswith("h18, h19 and 5 more")


def test_the_slowest_hosts_of_a_run_are_known() -> None:
    def take_long(_session: FakeSession) -> Reading:
        threading.Event().wait(0.2)
        return READING

    sessions = {f"h{number}": [FakeSession(READING)] for number in range(9)}

    result = make_fleet({**sessions, "slow": [FakeSession(take_long)]}).run()

    assert len(result.slowest) == 5
    assert result.slowest[0][0] == "slow"


class SteppedQueue(queue.SimpleQueue[Any]):
    """Waits by moving a clock on, a bit too far as real waits do; while a job runs it waits for that."""

    def __init__(self, fleet: Fleet, now: list[float]) -> None:
        self.fleet, self.now, self.late = fleet, now, itertools.cycle((0.001, 0.02, 0.005))

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        if self.fleet._threads:
            return super().get(timeout=30)
        assert timeout is not None
        self.now[0] += timeout + next(self.late)
        raise queue.Empty


def test_timestamps_of_many_samples_keep_their_cadence(monkeypatch: pytest.MonkeyPatch) -> None:
    interval, count, now = 10.0, 500, [1000.0]
    start = datetime(2026, 1, 1, tzinfo=UTC)
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    monkeypatch.setattr(clock, "utc_now", lambda: start + timedelta(seconds=now[0]))
    busy = random.Random(6)

    def take(_session: FakeSession) -> Reading:
        moment = clock.utc_now()
        now[0] += busy.uniform(0.5, 8)  # a sample takes its time, and the next must not be later for it
        return Reading({"outcome": "ok"}, moment, 0.0)

    session = FakeSession(*[take] * count)
    fleet = Fleet([Target("a", "a")], SchedulePolicy(count, interval, 1, 30), lambda _: session)
    monkeypatch.setattr(fleet, "_answers", SteppedQueue(fleet, now))

    result = fleet.run()

    times = [datetime.fromisoformat(row["timestamp"]) for row in result.samples]
    offsets = [(time - times[0]).total_seconds() - slot * interval for slot, time in enumerate(times)]
    assert len(times) == count
    assert result.skipped_slots == 0
    assert max(map(abs, offsets)) < 0.01 * interval


def test_real_samples_do_not_drift() -> None:
    interval, count = 0.5, 8

    def take(_session: FakeSession) -> Reading:
        moment = clock.utc_now()
        time.sleep(0.1)
        return Reading({"outcome": "ok"}, moment, 0.0)

    session = FakeSession(*[take] * count)
    fleet = Fleet([Target("a", "a")], SchedulePolicy(count, interval, 1, 30), lambda _: session)

    result = fleet.run()

    times = [datetime.fromisoformat(row["timestamp"]) for row in result.samples]
    slots = [(time - times[0]).total_seconds() / interval for time in times]
    assert len(times) + result.skipped_slots == count
    # A busy machine delays one or another, and never moves those that follow: each is in a slot of its own.
    assert sorted({int(slot + 0.1) for slot in slots}) == [int(slot + 0.1) for slot in slots]


def test_a_connection_lost_in_the_middle_of_a_loop_costs_no_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleets, "_RETRY_DELAY_S", (0.0, 0.01))
    lost = FakeSession(READING, READING, TransientError("unreachable", "the connection dropped"))
    anew = FakeSession(READING, READING)
    sessions = iter([lost, anew])
    fleet = Fleet([Target("a", "a")], SchedulePolicy(4, 0.3, 1, 5), lambda _: next(sessions))

    result = fleet.run()

    assert (len(result.samples) + result.skipped_slots, set(result.outcomes)) == (4, {"ok"})
    assert lost.closed.is_set()
    assert anew.calls.count("collect") >= 1
