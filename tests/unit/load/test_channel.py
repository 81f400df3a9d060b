"""The two ways of a write, and the wait for both; the lanes are real ones over pairs of sockets."""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from contextlib import ExitStack
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from cassandra.policies import HostDistance

from airflow_provider_restrack.load import direct
from airflow_provider_restrack.load.channel import Channel
from airflow_provider_restrack.load.encode import EncodedRow
from airflow_provider_restrack.load.lanes import Lane
from airflow_provider_restrack.load.native import WriteFrames
from tests.unit.load.fakes import Clock, FakeSession

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE: Any = object()
ROW = EncodedRow((b"a",), (b"a",), 1, 10, b"\0\0\0\1x", None, TABLE)
LONG_S = 60.0  # no wait of a test lasts so long: something must end it
DONE = b"\0\0\0\1"


class LaneSession(FakeSession):
    """A session of so many nodes, each at the other end of a pair of sockets."""

    def __init__(self, names: str, stack: ExitStack, answer: Any = lambda _statement: None) -> None:
        super().__init__(answer)
        self.nodes: dict[str, socket.socket] = {}
        self._stack = stack
        hosts = [SimpleNamespace(endpoint=name) for name in names]
        self.cluster = SimpleNamespace(
            metadata=SimpleNamespace(all_hosts=lambda: hosts, get_replicas=lambda _ks, _key: hosts),
            _make_connection_kwargs=None,
        )

    def get_execution_profile(self, _name: Any) -> Any:
        policy = SimpleNamespace(distance=lambda _host: HostDistance.LOCAL)
        return SimpleNamespace(consistency_level=6, request_timeout=10.0, load_balancing_policy=policy)

    def open_lane(self, _session: Any, host: Any, _tables: Any, **_options: Any) -> Lane:
        inside, outside = socket.socketpair()
        self._stack.callback(outside.close)
        self._stack.callback(inside.close)
        outside.settimeout(20)
        self.nodes[host.endpoint] = outside
        return Lane(host, inside, {TABLE: WriteFrames(b"id", 1, 6)})

    def requests(self, name: str) -> list[int]:
        """Return the streams of the requests that a node has got."""
        data, streams = self.nodes[name].recv(1 << 16), []
        while data:
            _, _, stream, _, length = struct.unpack_from(">BBhBi", data)
            streams.append(stream)
            data = data[9 + length :]
        return streams

    def answer_on(self, name: str, stream: int) -> None:
        self.nodes[name].sendall(struct.pack(">BBhBi", 0x84, 0, stream, 8, len(DONE)) + DONE)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def open_channel(
    session: Any, stack: ExitStack, monkeypatch: pytest.MonkeyPatch, tables: Any = (TABLE,)
) -> Channel:
    if isinstance(session, LaneSession):
        monkeypatch.setattr(direct, "open_lane", session.open_lane)
    channel = Channel(session, lambda rows: ("statement", len(rows)), tables, level=None, now=Clock())
    stack.callback(channel.close)
    return channel


def in_a_moment(action: Any, stack: ExitStack) -> None:
    """Do something on another thread, when the caller is likely to wait; either order is right."""
    thread = threading.Timer(0.05, action)
    thread.start()
    stack.callback(thread.join)


def test_a_write_takes_a_lane_and_not_the_driver(stack: ExitStack, monkeypatch: Any) -> None:
    session = LaneSession("a", stack)
    channel = open_channel(session, stack, monkeypatch)
    channel.send("one", "ks", [ROW], directly=True)
    channel.flush()
    assert session.futures == []
    assert channel.receive() == []

    [stream] = session.requests("a")
    session.answer_on("a", stream)
    [answer] = channel.receive()
    assert (answer.request, answer.error, answer.host) == ("one", None, "a")


