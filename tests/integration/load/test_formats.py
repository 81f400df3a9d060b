"""Records of other formats on real servers: each is read back as the rows that it holds."""

from __future__ import annotations

import io
import json
import struct
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import fastavro
import pytest

from airflow_provider_restrack.load.errors import SchemaRegistryError
from airflow_provider_restrack.load.loader import load

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.kafka, pytest.mark.cassandra]

MILLIS = 1_790_000_000_000
TABLE = """CREATE TABLE {}.cpu (host text, cpu text, timestamp timestamp, usage double, count bigint,
    up boolean, note text, labels frozen<map<text, text>>, PRIMARY KEY ((host), cpu, timestamp))"""
SCHEMA = {
    "type": "record",
    "name": "Cpu",
    "fields": [
        {"name": "host", "type": "string"},
        {"name": "cpu", "type": {"type": "enum", "name": "Cpus", "symbols": ["cpu0", "cpu1"]}},
        {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "usage", "type": ["null", "double"]},
        {"name": "count", "type": "long"},
        {"name": "labels", "type": {"type": "map", "values": "string"}},
    ],
}


@pytest.fixture
def cpu(pipeline: Any) -> Any:
    """Return the pipeline over a table of CPU metrics."""
    pipeline.session.execute(TABLE.format(pipeline.keyspace))
    pipeline.policy = replace(
        pipeline.policy, tables=[f"{pipeline.keyspace}.cpu"], columns={"labels": "tags"}
    )
    return pipeline


def read(pipeline: Any) -> list[tuple[Any, ...]]:
    columns = "host, cpu, timestamp, usage, count, up, note, labels, writetime(usage)"
    found = pipeline.session.execute(f"SELECT {columns} FROM {pipeline.keyspace}.cpu")
    rows = [tuple(row) for row in found]
    return sorted((*row[:7], dict(row[7] or {}), row[8]) for row in rows)


def moment(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC).replace(tzinfo=None)


def test_telegrafs_json_alone_and_in_batches(cpu: Any) -> None:
    def metric(name: str, at: int, **fields: Any) -> dict[str, Any]:
        return {"name": "cpu", "tags": {"cpu": name, "host": "a"}, "fields": fields, "timestamp": at}

    cpu.send(json.dumps(metric("cpu0", MILLIS, usage=1.5, count=3)).encode())
    batch = {"metrics": [metric("cpu0", MILLIS + 1, usage=2), metric("cpu1", MILLIS, up=True, note="x")]}
    cpu.send(json.dumps(batch).encode())

    result = cpu.load(format={"name": "telegraf", "json_timestamp_units": "1ms"})

    tags = [{"cpu": name, "host": "a"} for name in ("cpu0", "cpu1")]
    assert read(cpu) == [
        ("a", "cpu0", moment(MILLIS), 1.5, 3, None, None, tags[0], MILLIS * 1000),
        ("a", "cpu0", moment(MILLIS + 1), 2.0, None, None, None, tags[0], (MILLIS + 1) * 1000),
        ("a", "cpu1", moment(MILLIS), None, None, True, "x", tags[1], None),
    ]
    assert (result.records, result.rows, result.lag_after) == (2, 3, 0)


def test_line_protocol_with_its_own_times_and_kafkas_and_a_bad_line_aside(
    cpu: Any, dead_letter_topic: str
) -> None:
    good = f"""# from a
cpu,host=a,cpu=cpu0 usage=1.5,count=3i,up=t,note="it's \\"up\\"" {MILLIS}123456
cpu,host=b\\ c,cpu=cpu0 usage=2
"""
    bad = "cpu,host=d,cpu=cpu0 usage=1\ncpu,host=d,cpu=cpu1 usage=oops"
    cpu.send(good.encode(), bad.encode(), timestamp=MILLIS + 7)

    result = cpu.load(format="influx", dead_letter_topic=dead_letter_topic, dead_letter_limit=None)

    assert read(cpu) == [
        (
            "a",
            "cpu0",
            moment(MILLIS),
            1.5,
            3,
            True,
            'it\'s "up"',
            {"host": "a", "cpu": "cpu0"},
            MILLIS * 1000 + 123,
        ),
        (
            "b c",
            "cpu0",
            moment(MILLIS + 7),
            2.0,
            None,
            None,
            None,
            {"host": "b c", "cpu": "cpu0"},
            (MILLIS + 7) * 1000,
        ),
    ]
    assert (result.records, result.rows, result.dead_letters) == (2, 2, 1)
    [letter] = cpu.read(dead_letter_topic, 1)
    assert letter.value() == bad.encode()
    reason = dict(letter.headers())["__connect.errors.exception.message"].decode()
    assert "influx: line 2, column 27: 'oops' is no number" in reason


