"""Which part of a span is read where; nothing is read twice and nothing is left out."""

from __future__ import annotations

import csv
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from airflow_provider_restrack.capacity.history import (
    HistoryReader,
    Segment,
    choose_level,
    export,
    find_holes,
    plan_segments,
)
from airflow_provider_restrack.store.tiers import DAY_S, TIERS

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_790_000_000
TTLS = {None: 14 * DAY_S, **{tier: tier.ttl_s for tier in TIERS}}


@given(
    st.integers(0, 6 * 365 * DAY_S),
    st.integers(0, 400 * DAY_S),
    st.integers(0, len(TIERS)),
    st.dictionaries(st.sampled_from([None, *TIERS]), st.sampled_from([0, 3600, 9 * DAY_S, 500 * DAY_S])),
)
def test_parts_touch_and_cover_the_span(age: int, length: int, level: int, lives: dict[Any, int]) -> None:
    since, until = NOW - age, NOW - age + length
    segments = plan_segments(since, until, level, {**TTLS, **lives}, NOW)

    if length == 0:
        assert all(one.since_s < one.until_s for one in segments)
        return
    assert segments[0].since_s <= since < segments[0].since_s + (segments[0].tier or TIERS[-1]).seconds
    assert segments[-1].until_s == until
    for older, newer in itertools.pairwise(segments):
        assert older.until_s == newer.since_s
        assert older.tier is not None
        assert older.until_s % older.tier.seconds == 0, "a coarser bucket would reach into the finer part"
        assert newer.tier is None or newer.tier.seconds < older.tier.seconds


def test_what_has_expired_is_read_from_the_next_coarser() -> None:
    segments = plan_segments(NOW - 100 * DAY_S, NOW, 0, TTLS, NOW)
    assert [one.tier.name if one.tier else "raw" for one in segments] == ["1h", "5m", "raw"]
    assert NOW - segments[-1].since_s < 14 * DAY_S - 600


@pytest.mark.parametrize(
    ("days", "resolution", "level"),
    [
        (0.25, "auto", 0),
        (1, "auto", 1),
        (8, "auto", 1),
        (9, "auto", 2),
        (90, "auto", 2),
        (365, "auto", 3),
        (9000, "auto", 3),
        (90, "raw", 0),
        (1, "1d", 3),
    ],
)
def test_resolution_follows_the_length_of_the_span(days: float, resolution: str, level: int) -> None:
    assert choose_level(0, int(days * DAY_S), resolution) == level


def test_holes_are_runs_of_whole_buckets() -> None:
    assert find_holes(np.array([600, 1200]), 10, 2000, 300) == [(300, 600), (900, 1200), (1500, 2100)]
    assert find_holes(np.array([0, 300]), 0, 600, 300) == []
    assert find_holes(np.array([]), 600, 600, 300) == []


class NoSession:
    """Says how long rows live; nothing else may be asked."""

    def execute(self, *_: Any) -> list[tuple[str, int]]:
        return [("system_metrics", 5), *((tier.table_name, 5) for tier in TIERS)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": ["cpu"]}, "no metric of a sample: 'cpu'"),
        ({"metrics": []}, "no metric"),
        ({"metrics": "host"}, "no metric of a sample: 'host'"),
        ({"resolution": "2h"}, "resolution '2h' is unknown"),
        ({"naive": True}, "since .* has no time zone"),
        ({"reversed": True}, "lies before"),
    ],
    ids=str,
)
def test_arguments_that_make_no_sense_are_refused(change: dict[str, Any], message: str) -> None:
    from datetime import UTC, datetime, timedelta

    since = until = datetime(2026, 11, 24, tzinfo=UTC)
    if change.pop("naive", False):
        since = since.replace(tzinfo=None)
    if change.pop("reversed", False):
        until -= timedelta(days=1)
    arguments = {"hosts": "web", "metrics": "cpu_usage", "since": since, "until": until, **change}
    with pytest.raises(ValueError, match=message):
        HistoryReader(NoSession()).read(**arguments)


def test_a_table_is_written_by_the_ending_of_its_name(tmp_path: Path) -> None:
    table = pa.table({"host": ["web"], "avg": [1.5]})

    export(table, tmp_path / "h.csv")
    export(table, tmp_path / "h.parquet")

    with (tmp_path / "h.csv").open() as file:
        assert list(csv.DictReader(file)) == [{"host": "web", "avg": "1.5"}]
    assert parquet.read_table(tmp_path / "h.parquet").to_pylist() == table.to_pylist()
    with pytest.raises(ValueError, match="neither in"):
        export(table, tmp_path / "h.xlsx")


def test_segments_compare_by_value() -> None:
    assert plan_segments(NOW - 60, NOW, 0, TTLS, NOW) == [Segment(None, NOW - 60, NOW)]
