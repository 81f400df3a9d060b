"""What is sent to Cassandra for a bucket, and in which batches."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cassandra import InvalidRequest
from cassandra.cluster import NoHostAvailable
from cassandra.query import UNSET_VALUE, PreparedStatement

from airflow_provider_restrack.capacity.rollup import roll_up
from airflow_provider_restrack.store.columns import Key
from airflow_provider_restrack.store.read import ReadFailedError, TableUnusableError
from airflow_provider_restrack.store.rollups import (
    BATCH_BYTES,
    RollupWriteError,
    RollupWriter,
    RowReader,
    read_ttls,
)
from airflow_provider_restrack.store.tiers import ROLLUP_COLUMNS, TIER_BY_NAME

START = datetime(2026, 11, 24, tzinfo=UTC)
READ_AT = datetime(2026, 11, 25, tzinfo=UTC)
COLUMNS = [*ROLLUP_COLUMNS, "[timestamp]", "[ttl]"]


class FakeSession:
    """Keeps what is executed; every statement is acknowledged, or fails."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.batches: list[Any] = []
        self.failure = failure

    def prepare(self, cql: str) -> Any:
        if isinstance(self.failure, InvalidRequest):
            raise self.failure
        return PreparedStatement(
            [], cql.split(maxsplit=1)[0].encode(), None, cql, None, 5, None, b"0123456789abcdef"
        )

    def execute_async(self, batch: Any) -> Any:
        self.batches.append(batch)

        def result() -> None:
            if self.failure:
                raise self.failure

        return SimpleNamespace(result=result)

    def rows(self) -> list[dict[str, Any]]:
        """Return the inserted rows by column."""
        return [
            dict(zip(COLUMNS, values, strict=True))
            for batch in self.batches
            for _, query, values in batch._statements_and_parameters
            if query == b"INSERT"
        ]


def write(session: FakeSession, keys: list[Key], values: list[list[float]], **settings: Any) -> int:
    times = int(START.timestamp() * 1000) + np.arange(len(values[0])) * settings.pop("step_ms", 1000)
    made = roll_up(times, np.array(values, float), 300)
    ttl_s = settings.pop("ttl_s", 90 * 86400)
    writer = RollupWriter(session, "metrics", TIER_BY_NAME["5m"])
    return writer.write("web", keys, made, READ_AT, ttl_s)


def test_a_row_holds_what_is_there_and_nothing_for_what_is_not() -> None:
    session = FakeSession()
    keys = [Key("cpu_usage"), Key("load_1m"), Key("filesystem_usage", "/var"), Key("filesystem_usage", "/")]

    assert write(session, keys, [[1, 3], [np.nan, np.nan], [np.nan, 5], [np.nan, np.nan]]) == 1

    (row,) = session.rows()
    assert (row["host"], row["period"]) == (b"web", b"2026-11-24")
    assert struct.unpack(">q", row["timestamp"]) == (int(START.timestamp() * 1000),)
    assert struct.unpack(">i", row["samples"]) == (2,)
    assert struct.unpack(">d", row["interval"]) == (1.0,)
    assert struct.unpack(">iiididididid", row["cpu_usage"]) == pytest.approx(
        (4, 2, 8, 1, 8, 3, 8, 4, 8, 3, 8, 2.9)
    )
    assert row["load_1m"] is UNSET_VALUE
    assert row["filesystem_usage"][:12] == struct.pack(">ii", 1, 4) + b"/var"
    assert struct.unpack(">q", row["[timestamp]"]) == (int(READ_AT.timestamp() * 1e6),)


def test_a_counter_keeps_count_and_last() -> None:
    session = FakeSession()
    write(session, [Key("network_recv_bytes")], [[10, 20]])
    (row,) = session.rows()
    assert struct.unpack(">iiiiiidi", row["network_recv_bytes"]) == (4, 2, -1, -1, -1, 8, 20.0, -1)


def test_every_row_is_deleted_just_before_it_is_written() -> None:
    session = FakeSession()
    write(session, [Key("cpu_usage")], [[1.0, 2.0]], step_ms=300_000)
    (batch,) = session.batches
    queries = [query for _, query, _ in batch._statements_and_parameters]
    assert queries == [b"DELETE", b"INSERT"] * 2
    stamp, *key = batch._statements_and_parameters[0][2]
    assert struct.unpack(">q", stamp) == (int(READ_AT.timestamp() * 1e6) - 1,)
    assert key == batch._statements_and_parameters[1][2][:3]


def test_a_row_lives_from_the_start_of_its_bucket() -> None:
    session = FakeSession()
    assert write(session, [Key("cpu_usage")], [[1.0, 2.0]], step_ms=300_000, ttl_s=86400 + 200) == 2
    assert [struct.unpack(">i", row["[ttl]"])[0] for row in session.rows()] == [200, 500]
    session = FakeSession()
    assert write(session, [Key("cpu_usage")], [[1.0, 2.0]], step_ms=300_000, ttl_s=86400) == 1
    session = FakeSession()
    assert write(session, [Key("cpu_usage")], [[1.0]], ttl_s=0) == 1
    assert struct.unpack(">i", session.rows()[0]["[ttl]"]) == (0,)


def test_a_batch_is_of_one_partition_and_of_a_size_that_the_server_takes() -> None:
    session = FakeSession()
    keys = [Key("filesystem_usage", f"/mnt/{number}") for number in range(50)]
    write(session, keys, [[1.0] * 400] * 50, step_ms=300_000)
    assert len(session.rows()) == 400
    for batch in session.batches:
        rows = [values for _, query, values in batch._statements_and_parameters if query == b"INSERT"]
        assert len({row[1] for row in rows}) == 1
        assert sum(len(cell) for row in rows for cell in row if isinstance(cell, bytes)) <= BATCH_BYTES


def test_a_batch_that_is_not_acknowledged_fails_with_host_and_table() -> None:
    with pytest.raises(RollupWriteError, match=r"metrics\.system_metrics_5m of host 'web' failed"):
        write(FakeSession(NoHostAvailable("down", {})), [Key("cpu_usage")], [[1.0]])


def test_a_missing_table_is_named_with_its_remedy() -> None:
    session = FakeSession(InvalidRequest("unconfigured table"))
    with pytest.raises(TableUnusableError, match=r"system_metrics_1h cannot be used.*ProvisionOperator"):
        RowReader(session, "metrics", TIER_BY_NAME["1h"], ["cpu_usage"])


def test_the_life_of_rows_is_read_from_the_tables() -> None:
    session: Any = SimpleNamespace(execute=lambda *_: [("system_metrics", 1209600), ("other", 5)])
    assert read_ttls(session, "metrics", ["system_metrics"]) == {"system_metrics": 1209600}
    with pytest.raises(TableUnusableError, match=r"There is no metrics\.system_metrics_1h:"):
        read_ttls(session, "metrics", ["system_metrics", "system_metrics_1h"])

    def fail(*_: Any) -> Any:
        raise NoHostAvailable("down", {})

    with pytest.raises(ReadFailedError):
        read_ttls(SimpleNamespace(execute=fail), "metrics", ["system_metrics"])
