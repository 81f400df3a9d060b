"""Which part of a span is read where; nothing is read twice and nothing is left out."""

from __future__ import annotations

import csv
import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from airflow_provider_restrack.capacity import history as reading
from airflow_provider_restrack.capacity.history import (
    HistoryReader,
    Segment,
    choose_level,
    export,
    find_holes,
    plan_segments,
)
from airflow_provider_restrack.store.columns import Columns, Key
from airflow_provider_restrack.store.tiers import AGGREGATE_FIELDS, DAY_S, TIERS, Tier

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
    since = until = datetime(2026, 11, 24, tzinfo=UTC)
    if change.pop("naive", False):
        since = since.replace(tzinfo=None)
    if change.pop("reversed", False):
        until -= timedelta(days=1)
    arguments = {"hosts": "web", "metrics": "cpu_usage", "since": since, "until": until, **change}
    with pytest.raises(ValueError, match=message):
        HistoryReader(NoSession()).read(**arguments)


class Tables:
    """Rows of ``cpu_usage`` by table (``raw`` or a tier) and start in seconds; keeps what is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ttls: dict[str, int] | None = None) -> None:
        self.rows: dict[str, list[float]] = {}
        self.asked: list[tuple[str, int, int]] = []
        monkeypatch.setattr(reading, "read_ttls", lambda _, __, names: dict.fromkeys(names, 0) | (ttls or {}))
        monkeypatch.setattr(reading, "RowReader", lambda _, __, tier, ___: Table(self, tier))

    def read(self, since: float, until: float, resolution: str = "auto") -> list[tuple[float, int]]:
        """Return start and length of each bucket."""
        since, until, now = (datetime.fromtimestamp(at, tz=UTC) for at in (since, until, NOW))
        found = HistoryReader(None).read("web", "cpu_usage", since, until, resolution, now=now)
        return [(row["timestamp"].timestamp(), row["seconds"]) for row in found.to_pylist()]


class Table:
    def __init__(self, tables: Tables, tier: Tier | None) -> None:
        self._tables, self._name = tables, tier.name if tier else "raw"
        self._fields = AGGREGATE_FIELDS if tier else (None,)

    def read(self, host: str, since_s: int, until_s: int) -> Columns:
        self._tables.asked.append((self._name, since_s, until_s))
        times = np.array([at for at in self._tables.rows.get(self._name, ()) if since_s <= at < until_s])
        series = {Key("cpu_usage", None, name): np.ones(times.size) for name in self._fields}
        return Columns((times * 1000).round().astype(np.int64), series)


def test_a_sample_is_in_one_of_two_spans_that_touch_within_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = Tables(monkeypatch)
    tables.rows["raw"] = [NOW - 60 + at for at in (0.1, 0.499, 0.5, 0.9, 1.3)]

    older = tables.read(NOW - 60 + 0.25, NOW - 60 + 0.5, "raw")
    newer = tables.read(NOW - 60 + 0.5, NOW - 60 + 1.3, "raw")

    assert [at - NOW + 60 for at, _ in older] == pytest.approx([0.499], abs=1e-6)
    assert [at - NOW + 60 for at, _ in newer] == pytest.approx([0.5, 0.9], abs=1e-6)


HOUR = 3600
MIDNIGHT = NOW // DAY_S * DAY_S


def test_what_the_finer_table_never_had_comes_from_the_coarser(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = Tables(monkeypatch)
    tables.rows["1h"] = list(range(MIDNIGHT - 10 * HOUR, MIDNIGHT, HOUR))

    found = tables.read(MIDNIGHT - 10 * HOUR + 600, MIDNIGHT, "5m")

    # The first hour is asked for in part only.
    assert found == [(MIDNIGHT - n * HOUR, HOUR) for n in range(9, 0, -1)]
    assert [name for name, *_ in tables.asked] == ["5m", "raw", "1h"]


def test_a_hole_is_filled_by_the_finest_that_has_it_and_no_moment_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tables = Tables(monkeypatch)
    first = MIDNIGHT - 3 * DAY_S
    everything = range(first, MIDNIGHT, 300)
    gone = range(first + DAY_S - 2 * HOUR - 600, first + 2 * DAY_S + 600)
    tables.rows["5m"] = [at for at in everything if at not in gone]
    tables.rows["1h"] = [
        at for at in range(first, MIDNIGHT, HOUR) if not first + DAY_S <= at < first + 2 * DAY_S
    ]
    tables.rows["1d"] = list(range(first, MIDNIGHT, DAY_S))

    found = tables.read(first, MIDNIGHT, "5m")

    coarse = [(at, seconds) for at, seconds in found if seconds != 300]
    assert coarse == [
        (first + DAY_S - 2 * HOUR, HOUR),
        (first + DAY_S - HOUR, HOUR),
        (first + DAY_S, DAY_S),
    ]
    assert all(at + seconds <= after for (at, seconds), (after, _) in itertools.pairwise(found))
    assert [name for name, *_ in tables.asked] == ["5m", "raw", "1h", "1d"]


def test_samples_that_are_gone_come_from_rollups(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = Tables(monkeypatch)
    start = NOW // HOUR * HOUR - 4 * HOUR
    tables.rows["raw"] = list(range(start + 2 * HOUR, NOW, 10))
    tables.rows["5m"] = list(range(start, NOW - HOUR, 300))

    found = tables.read(start, NOW, "raw")

    assert [at for at, seconds in found if seconds] == list(range(start, start + 2 * HOUR, 300))
    assert [name for name, *_ in tables.asked] == ["raw", "5m"]


@pytest.mark.parametrize("resolution", ["raw", "5m", "1h", "1d"])
def test_where_nothing_is_missing_no_other_table_is_asked(
    monkeypatch: pytest.MonkeyPatch, resolution: str
) -> None:
    tables = Tables(monkeypatch)
    tables.rows["raw"] = list(range(MIDNIGHT - 2 * DAY_S, NOW, 60))
    for tier in TIERS:
        tables.rows[tier.name] = list(range(MIDNIGHT - 2 * DAY_S, NOW - tier.seconds, tier.seconds))

    found = tables.read(MIDNIGHT - 2 * DAY_S, NOW, resolution)

    assert len(found) > 1
    assert {name for name, *_ in tables.asked} <= {"raw", resolution}


@given(st.data())
def test_no_moment_is_in_two_buckets_whatever_the_tables_hold(data: st.DataObject) -> None:
    first = MIDNIGHT - 3 * DAY_S
    with pytest.MonkeyPatch.context() as patch:
        life = st.sampled_from([0, DAY_S, 2 * DAY_S])
        ttls = {f"system_metrics{name}": data.draw(life) for name in ("", "_5m", "_1h", "_1d")}
        tables = Tables(patch, ttls)
        for name, step in (("raw", 1800), ("5m", 300), ("1h", HOUR), ("1d", DAY_S)):
            hidden = data.draw(st.lists(st.tuples(st.integers(0, 72), st.integers(0, 30)), max_size=3))
            tables.rows[name] = [
                at
                for at in range(first, MIDNIGHT, step)
                if not any(first + a * HOUR <= at < first + (a + b) * HOUR for a, b in hidden)
            ]
        since = first + data.draw(st.integers(0, 2 * DAY_S))

        found = tables.read(since, MIDNIGHT, data.draw(st.sampled_from(["raw", "5m", "1h", "1d"])))

    assert all(at + seconds <= after for (at, seconds), (after, _) in itertools.pairwise(found))
    asked = [name for name, *_ in tables.asked if name != "raw"]
    assert len(asked) <= 2 * len(TIERS)


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
