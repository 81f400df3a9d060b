"""A session returns the bytes of results that are marked, and decodes all others as before."""

from __future__ import annotations

import struct
from io import BytesIO
from types import SimpleNamespace
from typing import Any

from cassandra.protocol import ProtocolHandler, ResultMessage

from airflow_provider_restrack.store.raw_rows import MARK, RawRows, keep_rows, use_raw_rows
from tests.unit.store.pages import sized


def receive(session: Any, name: str) -> Any:
    """Let the session's handler read a result of one double column."""

    def text(value: str) -> bytes:
        return struct.pack(">H", len(value)) + value.encode()

    head = struct.pack(">ii", 1, 1) + text("ks") + text("t") + text(name) + struct.pack(">H", 7)
    body = struct.pack(">i", 2) + head + struct.pack(">i", 1) + sized(struct.pack(">d", 1.5))
    message = session.client_protocol_handler.message_types_by_opcode[ResultMessage.opcode]
    return message.recv_body(BytesIO(body), 4, {}, None, None)


def test_only_marked_results_stay_bytes_and_the_handler_is_put_in_once() -> None:
    session = SimpleNamespace(client_protocol_handler=ProtocolHandler)
    assert use_raw_rows(session)
    handler = session.client_protocol_handler
    assert use_raw_rows(session)

    assert session.client_protocol_handler is handler
    assert receive(session, "cpu_usage").parsed_rows == [(1.5,)]
    assert receive(session, MARK).parsed_rows == [RawRows(struct.pack(">ii", 1, 8) + struct.pack(">d", 1.5))]


def test_a_session_without_a_handler_is_left_as_it_is() -> None:
    session = SimpleNamespace()
    assert not use_raw_rows(session)
    assert vars(session) == {}


def test_rows_are_kept_as_they_are() -> None:
    rows = [RawRows(b"")]
    assert keep_rows(["a"], rows) is rows
