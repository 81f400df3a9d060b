from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_restrack.capacity.forecast import DailyRow, SeriesKey
from airflow_provider_restrack.capacity.rightsize import GIB, SizePolicy, size_cpus, size_hosts, size_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

UNTIL = date(2026, 3, 31)
POLICY = SizePolicy()


def days(*p95: float, count: int = 30) -> list[DailyRow]:
    return [DailyRow(UNTIL - timedelta(days=n), 144, 0, 100, 0, 0, p95[n % len(p95)]) for n in range(count)]


@pytest.mark.parametrize(
    ("p95", "size", "verdict", "fitting"),
    [
        pytest.param((10.0, 14.0), 16.0, "too large", 4.0, id="busiest day fits into 4 at 60 %"),
        pytest.param((10.0, 31.0), 16.0, "fits", None, id="one day is enough to keep it"),
        pytest.param((90.0, 96.0), 8.0, "too small", 13.0, id="8 at 96 % are 13 at 60 %"),
        pytest.param((84.0, 96.0), 8.0, "fits", None, id="not every day"),
        pytest.param((1.0,), 1.0, "fits", None, id="there is no less than one"),
    ],
)
def test_cpus(p95: tuple[float, ...], size: float, verdict: str, fitting: float | None) -> None:
    found = size_cpus("h", days(*p95), size, UNTIL, POLICY)

    assert (found.verdict, found.fitting) == (verdict, fitting)
    assert (found.p95_low, found.p95_high) == (min(p95), max(p95))


def test_memory_is_advised_in_whole_gib() -> None:
    found = size_memory("h", days(12.0), 64.0 * GIB, UNTIL, POLICY)

    assert (found.verdict, found.fitting, found.unit) == ("too large", 13.0 * GIB, "bytes")


@pytest.mark.parametrize(("count", "size"), [(20, 8.0), (30, None)])
def test_without_enough_days_or_a_size_nothing_is_advised(count: int, size: float | None) -> None:
    found = size_cpus("h", days(5.0, count=count), size, UNTIL, POLICY)

    assert (found.verdict, found.fitting, found.p95_high) == ("insufficient data", None, None)
    assert found.to_data()["days"] == count


def test_days_outside_the_window_do_not_count() -> None:
    old = DailyRow(UNTIL - timedelta(days=30), 144, 0, 100, 0, 0, 99.0)

    assert size_cpus("h", [*days(5.0), old], 8.0, UNTIL, POLICY).verdict == "too large"


@pytest.mark.parametrize("arguments", [{"low": 0}, {"target": 20}, {"high": 50}, {"high": 120}])
def test_shares_have_an_order(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="low < target < high"):
        SizePolicy(**arguments)


@pytest.mark.parametrize(
    "arguments", [{"days": 0}, {"days": -1}, {"min_coverage": 0}, {"min_coverage": 1.1}, {"min_coverage": -1}]
)
def test_days_and_coverage_are_checked(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(arguments))} must be"):
        SizePolicy(**arguments)


def test_a_host_without_any_day_has_insufficient_data() -> None:
    found = size_cpus("h", [], 8.0, UNTIL, SizePolicy(days=1, min_coverage=1e-9))

    assert (found.verdict, found.days) == ("insufficient data", 0)


class Reader:
    def read_daily(self, *asked: Any) -> Iterator[tuple[SeriesKey, list[DailyRow]]]:
        assert asked == (
            None,
            ("cpu_usage", "memory_usage", "cpu_count", "memory_total"),
            date(2026, 3, 2),
            UNTIL,
        )
        for host, cpu in (("idle", 3.0), ("busy", 95.0)):
            yield SeriesKey(host, "cpu_usage"), days(cpu)[::-1]
            yield SeriesKey(host, "memory_usage"), days(50.0)[::-1]
            yield SeriesKey(host, "cpu_count"), [DailyRow(UNTIL, 9, 8, 8, 72, 8, 8)]


def test_every_host_gets_advice_for_both_of_its_resources() -> None:
    found = size_hosts(Reader(), None, UNTIL, POLICY)

    assert [(one.host, one.resource, one.verdict, one.fitting) for one in found] == [
        ("idle", "cpu", "too large", 1.0),
        ("idle", "memory", "insufficient data", None),
        ("busy", "cpu", "too small", 13.0),
        ("busy", "memory", "insufficient data", None),
    ]
