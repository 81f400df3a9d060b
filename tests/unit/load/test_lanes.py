"""A lane over a pair of sockets: this side of it is the lane, the other a node as the test plays it."""

from __future__ import annotations

import socket
import struct
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from cassandra import InvalidRequest, OperationTimedOut, Unavailable, WriteTimeout
from cassandra.connection import ConnectionShutdown, DefaultEndPoint
from cassandra.protocol import OverloadedErrorMessage
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.load.lanes import Lane
from airflow_provider_restrack.load.native import WriteFrames
from airflow_provider_restrack.load.retry import is_transient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_restrack.load.lanes import Answer

TABLE: Any = object()
FRAMES = WriteFrames(b"id", 1, 6)
ROW = b"\0\0\0\1x"
HOST = SimpleNamespace(endpoint=DefaultEndPoint("10.0.0.1", 9042))


class Node:
    """The other end: reads the lane's requests, and answers as told."""

    def __init__(self, other: socket.socket) -> None:
        self.socket = other
        self.socket.settimeout(20)
        self._received = b""

    def request(self) -> tuple[int, int, bytes]:
        """Return stream, opcode and body of the next request."""
        _, _, stream, opcode, length = struct.unpack(">BBhBi", self._take(9))
        return stream, opcode, self._take(length)

    def _take(self, count: int) -> bytes:
        while len(self._received) < count:
            data = self.socket.recv(1 << 16)
            assert data, "the lane closed the connection"
            self._received += data
        taken, self._received = self._received[:count], self._received[count:]
        return taken

    def answer(self, *frames: bytes) -> None:
        self.socket.sendall(b"".join(frames))


@pytest.fixture
def ends() -> Iterator[tuple[Lane, Node]]:
    with open_ends() as opened:
        yield opened


@contextmanager
def open_ends() -> Iterator[tuple[Lane, Node]]:
    inside, outside = socket.socketpair()
    lane = Lane(HOST, inside, {TABLE: FRAMES})
    yield lane, Node(outside)
    lane.close()
    outside.close()


def frame(stream: int, opcode: int, body: bytes, flags: int = 0) -> bytes:
    return struct.pack(">BBhBi", 0x84, flags, stream, opcode, len(body)) + body


def done(stream: int) -> bytes:
    return frame(stream, 0x08, b"\0\0\0\1")


def text(value: str) -> bytes:
    return struct.pack(">H", len(value)) + value.encode()


def error(stream: int, code: int, message: str, more: bytes = b"") -> bytes:
    """Return an ERROR as native_protocol_v4.spec, 9, has it."""
    return frame(stream, 0x00, struct.pack(">i", code) + text(message) + more)


def send(lane: Lane, *requests: Any, now: float = 0.0) -> None:
    for request in requests:
        lane.send(request, TABLE, [ROW], now)
    assert lane.flush() == []


def streams(node: Node, count: int) -> list[int]:
    return [node.request()[0] for _ in range(count)]


def results(answers: list[Answer]) -> dict[Any, str | None]:
    return {one.request: one.error and type(one.error).__name__ for one in answers}


def test_requests_are_those_of_the_table_each_on_a_stream_of_its_own(ends: tuple[Lane, Node]) -> None:
    lane, node = ends
    lane.send("one", TABLE, [ROW], 0.0)
    lane.send("two", TABLE, [ROW, ROW], 0.0)
    assert (lane.in_flight, lane.wants_to_write) == (2, True)
    assert lane.flush() == []
    assert not lane.wants_to_write

    first, second = node.request(), node.request()
    assert first[0] != second[0]
    assert FRAMES.build(first[0], [ROW]) == struct.pack(">BBhBi", 4, 0, *first[:2], len(first[2])) + first[2]
    assert second[1:] == (0x0D, FRAMES.build(0, [ROW, ROW])[9:])


