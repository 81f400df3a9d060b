"""Columns of every source and of the rarer types, on real servers."""

from __future__ import annotations

import json
import uuid

import pytest

from airflow_provider_restrack.load import rows

pytestmark = pytest.mark.cassandra


@pytest.mark.parametrize("packs", [True, False], ids=["packed", "bound"])
def test_rarer_types_are_stored(pipeline, unique, packs, monkeypatch) -> None:
    if not packs:
        monkeypatch.setattr(rows, "open_packing", lambda *_arguments: None)
    keyspace, session = pipeline.keyspace, pipeline.session
    session.execute(f'CREATE TYPE {keyspace}.place (row int, "Rack" text, since date)')
    session.execute(
        f"CREATE TABLE {keyspace}.things (k text PRIMARY KEY, at tuple<int, text, timestamp>, place place,"
        " places list<frozen<place>>, vec vector<float, 3>, took duration, source text, part int)"
    )
    pipeline.send(
        {"k": "a", "at": [1, None, 0], "place": {"row": "7", "since": "2026-01-02"}, "vec": [1, "2.5", -3],
         "places": [{"Rack": 4}], "took": "P1M2DT3.5S"},
    )  # fmt: skip

    result = pipeline.load(
        tables=[f"{keyspace}.things"],
        columns={"source": {"value": "lab"}, "part": "__partition"},
    )

    assert result.rows == 1
    [row] = session.execute(f"SELECT JSON * FROM {keyspace}.things")
    stored = json.loads(row[0])
    assert stored.pop("part") in range(4)
    assert stored == {
        "k": "a", "at": [1, None, "1970-01-01 00:00:00.000Z"], "vec": [1.0, 2.5, -3.0],
        "took": "1mo2d3s500ms",
        "place": {"row": 7, '"Rack"': None, "since": "2026-01-02"}, "source": "lab",
        "places": [{"row": None, '"Rack"': "4", "since": None}],
    }  # fmt: skip


def test_metadata_of_kafka_fills_columns(pipeline) -> None:
    keyspace, session = pipeline.keyspace, pipeline.session
    session.execute(
        f"CREATE TABLE {keyspace}.events (topic text, part int, pos bigint, host text, trace text, raw blob,"
        " came timestamp, day date, since timestamp, v int, PRIMARY KEY ((topic, part), pos))"
    )
    pipeline.send(
        b'{"v": 1, "ts": 1767322800}', key="web-1", partition=2, timestamp=1767322801000,
        headers=[("trace", b"abc")],
    )  # fmt: skip

    pipeline.load(
        tables=[f"{keyspace}.events"],
        timestamp_field="ts",
        columns={
            "topic": "__topic", "part": "__partition", "pos": "__offset", "host": "__key", "raw": "__key",
            "trace": "header.trace", "came": "__timestamp", "day": {"day_of": "ts"},
            "since": {"field": "ts", "unit": "s"},
        },
    )  # fmt: skip

    [row] = session.execute(f"SELECT JSON * FROM {keyspace}.events")
    assert json.loads(row[0]) == {
        "topic": pipeline.topic, "part": 2, "pos": 0, "host": "web-1", "raw": "0x7765622d31", "trace": "abc",
        "came": "2026-01-02 03:00:01.000Z", "day": "2026-01-02", "since": "2026-01-02 03:00:00.000Z", "v": 1,
    }  # fmt: skip
    [(written,)] = session.execute(f"SELECT writetime(v) FROM {keyspace}.events")
    assert written == 1767322800000000


@pytest.mark.parametrize("packs", [True, False], ids=["packed", "bound"])
def test_nested_fields_and_derivations_fill_columns(pipeline, dead_letter_topic, packs, monkeypatch) -> None:
    if not packs:
        monkeypatch.setattr(rows, "open_packing", lambda *_arguments: None)
    keyspace, session = pipeline.keyspace, pipeline.session
    session.execute(
        f"CREATE TABLE {keyspace}.nested (host text, at timestamp, id uuid, user double, system double,"
        " cores list<int>, cpu map<text, double>, day date, PRIMARY KEY ((host), at))"
    )
    columns = {
        "host": {"first_of": ["meta.host", "hostname", "__key"]}, "at": "meta.at", "user": "cpu.user",
        "system": "cpu.system", "cores": "meta.hw.cores",
        "id": {"uuid5_of": ["meta.host", "meta.at"], "namespace": str(uuid.NAMESPACE_DNS)},
        "day": {"first_of": ["born", {"day_of": "meta.at"}]},
    }  # fmt: skip
    moment = "2026-01-02T03:00:00Z"
    pipeline.send(
        {"meta": {"host": "a", "at": moment, "hw": {"cores": ["1", 2]}}, "cpu": {"user": 1.5, "system": "2"}},
        {"hostname": "b", "cpu.user": 7, "cpu": None, "meta": {"at": moment}},
        {"hostname": "c", "meta": {"at": moment}, "cpu": {"user": "x"}},
    )

    result = pipeline.load(
        tables=[f"{keyspace}.nested"], columns=columns, timestamp_field="meta.at",
        dead_letter_topic=dead_letter_topic, dead_letter_limit=None,
    )  # fmt: skip

    assert (result.rows, result.dead_letters) == (2, 1)
    stored = {one["host"]: one for one in map(json.loads, nested_rows(session, keyspace))}
    at, day = "2026-01-02 03:00:00.000Z", "2026-01-02"
    assert stored == {
        "a": {"host": "a", "at": at, "day": day, "user": 1.5, "system": 2.0, "cores": [1, 2],
              "cpu": {"system": 2.0, "user": 1.5}, "id": str(uuid.uuid5(uuid.NAMESPACE_DNS, f"a {moment}"))},
        "b": {"host": "b", "at": at, "day": day, "user": 7.0, "system": None, "cores": None, "cpu": None,
              "id": None},
    }  # fmt: skip
    assert {row[0] for row in session.execute(f"SELECT writetime(day) FROM {keyspace}.nested")} == {
        1_767_322_800_000_000
    }


def nested_rows(session, keyspace: str) -> list[str]:
    return [row[0] for row in session.execute(f"SELECT JSON * FROM {keyspace}.nested")]
