"""Loaders that share a consumer group on real servers: what moves between them is neither lost nor undone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer

from airflow_provider_restrack.load import assembly, channel, loader
from airflow_provider_restrack.load.errors import KafkaUnavailableError
from airflow_provider_restrack.load.loader import load
from airflow_provider_restrack.load.plan import ReadPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from airflow_provider_restrack.load.offsets import Partition
    from airflow_provider_restrack.load.policy import LoadResult
    from airflow_provider_restrack.load.positions import Span

pytestmark = [pytest.mark.kafka, pytest.mark.cassandra]

# As short as brokers allow by default, so that what is lost is lost soon.
SHORT = {"session.timeout.ms": 6000}
TOTAL = 4000


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for a condition, and fail if it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come"
        time.sleep(0.02)


def gather(monkeypatch: pytest.MonkeyPatch, records: int) -> None:
    """Let loaders read and write so many records at a time."""
    monkeypatch.setattr(loader, "SLICE_RECORDS", records)
    monkeypatch.setattr(assembly, "MAX_RECORDS", records)


def this_thread() -> str:
    return threading.current_thread().name.rsplit("_", 1)[0]


class Watch:
    """What happens to the loaders of this process, by the name of their thread."""

    def __init__(self) -> None:
        self.given: dict[str, set[int]] = {}
        self.events: list[tuple[str, str, frozenset[int]]] = []
        self.unsettled_at_revocation: list[int] = []

    def note(self, what: str, partitions: Collection[Partition]) -> None:
        numbers = {partition.number for partition in partitions}
        held = self.given.setdefault(this_thread(), set())
        if what == "assigned":
            held |= numbers
        else:
            held -= numbers
        self.events.append((this_thread(), what, frozenset(numbers)))

    def count(self, who: str) -> int:
        return len(self.given.get(who, ()))


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Watch all runs of this process."""
    made = Watch()
    assigned, revoked, lost = loader.Run.on_assigned, loader.Run.on_revoked, loader.Run.on_lost

    def on_assigned(self: Any, spans: Sequence[Span]) -> None:
        assigned(self, spans)
        made.note("assigned", [span.partition for span in spans])

    def on_revoked(self: Any, partitions: Collection[Partition], *, settle_s: float) -> None:
        made.unsettled_at_revocation.append(self._tracker.unsettled)
        revoked(self, partitions, settle_s=settle_s)
        made.note("revoked" if settle_s else "handed over at once", partitions)

    def on_lost(self: Any, partitions: Collection[Partition]) -> None:
        lost(self, partitions)
        made.note("lost", partitions)

    monkeypatch.setattr(loader.Run, "on_assigned", on_assigned)
    monkeypatch.setattr(loader.Run, "on_revoked", on_revoked)
    monkeypatch.setattr(loader.Run, "on_lost", on_lost)
    return made


@contextmanager
def side_by_side(pipeline: Any) -> Iterator[Callable[..., Any]]:
    """Give a starter of loaders, each in a thread of the name that it is given."""
    pools = []

    def start(who: str, stop: Callable[[], bool] = lambda: False, **changes: Any) -> Any:
        config = pipeline.config | changes.pop("config", {})
        pools.append(ThreadPoolExecutor(1, thread_name_prefix=who))
        policy = replace(pipeline.policy, **changes)
        return pools[-1].submit(load, policy, config, pipeline.session, stop=stop)

    try:
        yield start
    finally:
        for pool in pools:
            pool.shutdown()


def slowly_until(condition: Callable[[], bool]) -> Callable[[], bool]:
    """Return a stop that stops nothing, but holds a loader up until a condition holds."""

    def stop() -> bool:
        if not condition():
            time.sleep(0.05)
        return False

    return stop


class Held:
    """A future whose answer comes when ``release`` lets it."""

    def __init__(self, future: Any, release: Callable[[Callable[[], None]], None]) -> None:
        self._future, self._release = future, release

    def __getattr__(self, name: str) -> Any:
        return getattr(self._future, name)

    def add_callbacks(self, callback: Callable[[Any], None], errback: Callable[[Any], None]) -> None:
        self._future.add_callbacks(
            callback=lambda rows: self._release(lambda: callback(rows)), errback=errback
        )


def hold_answers(
    monkeypatch: pytest.MonkeyPatch, session: Any, who: str, release: Callable[[Callable[[], None]], None]
) -> None:
    """Let the answers to one loader's writes pass through ``release``; the writes are done all the same.

    All go through the driver, for the answers to be held there.
    """
    monkeypatch.setattr(channel, "open_direct", lambda *_, **__: None)
    send = session.execute_async

    def execute_async(*arguments: Any, **named: Any) -> Any:
        future = send(*arguments, **named)
        return Held(future, release) if this_thread() == who else future

    monkeypatch.setattr(session, "execute_async", execute_async)


def answer_later(answer: Callable[[], None]) -> None:
    timer = threading.Timer(1.0, answer)
    timer.daemon = True
    timer.start()


