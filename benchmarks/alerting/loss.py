"""What lost samples do to an alert: a host is overloaded all the time, and some samples never arrive.

Prometheus, in which a scrape that fails is a stale marker, starts a rule's ``for`` anew after each. Both
evaluate the same series: Prometheus by ``promtool test rules``, at every scrape.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
from datetime import UTC, datetime, timedelta
from statistics import fmean
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.alert.evaluate import Series, find_spacing
from airflow_provider_restrack.alert.rules import parse_rules
from airflow_provider_restrack.alert.timeline import replay
from benchmarks.alerting.prometheus import PrometheusError
from services.install import require_promtool

if TYPE_CHECKING:
    from pathlib import Path

SHARES = (0.0, 0.05, 0.1, 0.2, 0.3)
MINUTES = 2880
SERIES = 200
_VALUE = 95.0
(RULE,) = parse_rules({"name": "cpu", "metric": "cpu_usage", "op": ">", "threshold": 90, "for": "10m"})
_FIRING = 'ALERTS{alertstate="firing"}'
# The second notes when an alert fires, of the series that the engine itself writes.
_PROMETHEUS_RULES = (
    {"alert": "cpu", "expr": "cpu_usage > 90", "for": "10m"},
    {"record": "fired_at", "expr": f"timestamp({_FIRING} unless {_FIRING} offset 1m)"},
)
_FIRST = "min by (host) (min_over_time(fired_at[SPAN]))"
_STARTS = "sum by (host) (count_over_time(fired_at[SPAN]))"
_STILL = f"count by (host) ({_FIRING})"


def measure_loss(share: float, hosts: int, minutes: int, scratch: Path) -> dict[str, dict[str, float]]:
    """Return, for ours and for Prometheus, minutes to fire, and false resolves of a host in a day.

    :param share: of samples that are lost; which, is the same at every run.
    :raises PrometheusError: if promtool does not answer as expected.
    """
    chance = random.Random(f"loss of {share}")
    kept = {
        f"host-{n}": [minute for minute in range(minutes) if chance.random() >= share] for n in range(hosts)
    }
    days = minutes / 1440
    return {
        name: {
            "fire_minutes": fmean(first for first, _ in found),
            "false_resolves_per_day": fmean(resolves for _, resolves in found) / days,
        }
        for name, found in (
            ("restrack", _replay(kept)),
            ("prometheus", _run_promtool(kept, minutes, scratch)),
        )
    }


def _replay(kept: dict[str, list[int]]) -> list[tuple[float, int]]:
    """Return, of each host, when the alert fired first and how often it was resolved."""
    found = []
    for host, minutes in kept.items():
        times = tuple(minute * 60_000 for minute in minutes)
        series = Series(host, None, times, (_VALUE,) * len(times), find_spacing(times))
        until = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=times[-1])
        changes = replay(RULE, series, until).transitions
        fired = next(change.at_ms for change in changes if change.kind == "fired")
        found.append((fired / 60_000, sum(change.kind == "resolved" for change in changes)))
    return found


def _run_promtool(kept: dict[str, list[int]], minutes: int, scratch: Path) -> list[tuple[float, int]]:
    last = minutes - 1
    queries = [query.replace("SPAN", f"{minutes}m") for query in (_FIRST, _STARTS, _STILL)]
    case = {
        "interval": "1m",
        "input_series": [_notate(host, set(arrived), minutes) for host, arrived in kept.items()],
        "promql_expr_test": [
            {"expr": query, "eval_time": f"{last}m", "exp_samples": [{"labels": "{}", "value": -1}]}
            for query in queries
        ],
    }
    rules = {"groups": [{"name": "g", "rules": list(_PROMETHEUS_RULES)}]}
    (scratch / "rules.json").write_text(json.dumps(rules))
    document = {"rule_files": ["rules.json"], "evaluation_interval": "1m", "tests": [case]}
    (scratch / "test.json").write_text(json.dumps(document))
    first, starts, still = _read_answers(scratch, len(queries))
    if set(first) != set(kept):
        raise PrometheusError(
            f"{len(kept) - len(first)} of {len(kept)} hosts have not fired in {minutes} min"
        )
    return [(first[host] / 60, round(starts[host] - still.get(host, 0))) for host in kept]


def _notate(host: str, arrived: set[int], minutes: int) -> dict[str, Any]:
    values = " ".join(str(_VALUE) if minute in arrived else "stale" for minute in range(minutes))
    return {"series": f'cpu_usage{{host="{host}"}}', "values": values}


def _read_answers(scratch: Path, count: int) -> list[dict[str, float]]:
    """Return what queries gave, by host: promtool prints it because nothing is as the test expects."""
    done = subprocess.run(
        [require_promtool(), "test", "rules", "test.json"],
        cwd=scratch,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    got = re.findall(r"^\s*got:(.*)$", done.stdout + done.stderr, re.MULTILINE)
    if len(got) != count:
        raise PrometheusError((done.stdout + done.stderr)[-4000:])
    return [
        {host: float(value) for host, value in re.findall(r'\{host="([^"]+)"\} (\S+?)(?:,|$)', line)}
        for line in got
    ]
