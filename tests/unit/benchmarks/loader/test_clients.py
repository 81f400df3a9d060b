from __future__ import annotations

import uuid
from datetime import UTC, date, datetime

from cassandra.query import UNSET_VALUE

from benchmarks.loader.clients import Meter, Task, build_insert, build_values
from benchmarks.loader.fill import build_table

COLUMNS = ("host", "day", "timestamp", "id", "cpu_usage", "labels")
ID = "0147a330-790a-55b1-9e33-245f4b847772"


def test_peers_bind_the_drivers_values_and_leave_null_unset() -> None:
    sample = {"host": "a", "timestamp": "2026-01-01T23:59:50.000Z", "id": ID, "cpu_usage": None}

    assert build_values(COLUMNS)(sample) == [
        "a",
        date(2026, 1, 1),
        datetime(2026, 1, 1, 23, 59, 50, tzinfo=UTC),
        uuid.UUID(ID),
        UNSET_VALUE,
        UNSET_VALUE,
    ]


def test_peers_insert_all_columns_of_their_table() -> None:
    task = Task("127.0.0.1:1", 2, "topic", "run_1", ("host", "day", "timestamp"), 1, "group")

    assert build_insert(task) == "INSERT INTO bench.run_1 (host, day, timestamp) VALUES (?, ?, ?)"


def test_tables_have_the_key_and_options_of_system_metrics() -> None:
    table = build_table("run_1", COLUMNS)

    assert table.startswith("CREATE TABLE bench.run_1 (host text, day date, timestamp timestamp, id uuid,")
    assert "labels frozen<map<text,text>>, PRIMARY KEY ((host, day), timestamp))" in table
    assert "CLUSTERING ORDER BY (timestamp DESC)" in table
    assert "TimeWindowCompactionStrategy" in table


def test_a_meter_takes_the_time_that_a_contender_measured_itself() -> None:
    usage = Meter().stop(rows=10, seconds=2.5)

    assert (usage.rows, usage.seconds) == (10, 2.5)
    assert usage.peak_mb > 1
