"""Metrics as rules name them: fields, expressions of fields, and the time to a limit."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.alert.expressions import FORECAST_METRICS, MAX_LENGTH, METRICS, read_metric

ROW: dict[str, Any] = {
    "load_5m": 6.0,
    "cpu_count": 4,
    "up": True,
    "swap_usage": None,
    "cpu_iowait": 0.0,
    "cpu_steal": math.inf,
    "filesystem_free": {"/": 2e9, "/data": 5e9, "/only": 1.0},
    "filesystem_usage": {"/": 50.0, "/data": 0.0, "/other": 9.0},
    "clock_skew": -2.5,
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("load_5m", 6.0),
        ("load_5m / cpu_count", 1.5),
        ("load_5m/cpu_count", 1.5),
        (" ( load_5m + 2 ) × cpu_count − 1 ", 31.0),
        ("load_5m - 2 - 1", 3.0),
        ("load_5m / 2 / 3", 1.0),
        ("load_5m + 2 * cpu_count", 14.0),
        ("-load_5m + 1", -5.0),
        ("2 * -load_5m", -12.0),
        ("--load_5m", 6.0),
        ("load_5m + 1.5e1 + .5 + 2.", 23.5),
        ("abs(clock_skew)", 2.5),
        ("abs(abs(clock_skew) - 5) * 2", 5.0),
        ("1 - up", 0),
        ("load_5m / cpu_iowait", None),
        ("swap_usage + 1", None),
        ("1 - swap_usage", None),
        ("abs(swap_usage)", None),
        ("memory_total / 2", None),
        ("1 / cpu_steal", None),
        ("filesystem_free / 1e9", {"/": 2.0, "/data": 5.0, "/only": 1e-9}),
        ("1e9 / filesystem_usage", {"/": 2e7, "/other": 1e9 / 9}),
        ("filesystem_free / filesystem_usage", {"/": 4e7}),
        ("filesystem_free * swap_usage", None),
        ("abs(filesystem_usage - 20)", {"/": 30.0, "/data": 20.0, "/other": 11.0}),
        ("inode_usage + 1", None),
    ],
)
def test_the_value_of_a_metric_in_a_row(text: str, value: Any) -> None:
    assert read_metric(text).value_of(ROW) == value


def test_a_null_within_a_map_is_absent() -> None:
    row = {"filesystem_usage": {"/": None, "/data": 5.0}}

    assert read_metric("filesystem_usage + 1").value_of(row) == {"/data": 6.0}


@pytest.mark.parametrize(
    ("text", "columns", "has_devices"),
    [
        ("up", ("up",), False),
        ("load_5m / cpu_count", ("load_5m", "cpu_count"), False),
        ("load_5m * load_5m", ("load_5m",), False),
        ("1 - filesystem_usage / 100", ("filesystem_usage",), True),
        ("memory_total / filesystem_free", ("memory_total", "filesystem_free"), True),
        ("abs(device_busy)", ("device_busy",), True),
    ],
)
def test_what_a_metric_reads(text: str, columns: tuple[str, ...], has_devices: bool) -> None:
    metric = read_metric(text)

    assert (metric.columns, metric.has_devices, metric.source) == (columns, has_devices, "samples")


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("memory_total", "bytes"),
        ("memory_total - memory_used", "bytes"),
        ("memory_total - 1e9", "bytes"),
        ("abs(clock_skew)", "s"),
        ("-clock_skew", "s"),
        ("filesystem_free / 1e9", ""),
        ("100 * memory_used / memory_total", ""),
        ("memory_total + cpu_usage", ""),
        ("days_to_limit(memory_usage)", "days"),
    ],
)
def test_the_unit_of_a_metric_is_known_only_where_it_cannot_be_wrong(text: str, unit: str) -> None:
    assert read_metric(text).unit == unit


def test_only_a_truth_value_by_itself_is_one() -> None:
    assert read_metric("up").is_truth
    assert not read_metric("1 - up").is_truth


@pytest.mark.parametrize("field", FORECAST_METRICS)
def test_days_to_limit_is_of_a_field_and_reads_no_samples(field: str) -> None:
    metric = read_metric(f" days_to_limit( {field} )")

    assert (metric.source, metric.forecast_of, metric.columns) == ("forecasts", field, ())
    assert metric.has_devices is read_metric(field).has_devices


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        ("cpu_usge", "'cpu_usge' is not known: did you mean 'cpu_usage'?; allowed: up,"),
        ("load_5m / cpu_cont", "'load_5m / cpu_cont': 'cpu_cont' is not known: did you mean 'cpu_count'?"),
        ("load_5m /", "ends too early"),
        ("load_5m cpu_count", "'cpu_count' is not expected there"),
        ("load_5m ** 2", "'*' is not expected there"),
        ("load_5m % 2", "'%' is not expected there"),
        ("(load_5m", "ends too early"),
        ("(load_5m cpu_count)", "'cpu_count' is not expected there"),
        ("load_5m)", "')' is not expected there"),
        ("+load_5m", "'+' is not expected there"),
        ("()", "')' is not expected there"),
        ("1 + 2", "names no field"),
        ("1.2.3 * load_5m", "is not expected there"),
        ("2load_5m", "'2' is not expected there"),
        ("1e999 * load_5m", "too large"),
        ("load_5m[0]", "'[' is not expected there"),
        ("load_5m.__class__", "'.' is not expected there"),
        ("__import__('os')", "is not expected there"),
        ("avg(cpu_usage)", "avg is no function: is it an `aggregate`?"),
        ("days_to_limit(filesystem_usage) / 7", "days_to_limit stands alone"),
        ("days_to_limit(up)", "'up' is nothing that is forecast"),
        ("days_to_limit(network_recv_bytes)", "is nothing that is forecast"),
        ("days_to_limit()", "'' is nothing that is forecast"),
        ("days_to_limit(filesystem_usag)", "did you mean 'filesystem_usage'?"),
        ("cpu_core_usage + 1", "'cpu_core_usage' is not known"),
        ("-" * MAX_LENGTH + "load_5m", f"longer than {MAX_LENGTH}"),
    ],
)
def test_what_is_no_metric_is_told(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        read_metric(text)
    assert told in str(caught.value)


def test_an_expression_as_deep_as_its_length_allows_is_read() -> None:
    depth = (MAX_LENGTH - len("load_5m")) // 2

    assert read_metric("(" * depth + "load_5m" + ")" * depth).value_of(ROW) == 6.0


NUMBERS = [name for name in METRICS if not read_metric(name).has_devices and name != "up"]
expressions = st.recursive(
    st.sampled_from(NUMBERS) | st.integers(0, 9).map(str),
    lambda parts: st.builds("({} {} {})".format, parts, st.sampled_from("+-*/"), parts),
    max_leaves=4,
)


@given(expressions, st.lists(st.floats(-1e6, 1e6), min_size=len(NUMBERS), max_size=len(NUMBERS)))
def test_an_expression_has_the_value_that_python_gives(text: str, values: list[float]) -> None:
    row = dict(zip(NUMBERS, values, strict=True))
    try:
        expected = eval(text, {}, row)
    except ZeroDivisionError:
        expected = None
    if not any(name in text for name in NUMBERS) or len(text) > MAX_LENGTH:
        return
    found = read_metric(text).value_of(row)
    # Where something within is infinite, Python goes on with it.
    assert found == expected or found is None
    assert found is not None or expected is None or not math.isfinite(expected) or abs(expected) == 0
