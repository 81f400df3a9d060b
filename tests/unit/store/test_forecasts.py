"""What of the forecasts table needs no server; the rest is in tests/integration/store."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_restrack.store.forecasts import (
    _LATEST_OFFSET_US,
    _OFFSET_STEP_S,
    FORECASTS,
    TTL_S,
    _write_time,
    days_left,
)
from airflow_provider_restrack.store.schema import build_create_table

AS_OF = datetime(2026, 3, 2, tzinfo=UTC)


def test_the_table_is_made_by_its_own_columns() -> None:
    statement = build_create_table(FORECASTS, "metrics")

    assert "PRIMARY KEY ((metric), host, device)" in statement
    assert "    days_likely double,\n" in statement
    assert "cpu_usage" not in statement


@pytest.mark.parametrize(
    ("verdict", "days", "after", "left"),
    [
        ("filling", 10.0, 0, 10.0),
        ("filling", 10.0, 4, 6.0),
        ("filling", 2.0, 4, 0.0),
        ("filling", None, 4, None),
        ("flat", None, 0, None),
        ("already over", None, 3, 0.0),
    ],
)
def test_time_passes_from_a_forecast_on(
    verdict: str, days: float | None, after: int, left: float | None
) -> None:
    forecast: dict[str, Any] = {"verdict": verdict, "days_likely": days, "as_of": AS_OF}

    assert days_left(forecast, AS_OF + timedelta(days=after)) == left


def test_a_later_moment_outweighs_any_later_making_of_an_earlier_one() -> None:
    first = _write_time(AS_OF, AS_OF + timedelta(minutes=5))
    again = _write_time(AS_OF, AS_OF + timedelta(days=400))

    assert first < again < _write_time(AS_OF + timedelta(seconds=1), AS_OF)


@pytest.mark.parametrize("days", [0, 1, 11, 12, 20, 34.9])
def test_of_one_moment_the_later_making_stays_for_as_long_as_a_row_lives(days: float) -> None:
    made = AS_OF + timedelta(days=days)

    assert _write_time(AS_OF, made) < _write_time(AS_OF, made + timedelta(seconds=4))
    assert TTL_S < _LATEST_OFFSET_US * _OFFSET_STEP_S


def test_the_table_is_known_without_a_driver() -> None:
    code = "import sys, airflow_provider_restrack.store.forecasts; print('cassandra' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert done.stdout.strip() == "False", done.stderr
