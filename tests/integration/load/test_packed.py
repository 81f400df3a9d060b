"""Packed rows on a real Cassandra: what it stores of them, and that it can ask again for their statements."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from airflow_provider_restrack import clock
from airflow_provider_restrack.load import rows
from airflow_provider_restrack.load.encode import RowEncoder
from airflow_provider_restrack.load.offsets import OffsetTracker, Partition
from airflow_provider_restrack.load.pack import PackedEncoder
from airflow_provider_restrack.load.rows import build_row_maker
from airflow_provider_restrack.load.write import WritePolicy, Writer

pytestmark = pytest.mark.cassandra


def test_packed_rows_are_stored_as_bound_ones_are(pipeline, sample, unique, monkeypatch) -> None:
    samples = [sample(f"web-{number % 5}", age_s=60 + number) for number in range(40)]
    samples += [{"host": "lone", "timestamp": samples[0]["timestamp"], "cpu_core_usage": [], "labels": {}}]
    pipeline.send(*samples)
    stored = []
    for packs in (True, False):
        if not packs:
            monkeypatch.setattr(rows, "open_packing", lambda *_arguments: None)
        maker = build_row_maker(pipeline.policy, pipeline.session)
        assert {type(one) for one in maker.encoders} == {PackedEncoder if packs else RowEncoder}
        assert pipeline.load(group_id=unique("group"), ttl=86400).records == len(samples)
        stored.append(
            [found for table in ("system_metrics", "latest_metrics") for found in read(pipeline, table)]
        )
        for table in ("system_metrics", "latest_metrics"):
            pipeline.session.execute(f"TRUNCATE {pipeline.keyspace}.{table}")

    assert len(stored[0]) == 2 * (len(samples) + 6)
    assert stored[0] == stored[1]


def read(pipeline, table: str) -> list[tuple[str, int]]:
    found = pipeline.session.execute(f"SELECT JSON * FROM {pipeline.keyspace}.{table}")
    times = pipeline.session.execute(
        f"SELECT host, timestamp, writetime(id) FROM {pipeline.keyspace}.{table}"
    )
    return sorted(row[0] for row in found) + sorted(str(tuple(row)) for row in times)


def test_packed_rows_are_sent_again_when_cassandra_has_forgotten_the_statement(
    pipeline, sample, caplog
) -> None:
    caplog.set_level("DEBUG", "cassandra.cluster")
    policy = replace(pipeline.policy, tables=[f"{pipeline.keyspace}.system_metrics"])
    maker = build_row_maker(policy, pipeline.session)
    [encoder] = maker.encoders
    ticket = OffsetTracker().open({Partition("t", 0): 1})
    refused: list[Exception] = []
    writer = Writer(
        pipeline.session, WritePolicy(), on_refused=lambda _row, error, _ticket: refused.append(error),
        now=clock.monotonic,
    )  # fmt: skip
    for step in range(2):
        if step:  # a changed table's statements are dropped by the server
            pipeline.session.execute(f"ALTER TABLE {pipeline.keyspace}.system_metrics ADD a_new_column int")
        for host, count in (("web", 3), ("lone", 1)):
            records = [sample(host, age_s=60 + 10 * step + number) for number in range(count)]
            values = [maker.decoder.decode(json.dumps(record).encode()) for record in records]
            writer.submit(encoder.plan.target, [encoder.encode(one, 7, None, None) for one in values], ticket)
        writer.drain()

    assert refused == []
    assert [row["host"] for row in pipeline.rows()] == ["lone"] * 2 + ["web"] * 6
    assert writer.counts.retries == 0
    assert "Re-preparing" in caplog.text
