"""Runs over stand-ins for Kafka and Cassandra that answer in any order, fail, refuse or fall silent.

After each commit, and so wherever a task may be killed, nothing below the committed offsets is missing: each
record is stored, or a newer one of its key is, or it is a dead letter or expired. The stand-ins have only
what the loop calls: ``execute_async`` and its future, and the methods of reader and dead letters.
"""

from __future__ import annotations

import itertools
import json
import random
import struct
import threading
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest
from cassandra import InvalidRequest, OperationTimedOut
from cassandra.cluster import NoHostAvailable
from cassandra.query import BatchStatement
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from airflow_provider_restrack.load import loader
from airflow_provider_restrack.load.consume import Chunk
from airflow_provider_restrack.load.errors import KafkaUnavailableError, PoisonRecordError, StoreError
from airflow_provider_restrack.load.offsets import Partition
from airflow_provider_restrack.load.policy import LoadPolicy
from airflow_provider_restrack.load.positions import Positions, plan_span
from airflow_provider_restrack.load.rows import build_row_maker
from tests.unit.load.fakes import FakeFuture, FakeMessage
from tests.unit.load.test_rows import FakeSession as SchemaSession

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TTL_S = 10**8
SILENCE_S = 0.02  # after which a silent Cassandra is taken for dead, and the run with it


@pytest.fixture(autouse=True, scope="module")
def _fast_clock() -> Iterator[None]:
    """Commits and retries are due by a clock that moves with every look at it."""
    with pytest.MonkeyPatch.context() as patch:
        ticks = itertools.count()
        patch.setattr(loader.clock, "monotonic", lambda: next(ticks) * 0.3)
        patch.setattr(loader, "WritePolicy", partial(loader.WritePolicy, backoff_s=0.001))
        yield


class World:
    """The topic, what is stored of it, and what was promised: it lasts over all runs.

    :ivar stored: of each key the write time and the number of the newest row.
    :ivar acknowledged: the newest write time that was confirmed, of each key.
    """

    def __init__(self, rng: random.Random, *, mode: str, letters: bool) -> None:
        self.rng, self.mode, self.letters = rng, mode, letters
        self.log: dict[Partition, list[FakeMessage]] = {Partition("t", 0): [], Partition("t", 1): []}
        self.kinds: dict[int, str] = {}
        self.times: dict[int, int] = {}
        self.keys: dict[int, bytes] = {}
        now_ms = int(loader.clock.utc_now().timestamp() * 1000)
        times = rng.sample(range(10**6), 60)
        for number in range(rng.randrange(1, 60)):
            where = rng.choice(list(self.log))
            last = self.log[where][-1].at if self.log[where] else -1
            kind = rng.choices(("good", "poison", "refused", "expired"), (20, 1, 3, 1))[0]
            made = 1 if kind == "expired" else now_ms - times[number]
            key = f"k{rng.randrange(6)}" if kind in ("good", "refused") else f"{kind}{number}"
            raw = (
                b"poison" if kind == "poison" else json.dumps({"k": key, "v": number, "made": made}).encode()
            )
            message = FakeMessage(raw, last + rng.choice((1, 1, 1, 3)), where.number)
            self.log[where].append(message)
            self.kinds[number], self.times[number], self.keys[number] = kind, made * 1000, key.encode()
            message.extra = [("number", str(number).encode())]
        self.committed = dict.fromkeys(self.log, 0)
        self.stored: dict[bytes, tuple[int, int]] = {}
        self.acknowledged: dict[bytes, int] = {}
        self.confirmed: set[int] = set()
        self.delivered: set[int] = set()

    def apply(self, rows: list[tuple[bytes, int, int]], *, told: bool) -> None:
        """Store rows as Cassandra does, the newer write time winning; note those that the loader knows of."""
        for key, number, write_us in rows:
            self.stored[key] = max(self.stored.get(key, (0, 0)), (write_us, number))
            if told:
                self.acknowledged[key] = max(self.acknowledged.get(key, 0), write_us)
                self.confirmed.add(number)

    def check(self) -> None:
        """No record below a committed offset is missing."""
        for partition, offset in self.committed.items():
            for message in self.log[partition]:
                number = number_of(message)
                if message.at < offset:
                    assert self._is_safe(number), (partition, offset, message.at, self.kinds[number])

    def _is_safe(self, number: int) -> bool:
        kind = self.kinds[number]
        if kind == "expired":
            return True
        if number in (self.confirmed if kind == "good" else self.delivered):
            return True
        # A row that is older than a stored one of its key need not be sent: nothing refuses it then.
        overwritten = self.acknowledged.get(self.keys[number], 0) >= self.times[number]
        return kind != "poison" and self.mode == "replace" and overwritten