def fill(pipeline: Any, sample: Any, count: int = TOTAL) -> None:
    """Send so many samples evenly to the four partitions."""
    for number in range(4):
        pipeline.send(*[sample(f"web-{number}", age_s=1 + n) for n in range(count // 4)], partition=number)


def assert_all_is_stored(pipeline: Any, count: int = TOTAL) -> None:
    assert pipeline.committed() == dict.fromkeys(range(4), count // 4)
    assert len(pipeline.rows()) == count
    assert len(pipeline.rows("latest_metrics")) == 4


def test_two_loaders_share_the_work_and_finish_with_what_moves(
    pipeline: Any, sample: Any, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second joins while writes of the first are in flight."""
    gather(monkeypatch, 20)
    hold_answers(
        monkeypatch,
        pipeline.session,
        "first",
        lambda answer: answer() if watch.count("second") else answer_later(answer),
    )
    fill(pipeline, sample)

    with side_by_side(pipeline) as start:
        first = start("first", slowly_until(lambda: watch.count("second") > 0))
        until(lambda: watch.count("first") == 4)
        second = start("second", slowly_until(lambda: first.done() or watch.count("second") > 0))
        results: list[LoadResult] = [first.result(90), second.result(90)]

    assert [result.records > 0 for result in results] == [True, True]
    assert [result.lag_after for result in results] == [0, 0]
    assert any(watch.unsettled_at_revocation)
    assert ("second", "assigned") in {event[:2] for event in watch.events if event[2]}
    assert "lost" not in {what for _, what, _ in watch.events}
    # What was read before the hand-over was stored and committed by it: nothing is read twice.
    if "handed over at once" not in {what for _, what, _ in watch.events}:
        assert sum(result.records for result in results) == TOTAL
    assert_all_is_stored(pipeline)


def test_a_loader_that_is_given_nothing_ends_when_nothing_is_left(
    pipeline: Any, sample: Any, watch: Watch, dead_letter_topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More tasks than partitions: the topic has one."""
    gather(monkeypatch, 10)
    pipeline.send(*[sample(age_s=n + 1) for n in range(100)], topic=dead_letter_topic)

    with side_by_side(pipeline) as start:
        first = start(
            "first",
            slowly_until(lambda: any(who == "second" for who, _, _ in watch.events)),
            topics=[dead_letter_topic],
        )
        until(lambda: watch.count("first") == 1)
        second = start("second", topics=[dead_letter_topic])
        results = [first.result(60), second.result(60)]

    assert sorted(result.records for result in results) == [0, 100]
    assert len(pipeline.rows()) == 100


def test_a_loader_that_is_given_nothing_waits_no_longer_than_its_patience(
    pipeline: Any, sample: Any, watch: Watch, dead_letter_topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gather(monkeypatch, 1)
    monkeypatch.setattr(loader, "ReadPolicy", partial(ReadPolicy, patience_s=1))
    pipeline.send(*[sample(age_s=n + 1) for n in range(30)], topic=dead_letter_topic)
    ended = threading.Event()

    def hold_up() -> bool:
        ended.wait(0.5)
        return False

    with side_by_side(pipeline) as start:
        first = start("first", hold_up, topics=[dead_letter_topic])
        until(lambda: watch.count("first") == 1)
        try:
            result = start("second", topics=[dead_letter_topic]).result(60)
        finally:
            ended.set()
        assert not first.done()
        assert first.result(60).records == 30

    assert (result.records, result.lag_before, result.stopped) == (0, 0, False)


def test_a_loader_takes_over_what_another_leaves_behind(
    pipeline: Any, sample: Any, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    gather(monkeypatch, 20)
    fill(pipeline, sample)

    with side_by_side(pipeline) as start:
        second_ended = threading.Event()
        first = start("first", slowly_until(lambda: second_ended.is_set() and watch.count("first") == 4))
        until(lambda: watch.count("first") == 4)
        second = start("second", lambda: watch.count("second") > 0)
        assert second.result(60).stopped
        second_ended.set()
        result = first.result(60)

    assert result.lag_after == 0
    assert_all_is_stored(pipeline)


CHILD = """
import json, sys, time
from airflow_provider_restrack.load import assembly, loader
from airflow_provider_restrack.load.policy import LoadPolicy
from airflow_provider_restrack.store.session import CassandraPolicy, open_session
arguments = json.loads(sys.argv[1])
loader.SLICE_RECORDS = assembly.MAX_RECORDS = 20
given = loader.Run.on_assigned
lost = loader.Run.on_lost
hand_out = loader.Run._hand_out

def on_assigned(self, spans):
    given(self, spans)
    print("assigned", len(spans), flush=True)

def on_lost(self, partitions):
    lost(self, partitions)
    print("gone", len(partitions), flush=True)

def slowly() -> bool:
    time.sleep(0.05)
    return False

def work(self):
    records = self._assembly.records
    hand_out(self)
    if records:
        print("chunk", flush=True)

loader.Run.on_assigned, loader.Run.on_lost, loader.Run._hand_out = on_assigned, on_lost, work
with open_session(CassandraPolicy(contact_points=(arguments["host"],), port=arguments["port"])) as session:
    result = loader.load(LoadPolicy(**arguments["policy"]), arguments["config"], session, stop=slowly)
print("ended", result.lag_after, flush=True)
"""


@contextmanager
def other_process(pipeline: Any, cassandra_address: tuple[str, int]) -> Iterator[Any]:
    """Run a slow loader in a process of its own, which tells what happens to it."""
    arguments = {
        "policy": {
            "topics": list(pipeline.policy.topics),
            "tables": list(pipeline.policy.tables),
            "group_id": pipeline.policy.group_id,
        },
        "host": cassandra_address[0],
        "port": cassandra_address[1],
        "config": pipeline.config | SHORT,
    }
    command = [sys.executable, "-c", CHILD, json.dumps(arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]) as child:
        try:
            yield child
        finally:
            child.kill()


def lines_until(child: Any, word: str) -> list[str]:
    """Return what the other process tells, up to the line that begins with a word."""
    told: list[str] = []
    for line in child.stdout:
        told.append(line.strip())
        if line.startswith(word):
            return told
    raise AssertionError(f"the process ended without saying {word}: {told[-5:]}")


@pytest.mark.slow
def test_a_loader_that_was_stopped_for_long_undoes_nothing_of_its_successor(
    pipeline: Any, sample: Any, watch: Watch, cassandra_address: tuple[str, int]
) -> None:
    fill(pipeline, sample)

    with other_process(pipeline, cassandra_address) as child, side_by_side(pipeline) as start:
        for _ in range(3):
            lines_until(child, "chunk")
        os.kill(child.pid, signal.SIGSTOP)
        here = start("here", config=SHORT)
        assert here.result(90).lag_after == 0
        assert_all_is_stored(pipeline)
        pipeline.send(sample("later", age_s=1), partition=0)
        os.kill(child.pid, signal.SIGCONT)
        told = lines_until(child, "ended")
        assert child.wait(20) == 0

    assert "gone 4" in told
    assert told[-1] == "ended 1"  # what came after its start is the next run's
    assert pipeline.committed() == dict.fromkeys(range(4), TOTAL // 4)
    assert pipeline.load().records == 1
    assert len(pipeline.rows()) == TOTAL + 1


@pytest.mark.slow
def test_a_killed_loader_leaves_its_partitions_to_its_retry_after_its_session(
    pipeline: Any, sample: Any, cassandra_address: tuple[str, int]
) -> None:
    fill(pipeline, sample)
    with other_process(pipeline, cassandra_address) as child:
        for _ in range(3):
            lines_until(child, "chunk")
        child.kill()
        assert child.wait(20) == -signal.SIGKILL

    result = load(pipeline.policy, pipeline.config | SHORT, pipeline.session)

    assert result.lag_after == 0
    assert_all_is_stored(pipeline)


@pytest.mark.slow
def test_a_cassandra_that_hangs_throws_no_loader_out_and_holds_up_no_other(
    pipeline: Any, sample: Any, watch: Watch, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """The first loader's writes are unanswered for longer than it may leave Kafka unpolled."""
    gather(monkeypatch, 400)
    waiting: list[Callable[[], None]] = []
    hung, lock = threading.Event(), threading.Lock()

    def release(answer: Callable[[], None]) -> None:
        with lock:
            if not hung.is_set():
                waiting.append(answer)
                return
        answer()

    hold_answers(monkeypatch, pipeline.session, "first", release)
    fill(pipeline, sample)
    config = SHORT | {"max.poll.interval.ms": 6000}

    with side_by_side(pipeline) as start:
        first = start("first", config=config)
        until(lambda: bool(waiting))
        since = time.monotonic()
        second = start("second", config=config)
        until(lambda: watch.count("second") > 0, 10)
        until(lambda: time.monotonic() - since > 10)
        assert watch.count("first") > 0
        with lock:
            hung.set()
        for answer in waiting:
            answer()
        results = [first.result(60), second.result(60)]

    assert {what for who, what, _ in watch.events if who == "first"} == {"assigned", "handed over at once"}
    assert "has gone on without this task" not in caplog.text
    assert "Application maximum poll interval" not in caplog.text
    assert all(result.records > 0 for result in results)
    assert_all_is_stored(pipeline)


def test_a_task_with_partitions_of_its_own_is_told_that_the_group_has_members(
    pipeline: Any, sample: Any
) -> None:
    pipeline.send(sample(), partition=0)
    member = Consumer(pipeline.config | {"group.id": pipeline.policy.group_id})
    joined = threading.Event()
    member.subscribe([pipeline.topic], on_assign=lambda *_: joined.set())
    try:
        while not joined.is_set():
            member.poll(0.1)
        with pytest.raises(KafkaUnavailableError, match=r"the group has active members.*partitions= needs"):
            pipeline.load(partitions=[0])
    finally:
        member.close()

    assert pipeline.load(partitions=[0]).records == 1
