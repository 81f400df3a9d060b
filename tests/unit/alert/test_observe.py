"""Reading for the rules: which columns, how far back, and what is said when nothing is found."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_restrack.alert.observe import HOSTS_AT_ONCE, ReadPlan, explain, observe, plan_reads
from airflow_provider_restrack.alert.rules import parse_rules

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


class RecordingReader:
    """Rows of a dict; records each read."""

    def __init__(self, rows: dict[str, list[dict[str, Any]]]) -> None:
        self.rows = rows
        self.reads: list[tuple[list[str], timedelta, list[str]]] = []

    def hosts(self) -> list[str]:
        return list(self.rows)

    def fetch(self, hosts, since, until, columns):
        self.reads.append((list(hosts), until - since, list(columns)))
        return {host: [row for row in self.rows.get(host, []) if row["timestamp"] >= since] for host in hosts}


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
    assert [(hosts, span.total_seconds() / 60) for hosts, span, _ in reader.reads] == [
        (["cool", "hot"], 25),
        (["hot"], 150),
    ]
    assert (breach.since, breach.open_start) == (NOW - timedelta(minutes=59), False)


def test_a_large_fleet_is_read_some_hosts_at_a_time() -> None:
    hosts = {f"h{number:03}": minutes(*[99 if number % 100 == 99 else 50] * 30) for number in range(220)}
    reader = RecordingReader(hosts)
    found = observe(parse_rules(rule()), reader, [*hosts, "none"], NOW)
    assert max(len(asked) for asked, _, _ in reader.reads) == HOSTS_AT_ONCE
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


def test_each_rule_is_explained_by_its_nearest_instance() -> None:
    reader = RecordingReader({"a": minutes(*[50] * 30), "b": minutes(*[50] * 25, *[95] * 5), "c": []})
    rules = parse_rules([rule(), rule("cold", threshold=99), rule("none", hosts="x*")])
    assert explain(rules, observe(rules, reader, None, NOW)) == [
        "rule 'r' (cpu_usage > 90.0): nearest of 3 is b, pending: breaches (95), but for 4 min of 10 min",
        "rule 'cold' (cpu_usage > 99.0): nearest of 3 is b, ok: newest value 95 does not breach",
        "rule 'none': it is for none of the 3 hosts",
    ]
