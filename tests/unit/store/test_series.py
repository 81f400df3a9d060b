"""Samples as columns say what the same samples as rows say."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from cassandra.cluster import Session
from cassandra.protocol import ProtocolHandler

from airflow_provider_restrack.store.read import SampleRead
from airflow_provider_restrack.store.row_decoder import ColumnKey, Columns
from airflow_provider_restrack.store.series import (
    MAX_GROUP,
    MIN_GROUP,
    SampleColumns,
    SeriesRead,
    batched,
    find_group_size,
    open_read,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAMES = ("cpu_usage", "up", "memory_total", "filesystem_usage", "labels", "load_1m")
SAMPLES = SampleColumns(
    NAMES,
    Columns(
        (1000, 2000, 3000, 4000),
        {
            ColumnKey("cpu_usage"): (1.5, None, math.nan, 4.5),
            ColumnKey("up"): (True, False, True, True),
            ColumnKey("memory_total"): (1 << 60, 2, 3, 4),
            ColumnKey("filesystem_usage", "/var"): (None, math.inf, None, 9.0),
            ColumnKey("filesystem_usage", "/"): (5.0, 6.0, 7.0, 8.0),
            ColumnKey("filesystem_usage", "/gone"): (None, None, math.nan, None),
            ColumnKey("labels"): ({"role": "db"}, {"role": "web"}, None, None),
        },
    ),
)


def test_points_are_the_finite_values_and_their_times() -> None:
    assert SAMPLES.find_points("cpu_usage") == [(None, (1000, 4000), (1.5, 4.5))]
    assert SAMPLES.find_points("load_1m") == [(None, (), ())]
    up = SAMPLES.find_points("up")
    assert up == [(None, SAMPLES.times, (1.0, 0.0, 1.0, 1.0))]
    assert {type(value) for value in up[0][2]} == {float}


def test_a_map_has_points_of_each_device_that_has_a_number() -> None:
    assert SAMPLES.find_points("filesystem_usage") == [
        ("/", SAMPLES.times, (5.0, 6.0, 7.0, 8.0)),
        ("/var", (4000,), (9.0,)),
    ]


def test_numbers_whose_sum_is_not_finite_are_kept() -> None:
    large = SampleColumns(("cpu_usage",), Columns((1, 2), {ColumnKey("cpu_usage"): (1.7e308, 1.7e308)}))
    assert large.find_points("cpu_usage") == [(None, (1, 2), (1.7e308, 1.7e308))]


def test_rows_have_all_columns_exactly() -> None:
    assert len(SAMPLES) == 4
    assert SAMPLES[0] == {
        "timestamp": EPOCH + timedelta(seconds=1),
        "cpu_usage": 1.5,
        "up": True,
        "memory_total": 1 << 60,
        "filesystem_usage": {"/": 5.0},
        "labels": {"role": "db"},
        "load_1m": None,
    }
    assert [row["filesystem_usage"].get("/var") for row in SAMPLES] == [None, math.inf, None, 9.0]
    assert SAMPLES[2:] == [SAMPLES[2], SAMPLES[3]]


def test_samples_up_to_a_time_include_it() -> None:
    assert SAMPLES.up_to(4000) is SAMPLES
    assert [row["up"] for row in SAMPLES.up_to(2999)] == [True, False]
    assert len(SAMPLES.up_to(999)) == 0
    assert SAMPLES.up_to(999).find_points("cpu_usage") == [(None, (), ())]


def test_older_and_newer_samples_are_joined() -> None:
    older = SampleColumns(
        NAMES, Columns((1, 2), {ColumnKey("load_1m"): (0.1, 0.2), ColumnKey("up"): (False, True)})
    )
    none = SampleColumns(NAMES, Columns((), {}))

    joined = older.join(SAMPLES)

    assert joined.times == (1, 2, *SAMPLES.times)
    assert list(joined)[2:] == list(SAMPLES)
    assert joined.find_points("load_1m") == [(None, (1, 2), (0.1, 0.2))]
    assert joined.find_points("filesystem_usage")[0] == ("/", SAMPLES.times, (5.0, 6.0, 7.0, 8.0))
    assert none.join(older).times == older.join(none).times == (1, 2)
    assert none.join(none).times == ()


def test_what_is_computed_of_rows_has_points_as_a_column_has() -> None:
    ratio = SAMPLES.compute_points(
        ("cpu_usage", "memory_total"),
        lambda row: row["cpu_usage"] and row["cpu_usage"] * row["memory_total"],
        has_devices=False,
    )
    assert ratio == [(None, (1000, 4000), (1.5 * (1 << 60), 18.0))]
    assert SAMPLES.compute_points(("load_1m",), lambda row: row["load_1m"], has_devices=False) == [
        (None, (), ())
    ]
    mounts = SAMPLES.compute_points(
        ("filesystem_usage",), lambda row: row["filesystem_usage"], has_devices=True
    )
    assert mounts == SAMPLES.find_points("filesystem_usage")


def test_the_newest_value_is_the_last_that_is_there() -> None:
    assert SAMPLES.find_last("labels") == {"role": "web"}
    assert SAMPLES.find_last("error") is None


class StandIn:
    """Prepares anything, as a session does."""

    def __init__(self, handler: Any = ProtocolHandler) -> None:
        self.client_protocol_handler = handler
        self.prepared: list[str] = []

    def prepare(self, cql: str) -> Any:
        self.prepared.append(cql)
        return SimpleNamespace()


class FakeSession(StandIn, Session):
    """A session of the driver that is connected to nothing."""


def test_only_the_columns_that_are_wanted_are_read() -> None:
    session = FakeSession()
    assert isinstance(open_read(session, "metrics", ["cpu_usage", "labels"]), SeriesRead)
    assert session.prepared == [
        "SELECT host AS restrack_columns, timestamp, cpu_usage, labels FROM metrics.system_metrics"
        " WHERE host IN ? AND day = ? AND timestamp >= ? AND timestamp <= ?"
    ]


@pytest.mark.parametrize(
    ("span", "size"),
    [
        (timedelta(0), MAX_GROUP),
        (timedelta(minutes=15), MAX_GROUP),
        (timedelta(minutes=30), 11),
        (timedelta(hours=6), MIN_GROUP),
        (timedelta(days=400), MIN_GROUP),
    ],
)
def test_one_query_asks_of_as_many_hosts_as_fill_a_page(span: timedelta, size: int) -> None:
    assert find_group_size(span) == size


@pytest.mark.parametrize(
    ("session", "column"),
    [
        pytest.param(FakeSession(handler=None), "cpu_usage", id="driver-without-handlers"),
        pytest.param(FakeSession(), "cpu_core_usage", id="column-of-lists"),
        pytest.param(StandIn(), "cpu_usage", id="stand-in-of-a-session"),
    ],
)
def test_rows_are_read_where_columns_cannot_be(session: StandIn, column: str) -> None:
    assert isinstance(open_read(session, "metrics", [column]), SampleRead)
    assert len(session.prepared) == 1


def test_names_are_split_into_groups() -> None:
    assert batched("abcde", 2) == [["a", "b"], ["c", "d"], ["e"]]
    assert batched([], 2) == []


def test_a_column_that_is_no_field_is_refused() -> None:
    with pytest.raises(ValueError, match="no field of a sample: 'cpu'"):
        open_read(FakeSession(), "metrics", ["cpu"])
