from __future__ import annotations

import numpy as np
import pytest

from airflow_provider_restrack.capacity.buckets import (
    build_table,
    cut_samples,
    cut_to_spans,
    of_made,
    of_rollups,
    of_samples,
)
from airflow_provider_restrack.capacity.rollup import roll_up
from airflow_provider_restrack.store.columns import Columns, Key
from airflow_provider_restrack.store.tiers import COUNTERS, TIER_BY_NAME

CPU = Key("cpu_usage")
HOUR = TIER_BY_NAME["1h"]


def columns(times_ms: list[int], **series: list[float]) -> Columns:
    named = {Key(name): np.array(values) for name, values in series.items()}
    return Columns(np.array(times_ms, np.int64), named)


@pytest.mark.parametrize(
    ("since", "until", "left"),
    [(0, 9000, [1000, 1500, 2000]), (1001, 2000, [1500]), (1000, 1001, [1000]), (2001, 9000, [])],
)
def test_samples_are_cut_to_the_millisecond_and_the_end_is_not_included(
    since: int, until: int, left: list[int]
) -> None:
    found = cut_samples(columns([1000, 1500, 2000], cpu_usage=[1.0, 1.5, 2.0]), since, until)

    assert found.times.tolist() == left
    assert found.series[CPU].tolist() == [time / 1000 for time in left]


def test_rows_are_cut_to_spans_whose_ends_are_not_included() -> None:
    found = columns([0, 3_600_000, 7_200_000, 10_800_000], cpu_usage=[0.0, 1.0, 2.0, 3.0])

    assert cut_to_spans(found, [(0, 3600), (7200, 10_800)]).series[CPU].tolist() == [0.0, 2.0]


def test_samples_are_buckets_of_one_value_without_those_that_lack_it() -> None:
    part = of_samples(columns([0, 1000], cpu_usage=[4.0, float("nan")]))
    table = build_table([("a", [part])], ["cpu_usage"])

    assert table.column("count").to_pylist() == [1]
    assert table.column("seconds").to_pylist() == [0]
    for name in ("min", "max", "sum", "last", "p95", "avg"):
        assert table.column(name).to_pylist() == [4.0]
    assert table.column("coverage").to_pylist() == [None]


def test_of_a_counter_only_the_last_value_is_told() -> None:
    name = next(iter(sorted(COUNTERS)))
    times = np.array([0, 10_000], np.int64)
    made = roll_up(times, np.array([[5.0, 7.0]]), HOUR.seconds)
    parts = [of_made([Key(name)], made, HOUR)]

    (row,) = build_table([("a", parts)], [name]).to_pylist()

    assert (row["count"], row["last"], row["min"], row["sum"], row["avg"]) == (2, 7.0, None, None, None)


def test_parts_of_several_tiers_are_one_table_in_the_order_of_time() -> None:
    times = np.arange(0, 3_600_000, 10_000, dtype=np.int64)
    made = of_made([CPU], roll_up(times, np.full((1, times.size), 2.0), 300), TIER_BY_NAME["5m"])
    fields = {"count": 360.0, "min": 1.0, "max": 3.0, "sum": 720.0, "last": 2.0, "p95": 3.0}
    series = {Key("cpu_usage", None, name): np.array([value]) for name, value in fields.items()}
    stored = Columns(np.array([-3_600_000], np.int64), series | {Key("interval"): np.array([10.0])})

    table = build_table([("b", [made, of_rollups(stored, HOUR)]), ("a", [])], ["cpu_usage"])

    assert table.num_rows == 13
    assert set(table.column("host").to_pylist()) == {"b"}
    assert table.column("seconds").to_pylist() == [3600] + [300] * 12
    assert table.column("avg").to_pylist() == [2.0] * 13
    assert table.column("coverage").to_pylist() == pytest.approx([1.0] * 13)