def test_a_write_takes_the_driver_where_told_to(stack: ExitStack, monkeypatch: Any) -> None:
    session = LaneSession("a", stack)
    channel = open_channel(session, stack, monkeypatch)
    channel.send("one", "ks", [ROW, ROW], directly=False)

    assert [future.statement for future in session.futures] == [("statement", 2)]
    [answer] = channel.receive()
    assert (answer.request, answer.error, answer.host) == ("one", None, "10.0.0.1:9042")


@pytest.mark.parametrize(
    "tables", [(), (None,), (TABLE, None)], ids=["no table", "an unknown one", "one of both"]
)
def test_without_lanes_all_goes_by_the_driver(stack: ExitStack, monkeypatch: Any, tables: Any) -> None:
    session = LaneSession("a", stack)
    channel = open_channel(session, stack, monkeypatch, tables)
    channel.send("one", "ks", [ROW], directly=True)
    channel.flush()
    channel.reopen()

    assert session.nodes == {}
    assert len(session.futures) == 1
    assert [one.request for one in channel.receive()] == ["one"]
    assert (channel.width, channel.replicas("ks", (b"a",))) == (1, None)


def test_when_the_last_lane_is_lost_the_driver_takes_over(stack: ExitStack, monkeypatch: Any) -> None:
    session = LaneSession("a", stack)
    channel = open_channel(session, stack, monkeypatch)
    channel.send("lost", "ks", [ROW], directly=True)
    channel.flush()
    session.nodes["a"].close()
    channel.wait(LONG_S)
    assert [(one.request, type(one.error).__name__) for one in channel.receive()] == [
        ("lost", "ConnectionShutdown")
    ]

    channel.send("next", "ks", [ROW], directly=True)
    assert len(session.futures) == 1
    assert channel.replicas("ks", (b"a",)) is None


def test_the_width_is_the_number_of_nodes_that_are_written_to(stack: ExitStack, monkeypatch: Any) -> None:
    assert open_channel(LaneSession("abc", stack), stack, monkeypatch).width == 3
    assert open_channel(LaneSession("", stack), stack, monkeypatch).width == 1


def test_replicas_are_known_where_there_are_lanes(stack: ExitStack, monkeypatch: Any) -> None:
    channel = open_channel(LaneSession("ab", stack), stack, monkeypatch)

    found = channel.replicas("ks", (b"a",))
    assert found is not None
    assert hash(found) == hash(channel.replicas("ks", (b"b",)))


def test_the_drivers_error_is_an_answer_with_its_node(stack: ExitStack, monkeypatch: Any) -> None:
    error = ValueError("no")
    channel = open_channel(FakeSession(lambda _statement: error), stack, monkeypatch)
    channel.send("one", "ks", [ROW], directly=True)

    [answer] = channel.receive()
    assert (answer.request, answer.error, answer.host) == ("one", error, "10.0.0.1:9042")


@pytest.mark.parametrize("lanes", [True, False])
def test_an_answer_on_a_thread_of_the_driver_ends_the_wait(
    stack: ExitStack, monkeypatch: Any, lanes: bool
) -> None:
    session = LaneSession("a", stack, lambda _statement: ...)
    channel = open_channel(session, stack, monkeypatch, (TABLE,) if lanes else ())
    for number in range(3):
        channel.send(number, "ks", [ROW], directly=False)
        in_a_moment(lambda number=number: session.futures[number].callback(None), stack)
        started = time.monotonic()
        channel.wait(LONG_S)
        assert [one.request for one in channel.receive()] == [number]
        assert time.monotonic() - started < LONG_S


@pytest.mark.parametrize("lanes", [True, False])
def test_an_answer_that_came_before_the_wait_ends_it(stack: ExitStack, monkeypatch: Any, lanes: bool) -> None:
    channel = open_channel(LaneSession("a", stack), stack, monkeypatch, (TABLE,) if lanes else ())
    channel.send("one", "ks", [ROW], directly=False)
    started = time.monotonic()
    channel.wait(LONG_S)

    assert time.monotonic() - started < LONG_S
    assert [one.request for one in channel.receive()] == ["one"]


