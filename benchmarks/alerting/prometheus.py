"""The same rules over the same series in Prometheus: ``promtool test rules``, whose engine is the server's.

What promtool takes to start and to load the series is measured by a run of the same series without rules and
taken off.
"""

from __future__ import annotations

import json
import resource
import subprocess
import time
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.alerting.works import INTERVAL_S, PROMETHEUS_RULES, SAMPLES, generate
from services.install import require_promtool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from benchmarks.alerting.works import Points

    Firing = set[tuple[str, str, str | None]]
    Series = dict[str, str]

_LIMIT_S = 600.0
# promtool refuses a query of more than 10,000 samples at one time: larger fleets go in parts.
_HOSTS_AT_ONCE = 1000
_END_S = INTERVAL_S * (SAMPLES - 1)


class PrometheusError(RuntimeError):
    """promtool failed, or says that other alerts fire."""


class Spent(NamedTuple):
    """Time on the clock, and of the CPU: promtool has more than one thread."""

    seconds: float
    cpu_seconds: float

    def add(self, other: Spent, share: float = 1.0) -> Spent:
        """Return the sum with a share of another time."""
        return Spent(self.seconds + share * other.seconds, self.cpu_seconds + share * other.cpu_seconds)


def measure(hosts: int, scratch: Path, firing: Firing) -> dict[str, float]:
    """Return the seconds that Prometheus takes to evaluate the rules at every sample, and at one of them.

    :param firing: rule, host and device of what fires at the end; what Prometheus says must be the same.
    :raises PrometheusError: if it is not.
    """
    (scratch / "rules.json").write_text(_groups(PROMETHEUS_RULES))
    (scratch / "none.json").write_text(_groups([]))
    every = Spent(0.0, 0.0)
    fleet = generate(hosts)
    while part := dict(islice(fleet, _HOSTS_AT_ONCE)):
        series, alerts = list(_write_series(part)), list(_expect(part, firing))
        every = every.add(_time_rules(scratch, series, alerts))
    return {
        "evaluate_seconds": every.seconds,
        "evaluate_cpu_seconds": every.cpu_seconds,
        "evaluate_once_seconds": every.seconds / SAMPLES,
    }


def _time_rules(scratch: Path, series: list[Series], alerts: list[Any]) -> Spent:
    """Return what a run takes, less what one without rules does."""
    full, empty = (
        _time_run(scratch, rules, series, expected)
        for rules, expected in (("rules.json", alerts), ("none.json", []))
    )
    return full.add(empty, -1)


def _groups(rules: Iterable[Any]) -> str:
    # JSON is YAML.
    return json.dumps({"groups": [{"name": "fleet", "rules": list(rules)}]})


def _expect(part: Mapping[str, Points], firing: Firing) -> Iterator[dict[str, Any]]:
    """Yield what must fire of each rule at the end, on some of the hosts."""
    for rule in PROMETHEUS_RULES:
        labels = [
            {"host": host} if device is None else {"host": host, "device": device}
            for name, host, device in firing
            if name == rule["alert"] and host in part
        ]
        expected = [{"exp_labels": one} for one in labels]
        yield {"eval_time": f"{_END_S}s", "alertname": rule["alert"], "exp_alerts": expected}


def _write_series(part: Mapping[str, Points]) -> Iterator[Series]:
    for host, points in part.items():
        for (metric, device), values in points.items():
            labels = f'host="{host}"' if device is None else f'host="{host}",device="{device}"'
            yield {"series": f"{metric}{{{labels}}}", "values": " ".join(map(str, values))}


def _time_run(scratch: Path, rules: str, series: list[Series], alerts: list[Any]) -> Spent:
    """Return what a run takes; an alert is asked for in any case, as that makes promtool evaluate."""
    asked = alerts or [{"eval_time": f"{_END_S}s", "alertname": "none", "exp_alerts": []}]
    case = {"interval": f"{INTERVAL_S}s", "input_series": series, "alert_rule_test": asked}
    document = {"rule_files": [rules], "evaluation_interval": f"{INTERVAL_S}s", "tests": [case]}
    (scratch / "test.json").write_text(json.dumps(document))
    began, cpu = time.perf_counter(), _count_cpu()
    run_promtool(scratch, "test.json")
    return Spent(time.perf_counter() - began, _count_cpu() - cpu)


def _count_cpu() -> float:
    """Return the CPU time of all programs that were run."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run_promtool(directory: Path, test: str) -> None:
    """Run the tests of a file.

    :raises PrometheusError: with what promtool prints, if one fails.
    """
    done = subprocess.run(
        [require_promtool(), "test", "rules", test],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    if done.returncode != 0:
        raise PrometheusError((done.stdout + done.stderr)[-4000:])
