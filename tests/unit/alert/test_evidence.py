"""What is told of a breach: JSON-able, bounded, and a sentence that a person can read."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_restrack.alert.clearance import Clearance, Standing
from airflow_provider_restrack.alert.evaluate import Breach, to_ms
from airflow_provider_restrack.alert.evidence import (
    MAX_ENDED,
    build_clear_evidence,
    build_evidence,
    describe_breach,
    draw_sparkline,
)
from airflow_provider_restrack.alert.rules import parse_rules

START = to_ms(datetime(2026, 5, 4, 12, 4, 10, tzinfo=UTC))


def make_breach(
    values: list[float], step_s: int = 60, device: str | None = None, open_start: bool = False, **rule: Any
) -> Breach:
    (parsed,) = parse_rules(
        {"name": "r", "metric": "cpu_usage", "op": ">", "threshold": 90, "for": "10m"} | rule
    )
    times = tuple(START + n * step_s * 1000 for n in range(len(values)))
    return Breach(parsed, "db-1", device, times, tuple(values), 1.0, open_start)


def test_days_to_a_limit_are_told_as_days() -> None:
    (rule,) = parse_rules(
        {"name": "r", "metric": "days_to_limit(filesystem_usage)", "op": "<", "threshold": 7}
    )
    breach = Breach(rule, "db-1", "/", (START,), (6.54,), 1.0, open_start=False)

    found = describe_breach(breach)

    assert found["text"] == (
        "db-1 /: days_to_limit(filesystem_usage) is 6.5 days (< 7 days at 12:04:10Z; peak 6.5 days)"
    )


@pytest.mark.parametrize(
    ("breach", "text"),
    [
        (
            make_breach([99.1, 95, 97.3], step_s=300),
            "db-1: cpu_usage is 97.3 % (> 90 % for 10 min since 12:04:10Z; peak 99.1 %)",
        ),
        (make_breach([97.3], **{"for": 0}), "db-1: cpu_usage is 97.3 % (> 90 % at 12:04:10Z; peak 97.3 %)"),
        (
            make_breach([95, 95], open_start=True, step_s=86400),
            "db-1: cpu_usage is 95 % (> 90 % for at least 1 d since 2026-05-04 12:04:10Z; peak 95 %)",
        ),
        (
            make_breach([90.04], **{"for": 0}),
            "db-1: cpu_usage is 90.04 % (> 90 % at 12:04:10Z; peak 90.04 %)",
        ),
        (
            make_breach([2**30 + 7, 2**30], metric="memory_used", op=">=", threshold=2**30),
            "db-1: memory_used is 1 GiB (>= 1 GiB for 1 min since 12:04:10Z; peak 1073741831 bytes)",
        ),
        (
            make_breach([0, 0, 0], metric="up", op="==", threshold=False),
            "db-1: up is false (== false for 2 min since 12:04:10Z)",
        ),
        (
            make_breach(
                [3 * 2**30, 2**30], metric="filesystem_free", op="<", threshold=5 * 2**30, device="/var"
            ),
            "db-1 /var: filesystem_free is 1 GiB (< 5 GiB for 1 min since 12:04:10Z; peak 1 GiB)",
        ),
        (
            make_breach([1.5], metric="load_5m / cpu_count", threshold=1, **{"for": 0}),
            "db-1: load_5m / cpu_count is 1.5 (> 1 at 12:04:10Z; peak 1.5)",
        ),
        (
            make_breach(
                [0.75], aggregate="fraction_above", above=80, window="5m", threshold=0.5, **{"for": 0}
            ),
            "db-1: fraction_above 80 of cpu_usage over 5 min is 0.75 (> 0.5 at 12:04:10Z; peak 0.75)",
        ),
        (
            make_breach(
                [2048.0],
                metric="network_recv_bytes",
                aggregate="rate",
                window="5m",
                threshold=1,
                **{"for": 0},
            ),
            "db-1: rate of network_recv_bytes over 5 min is 2 KiB/s (> 1 bytes/s at 12:04:10Z; peak 2 KiB/s)",
        ),
        (
            make_breach([1536 * 1024.0], metric="network_io_recv", threshold=1000),
            "db-1: network_io_recv is 1.5 MiB/s (> 1000 bytes/s at 12:04:10Z; peak 1.5 MiB/s)",
        ),
        (
            make_breach([93.456], aggregate="avg", window="5m"),
            "db-1: avg of cpu_usage over 5 min is 93.5 % (> 90 % at 12:04:10Z; peak 93.5 %)",
        ),
        (
            make_breach([2], aggregate="count", window="5m", op="<", threshold=3),
            "db-1: count of cpu_usage over 5 min is 2 samples (< 3 samples at 12:04:10Z; peak 2 samples)",
        ),
        (
            make_breach([0.25], metric="clock_skew", threshold=0.1),
            "db-1: clock_skew is 0.25 s (> 0.1 s at 12:04:10Z; peak 0.25 s)",
        ),
        (
            make_breach([400.0, 90], metric="uptime", op="<", threshold=600),
            "db-1: uptime is 1 min 30 s (< 10 min for 1 min since 12:04:10Z; peak 1 min 30 s)",
        ),
    ],
)
def test_a_breach_reads_as_a_sentence(breach: Breach, text: str) -> None:
    assert describe_breach(breach)["text"] == text


def test_evidence_holds_what_a_message_needs() -> None:
    evidence = describe_breach(make_breach([95, 99, 97], severity="critical"))
    assert evidence == {
        "rule": "r",
        "severity": "critical",
        "host": "db-1",
        "device": None,
        "metric": "cpu_usage",
        "aggregate": None,
        "window_seconds": None,
        "unit": "%",
        "op": ">",
        "threshold": 90.0,
        "for_seconds": 600.0,
        "since": "2026-05-04T12:04:10.000Z",
        "since_is_exact": True,
        "at": "2026-05-04T12:06:10.000Z",
        "duration_seconds": 120.0,
        "current": 97.0,
        "peak": 99.0,
        "average": 97.0,
        "samples": 3,
        "coverage": 1.0,
        "series": [
            {"timestamp": "2026-05-04T12:04:10.000Z", "value": 95.0},
            {"timestamp": "2026-05-04T12:05:10.000Z", "value": 99.0},
            {"timestamp": "2026-05-04T12:06:10.000Z", "value": 97.0},
        ],
        "sparkline": "███",
        "text": "db-1: cpu_usage is 97 % (> 90 % for 2 min since 12:04:10Z; peak 99 %)",
        "summary": "db-1: cpu_usage is 97 % (> 90 % for 2 min since 12:04:10Z; peak 99 %)",
    }
    assert json.loads(json.dumps(evidence, allow_nan=False)) == evidence


def test_a_rule_may_bring_its_own_sentence() -> None:
    breach = make_breach(
        [95.25], summary="{host}{device} burns {current:.1f} of {threshold:.0f} ({severity})"
    )
    assert describe_breach(breach)["summary"] == "db-1 burns 95.2 of 90 (warning)"


def test_the_series_holds_the_newest_values_only() -> None:
    series = describe_breach(make_breach([float(n) for n in range(91, 400)]))["series"]
    assert (len(series), series[-1]["value"]) == (120, 399.0)


def test_evidence_of_a_whole_fleet_stays_small_enough_for_xcom() -> None:
    evidence = build_evidence([make_breach([95.0] * 300)] * 1000)
    assert {len(one["series"]) for one in evidence} == {10}
    assert len(json.dumps(evidence)) < 2_000_000


@pytest.mark.parametrize(
    ("values", "bars"),
    [([1.0], "▅"), ([2.0, 2.0], "▅▅"), ([0, 7], "▁█"), ([float(n) for n in range(99)], None)],
)
def test_a_sparkline_spans_least_to_greatest(values: list[float], bars: str | None) -> None:
    drawn = draw_sparkline(values)
    assert drawn == bars if bars else len(drawn) == 40


@pytest.mark.parametrize(
    ("values", "bars"),
    [([99.5, 100.0, 99.9], "███"), ([0.0, 50.0, 100.0], "▁▅█"), ([-1.0, 101.0], "▁█"), ([40.0], "▄")],
)
def test_a_percentage_is_drawn_on_its_own_scale(values: list[float], bars: str) -> None:
    assert draw_sparkline(values, (0, 100)) == bars


@pytest.mark.parametrize("run_url", [None, "http://127.0.0.1:8080/dags/d/runs/r/tasks/t?try_number=1"])
def test_evidence_links_to_the_run(run_url: str | None) -> None:
    assert [one["run_url"] for one in build_evidence([make_breach([95])], run_url)] == [run_url]
    assert build_clear_evidence(make_clearance(), run_url)["run_url"] == run_url


def make_clearance(*ended: tuple[str, list[float], float]) -> Clearance:
    """Two hosts that were never in breach, and some whose alert ended: name, its values, the newest."""
    (rule,) = parse_rules(RULE)
    standings = [Standing(rule, host, None, newest=50.0) for host in ("web-1", "web-2")]
    for host, values, newest in ended:
        times = tuple(START + n * 60_000 for n in range(len(values)))
        run = Breach(rule, host, None, times, tuple(values), 0.9, open_start=False)
        standings.append(Standing(rule, host, None, is_fresh=True, ended=run, newest=newest))
    hosts = tuple(one.host for one in standings)
    return Clearance((rule,), hosts, tuple(standings), (), datetime(2026, 5, 4, 13, tzinfo=UTC))


RULE = {
    "name": "r",
    "metric": "cpu_usage",
    "op": ">",
    "threshold": 90,
    "for": "2m",
    "clear_threshold": 70,
    "clear_for": "1m",
}


def test_the_end_of_an_alert_is_told_with_what_was_watched() -> None:
    evidence = build_clear_evidence(make_clearance(("db-1", [95, 97, 99, 60, 61], 40)))
    sentence = (
        "db-1: cpu_usage is 40 % again (alert for > 90 % lasted 4 min, until 2026-05-04 12:08:10Z; peak 99 %)"
    )
    assert evidence == {
        "rules": ["r"],
        "hosts": 3,
        "instances": 3,
        "since": "2026-05-04T12:08:10.000Z",
        "at": "2026-05-04T13:00:00.000Z",
        "ended": [
            {
                "rule": "r",
                "severity": "warning",
                "host": "db-1",
                "device": None,
                "metric": "cpu_usage",
                "aggregate": None,
                "unit": "%",
                "op": ">",
                "threshold": 90.0,
                "clear_threshold": 70.0,
                "clear_for_seconds": 60.0,
                "since": "2026-05-04T12:04:10.000Z",
                "since_is_exact": True,
                "ended": "2026-05-04T12:08:10.000Z",
                "duration_seconds": 240.0,
                "current": 40.0,
                "peak": 99.0,
                "average": 82.4,
                "samples": 5,
                "coverage": 0.9,
                "sparkline": "███▅▅",
                "text": sentence,
            }
        ],
        "ended_count": 1,
        "text": f"clear since 2026-05-04T12:08:10.000Z: r on 3 hosts; last {sentence}",
        "run_url": None,
    }
    assert json.loads(json.dumps(evidence, allow_nan=False)) == evidence


def test_what_was_never_in_breach_is_clear_since_nobody_knows_when() -> None:
    evidence = build_clear_evidence(make_clearance())
    assert (evidence["since"], evidence["ended"]) == (None, [])
    assert evidence["text"] == "clear: r on 2 hosts; no breach in the samples that were read"


def test_the_last_to_end_comes_first_and_a_fleet_fits_into_xcom() -> None:
    many = [(f"h{n:04}", [95.0] * (3 + n % 7), 50.0) for n in range(MAX_ENDED + 100)]
    evidence = build_clear_evidence(make_clearance(*many))
    ends = [one["ended"] for one in evidence["ended"]]
    assert (evidence["ended_count"], len(ends)) == (MAX_ENDED + 100, MAX_ENDED)
    assert ends == sorted(ends, reverse=True)
    assert evidence["since"] == ends[0] == "2026-05-04T12:12:10.000Z"
    assert len(json.dumps(evidence)) < 500_000
