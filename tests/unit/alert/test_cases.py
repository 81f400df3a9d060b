"""The semantics of rules as data: every file of ``cases/`` is run, each through the whole path."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_provider_restrack.alert.durations import parse_duration
from airflow_provider_restrack.alert.evidence import describe_breach
from airflow_provider_restrack.alert.observe import observe
from airflow_provider_restrack.alert.rules import parse_rules
from airflow_provider_restrack.clock import format_utc
from airflow_provider_restrack.store.schema import FIELD_BY_NAME

START = datetime(2026, 3, 28, 23, 50, tzinfo=UTC)
FILES = sorted((Path(__file__).parent / "cases").glob("*.yaml"))
CASES = [(path.stem, case) for path in FILES for case in yaml.safe_load(path.read_text())]


class MemoryReader:
    """Rows of a dict, cut to the window that is asked for, as the store does."""

    def __init__(self, rows: dict[str, list[dict[str, Any]]]) -> None:
        self.rows = rows

    def hosts(self) -> list[str]:
        return list(self.rows)

    def fetch(self, hosts, since, until, columns):
        return {
            host: [
                {"timestamp": row["timestamp"]} | {name: row.get(name) for name in columns}
                for row in self.rows.get(host, [])
                if since <= row["timestamp"] <= until
            ]
            for host in hosts
        }


def expand(notation: str) -> list[str]:
    """Turn ``50 95x3 _x2 n`` into one token a sample."""
    tokens = []
    for item in notation.split():
        value, _, times = item.partition("x")
        tokens += [value] * int(times or 1)
    return tokens


def build_rows(case: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    metric, interval = case["rule"]["metric"], parse_duration(case["interval"])
    rows: dict[str, list[dict[str, Any]]] = {}
    for host, notation in case["series"].items():
        devices = notation if isinstance(notation, dict) else {None: notation}
        by_index: dict[int, dict[str, Any]] = {}
        for device, text in devices.items():
            for index, token in enumerate(expand(text)):
                if token == "_":
                    continue
                time = START + timedelta(seconds=index * interval)
                row = by_index.setdefault(
                    index, {"timestamp": time, "labels": case.get("labels", {}).get(host)}
                )
                value = None if token == "n" else float(token)
                if FIELD_BY_NAME[metric].type == "boolean" and value is not None:
                    value = bool(value)
                if device is None:
                    row[metric] = value
                elif value is not None:
                    row.setdefault(metric, {})[device] = value
        rows[host] = list(by_index.values())
    return rows


def at(text: str) -> datetime:
    return START + timedelta(seconds=parse_duration(text))


@pytest.mark.parametrize(("group", "case"), CASES, ids=[f"{group}: {case['case']}" for group, case in CASES])
def test_rule_over_a_series_gives_what_the_case_expects(group: str, case: dict[str, Any]) -> None:
    rules = parse_rules({"name": "rule", **case["rule"]})
    reader = MemoryReader(build_rows(case))
    for expected in case["expect"]:
        now = at(expected["at"])
        host = expected.get("host", next(iter(case["series"])))
        verdicts = {(one.host, one.device): one for one in observe(rules, reader, None, now).verdicts}
        verdict = verdicts.get((host, expected.get("device")))
        if expected["state"] == "none":
            assert verdict is None
            continue
        assert verdict is not None, f"at {expected['at']}: no verdict on {host}, only {list(verdicts)}"
        assert verdict.state == expected["state"], f"at {expected['at']}: {verdict.reason}"
        assert expected.get("reason", "") in verdict.reason
        if verdict.breach is not None:
            compare(expected, describe_breach(verdict.breach))


def compare(expected: dict[str, Any], evidence: dict[str, Any]) -> None:
    times = {"since": "since", "last": "at"}
    for key, name in times.items():
        if key in expected:
            assert evidence[name] == format_utc(at(expected[key]))
    names = {"duration": "duration_seconds", "exact": "since_is_exact"}
    for key in ("samples", "current", "peak", "average", "coverage", "duration", "exact"):
        if key in expected:
            assert evidence[names.get(key, key)] == pytest.approx(expected[key]), key