def test_answers_of_many_threads_are_all_received(stack: ExitStack, monkeypatch: Any) -> None:
    session = LaneSession("a", stack, lambda _statement: ...)
    channel = open_channel(session, stack, monkeypatch)
    for number in range(400):
        channel.send(number, "ks", [ROW], directly=False)
    threads = [
        threading.Thread(target=lambda part=part: [one.callback(None) for one in session.futures[part::4]])
        for part in range(4)
    ]
    for thread in threads:
        thread.start()
    found: list[Any] = []
    while len(found) < 400:
        channel.wait(LONG_S)
        found += [one.request for one in channel.receive()]
    for thread in threads:
        thread.join()

    assert sorted(found) == list(range(400))


def test_an_answer_on_a_lane_ends_the_wait(stack: ExitStack, monkeypatch: Any) -> None:
    session = LaneSession("ab", stack)
    channel = open_channel(session, stack, monkeypatch)
    channel.send("one", "ks", [ROW], directly=True)
    channel.send("two", "ks", [ROW], directly=True)
    channel.flush()
    streams = {name: session.requests(name) for name in "ab"}
    in_a_moment(lambda: session.answer_on("b", streams["b"][0]), stack)
    channel.wait(LONG_S)

    assert [one.host for one in channel.receive()] == ["b"]


def test_room_to_send_ends_the_wait(stack: ExitStack, monkeypatch: Any) -> None:
    session = LaneSession("a", stack)
    channel = open_channel(session, stack, monkeypatch)
    large = EncodedRow((b"a",), (b"a",), 1, 10, bytes(8_000_000), None, TABLE)
    channel.send("large", "ks", [large], directly=True)
    channel.flush()
    left = 9 + len(WriteFrames(b"id", 1, 6).build(0, [large.statement])) - 9
    while left:
        taken = len(session.nodes["a"].recv(1 << 20))
        assert taken
        left -= taken
        channel.wait(LONG_S if left and not readable(session.nodes["a"]) else 0)
        channel.flush()

    session.answer_on("a", 0)
    channel.wait(LONG_S)
    assert [one.request for one in channel.receive()] == ["large"]


def readable(node: socket.socket) -> bool:
    return bool(select.select([node], [], [], 0)[0])


def test_a_wait_ends_by_its_time(stack: ExitStack, monkeypatch: Any) -> None:
    for tables in ((TABLE,), ()):
        channel = open_channel(LaneSession("a", stack), stack, monkeypatch, tables)
        channel.wait(0.01)
        channel.wait(-5.0)
        assert channel.receive() == []


def test_a_lane_lost_in_sending_can_be_waited_on(stack: ExitStack, monkeypatch: Any) -> None:
    session = LaneSession("a", stack)
    channel = open_channel(session, stack, monkeypatch)
    session.nodes["a"].close()
    channel.send("lost", "ks", [ROW], directly=True)
    channel.flush()
    started = time.monotonic()
    channel.wait(LONG_S)

    assert time.monotonic() - started < LONG_S
    assert [one.request for one in channel.receive()] == ["lost"]


def test_an_idle_lane_that_its_node_closed_does_not_end_every_wait(
    stack: ExitStack, monkeypatch: Any
) -> None:
    session = LaneSession("ab", stack)
    channel = open_channel(session, stack, monkeypatch)
    session.nodes["b"].close()
    channel.wait(LONG_S)
    assert channel.receive() == []

    assert channel.width == 1


def test_answers_after_the_close_are_dropped(stack: ExitStack, monkeypatch: Any) -> None:
    session = LaneSession("a", stack, lambda _statement: ...)
    channel = open_channel(session, stack, monkeypatch)
    channel.send("one", "ks", [ROW], directly=False)
    channel.close()

    session.futures[0].callback(None)
    assert session.nodes["a"].recv(1) == b""
