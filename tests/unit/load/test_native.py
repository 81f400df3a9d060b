"""Frames of writes against those that the driver's own messages give, and the cutting of answers."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from cassandra.protocol import BatchMessage, ExecuteMessage, ProtocolHandler
from cassandra.query import UNSET_VALUE, BatchType
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.load.native import VERSION, Frame, WriteFrames, split_frames
from airflow_provider_restrack.load.pack import pack_bound

VALUES = st.none() | st.just(UNSET_VALUE) | st.binary(max_size=20)


@st.composite
def tables(draw: st.DrawFn) -> tuple[int, list[list[Any]]]:
    """Draw a number of values and rows that have so many each."""
    count = draw(st.integers(1, 6))
    rows = draw(st.lists(st.lists(VALUES, min_size=count, max_size=count), min_size=1, max_size=5))
    return count, rows


def drivers_frame(query_id: bytes, rows: list[list[Any]], level: int, stream: int) -> bytes:
    """Return what the driver sends for the same write by protocol 4."""
    if len(rows) == 1:
        message = ExecuteMessage(query_id, rows[0], level, timestamp=None, skip_meta=False)
    else:
        queries = [(True, query_id, row) for row in rows]
        message = BatchMessage(BatchType.UNLOGGED, queries, level, timestamp=None)
    message.tracing, message.custom_payload = False, None
    frame: bytes = ProtocolHandler.encode_message(
        message, stream, VERSION, compressor=None, allow_beta_protocol_version=False
    )
    return frame


@given(tables(), st.binary(min_size=1, max_size=20), st.integers(0, 10), st.integers(0, 32767))
def test_writes_are_sent_in_the_bytes_of_the_drivers_messages(
    table: tuple[int, list[list[Any]]], query_id: bytes, level: int, stream: int
) -> None:
    count, rows = table
    frames = WriteFrames(query_id, count, level)

    ours = frames.build(stream, [pack_bound(row) for row in rows])

    assert ours == drivers_frame(query_id, rows, level, stream)


def test_a_batch_of_many_rows_is_the_drivers_too() -> None:
    rows = [[struct.pack(">i", number), None, UNSET_VALUE, b"x" * number] for number in range(300)]

    ours = WriteFrames(b"id" * 8, 4, 6).build(1, [pack_bound(row) for row in rows])

    assert ours == drivers_frame(b"id" * 8, rows, 6, 1)


def response(stream: int, body: bytes, *, opcode: int = 8, flags: int = 0, version: int = 0x84) -> bytes:
    return struct.pack(">BBhBi", version, flags, stream, opcode, len(body)) + body


FRAMES = st.lists(
    st.builds(Frame, st.integers(-1, 32767), st.integers(0, 15), st.integers(0, 16), st.binary(max_size=40)),
    max_size=6,
)


def bytes_of(frames: list[Frame]) -> bytes:
    return b"".join(response(one.stream, one.body, opcode=one.opcode, flags=one.flags) for one in frames)


@given(FRAMES, st.lists(st.integers(0, 400), max_size=8))
def test_answers_are_the_same_wherever_the_stream_is_cut(frames: list[Frame], cuts: list[int]) -> None:
    data = bytes_of(frames)
    ends = [*sorted(min(cut, len(data)) for cut in cuts), len(data)]
    found: list[Frame] = []
    rest, start = b"", 0
    for end in ends:
        rest += data[start:end]
        whole = list(split_frames(rest))
        found += whole
        rest = rest[sum(9 + len(one.body) for one in whole) :]
        start = end

    assert found == frames
    assert rest == b""


def test_what_is_not_whole_yet_is_left() -> None:
    first, second = response(1, b"abc"), response(2, b"defg")

    assert list(split_frames(b"")) == []
    assert list(split_frames(first[:8])) == []
    assert list(split_frames(first[:-1])) == []
    assert list(split_frames(first + second[:-1])) == [Frame(1, 0, 8, b"abc")]
    assert list(split_frames(first + second)) == [Frame(1, 0, 8, b"abc"), Frame(2, 0, 8, b"defg")]


@pytest.mark.parametrize("version", [0x04, 0x83, 0x85, 0x00, ord("H")])
def test_another_version_is_no_answer(version: int) -> None:
    data = response(1, b"") + response(2, b"", version=version)
    frames = split_frames(data)

    assert next(frames).stream == 1
    with pytest.raises(ValueError, match=f"version {version:#04x}"):
        next(frames)


def test_a_negative_length_is_no_answer() -> None:
    with pytest.raises(ValueError, match="length -1"):
        list(split_frames(struct.pack(">BBhBi", 0x84, 0, 1, 8, -1)))


@pytest.mark.parametrize(
    ("frame", "done"),
    [
        (Frame(1, 0, 8, b"\0\0\0\1"), True),
        (Frame(1, 8, 8, b"\0\0\0\1"), False),  # with a warning before it
        (Frame(1, 0, 8, b"\0\0\0\2"), False),  # rows
        (Frame(1, 0, 0, b"\0\0\0\1"), False),  # an error
        (Frame(1, 0, 8, b""), False),
    ],
)
def test_only_an_empty_result_says_that_a_write_is_done(frame: Frame, done: bool) -> None:
    assert frame.is_done is done
