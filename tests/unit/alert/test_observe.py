"""Reading for the rules: which columns, how far back, and what is said when nothing is found."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_restrack.alert.evaluate import to_ms
from airflow_provider_restrack.alert.observe import (
    HOSTS_READ_AT_ONCE,
    LookBack,
    ReadPlan,
    count_hosts_at_once,
    explain,
    observe,
    plan_reads,
)
from airflow_provider_restrack.alert.rules import parse_rules
from airflow_provider_restrack.alert.time_to_limit import DaysToLimit

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


class RecordingReader:
    """Rows of a dict, and forecasts; records each read."""

    def __init__(
        self, rows: dict[str, list[dict[str, Any]]], days: dict[tuple[str, str], float] | None = None
    ) -> None:
        self.rows = rows
        self.days = days or {}
        self.reads: list[tuple[list[str], timedelta, list[str]]] = []
        self.forecasts: list[tuple[tuple[str, ...], list[str]]] = []

    def hosts(self) -> list[str]:
        return list(self.rows)

    def fetch(self, hosts, since, until, columns):
        self.reads.append((list(hosts), until - since, list(columns)))
        return {
            host: [row for row in self.rows.get(host, []) if since <= row["timestamp"] <= until]
            for host in hosts
        }

    def fetch_days_to_limit(self, metrics, hosts, now):
        self.forecasts.append((tuple(metrics), list(hosts)))
        made = to_ms(now - timedelta(minutes=90))
        return {
            ("filesystem_usage", host): [DaysToLimit(host, device, made, days)]
            for (host, device), days in self.days.items()
            if host in hosts
        }


def rule(name: str = "r", **changes: Any) -> dict[str, Any]:
    return {"name": name, "metric": "cpu_usage", "op": ">", "threshold": 90, "for": "10m"} | changes


def minutes(*found: float) -> list[dict[str, Any]]:
    """Rows of one value a minute, the last of them at NOW."""
    return [
        {"timestamp": NOW - timedelta(minutes=len(found) - 1 - n), "cpu_usage": value}
        for n, value in enumerate(found)
    ]


def test_a_read_covers_the_longest_rule_and_the_gap_before_it() -> None:
    rules = parse_rules(
        [rule(), rule("b", metric="up", op="==", threshold=False, **{"for": "1h"}, max_gap="20m")]
    )
    assert plan_reads(rules, NOW) == ReadPlan(("cpu_usage", "up"), NOW - timedelta(minutes=80), NOW)


def test_a_window_adds_to_for() -> None:
    rules = parse_rules(rule(aggregate="avg", window="5m"))
    assert plan_reads(rules, NOW).since == NOW - timedelta(minutes=30)


def test_labels_are_read_only_if_a_rule_needs_them() -> None:
    assert plan_reads(parse_rules(rule(labels={"role": "db"})), NOW).columns == ("cpu_usage", "labels")


def test_hosts_that_no_rule_is_for_are_not_read() -> None:
    reader = RecordingReader({"db-1": minutes(*[50] * 30), "web-1": minutes(*[99] * 30)})
    found = observe(parse_rules(rule(hosts="db-*")), reader, None, NOW)
    assert [read[0] for read in reader.reads] == [["db-1"]]
    assert [verdict.host for verdict in found.verdicts] == ["db-1"]


def test_only_the_host_in_breach_is_read_further_back() -> None:
    reader = RecordingReader({"hot": minutes(*[50] * 20, *[99] * 60), "cool": minutes(*[50] * 80)})
    (breach,) = observe(parse_rules(rule()), reader, None, NOW).breaches
    assert [(hosts, span) for hosts, span, _ in reader.reads] == [
        (["cool", "hot"], timedelta(minutes=25)),
        (["hot"], timedelta(minutes=125) - timedelta(milliseconds=1)),
    ]
    assert (breach.since, breach.open_start) == (NOW - timedelta(minutes=59), False)


@pytest.mark.parametrize(
    ("span", "hosts"),
    [
        (timedelta(0), HOSTS_READ_AT_ONCE),
        (timedelta(hours=4), HOSTS_READ_AT_ONCE),
        (timedelta(hours=12), 33),
        (timedelta(days=1), 17),
        (timedelta(days=400), 1),
    ],
)
def test_the_longer_is_read_the_fewer_hosts_are_at_once(span: timedelta, hosts: int) -> None:
    assert count_hosts_at_once(ReadPlan(("up",), NOW - span, NOW)) == hosts


def test_a_fleet_that_is_all_in_breach_is_looked_back_at_in_parts() -> None:
    hosts = {f"h{number:03}": minutes(*[50] * 20, *[99] * 60) for number in range(330)}
    reader = RecordingReader(hosts)

    found = observe(parse_rules(rule()), reader, None, NOW)

    assert len(found.breaches) == 330
    assert {breach.since for breach in found.breaches} == {NOW - timedelta(minutes=59)}
    further = [len(asked) for asked, span, _ in reader.reads if span > timedelta(minutes=25)]
    assert (sum(further), max(further)) == (330, 50)


def test_each_sample_is_read_once_however_far_back() -> None:
    rows = minutes(*range(40))
    reader = RecordingReader({"a": rows, "b": rows[20:], "c": []})
    history = LookBack(reader, ("cpu_usage",), NOW)

    assert history.read(["a", "b", "c"], NOW - timedelta(minutes=19, microseconds=-400)) == ["a", "b", "c"]
    assert history.read(["a", "b"], NOW - timedelta(minutes=30)) == ["a"]
    assert history.read(["a"], NOW - timedelta(minutes=60)) == ["a"]
    assert {host: len(found) for host, found in history.rows.items()} == {"a": 40, "b": 20, "c": 0}
    assert list(history.rows["a"]) == rows


def test_a_large_fleet_is_read_some_hosts_at_a_time() -> None:
    hosts = {f"h{number:03}": minutes(*[99 if number % 100 == 99 else 50] * 30) for number in range(220)}
    reader = RecordingReader(hosts)
    found = observe(parse_rules(rule()), reader, [*hosts, "none"], NOW)
    assert max(len(asked) for asked, _, _ in reader.reads) == HOSTS_READ_AT_ONCE
    assert {host for asked, _, _ in reader.reads for host in asked} == {*hosts, "none"}
    assert [breach.host for breach in found.breaches] == ["h099", "h199"]
    assert (len(found.verdicts), found.silent) == (221, ("none",))


def test_a_breach_that_the_near_samples_show_stays_when_older_ones_are_read() -> None:
    sparse = [{"timestamp": NOW - timedelta(minutes=m), "cpu_usage": 99.0} for m in (10, 5, 0)]
    dense = [{"timestamp": NOW - timedelta(hours=2, seconds=s), "cpu_usage": 50.0} for s in range(0, 600, 10)]
    reader = RecordingReader({"db-1": dense + sparse})
    observed = observe(parse_rules(rule()), reader, None, NOW)
    assert [breach.host for breach in observed.breaches] == ["db-1"]


def test_a_named_host_without_samples_is_reported_as_silent() -> None:
    reader = RecordingReader({"db-1": minutes(*[50] * 30)})
    found = observe(parse_rules(rule()), reader, ["db-1", "db-9"], NOW)
    assert found.silent == ("db-9",)
    assert {verdict.host: verdict.state for verdict in found.verdicts} == {"db-1": "ok", "db-9": "no_data"}


def test_breaches_come_in_the_order_of_rules_then_hosts() -> None:
    reader = RecordingReader({"b": minutes(*[99] * 30), "a": minutes(*[99] * 30)})
    rules = parse_rules([rule("z"), rule("y", threshold=80)])
    found = [(breach.rule.name, breach.host) for breach in observe(rules, reader, None, NOW).breaches]
    assert found == [("z", "a"), ("z", "b"), ("y", "a"), ("y", "b")]


def test_a_rule_with_several_severities_is_observed_and_explained() -> None:
    reader = RecordingReader({"a": minutes(*[99] * 30), "b": minutes(*[85] * 30)})
    rules = parse_rules(rule(threshold={"warning": 80, "critical": 95}))
    found = observe(rules, reader, None, NOW)

    assert [(one.host, one.rule.severity) for one in found.breaches] == [("a", "critical"), ("b", "warning")]
    assert explain(rules, found)[0].startswith("rule 'r' (cpu_usage > 80.0): nearest of 2 is a, breach")


def test_each_rule_is_explained_by_its_nearest_instance() -> None:
    reader = RecordingReader({"a": minutes(*[50] * 30), "b": minutes(*[50] * 25, *[95] * 5), "c": []})
    rules = parse_rules([rule(), rule("cold", threshold=99), rule("none", hosts="x*")])
    assert explain(rules, observe(rules, reader, None, NOW)) == [
        "rule 'r' (cpu_usage > 90.0): nearest of 3 is b, pending: breaches (95), but for 4 min of 10 min",
        "rule 'cold' (cpu_usage > 99.0): nearest of 3 is b, ok: newest value 95 does not breach",
        "rule 'none': it is for none of the 3 hosts",
    ]


FILLING = {
    "name": "filling",
    "metric": "days_to_limit(filesystem_usage)",
    "op": "<",
    "threshold": {"warning": 7, "critical": 1},
}


def test_the_fields_of_an_expression_are_read_each_once() -> None:
    rules = parse_rules([rule(metric="load_5m / cpu_count"), rule("b", metric="cpu_count * 2"), FILLING])
    assert plan_reads(rules, NOW).columns == ("load_5m", "cpu_count")


def test_a_rule_on_an_expression_is_evaluated_for_each_device() -> None:
    rows = [
        {"timestamp": NOW - timedelta(minutes=n), "filesystem_free": {"/": 9e9, "/var": 1e9}}
        for n in range(30)
    ]
    rules = parse_rules(rule(metric="filesystem_free / 1e9", op="<", threshold=2))
    assert [one.device for one in observe(rules, RecordingReader({"a": rows}), None, NOW).breaches] == [
        "/var"
    ]


def test_a_rule_on_forecasts_alone_reads_no_samples() -> None:
    reader = RecordingReader({"a": [], "b": [], "web": []}, {("a", "/"): 0.5, ("b", "/"): math.inf})

    found = observe(parse_rules(FILLING | {"hosts": ["a", "b"]}), reader, None, NOW)

    assert (reader.reads, reader.forecasts) == ([], [(("filesystem_usage",), ["a", "b"])])
    assert [(one.host, one.device, one.state) for one in found.verdicts] == [
        ("a", "/", "breach"),
        ("b", "/", "ok"),
    ]
    assert found.breaches[0].rule.severity == "critical"
    assert found.silent == ()


def test_rules_on_samples_and_on_forecasts_are_evaluated_together() -> None:
    reader = RecordingReader(
        {"a": minutes(*[50] * 10, *[99] * 20), "b": minutes(*[50] * 30)}, {("b", "/"): 5}
    )
    found = observe(parse_rules([rule(), FILLING]), reader, None, NOW)

    assert [(one.rule.name, one.host) for one in found.breaches] == [("r", "a"), ("filling", "b")]
    assert {hosts[0] for hosts, _, _ in reader.reads if len(hosts) == 1} <= {"a"}
    assert [one.reason for one in found.verdicts if one.state == "no_data"] == [
        "no forecast is new enough of days_to_limit(filesystem_usage)"
    ]


def test_the_labels_of_a_rule_on_forecasts_are_read() -> None:
    rows = {host: [{"timestamp": NOW, "labels": {"role": host}}] for host in ("db", "web")}
    reader = RecordingReader(rows, {("db", "/"): 1, ("web", "/"): 1})
    found = observe(parse_rules(FILLING | {"labels": {"role": "db"}}), reader, None, NOW)

    assert [one.host for one in found.breaches] == ["db"]


def test_no_forecasts_are_read_without_a_rule_on_them() -> None:
    reader = RecordingReader({"a": minutes(*[50] * 30)})
    observe(parse_rules(rule()), reader, None, NOW)
    assert reader.forecasts == []
