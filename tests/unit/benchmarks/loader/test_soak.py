from __future__ import annotations

from benchmarks.loader.soak import Reading, divide, summarize


def readings(*rates: int) -> list[Reading]:
    """Return what is seen, each second, of a run at these rates."""
    found, rows = [Reading(0.0, 0, 100.0)], 0
    for second, rate in enumerate(rates, 1):
        rows += rate
        found.append(Reading(float(second), rows, 100.0 + second))
    return found


def test_a_run_is_divided_into_parts_with_their_own_rate_and_memory() -> None:
    parts = divide(readings(10, 10, 20, 20), count=2)

    assert [(part.rows_per_second, part.rows, part.memory_mb) for part in parts] == [
        (10.0, 20, 102.0),
        (20.0, 60, 104.0),
    ]


def test_a_short_run_has_a_part_for_each_second() -> None:
    assert [part.rows_per_second for part in divide(readings(5, 7), count=10)] == [5.0, 7.0]


def test_the_figures_are_those_of_the_whole_run_and_of_its_ends() -> None:
    seen = readings(10, 20, 30)

    assert summarize(seen, divide(seen, count=3)) == {
        "rows": 60,
        "wall_seconds": 3.0,
        "rows_per_second": 20.0,
        "rows_per_second_first_part": 10.0,
        "rows_per_second_last_part": 30.0,
        "peak_mb": 103.0,
    }
