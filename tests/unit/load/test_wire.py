"""Frames of packed rows against the frames that the driver writes of bound ones."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cassandra
import pytest
from cassandra.protocol import BatchMessage, ExecuteMessage, ProtocolHandler, QueryMessage
from cassandra.query import BatchStatement, BatchType, BoundStatement
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.load.encode import EncodedRow
from airflow_provider_restrack.load.pack import pack_bound
from airflow_provider_restrack.load.table import plan_table
from airflow_provider_restrack.load.wire import PackedTable, PackedValues, open_packing, routing_key
from airflow_provider_restrack.load.write import build_statement
from tests.unit.load.fakes import TARGET, columns_of, prepare

COLUMNS = columns_of({"k": "text", "l": "int", "v": "double", "w": "text"}, ["k", "l"])
PLAN = plan_table(TARGET, COLUMNS, {}, timestamp_field="at")
NUMBER, TEXT = st.none() | st.floats(allow_nan=False), st.none() | st.text()
ROWS = st.lists(st.tuples(st.text(max_size=3), st.integers(0, 9), NUMBER, TEXT), min_size=1, max_size=5)


def prepared_of(version: int = 5) -> Any:
    prepared = prepare(COLUMNS)
    prepared.routing_key_indexes, prepared.result_metadata_id = [0, 1], b"result"
    prepared.protocol_version = version
    return prepared


def session_of() -> SimpleNamespace:
    return SimpleNamespace(client_protocol_handler=ProtocolHandler)


def rows_of(values: list[tuple[Any, ...]], prepared: Any, packed: PackedTable | None) -> list[EncodedRow]:
    """Return rows of one partition, that of the first, packed or bound."""
    made = []
    for one in values:
        bound = prepared.bind([*values[0][:2], *one[2:], 77])
        key = tuple(bound.values[:2])
        made.append(EncodedRow(key, key, 77, 1, pack_bound(bound.values) if packed else bound, None, packed))
    return made


def message_of(statement: Any, **changes: Any) -> Any:
    """Return the message that the driver's session makes of a statement."""
    level = statement.consistency_level or 1
    if isinstance(statement, BatchStatement):
        queries = statement._statements_and_parameters
        message = BatchMessage(
            statement.batch_type, queries, level, timestamp=5, keyspace=changes.pop("keyspace", None)
        )
    else:
        prepared = statement.prepared_statement
        message = ExecuteMessage(
            prepared.query_id, statement.values, level, fetch_size=5000, timestamp=5,
            result_metadata_id=prepared.result_metadata_id,
        )  # fmt: skip
    message.tracing, message.custom_payload = changes.get("tracing", False), changes.get("payload")
    return message


def frame_of(handler: Any, message: Any, version: int = 5, compressor: Any = None) -> bytes:
    frame: bytes = handler.encode_message(
        message, 7, version, compressor=compressor, allow_beta_protocol_version=False
    )
    return frame


@given(ROWS, st.sampled_from([4, 5]), st.sampled_from([None, 6]), st.booleans())
def test_packed_rows_are_sent_in_the_bytes_of_bound_ones(
    values: list[Any], version: int, level: int | None, extras: bool
) -> None:
    session, prepared = session_of(), prepared_of(version)
    packed = open_packing(session, prepared, PLAN)
    assert packed is not None
    ours = build_statement(rows_of(values, prepared, packed), level)
    theirs = build_statement(rows_of(values, prepared, None), level)
    changes = {"tracing": True, "payload": {"a": b"b"}} if extras else {}
    if version == 5 and extras:
        changes["keyspace"] = "ks"
    zipper = bytes.swapcase if extras else None

    mine = frame_of(session.client_protocol_handler, message_of(ours, **changes), version, zipper)
    assert mine == frame_of(ProtocolHandler, message_of(theirs, **changes), version, zipper)
    for name in (
        "routing_key",
        "keyspace",
        "consistency_level",
        "is_idempotent",
        "retry_policy",
        "fetch_size",
    ):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert isinstance(ours, BatchStatement if len(values) > 1 else BoundStatement)


