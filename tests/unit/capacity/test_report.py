"""What a report decides: who is silent, who uses most and least, what changes, and how things are said."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from airflow_provider_restrack.capacity.forecast import Forecast
from airflow_provider_restrack.capacity.report import (
    HourlySum,
    SilentHost,
    describe_change,
    describe_outlook,
    describe_size,
    describe_value,
    find_silent,
    find_users,
    list_resizes,
    sum_spare,
)
from airflow_provider_restrack.capacity.rightsize import SizeAdvice

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def advise(host: str, high: float | None, verdict: Any = "fits", **changes: Any) -> SizeAdvice:
    values = {"size": 8.0, "p95_low": high, "p95_high": high, **changes}
    return SizeAdvice(host, "cpu", "CPUs", verdict, 30, **values)


def test_hours_are_means_over_days_and_hosts_come_by_their_use() -> None:
    found = HourlySum()
    hours = [NOW.replace(hour=3) - DAY, NOW.replace(hour=3), NOW.replace(hour=5)]
    found.add(table("calm", hours, [1.0, 3.0, None]))
    found.add(table("busy", hours, [50.0, 60.0, 70.0]))

    result = found.result(date(2026, 11, 23), date(2026, 11, 24))

    assert list(result.hosts) == ["busy", "calm"]
    assert result.usage[:, 3].tolist() == [55.0, 2.0]
    assert result.usage[0, 5] == 70.0
    assert np.isnan(result.usage[1, 5])
    assert np.isnan(result.usage).sum() == 24 * 2 - 3


def table(host: str, moments: list[datetime], averages: list[float | None]) -> pa.Table:
    return pa.table(
        {
            "host": pa.array([host] * len(moments)),
            "timestamp": pa.array(moments, pa.timestamp("ms", "UTC")),
            "avg": pa.array(averages, pa.float64()),
        }
    )


def test_no_hours_at_all_are_no_rows() -> None:
    assert HourlySum().result(NOW.date(), NOW.date()).usage.shape == (0, 24)


@pytest.mark.parametrize(
    ("count", "most", "least", "between"),
    [
        (0, [], [], 0),
        (1, ["h0"], [], 0),
        (3, ["h0", "h1"], ["h2"], 0),
        (7, ["h0", "h1", "h2"], ["h4", "h5", "h6"], 1),
    ],
)
def test_a_host_is_among_the_most_or_the_least_and_never_both(
    count: int, most: list[str], least: list[str], between: int
) -> None:
    advice = [advise(f"h{number}", 90.0 - number) for number in range(count)]

    users = find_users([*advice, advise("unknown", None, "insufficient data")], "cpu", 3)

    assert [one.host for one in users.most] == most
    assert [one.host for one in users.least] == least
    assert users.between == between


def test_silent_is_what_never_came_is_old_or_did_not_answer() -> None:
    rows = [
        {"host": "fresh", "timestamp": NOW - DAY / 2, "up": True},
        {"host": "old", "timestamp": NOW - 4 * DAY, "up": True},
        {"host": "down", "timestamp": NOW, "up": False, "outcome": "timeout", "error": "no answer in 20 s"},
        {"host": "mute", "timestamp": NOW, "up": False, "outcome": None, "error": None},
    ]

    assert find_silent(rows, ["fresh", "never"], NOW) == [
        SilentHost("down", NOW, "timeout: no answer in 20 s"),
        SilentHost("mute", NOW, "the host did not answer"),
        SilentHost("never", None, "no sample is stored"),
        SilentHost("old", NOW - 4 * DAY, "no sample for 4 days"),
    ]


def test_sizes_to_change_begin_with_what_is_too_small_and_go_on_with_what_gives_most() -> None:
    advice = [
        advise("fits", 50.0),
        advise("some", 10.0, "too large", fitting=6.0),
        advise("much", 5.0, "too large", fitting=1.0),
        advise("small", 95.0, "too small", fitting=12.0),
    ]

    assert [one.host for one in list_resizes(advice)] == ["small", "much", "some"]
    assert sum_spare(advice, "cpu") == 9.0
    assert sum_spare(advice, "memory") == 0.0
    assert describe_change(advice[1]) == "8 CPUs → 6 CPUs"
    assert describe_change(advice[0]) == "8 CPUs"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"verdict": "already over"}, "at its limit now"),
        ({"verdict": "flat"}, "flat"),
        (
            {"days_early": 9.0, "days_likely": 12.0, "days_late": 17.0},
            "in 12 days: 6 Dec 2026 (3 Dec to 11 Dec)",
        ),
        ({"days_early": 9.0, "days_likely": 12.0}, "in 12 days: 6 Dec 2026 (3 Dec or later)"),
        ({"days_early": 30.0, "days_likely": 40.0, "days_late": 60.0}, "(24 Dec 2026 to 23 Jan)"),
        ({"days_early": 0.5, "days_likely": 1.2, "days_late": 2.0}, "in 1 day: 25 Nov 2026"),
    ],
)
def test_an_outlook_in_words(changes: dict[str, Any], words: str) -> None:
    forecast = Forecast("h", "filesystem_usage", "/", NOW, 100.0, **{"verdict": "filling", **changes})

    assert words in describe_outlook(forecast)


@pytest.mark.parametrize(
    ("unit", "value", "words"),
    [
        ("%", 83.4, "83 %"),
        ("%", 5.25, "5.2 %"),
        ("bytes", 16 * 2**30, "16 GiB"),
        ("bytes", 1.5 * 2**30, "1.5 GiB"),
        ("%", None, "–"),
    ],
)
def test_a_value_in_words(unit: str, value: float | None, words: str) -> None:
    assert describe_value(unit, value) == words


def test_one_cpu_is_one() -> None:
    assert (describe_size("CPUs", 1.0), describe_size("CPUs", 4.0), describe_size("CPUs", None)) == (
        "1 CPU",
        "4 CPUs",
        "–",
    )