def number_of(message: FakeMessage) -> int:
    assert message.extra is not None
    return int(message.extra[0][1])


def rows_of(statement: Any) -> list[tuple[bytes, int, int]]:
    """Return key, number and write time of each row of a statement."""
    batch = isinstance(statement, BatchStatement)
    bound = [one[2] for one in statement._statements_and_parameters] if batch else [statement.values]
    return [
        (values[0], struct.unpack(">i", values[1])[0], struct.unpack(">q", values[2])[0]) for values in bound
    ]


class Driver:
    """A session whose answers come from a thread of its own, in any order.

    :param trouble: how likely each kind of failure is.
    """

    def __init__(self, world: World, trouble: Mapping[str, float]) -> None:
        self._world, self._trouble = world, trouble
        self._rng = random.Random(world.rng.random())
        self._sent: SimpleQueue[FakeFuture | None] = SimpleQueue()
        self._silent: list[FakeFuture] = []
        self.cut_off = threading.Event()
        self._thread = threading.Thread(target=self._answer)
        self._thread.start()

    def execute_async(self, statement: Any) -> FakeFuture:
        future = FakeFuture(statement)
        add = future.add_callbacks

        def add_and_send(callback: Any, errback: Any) -> None:
            add(callback, errback)
            self._sent.put(future)

        future.add_callbacks = add_and_send  # type: ignore[method-assign]
        return future

    def close(self) -> None:
        self._sent.put(None)
        self._thread.join()

    def _answer(self) -> None:
        waiting: list[FakeFuture] = []
        while True:
            try:
                sent = self._sent.get(timeout=0 if waiting else SILENCE_S if self._silent else None)
            except Empty:
                if waiting:
                    self._give(waiting.pop(self._rng.randrange(len(waiting))))
                else:
                    self._die()
                continue
            if sent is None:
                return
            waiting.append(sent)

    def _die(self) -> None:
        """Nothing more is answered: the run is killed, here by an error that it cannot outlive."""
        self.cut_off.set()
        for future in self._silent:
            future.errback(RuntimeError("killed"))
        self._silent.clear()

    def _give(self, future: FakeFuture) -> None:
        rows, world = rows_of(future.statement), self._world
        fate = self._rng.random()
        for kind in ("fatal", "silent", "lost", "busy"):
            fate -= self._trouble[kind]
            if fate < 0:
                break
        else:
            kind = "stored"
        if self.cut_off.is_set() or kind == "fatal":
            future.errback(RuntimeError("refused for good"))
        elif any(world.kinds[number] == "refused" for _, number, _ in rows):
            future.errback(InvalidRequest("value too large"))
        elif kind == "silent":
            world.apply(rows, told=False)
            self._silent.append(future)
        elif kind == "lost":
            world.apply(rows, told=False)
            future.errback(OperationTimedOut())
        elif kind == "busy":
            future.errback(NoHostAvailable("all are busy", {}))
        else:
            world.apply(rows, told=True)
            future.callback(None)


