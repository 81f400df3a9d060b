"""The operator's arguments, the interval of a run, and what it says of what it left out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_restrack.capacity.refresh import RollupResult
from airflow_provider_restrack.operators.rollup import RollupOperator, find_interval, parse_tiers

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keyspace": "My"}, "keyspace 'My'"),
        ({"tiers": ["2h"]}, "tiers must be of 5m, 1h, 1d"),
        ({"tiers": []}, "tiers must be of"),
        ({"lookback": "long"}, "lookback: 'long'"),
        ({"delay": -1}, "delay: -1"),
        ({"raw_ttl": "ever"}, "raw_ttl: 'ever'"),
        ({"workers": 0}, "workers must be 1"),
    ],
    ids=str,
)
def test_arguments_that_make_no_sense_are_refused_when_the_file_is_parsed(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        RollupOperator(task_id="r", **arguments)


def test_templates_wait_until_the_task_runs() -> None:
    operator = RollupOperator(task_id="r", tiers="{{ params.tiers }}", lookback="{{ params.lookback }}")
    operator.tiers, operator.lookback, operator.raw_ttl = '["1h"]', "2h", ""
    policy = operator._policy()
    assert ([tier.name for tier in policy.tiers], policy.lookback_s) == (["1h"], 7200.0)
    assert (policy.delay_s, policy.raw_ttl_s) == (300.0, None)


def test_the_span_is_the_runs_data_interval() -> None:
    since = NOW - timedelta(hours=1)
    assert find_interval({"data_interval_start": since, "data_interval_end": NOW}, NOW) == (since, NOW)


@pytest.mark.parametrize(
    "context",
    [{}, {"data_interval_start": None, "data_interval_end": None}, dict.fromkeys(
        ("data_interval_start", "data_interval_end"), NOW
    )],
    ids=["none", "by-hand", "a-moment"],
)  # fmt: skip
def test_a_run_without_an_interval_ends_now(context: dict[str, Any]) -> None:
    assert find_interval(context, NOW) == (NOW, NOW)


def test_one_tier_may_be_a_name() -> None:
    assert parse_tiers("1d") == ("1d",)


def result(expired: int, until: str) -> RollupResult:
    return RollupResult(expired={"1h": expired}, buckets={"1h": 0}, spans={"1h": ["10:00", until]})


def test_buckets_left_out_are_told_and_a_run_of_nothing_else_is_skipped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    operator = RollupOperator(task_id="r")
    operator._report(result(0, "11:00"))
    assert "expire" not in capsys.readouterr().out
    operator._report(result(3, "11:00"))
    assert "samples have begun to expire: {'1h': 3}" in capsys.readouterr().out
    with pytest.raises(AirflowSkipException, match="begun to expire"):
        operator._report(result(3, "10:00"))