@contextmanager
def serve_schema(schema_id: int, port: int = 0) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == f"/schemas/ids/{schema_id}"
            answer = {"schema": json.dumps(SCHEMA)} if found else {"error_code": 40403}
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def frame(schema_id: int, **row: Any) -> bytes:
    out = io.BytesIO()
    out.write(struct.pack(">BI", 0, schema_id))
    whole = {"host": "a", "cpu": "cpu0", "usage": 1.5, "count": 2**40, "labels": {"role": "web"}} | row
    fastavro.schemaless_writer(out, fastavro.parse_schema(SCHEMA), whole)
    return out.getvalue()


def test_avro_waits_for_a_registry_that_is_down_and_puts_aside_what_it_does_not_know(
    cpu: Any, dead_letter_topic: str
) -> None:
    cpu.policy = replace(cpu.policy, columns={}, format="avro", dead_letter_topic=dead_letter_topic)
    at = datetime.fromtimestamp(MILLIS / 1000, UTC)
    cpu.send(frame(7, timestamp=at), frame(7, timestamp=at, cpu="cpu1", usage=None), frame(8, timestamp=at))

    with serve_schema(7) as url:
        config = cpu.config | {"schema.registry.url": url}
    with pytest.raises(SchemaRegistryError, match="does not answer"):
        load(cpu.policy, config, cpu.session)
    assert (read(cpu), sum(cpu.committed().values())) == ([], 0)

    with serve_schema(7) as url:
        result = load(cpu.policy, cpu.config | {"schema.registry.url": url}, cpu.session)

    assert read(cpu) == [
        ("a", "cpu0", moment(MILLIS), 1.5, 2**40, None, None, {"role": "web"}, MILLIS * 1000),
        ("a", "cpu1", moment(MILLIS), None, 2**40, None, None, {"role": "web"}, None),
    ]
    assert (result.records, result.rows, result.dead_letters, sum(cpu.committed().values())) == (3, 2, 1, 3)


def test_avros_logical_types_fill_the_columns_of_their_kind(pipeline: Any) -> None:
    kinds = {
        "price": ("decimal", {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}),
        "day": ("date", {"type": "int", "logicalType": "date"}),
        "at": ("time", {"type": "long", "logicalType": "time-micros"}),
        "id": ("uuid", {"type": "string", "logicalType": "uuid"}),
        "raw": ("blob", "bytes"),
        "ratio": ("float", "float"),
        "names": ("list<text>", {"type": "array", "items": "string"}),
    }
    schema = {"type": "record", "name": "R", "fields": [{"name": "k", "type": "string"}]}
    schema["fields"] += [{"name": name, "type": kind} for name, (_, kind) in kinds.items()]  # type: ignore[operator]
    columns = ", ".join(f"{name} {kind}" for name, (kind, _) in kinds.items())
    pipeline.session.execute(f"CREATE TABLE {pipeline.keyspace}.kinds (k text PRIMARY KEY, {columns})")
    row = {
        "k": "a", "price": Decimal("12.50"), "day": datetime(2026, 1, 2, tzinfo=UTC).date(),
        "at": datetime(2026, 1, 2, 3, 4, 5, 678, UTC).time(), "id": "8c0f7a2e-5f8b-4c6e-9d1a-2b3c4d5e6f70",
        "raw": b"\x00\xff", "ratio": float("nan"), "names": ["x", "y"],
    }  # fmt: skip
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), row)
    pipeline.send(out.getvalue())

    pipeline.load(tables=[f"{pipeline.keyspace}.kinds"], format={"name": "avro", "schema": schema})

    [found] = pipeline.session.execute(f"SELECT * FROM {pipeline.keyspace}.kinds")
    assert (found.price, str(found.day), str(found.id)) == (Decimal("12.50"), "2026-01-02", row["id"])
    assert str(found.at).startswith("03:04:05.000678")
    assert (found.raw, found.ratio, list(found.names)) == (b"\x00\xff", None, ["x", "y"])


def read_pairs(value: bytes, record: Any) -> list[dict[str, Any]] | None:
    """Return a row for each pair in ``a=1 b=2``."""
    if value == b"skip":
        return None
    pairs = (pair.split("=") for pair in value.decode().split())
    at = record.timestamp()[1]
    return [{"host": host, "cpu": "cpu0", "timestamp": at, "usage": float(usage)} for host, usage in pairs]


def test_a_function_gives_no_row_one_or_several(cpu: Any, dead_letter_topic: str) -> None:
    cpu.send(b"a=1 b=2", b"skip", b"c=x", timestamp=MILLIS)

    result = cpu.load(
        format=read_pairs, columns={}, dead_letter_topic=dead_letter_topic, dead_letter_limit=None
    )

    assert [(row[0], row[3], row[8]) for row in read(cpu)] == [
        ("a", 1.0, MILLIS * 1000),
        ("b", 2.0, MILLIS * 1000),
    ]
    assert (result.records, result.rows, result.dead_letters) == (3, 2, 1)
    [letter] = cpu.read(dead_letter_topic, 1)
    reason = dict(letter.headers())["__connect.errors.exception.message"].decode()
    assert "read_pairs: ValueError: could not convert string to float: 'x'" in reason