class Reader:
    """Reads the world's topic and commits to it, with chunks of any size."""

    def __init__(self, world: World, driver: Driver, trouble: Mapping[str, float]) -> None:
        self._world, self._driver, self._trouble = world, driver, trouble
        self.spans = [
            plan_span(partition, world.committed[partition], 0, log[-1].at + 1 if log else 0)
            for partition, log in world.log.items()
        ]
        self._positions = Positions()
        self._positions.add(self.spans)
        self.lost = self.lag_before = 0

    def start(self, holder: Any) -> None:
        holder.on_assigned(self.spans)

    def keep_alive(self) -> None:
        pass

    @property
    def finished(self) -> bool:
        return not self._positions.open

    def read(self, limit: int, wait_s: float = 0.0) -> Chunk:
        records: list[Any] = []
        touched = set()
        rng = self._world.rng
        for partition in sorted(self._positions.open):
            count = rng.randrange(min(limit, 12) + 1)
            following = [
                message
                for message in self._world.log[partition]
                if message.at >= self._positions.next_of(partition)
            ]
            for message in following[:count]:
                self._positions.accept(partition, message.at)
                records.append(message)
                touched.add(partition)
        return Chunk(records, {partition: self._positions.next_of(partition) for partition in touched})

    def commit(self, offsets: Mapping[Partition, int]) -> Mapping[Partition, int]:
        if self._driver.cut_off.is_set():
            raise KafkaUnavailableError("killed before the commit")
        fate = self._world.rng.random()
        if fate < self._trouble["no commit"] / 2:
            raise KafkaUnavailableError("not committed")
        self._world.committed |= offsets
        self._world.check()
        if fate < self._trouble["no commit"]:
            raise KafkaUnavailableError("committed, but nobody says so")
        return offsets

    def lag_after(self, _committed: Mapping[Partition, int]) -> int:
        return 0


class Letters:
    """Dead letters, delivered some time after they are sent."""

    def __init__(self, world: World) -> None:
        self._world, self._sent, self.delivered = world, list[tuple[Any, Any]](), 0

    def send(self, record: Any, _error: BaseException, ticket: Any) -> None:
        ticket.hold()
        self._sent.append((record, ticket))

    def poll(self) -> None:
        self._deliver(self._world.rng.randrange(3))

    def flush(self) -> None:
        self._deliver(len(self._sent))

    def _deliver(self, count: int) -> None:
        for _ in range(min(count, len(self._sent))):
            record, ticket = self._sent.pop(self._world.rng.randrange(len(self._sent)))
            self._world.delivered.add(number_of(record))
            self.delivered += 1
            ticket.settle()


def run(world: World, trouble: Mapping[str, float]) -> None:
    policy = LoadPolicy(
        topics=["t"], tables=[{"table": "ks.t", "mode": world.mode}], timestamp_field="made", ttl=TTL_S,
        batch_rows=world.rng.randrange(1, 6), dead_letter_topic="dead" if world.letters else None,
    )  # fmt: skip
    driver = Driver(world, trouble)
    try:
        reader: Any = Reader(world, driver, trouble)
        letters: Any = Letters(world) if world.letters else None
        loader.Run(policy, build_row_maker(policy, SchemaSession()), reader, driver, letters).execute(
            lambda: world.rng.random() < trouble["stop"]
        )
    finally:
        driver.close()


PEACE = dict.fromkeys(("fatal", "silent", "lost", "busy", "no commit", "stop"), 0.0)


# The answers' order is the threads' own: to shrink an example would take long and find another one.
@settings(max_examples=60, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    seed=st.integers(0, 2**48),
    mode=st.sampled_from(["merge", "replace"]),
    letters=st.sampled_from([True, True, True, False]),
    trouble=st.fixed_dictionaries({name: st.sampled_from([0.0, 0.02, 0.15]) for name in PEACE}),
)
def test_wherever_runs_end_nothing_below_their_commits_is_missing(
    seed: int, mode: str, letters: bool, trouble: dict[str, float]
) -> None:
    world = World(random.Random(seed), mode=mode, letters=letters)
    for _ in range(world.rng.randrange(4)):
        with suppress(StoreError, KafkaUnavailableError, PoisonRecordError):
            run(world, trouble)
        world.check()

    with suppress(PoisonRecordError):
        run(world, PEACE)

    world.check()
    if letters:
        assert world.committed == {where: log[-1].at + 1 if log else 0 for where, log in world.log.items()}
        good = [number for number, kind in world.kinds.items() if kind == "good"]
        newest = {
            key: max((world.times[number], number) for number in good if world.keys[number] == key)
            for key in {world.keys[number] for number in good}
        }
        assert world.stored == newest