def test_answers_are_matched_in_any_order_with_their_times(ends: tuple[Lane, Node]) -> None:
    lane, node = ends
    send(lane, "a", now=1.0)
    send(lane, "b", "c", now=2.0)
    a, b, c = streams(node, 3)
    node.answer(done(c), done(a))

    answers = lane.receive(5.0)
    assert [(one.request, one.error, one.seconds, one.host) for one in answers] == [
        ("c", None, 3.0, "10.0.0.1:9042"),
        ("a", None, 4.0, "10.0.0.1:9042"),
    ]
    assert lane.in_flight == 1
    node.answer(done(b))
    assert results(lane.receive(6.0)) == {"b": None}
    assert lane.receive(7.0) == []
    assert not lane.closed


def test_an_answer_in_pieces_is_awaited(ends: tuple[Lane, Node]) -> None:
    lane, node = ends
    send(lane, "a")
    [stream] = streams(node, 1)
    whole = done(stream)
    for at in range(len(whole) - 1):
        node.answer(whole[at : at + 1])
        assert lane.receive(0.0) == []
    node.answer(whole[-1:])

    assert results(lane.receive(0.0)) == {"a": None}


def test_streams_are_used_again_without_an_end(ends: tuple[Lane, Node]) -> None:
    lane, node = ends
    for number in range(0, 40_000, 100):  # there are 32,768
        send(lane, *range(number, number + 100))
        node.answer(*map(done, streams(node, 100)))
        assert results(lane.receive(0.0)) == dict.fromkeys(range(number, number + 100))
    assert lane.in_flight == 0


LATE = struct.pack(">Hii", 6, 1, 2) + text("UNLOGGED_BATCH")
LACKING = struct.pack(">Hii", 6, 2, 1)


@pytest.mark.parametrize(
    ("code", "more", "kind", "attributes"),
    [
        (0x1100, LATE, WriteTimeout, {"consistency": 6, "received_responses": 1, "required_responses": 2}),
        (0x1000, LACKING, Unavailable, {"consistency": 6, "required_replicas": 2, "alive_replicas": 1}),
        (0x1001, b"", OverloadedErrorMessage, {"code": 0x1001}),
        (0x2200, b"", InvalidRequest, {}),
    ],
)
def test_an_error_becomes_the_drivers_exception(
    ends: tuple[Lane, Node], code: int, more: bytes, kind: type, attributes: dict[str, Any]
) -> None:
    lane, node = ends
    send(lane, "bad", "good")
    bad, good = streams(node, 2)
    node.answer(error(bad, code, "what it says", more), done(good))

    answers = lane.receive(0.0)
    assert [one.request for one in answers] == ["bad", "good"]
    found = answers[0].error
    assert type(found) is kind
    assert "what it says" in str(found)
    assert {name: getattr(found, name) for name in attributes} == attributes
    assert answers[1].error is None
    assert not lane.closed


def test_a_warning_is_logged_and_acknowledges(ends: tuple[Lane, Node], caplog: Any) -> None:
    lane, node = ends
    send(lane, "a")
    [stream] = streams(node, 1)
    warnings = struct.pack(">H", 2) + text("too big") + text("too many")
    node.answer(frame(stream, 0x08, warnings + b"\0\0\0\1", flags=0x08))

    assert results(lane.receive(0.0)) == {"a": None}
    assert "10.0.0.1:9042 warns of a write: too big; too many" in caplog.text


def test_an_error_with_a_warning_stays_an_error(ends: tuple[Lane, Node]) -> None:
    lane, node = ends
    send(lane, "a")
    [stream] = streams(node, 1)
    body = struct.pack(">H", 1) + text("too big") + struct.pack(">i", 0x2200) + text("Batch too large")
    node.answer(frame(stream, 0x00, body, flags=0x08))

    assert results(lane.receive(0.0)) == {"a": "InvalidRequest"}


