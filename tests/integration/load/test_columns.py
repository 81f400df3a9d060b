"""Columns of every source and of the rarer types, on real servers."""

from __future__ import annotations

import json

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
