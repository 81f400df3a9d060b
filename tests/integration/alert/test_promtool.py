"""Where no sample is missing, instances are pending and firing exactly when Prometheus' own are."""

from __future__ import annotations

import random
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from airflow_provider_restrack.alert.evaluate import build_series
from airflow_provider_restrack.alert.rules import parse_rules
from airflow_provider_restrack.alert.timeline import replay
from services.install import require_promtool

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_restrack.alert.rules import AlertRule

START = datetime(1970, 1, 1, tzinfo=UTC)
SERIES = 50
SAMPLES = 30
STATES = {"pending": "pending", "firing": "firing", "recovering": "firing"}


def make_values(seed: int) -> list[float]:
    """Return a series of runs that lie above, on and below the threshold."""
    chance = random.Random(seed)
    values: list[float] = []
    while len(values) < SAMPLES:
        values += [chance.choice([50.0, 90.0, 95.0, 99.0])] * chance.randint(1, 8)
    return values[:SAMPLES]


def list_states(rule: AlertRule, values: list[float]) -> list[str | None]:
    """Return what Prometheus would call the state after each sample."""
    rows = [{"timestamp": START + timedelta(minutes=n), "cpu_usage": v} for n, v in enumerate(values)]
    (series,) = build_series(rule, "h", rows, rows[-1]["timestamp"])
    return [STATES.get(replay(rule, series, row["timestamp"]).state) for row in rows]


@pytest.mark.parametrize(
    ("op", "hold", "keep"),
    [
        (">", "0m", "0m"),
        (">=", "3m", "0m"),
        (">", "5m", "0m"),
        ("<", "2m", "0m"),
        (">", "3m", "2m"),
        ("==", "2m", "0m"),
    ],
)
def test_pending_and_firing_as_prometheus(tmp_path: Path, op: str, hold: str, keep: str) -> None:
    """50 series for each rule, 300 in all, at each of 30 minutes."""
    (rule,) = parse_rules(
        {"name": "r", "metric": "cpu_usage", "op": op, "threshold": 90, "for": hold, "clear_for": keep}
    )
    series = {f"h{n}": make_values(n) for n in range(SERIES)}
    states = {host: list_states(rule, values) for host, values in series.items()}
    alert = {"alert": "r", "expr": f"cpu {op} 90", "for": hold, "keep_firing_for": keep}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [alert]}]}))
    (tmp_path / "test.yml").write_text(yaml.safe_dump(build_test(series, states)))

    done = subprocess.run(
        [require_promtool(), "test", "rules", "test.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert {state for one in states.values() for state in one} >= {None, "firing"}


def build_test(series: dict[str, list[float]], states: dict[str, list[str | None]]) -> dict[str, Any]:
    """Return promtool's test that its alerts have our states."""
    checks = []
    for minute in range(SAMPLES):
        samples = [
            {
                "labels": f'ALERTS{{alertname="r", alertstate="{found[minute]}", host="{host}"}}',
                "value": 1,
            }
            for host, found in states.items()
            if found[minute]
        ]
        checks.append({"expr": "ALERTS", "eval_time": f"{minute}m", "exp_samples": samples})
    inputs = [
        {"series": f'cpu{{host="{host}"}}', "values": " ".join(f"{value:g}" for value in values)}
        for host, values in series.items()
    ]
    test = {"interval": "1m", "input_series": inputs, "promql_expr_test": checks}
    return {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [test]}