def test_a_forgotten_statement_closes_the_lane_and_all_is_tried_again(ends: tuple[Lane, Node]) -> None:
    lane, node = ends
    send(lane, "stored", "forgotten", "pending", "after")
    stored, forgotten, _, after = streams(node, 4)
    node.answer(done(stored), error(forgotten, 0x2500, "Prepared query", text("id")), done(after))

    answers = lane.receive(0.0)
    assert results(answers) == {
        "stored": None,
        "forgotten": "ConnectionShutdown",
        "pending": "ConnectionShutdown",
        "after": "ConnectionShutdown",  # tried again, which does no harm
    }
    assert len(answers) == 4
    assert all(one.error is None or is_transient(one.error) for one in answers)
    assert (lane.closed, lane.in_flight) == (True, 0)


def test_a_connection_that_the_node_closes_fails_what_is_open(ends: tuple[Lane, Node]) -> None:
    lane, node = ends
    send(lane, "a", "b", "c")
    a, _, _ = streams(node, 3)
    node.answer(done(a))
    node.socket.close()

    answers = lane.receive(0.0)
    if not lane.closed:  # the end is read after what came before it
        answers += lane.receive(0.0)
    assert results(answers) == {"a": None, "b": "ConnectionShutdown", "c": "ConnectionShutdown"}
    assert {one.host for one in answers} == {"10.0.0.1:9042"}
    assert all(is_transient(one.error) for one in answers if one.error is not None)
    assert lane.closed


def test_what_cannot_be_sent_is_answered_with_the_loss(ends: tuple[Lane, Node]) -> None:
    lane, node = ends
    node.socket.close()
    lane.send("a", TABLE, [ROW], 0.0)

    assert results(lane.flush()) == {"a": "ConnectionShutdown"}
    assert (lane.closed, lane.in_flight) == (True, 0)


def test_the_oldest_request_ends_a_lane_that_does_not_answer(ends: tuple[Lane, Node]) -> None:
    lane, node = ends
    assert lane.expire(1000.0, 10.0) == []
    send(lane, "old", now=100.0)
    send(lane, "new", now=108.0)
    assert lane.expire(110.0, 10.0) == []
    assert not lane.closed

    answers = lane.expire(110.5, 10.0)
    assert results(answers) == {"old": "OperationTimedOut", "new": "OperationTimedOut"}
    assert "no answer in 10 s" in str(answers[0].error)
    assert lane.closed
    assert node.socket.recv(1 << 16)  # what was sent
    assert node.socket.recv(1) == b""  # and the end


def test_an_answered_request_no_longer_ages(ends: tuple[Lane, Node]) -> None:
    lane, node = ends
    send(lane, "old", now=100.0)
    send(lane, "new", now=108.0)
    node.answer(done(streams(node, 2)[0]))
    lane.receive(109.0)

    assert lane.expire(115.0, 10.0) == []
    assert not lane.closed


def test_more_than_the_socket_takes_is_sent_bit_by_bit() -> None:
    inside, outside = socket.socketpair()
    inside.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    lane, node = Lane(HOST, inside, {TABLE: FRAMES}), Node(outside)
    rows = [struct.pack(">i", 20_000) + bytes([number]) * 20_000 for number in range(50)]
    lane.send("big", TABLE, rows, 0.0)
    lane.send("small", TABLE, [ROW], 0.0)
    assert lane.flush() == []
    assert lane.wants_to_write

    received = b""
    while lane.wants_to_write:
        received += outside.recv(1 << 16)
        assert lane.flush() == []
    wanted = FRAMES.build(0, rows) + FRAMES.build(1, [ROW])
    while len(received) < len(wanted):
        received += outside.recv(1 << 16)
    assert received == wanted
    node.answer(done(0), done(1))
    assert results(lane.receive(0.0)) == {"big": None, "small": None}
    lane.close()
    outside.close()


