"""What is asked of a forecast is checked where it is written, in words that name the metric."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from airflow_provider_restrack.capacity.policy import (
    DEFAULT_METRICS,
    ForecastPolicy,
    MetricPolicy,
    parse_metrics,
)


def test_without_metrics_the_usual_ones_are_forecast() -> None:
    assert parse_metrics(None) == DEFAULT_METRICS


@pytest.mark.parametrize(
    "value",
    [
        "memory_usage",
        ["memory_usage"],
        ("memory_usage",),
        {"memory_usage": {}},
        '"memory_usage"',
        ' ["memory_usage"]\n',
        '{"memory_usage": {}}',
        "['memory_usage']",
        "{'memory_usage': {}}",
    ],
    ids=str,
)
def test_a_name_takes_its_defaults(value: Any) -> None:
    assert parse_metrics(value) == {"memory_usage": MetricPolicy(100.0, "p95")}


@pytest.mark.parametrize(
    "text", ['{"memory_usage": {"limit": 90.5}}', "{'memory_usage': {'limit': 90.5}}"], ids=["json", "python"]
)
def test_text_gives_what_it_holds(text: str) -> None:
    assert parse_metrics(text) == {"memory_usage": MetricPolicy(90.5, "p95")}


def test_limit_and_aggregate_are_taken_each_by_itself() -> None:
    found = parse_metrics(
        {"filesystem_usage": {"limit": 90}, "process_count": {"limit": 4000, "aggregate": "last"}}
    )

    assert found == {
        "filesystem_usage": MetricPolicy(90.0, "max"),
        "process_count": MetricPolicy(4000.0, "last"),
    }


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, "empty"),
        ("[]", "empty"),
        (5, "metrics must be a list, a dict or JSON text, it is 5"),
        (True, "metrics must be a list"),
        ([["memory_usage"]], "names \"\\['memory_usage'\\]\""),
        ("['memory_usage'", "metrics is no valid JSON: .*memory_usage"),
        ("[load_5m]", "metrics is no valid JSON"),
        ('{"memory_usage": {"limit": 0}}', "limit"),
        (["nothing"], "'nothing'"),
        (["up"], "'up'"),
        (["disk_read_bytes"], "'disk_read_bytes'"),
        (["hosts"], "'hosts'"),
        ({"memory_usage": {"limt": 1}}, "memory_usage"),
        ({"memory_usage": 90}, "memory_usage"),
        ({"memory_usage": {"limit": 0}}, "limit"),
        ({"memory_usage": {"limit": True}}, "limit"),
        ({"memory_usage": {"limit": float("inf")}}, "limit"),
        ({"memory_usage": {"aggregate": "p99"}}, "aggregate"),
        (["process_count"], "limit must be a number"),
    ],
)
def test_what_makes_no_sense_is_refused(value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_metrics(value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"min_days": 6},
        {"history_days": 5},
        {"min_coverage": 0},
        {"confidence": 1.0},
        {"horizon_days": 0},
    ],
)
def test_a_policy_that_cannot_be_kept_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        ForecastPolicy(**arguments)


def test_the_policy_needs_no_numpy() -> None:
    code = "import sys, airflow_provider_restrack.capacity.policy; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert done.stdout.strip() == "False", done.stderr
