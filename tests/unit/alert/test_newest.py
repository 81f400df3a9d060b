"""The newest samples tell what the whole history would, or nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.alert.newest import fetch_newest, needs_history, settle
from airflow_provider_restrack.alert.observe import observe
from airflow_provider_restrack.alert.rules import parse_rules

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
COLUMNS = ("cpu_usage", "up", "labels")
RULES = parse_rules(
    [
        {"name": "cpu", "metric": "cpu_usage", "op": ">", "threshold": {"warning": 80, "critical": 95}},
        {"name": "gap", "metric": "cpu_usage * 2", "op": "<", "threshold": 20, "max_gap": "3m"},
        {"name": "down", "metric": "up", "op": "==", "threshold": False, "labels": {"role": "db"}},
    ]
)


class HistoryReader:
    """Rows of a dict; records the hosts of each read."""

    def __init__(self, rows: dict[str, list[dict[str, Any]]]) -> None:
        self.rows = rows
        self.reads: list[list[str]] = []

    def hosts(self) -> list[str]:
        return [host for host, rows in self.rows.items() if rows]

    def fetch(self, hosts, since, until, columns):
        self.reads.append(list(hosts))
        return {
            host: [row for row in self.rows[host] if since <= row["timestamp"] <= until] for host in hosts
        }

    def fetch_days_to_limit(self, metrics, hosts, now):
        raise NotImplementedError


class WithNewest(HistoryReader):
    """Has the newest rows too."""

    def fetch_newest(self, hosts: Sequence[str] | None, columns: Sequence[str]) -> dict[str, dict[str, Any]]:
        wanted = self.rows if hosts is None else hosts
        newest = {
            host: max(self.rows[host], key=lambda row: row["timestamp"]) for host in wanted if self.rows[host]
        }
        return {
            host: {"timestamp": row["timestamp"], **{name: row[name] for name in columns}}
            for host, row in newest.items()
        }


def sample(minutes_ago: float, cpu: float | None = 50.0, *, up: bool | None = True, role: str = "db") -> Any:
    labels = {"role": role} if role else None
    return {
        "timestamp": NOW - timedelta(minutes=minutes_ago), "cpu_usage": cpu, "up": up, "labels": labels,
    }  # fmt: skip


histories = st.lists(
    st.builds(
        sample,
        st.sampled_from([-1, 0, 1, 2, 5, 14, 16, 60, 300]),
        st.sampled_from([None, 5.0, 50.0, 85.0, 99.0, float("nan")]),
        up=st.sampled_from([None, True, False]),
        role=st.sampled_from(["", "db", "web"]),
    ),
    max_size=6,
    unique_by=lambda row: row["timestamp"],
)


@given(st.dictionaries(st.sampled_from(["db-1", "db-2", "web"]), histories), st.booleans())
def test_verdicts_are_those_of_the_whole_history(rows: dict[str, Any], every: bool) -> None:
    hosts = None if every else sorted(rows)
    assert observe(RULES, WithNewest(rows), hosts, NOW) == observe(RULES, HistoryReader(rows), hosts, NOW)


def test_only_hosts_that_are_not_settled_are_read() -> None:
    reader = WithNewest(
        {
            "calm": [sample(1)],
            "hot": [sample(1, 85.0)],
            "late": [sample(20)],
            "blind": [sample(1, None)],
            "ahead": [sample(-1)],
            "bare": [sample(1, role="")],
        }
    )
    found = observe(RULES, reader, None, NOW)
    assert reader.reads[0] == ["ahead", "bare", "blind", "hot", "late"]
    assert found.hosts == ("ahead", "bare", "blind", "calm", "hot", "late")


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({}, False),
        ({"clear_threshold": 70}, False),
        ({"for": "1m"}, True),
        ({"clear_for": "1m"}, True),
        ({"aggregate": "avg", "window": "5m"}, True),
        ({"metric": "filesystem_usage"}, True),
        ({"metric": "days_to_limit(disk_usage)", "op": "<"}, True),
    ],
)
def test_a_rule_on_more_than_one_sample_needs_history(changes: dict[str, Any], needed: bool) -> None:
    (rule,) = parse_rules({"name": "r", "metric": "cpu_usage", "op": ">", "threshold": 80, **changes})
    assert needs_history(rule) is needed


def test_nothing_is_fetched_for_rules_or_readers_that_do_not_allow_it() -> None:
    history = parse_rules({"name": "r", "metric": "cpu_usage", "op": ">", "threshold": 80, "for": "5m"})
    reader = WithNewest({"db-1": [sample(1)]})
    assert fetch_newest((*RULES, *history), reader, None, COLUMNS) is None
    assert fetch_newest(RULES, HistoryReader(reader.rows), None, COLUMNS) is None
    assert fetch_newest(RULES, reader, None, COLUMNS) == {"db-1": sample(1)}


def test_a_host_without_a_sample_is_not_settled() -> None:
    assert settle(RULES, "db-1", None, NOW) is None
    assert settle(RULES, "db-1", sample(1), NOW) is not None