def test_answers_of_more_than_one_read_are_all_taken() -> None:
    inside, outside = socket.socketpair()
    lane, node = Lane(HOST, inside, {TABLE: FRAMES}), Node(outside)
    count = 300
    for number in range(count):
        lane.send(number, TABLE, [ROW], 0.0)
    lane.flush()
    outside.setblocking(False)
    warning = struct.pack(">H", 1) + text("w" * 2000)
    data = b"".join(frame(stream, 0x08, warning + b"\0\0\0\1", flags=8) for stream in range(count))
    found: dict[Any, str | None] = {}
    while data:
        try:
            data = data[node.socket.send(data) :]
        except BlockingIOError:
            found |= results(lane.receive(0.0))
    while lane.in_flight:
        found |= results(lane.receive(0.0))
    assert found == dict.fromkeys(range(count))
    lane.close()
    outside.close()


def test_what_answers_no_request_is_left_aside(ends: tuple[Lane, Node]) -> None:
    lane, node = ends
    send(lane, "a")
    [stream] = streams(node, 1)
    event = frame(-1, 0x0C, text("STATUS_CHANGE") + text("UP") + b"\x04\x7f\0\0\1\0\0\x23\x52")
    node.answer(event, done(stream + 77), done(stream), done(stream))

    assert results(lane.receive(0.0)) == {"a": None}
    assert (lane.closed, lane.in_flight) == (False, 0)
    send(lane, "b")
    node.answer(done(streams(node, 1)[0]))
    assert results(lane.receive(0.0)) == {"b": None}


GARBAGE = {
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "another version": b"\x85" + done(1)[1:],
    "a negative length": struct.pack(">BBhBi", 0x84, 0, 1, 8, -5),
    "an unknown opcode": frame(1, 0x55, b""),
    "no answer to a write": frame(1, 0x02, b""),  # READY
    "an unknown result": frame(1, 0x08, struct.pack(">i", 99)),
    "an empty result": frame(1, 0x08, b""),
    "an empty error": frame(1, 0x00, b""),
    "an error cut off": frame(1, 0x00, struct.pack(">i", 0x1100) + text("late") + b"\0\6"),
    "an unknown write type": error(1, 0x1100, "late", struct.pack(">Hii", 6, 1, 2) + text("NEW_TYPE")),
    "text that is none": frame(1, 0x00, struct.pack(">iH", 0, 2) + b"\xff\xfe"),
    "a compressed body": frame(1, 0x08, b"\0\0\0\1", flags=1),
    "warnings cut off": frame(1, 0x08, b"\0\7", flags=8),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_after_garbage_the_lane_is_closed_and_nothing_is_lost(
    ends: tuple[Lane, Node], garbage: bytes
) -> None:
    lane, node = ends
    send(lane, "before", "at", "after")
    assert streams(node, 3) == [0, 1, 2]
    node.answer(done(0), garbage, done(2))

    answers = lane.receive(0.0)
    assert sorted(one.request for one in answers) == ["after", "at", "before"]
    assert all(one.error is None or is_transient(one.error) for one in answers)
    assert {one.request for one in answers if one.error} >= {"at"}


@given(st.binary(min_size=9, max_size=200), st.booleans())
def test_whatever_bytes_come_each_request_has_exactly_one_answer(data: bytes, framed: bool) -> None:
    requests = list(range(5))
    with open_ends() as (lane, node):
        send(lane, *requests)
        body = struct.pack(">BBhBi", 0x84, data[0] & 15, data[1] % 5, data[2] % 17, len(data)) + data
        node.answer(body if framed else data, done(4))
        node.socket.shutdown(socket.SHUT_WR)
        answers = lane.receive(0.0)
        while not lane.closed:
            answers += lane.receive(0.0)

    assert sorted(one.request for one in answers) == requests


def test_a_closed_lane_answers_what_it_held_once(ends: tuple[Lane, Node]) -> None:
    lane, _ = ends
    send(lane, "a")
    loss = OperationTimedOut()

    assert [(one.request, one.error) for one in lane.close(loss)] == [("a", loss)]
    assert lane.close() == []


def test_a_loss_says_why(ends: tuple[Lane, Node]) -> None:
    lane, _ = ends
    send(lane, "a")
    [answer] = lane.close(OSError("no route"))

    assert isinstance(answer.error, ConnectionShutdown)
    assert "the connection was lost: no route" in str(answer.error)
