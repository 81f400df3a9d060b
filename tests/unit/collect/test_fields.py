"""The fields that are built of two snapshots, on values."""

from __future__ import annotations

import math
from typing import Any

import pytest

from airflow_provider_restrack.collect import fields
from airflow_provider_restrack.store.schema import FIELDS

METRIC_GROUPS = frozenset(
    ("cpu", "memory", "disk", "disk_io", "network", "processes", "pressure", "container", "counters")
)
METRICS = frozenset(field.name for field in FIELDS if field.group in METRIC_GROUPS)


def test_a_sample_of_nothing_has_every_field_and_all_are_null() -> None:
    built, problems = fields.build({}, {})

    assert set(built) == METRICS | {"boot_id", "uptime", "window_seconds"}
    assert set(built.values()) == {None}
    assert problems == []


def test_a_snapshot_that_makes_no_sense_costs_one_section_and_all_its_names_are_there() -> None:
    before, after = ({"clock": clock, "network": {"eth0": {"once": True}}} for clock in (1.0, 2.0))

    built, problems = fields.build(before, after)

    assert set(built) >= METRICS
    assert [problem.partition(":")[0] for problem in problems] == ["network"]


@pytest.mark.parametrize(
    ("value", "cleaned"),
    [
        (math.nan, None),
        (math.inf, None),
        (1.23456, 1.235),
        ([1.0, None], None),
        ({"a": None, "b": 2}, {"b": 2}),
        (7, 7),
    ],
)
def test_a_value_is_cleaned_for_json(value: Any, cleaned: Any) -> None:
    assert fields.clean(value) == cleaned


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("a; b\nc"), "a, b c"),
        (KeyError("x"), "KeyError 'x'"),
        (OSError(5, "I/O error", b"/mnt/\xff"), "/mnt/\udcff: I/O error"),
    ],
)
def test_an_exception_is_told_in_one_line(error: Exception, text: str) -> None:
    assert fields.reason_of(error) == text


def test_totals_leave_out_what_is_counted_on_another_one() -> None:
    before, after = (
        {
            "clock": float(clock),
            "network": {
                name: {"recv": 100 * clock, "sent": 0, "errors": 0, "drops": 0, "once": name == "bond0"}
                for name in ("bond0", "eth0")
            },
        }
        for clock in (0, 1)
    )

    built, _ = fields.build(before, after)

    assert built["interface_recv"] == {"bond0": 100.0, "eth0": 100.0}
    assert (built["network_io_recv"], built["network_recv_bytes"]) == (100.0, 100)
