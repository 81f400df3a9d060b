"""When it is over: on evidence only, with hysteresis, and never because samples are missing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_restrack.alert.clearance import MAX_EXPLAINED, Clearance, observe_clearance
from airflow_provider_restrack.alert.observe import HOSTS_AT_ONCE
from airflow_provider_restrack.alert.rules import parse_rules

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
Rows = list[dict[str, Any]]


class MemoryReader:
    """Rows of a dict; records how far back each read goes."""

    def __init__(self, rows: dict[str, Rows]) -> None:
        self.rows = rows
        self.reads: list[tuple[list[str], timedelta]] = []

    def hosts(self) -> list[str]:
        return list(self.rows)

    def fetch(self, hosts, since, until, columns):
        self.reads.append((list(hosts), until - since))
        return {host: [row for row in self.rows.get(host, []) if row["timestamp"] >= since] for host in hosts}

    def fetch_days_to_limit(self, metrics, hosts, now):
        return {}


def rule(name: str = "cpu", **changes: Any) -> dict[str, Any]:
    base = {"name": name, "metric": "cpu_usage", "op": ">", "threshold": 90, "for": "5m"}
    return base | {"clear_threshold": 70, "clear_for": "5m"} | changes


def minutes(*found: Any, age: int = 0, metric: str = "cpu_usage", **columns: Any) -> Rows:
    """Rows of one value a minute, the last of them ``age`` minutes before NOW; None is a lost sample."""
    newest = NOW - timedelta(minutes=age)
    return [
        {"timestamp": newest - timedelta(minutes=len(found) - 1 - n), metric: value, **columns}
        for n, value in enumerate(found)
        if value is not None
    ]


def look(rows: dict[str, Rows] | Rows, *rules: dict[str, Any], hosts: list[str] | None = None) -> Clearance:
    found = rows if isinstance(rows, dict) else {"db-1": rows}
    return observe_clearance(parse_rules(list(rules) or [rule()]), MemoryReader(found), hosts, NOW)


@pytest.mark.parametrize(
    ("rows", "waiting"),
    [
        pytest.param(minutes(*[50] * 30), None, id="never in breach"),
        pytest.param(minutes(*[50] * 20, *[95] * 10, *[60] * 6), None, id="clear for as long as it takes"),
        pytest.param(
            minutes(*[50] * 20, *[95] * 10),
            "is in breach since 2026-05-04T11:51:00.000Z, newest value 95",
            id="in breach",
        ),
        pytest.param(
            minutes(*[50] * 20, *[95] * 10, *[60] * 3),
            "is clear, but not yet for 5 min (newest value 60)",
            id="recovering",
        ),
        pytest.param(
            minutes(*[50] * 20, *[95] * 10, *[80] * 20), "is in breach since", id="between the thresholds"
        ),
        pytest.param(
            minutes(*[50] * 20, *[95] * 10, *[60] * 5, 80, *[60] * 4),
            "is clear, but not yet",
            id="clear runs that are too short",
        ),
        pytest.param(minutes(*[50] * 20, 95), "breaches (95), but for 0 s of 5 min", id="begins to breach"),
        pytest.param(
            minutes(*[50] * 20, *[95] * 10, age=60),
            "newest sample is 1 h old, over the 15 min that count as fresh",
            id="silent since it was in breach",
        ),
        pytest.param(
            minutes(*[50] * 20, *[95] * 10, 60, age=30), "is clear, but not yet", id="silent while recovering"
        ),
        pytest.param(
            minutes(*[95] * 10, age=60) + minutes(*[7] * 50, metric="memory_usage"),
            "is in breach since",
            id="sends all but the metric since it was in breach",
        ),
        pytest.param(minutes(*[95] * 10, *[60] * 9, age=30), "no host has a fresh sample", id="all is old"),
        pytest.param([], "no host has a fresh sample", id="no sample at all"),
        pytest.param(
            minutes(*[95] * 10, 60, *[None] * 3, 60, 60),
            None,
            id="a lost sample within the coverage delays nothing",
        ),
    ],
)
def test_one_host(rows: Rows, waiting: str | None) -> None:
    found = look(rows)
    if waiting is None:
        assert (found.waiting, found.is_over) == ((), True)
    else:
        assert not found.is_over
        assert waiting in "\n".join(found.waiting)


def test_what_was_in_breach_before_the_samples_that_are_read_first_is_found() -> None:
    """It hovers between the thresholds for hours: nothing near shows that the alert is still open."""
    rows = minutes(*[50] * 10, *[95] * 10, *[80] * 600)
    reader = MemoryReader({"db-1": rows})
    found = observe_clearance(parse_rules(rule()), reader, None, NOW)
    assert not found.is_over
    assert reader.reads[0][1] < timedelta(hours=1) < timedelta(hours=10) < reader.reads[-1][1]


def test_hovering_is_over_if_no_breach_was_before_it() -> None:
    assert look(minutes(*[80] * 600)).is_over


def test_a_host_that_is_clear_is_read_once() -> None:
    reader = MemoryReader({"db-1": minutes(*[50] * 600), "db-2": minutes(*[95] * 600)})
    observe_clearance(parse_rules(rule()), reader, None, NOW)
    assert [read[0] for read in reader.reads] == [["db-1", "db-2"]]


def test_what_ended_is_told_from_its_true_start() -> None:
    (standing,) = look(minutes(*[50] * 10, *[95] * 299, 99, *[60] * 6)).standings
    ended = standing.ended
    assert ended is not None
    assert (ended.since, ended.at) == (NOW - timedelta(minutes=305), NOW)
    assert (max(ended.values), ended.open_start, ended.coverage, standing.newest) == (99, False, 1.0, 60)


def test_an_end_by_the_severity_it_had_last() -> None:
    levels = rule(threshold={"warning": 80, "critical": 95}, clear_threshold=70)
    (standing,) = look(minutes(*[50] * 10, *[97] * 10, *[60] * 6), levels).standings
    assert standing.ended is not None
    assert (standing.ended.rule.severity, standing.ended.rule.threshold) == ("critical", 95)


def test_every_instance_must_be_over() -> None:
    rows = {"db-1": minutes(*[95] * 10, *[60] * 9), "db-2": minutes(*[95] * 19), "db-3": minutes(*[50] * 19)}
    assert look(rows).waiting == (
        "rule 'cpu', db-2: is in breach since 2026-05-04T11:42:00.000Z, newest value 95",
    )


def test_devices_are_instances_and_one_that_is_gone_does_not_hold_it_up() -> None:
    full = rule("full", metric="filesystem_usage")
    rows = minutes(*[{"/": 50.0, "/mnt": 50.0}] * 10, *[{"/": 50.0}] * 20, metric="filesystem_usage")
    assert look(rows, full, hosts=["db-1"]).is_over
    rows = minutes(*[{"/": 50.0, "/mnt": 95.0}] * 10, *[{"/": 50.0}] * 20, metric="filesystem_usage")
    assert "db-1 /mnt: is in breach since" in look(rows, full).waiting[0]


def test_a_host_that_no_longer_sends_counts_only_if_it_was_in_breach_or_is_named() -> None:
    well, gone = minutes(*[50] * 30), minutes(*[50] * 30, age=120)
    assert look({"db-1": well, "db-2": gone, "db-3": []}).is_over
    assert look({"db-1": well, "db-2": gone}, hosts=["db-1", "db-2", "db-9"]).waiting == (
        "db-9: no sample of the last day",
        "rule 'cpu', db-2: newest sample is 2 h old, over the 15 min that count as fresh",
    )
    assert not look({"db-1": well, "db-2": minutes(*[95] * 30, age=120)}).is_over


def test_every_rule_needs_a_fresh_host() -> None:
    swap = rule("swap", metric="swap_usage")
    assert look(minutes(*[50] * 30), rule(), swap).waiting == ("rule 'swap': no host has a fresh sample",)


def test_a_rule_that_is_for_other_hosts_or_labels_is_not_waited_for() -> None:
    rows = minutes(*[50] * 30, labels={"role": "web"})
    others = (rule("a", hosts="web-*"), rule("b", labels={"role": "db"}))
    assert look(rows, rule(), *others).is_over
    assert look(rows, *others).waiting == ("no host that a rule is for has a sample",)


def test_a_window_that_is_covered_too_little_is_no_evidence() -> None:
    average = rule(aggregate="avg", window="10m", clear_for=0)
    assert look(minutes(*[95] * 30, *[None] * 9, 10), average).is_over is False


def test_true_and_false_end_too() -> None:
    down = {"name": "down", "metric": "up", "op": "==", "threshold": False, "for": "5m"}
    assert not look(minutes(*[False] * 10, metric="up"), down).is_over
    assert look(minutes(*[False] * 10, True, metric="up"), down).is_over


def test_large_fleets_are_read_in_parts() -> None:
    reader = MemoryReader({f"h{n:03}": minutes(*[50] * 30) for n in range(HOSTS_AT_ONCE + 1)})
    assert observe_clearance(parse_rules(rule()), reader, None, NOW).is_over
    assert [len(read[0]) for read in reader.reads] == [HOSTS_AT_ONCE, 1]


def test_the_log_names_some_of_what_is_waited_for_and_counts_the_rest() -> None:
    found = look({f"h{n:02}": minutes(*[95] * 30) for n in range(MAX_EXPLAINED + 5)})
    lines = found.explain()
    assert (len(lines), lines[-1]) == (MAX_EXPLAINED + 1, "and 5 more")
    assert lines[0].startswith("not over: rule 'cpu', h00: is in breach since")
