"""What a row holds, whatever a host sends."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_restrack.collect.inventory import Target
from airflow_provider_restrack.collect.sample import (
    Reading,
    build_down_row,
    build_up_row,
    excerpt,
    sample_id,
)
from airflow_provider_restrack.store.schema import FIELDS

NOW = datetime(2026, 5, 4, 3, 2, 1, 999_000, tzinfo=UTC)
TARGET = Target("db-01", "10.0.0.5", labels={"env": "prod"})
NAMES = {field.name for field in FIELDS} - {"day"}


def up_row(**payload: Any) -> dict[str, Any]:
    return build_up_row(TARGET, Reading({"outcome": "ok", **payload}, NOW, 0.25), 1.23456)


def test_a_sample_has_every_field_but_the_day() -> None:
    row = up_row(cpu_usage=12.5)

    assert set(row) == NAMES
    assert row["cpu_usage"] == 12.5
    assert row["memory_total"] is None


def test_what_the_worker_knows_is_the_workers() -> None:
    row = up_row(
        host="liar", up=False, timestamp="x", id="x", labels={"a": "b"}, collect_seconds=9, clock_skew=9
    )

    assert (row["host"], row["up"], row["timestamp"]) == ("db-01", True, "2026-05-04T03:02:01.999Z")
    assert (row["labels"], row["collect_seconds"], row["clock_skew"]) == ({"env": "prod"}, 1.235, 0.25)


def test_a_sample_of_the_same_host_and_time_has_the_same_id() -> None:
    first, again, other = up_row(), up_row(cpu_usage=1), sample_id("db-02", "2026-05-04T03:02:01.999Z")

    assert first["id"] == again["id"] == sample_id("db-01", "2026-05-04T03:02:01.999Z")
    assert first["id"] != other
    assert uuid.UUID(first["id"]).version == 5


def test_the_id_never_changes() -> None:
    assert sample_id("db-01", "2026-05-04T03:02:01.999Z") == "1a3f498c-3bee-560e-aca1-9fbae352163c"


def test_unknown_keys_of_an_agent_are_dropped() -> None:
    assert set(up_row(surprise=1, host_time=1.0)) == NAMES


@pytest.mark.parametrize(
    ("name", "raw", "expected", "complaint"),
    [
        ("cpu_usage", float("nan"), None, "cpu_usage: is nan"),
        ("cpu_usage", float("-inf"), None, "cpu_usage: is -inf"),
        ("cpu_usage", 10**400, None, "cpu_usage: is too large"),
        ("cpu_usage", "12", None, "cpu_usage: is str, not a number"),
        ("cpu_usage", True, None, "cpu_usage: is bool, not a number"),
        ("cpu_count", 2**31, None, "cpu_count: is beyond 32 bits"),
        ("cpu_count", 2.5, None, "cpu_count: is 2.5, not an integer"),
        ("cpu_count", float("nan"), None, "cpu_count: is nan, not an integer"),
        ("memory_total", 2**63, None, "memory_total: is beyond 64 bits"),
        ("memory_total", [1], None, "memory_total: is list, not an integer"),
        ("boot_id", 7, None, "boot_id: is int, not text"),
        ("cpu_core_usage", {"a": 1}, None, "cpu_core_usage: is dict, not a list"),
        ("cpu_core_usage", [1, float("nan")], None, "cpu_core_usage: is nan"),
        ("cpu_core_usage", [0] * 5000, None, "cpu_core_usage: has 5000 items, over 4096"),
        ("filesystem_usage", [1], None, "filesystem_usage: is list, not a map"),
        ("filesystem_usage", {"/": 5, "/x\n": float("inf")}, {"/": 5.0}, "filesystem_usage[/x]: is inf"),
        ("outcome", "excellent", "partial", "outcome: 'excellent' is none of an agent's"),
    ],
)
def test_a_value_that_cannot_stand_is_named_and_takes_nothing_with_it(
    name: str, raw: object, expected: object, complaint: str
) -> None:
    row = up_row(load_1m=1, **{name: raw})

    assert row[name] == expected
    assert (row["up"], row["outcome"], row["error"], row["load_1m"]) == (True, "partial", complaint, 1.0)
    json.dumps(row, allow_nan=False)


@pytest.mark.parametrize(
    ("name", "raw", "expected"),
    [
        ("cpu_usage", 12, 12.0),
        ("cpu_count", 2.0, 2),
        ("memory_total", 2**63 - 1, 2**63 - 1),
        ("boot_id", "a\ud800b", "a?b"),
        ("boot_id", "a\x1b[31m\nb", "a [31m b"),
        ("filesystem_usage", {"/a\x07": 1.0}, {"/a ": 1.0}),
        ("filesystem_usage", {"/": None}, {}),
        ("filesystem_usage", {}, {}),
        ("cpu_core_usage", [], []),
    ],
)
def test_values_are_brought_to_their_fields_type(name: str, raw: object, expected: object) -> None:
    row = up_row(**{name: raw})

    assert (row["outcome"], row["error"]) == ("ok", None)
    assert row[name] == expected
    assert type(row[name]) is type(expected)


def test_complaints_follow_what_the_agent_says_itself() -> None:
    row = up_row(outcome="partial", error="disk: slow", cpu_usage="x")

    assert row["error"] == "disk: slow; cpu_usage: is str, not a number"


def test_a_host_that_is_down_has_a_row_with_the_reason_alone() -> None:
    row = build_down_row(TARGET, NOW, "unreachable", "no route", 3.0)

    assert {name: value for name, value in row.items() if value is not None} == {
        "host": "db-01",
        "timestamp": "2026-05-04T03:02:01.999Z",
        "id": sample_id("db-01", "2026-05-04T03:02:01.999Z"),
        "labels": {"env": "prod"},
        "up": False,
        "outcome": "unreachable",
        "error": "no route",
        "collect_seconds": 3.0,
    }
    assert set(row) == NAMES


def test_what_a_host_made_an_error_say_is_one_line_of_bounded_length() -> None:
    error = build_down_row(TARGET, NOW, "unreachable", "\x1b[2J\n" + "x" * 5000, 3.0)["error"]

    assert error.isprintable()
    assert len(error) == 2000


def test_an_excerpt_is_one_printable_line() -> None:
    assert excerpt(b"a\x1b[31mb\r\n\xff c" + b"x" * 500, 12) == "a [31mb \ufffd cx…"