def test_a_message_can_be_sent_again_as_the_driver_does_after_an_error() -> None:
    session, prepared = session_of(), prepared_of()
    packed = open_packing(session, prepared, PLAN)
    message = message_of(
        build_statement(rows_of([("a", 1, None, "x"), ("a", 1, 2.0, "y")], prepared, packed), 6)
    )

    assert frame_of(session.client_protocol_handler, message) == frame_of(
        session.client_protocol_handler, message
    )


def test_other_messages_and_answers_are_the_drivers_own() -> None:
    session, prepared = session_of(), prepared_of()
    open_packing(session, prepared, PLAN)
    handler = session.client_protocol_handler
    query = QueryMessage("SELECT 1", 1)
    batch = (
        BatchStatement(batch_type=BatchType.LOGGED).add("INSERT 1").add(prepared.bind(["a", 1, 2.0, "x", 1]))
    )
    query.tracing, query.custom_payload = False, None

    for message in (
        query,
        message_of(batch),
        message_of(BatchStatement()),
        message_of(prepared.bind(["a", 1])),
    ):
        assert frame_of(handler, message) == frame_of(ProtocolHandler, message)
    assert issubclass(handler, ProtocolHandler)
    assert handler.message_types_by_opcode is ProtocolHandler.message_types_by_opcode


def test_a_second_table_takes_the_handler_of_the_first() -> None:
    session = session_of()
    open_packing(session, prepared_of(), PLAN)
    first = session.client_protocol_handler
    open_packing(session, prepared_of(), PLAN)

    assert session.client_protocol_handler is first


def test_to_a_driver_without_the_handler_packed_values_are_none_at_all() -> None:
    values = PackedValues([b"\0\0\0\1x"], 1)

    assert (len(values), list(values)) == (0, [])


def test_the_driver_can_print_a_packed_statement() -> None:
    prepared = prepared_of()

    assert "(packed)" in str(
        build_statement(rows_of([("a", 1, None, "x")], prepared, PackedTable(prepared)), None)
    )


@pytest.mark.parametrize("parts", [(b"a",), (b"a", b"\0\1"), (b"", b"x" * 300, b"z")])
def test_routing_keys_are_those_of_the_driver(parts: tuple[bytes, ...]) -> None:
    statement = BatchStatement()
    statement.routing_key = list(parts)

    assert routing_key(parts) == statement.routing_key


class OtherHandler(ProtocolHandler):  # type: ignore[misc]
    """As a driver that writes messages otherwise."""

    @classmethod
    def encode_message(cls, msg: Any, *arguments: Any, **options: Any) -> bytes:
        return repr(type(msg)).encode()


class BrokenHandler(ProtocolHandler):  # type: ignore[misc]
    """As a driver whose messages have other attributes."""

    @classmethod
    def encode_message(cls, msg: Any, *arguments: Any, **options: Any) -> Any:
        return msg.renamed


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"session": SimpleNamespace()}, "no client_protocol_handler"),
        ({"handler": OtherHandler}, "otherwise"),
        ({"handler": BrokenHandler}, "otherwise"),
        ({"version": "3.29.3"}, "version 3.29.3 is not known"),
        ({"version": "4.0.0"}, "version 4.0.0 is not known"),
        ({"protocol_version": 3}, "protocol version 3"),
        ({"protocol_version": 66}, "protocol version 66"),
        ({"column_encryption_policy": object()}, "encrypted"),
        ({"routing_key_indexes": [1, 0]}, "not the first columns"),
        ({"routing_key_indexes": None}, "not the first columns"),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value),
)
def test_where_the_driver_is_another_rows_are_bound(
    change: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    change = dict(change)
    session = change.pop("session", None) or SimpleNamespace(
        client_protocol_handler=change.pop("handler", ProtocolHandler)
    )
    monkeypatch.setattr(cassandra, "__version__", change.pop("version", cassandra.__version__))
    prepared = prepared_of()
    for name, value in change.items():
        setattr(prepared, name, value)
    before = dict(vars(session))
    caplog.set_level("INFO")

    assert open_packing(session, prepared, PLAN) is None
    assert reason in caplog.text
    assert vars(session) == before
