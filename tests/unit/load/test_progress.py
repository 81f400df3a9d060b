from __future__ import annotations

import pytest

from airflow_provider_restrack.load.progress import EVERY_S, Progress, Tally, format_span


def test_a_line_is_due_every_ten_seconds_and_not_before() -> None:
    progress = Progress(100.0)
    times = [100.0 + tenth / 10 for tenth in range(350)]
    told = []
    for now in times:
        if progress.due(now):
            told.append(now)
            progress.line(now, Tally())

    assert EVERY_S == 10
    assert told == [110.0, 120.0, 130.0]


def test_a_line_is_not_made_up_for_after_a_long_silence() -> None:
    progress = Progress(0.0)
    progress.line(95.0, Tally())

    assert not progress.due(104.9)
    assert progress.due(105.0)


def test_a_line_has_the_counts_the_rates_and_the_time_left() -> None:
    progress = Progress(0.0)

    first = progress.line(10.0, Tally(records=1000, rows=2000, lag=9000, dead_letters=3, retries=1))
    second = progress.line(20.0, Tally(records=4000, rows=8000, lag=6000, dead_letters=3, retries=2))

    assert first == (
        "Loading: 1000 records as 2000 rows, 200 rows/s now, 200 on average; lag left 9000, about 1 min 30 s;"
        " dead letters 3, retries 1"
    )
    assert second == (
        "Loading: 4000 records as 8000 rows, 600 rows/s now, 400 on average; lag left 6000, about 20 s;"
        " dead letters 3, retries 2"
    )


def test_a_standstill_is_called_that_and_an_end_needs_no_time() -> None:
    progress = Progress(0.0)
    progress.line(10.0, Tally(records=5, rows=5, lag=9))

    assert "0 rows/s now, 0 on average; lag left 9, at a standstill;" in progress.line(
        20.0, Tally(records=5, rows=5, lag=9)
    )
    assert "lag left 0;" in progress.line(30.0, Tally(records=14, rows=14))


def test_a_line_in_the_very_moment_of_the_start_divides_by_nothing() -> None:
    assert "0 rows/s now" in Progress(7.0).line(7.0, Tally(records=1, rows=1, lag=1))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 s"), (59.0, "59 s"), (59.5, "1 min 00 s"), (200, "3 min 20 s"), (3599.9, "1 h 00 min"),
        (7500, "2 h 05 min"), (200_000, "2 d 07 h"),
    ],
)  # fmt: skip
def test_a_span_has_two_units(seconds: float, text: str) -> None:
    assert format_span(seconds) == text
