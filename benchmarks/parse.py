"""What the provider adds to the parse of a DAG file: fresh interpreters import the examples and a plain one.

The aim is at most 150 ms over a DAG file of the same tasks that imports Airflow alone.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks import report

EXAMPLES = Path(__file__).parent.parent / "example_dags"
AIM_MS = 150.0

# The peer: what any DAG file pays. Airflow's SDK, a DAG and two tasks of the SDK's own base operator.
AIRFLOW_ONLY = """
from datetime import datetime
from airflow.sdk import DAG, Asset, BaseOperator, BaseSensorOperator, BaseNotifier, task
with DAG("plain", schedule=None, start_date=datetime(2026, 1, 1)):
    BaseOperator(task_id="a") >> BaseOperator(task_id="b")
"""
TIMED = """
import time
{warm}
start = time.perf_counter()
{work}
print((time.perf_counter() - start) * 1000)
"""


def main(argv: list[str] | None = None) -> int:
    """Measure every example DAG in alternation with the plain one; exit 1 where the aim is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parse", description=__doc__)
    parser.add_argument("--runs", type=int, default=7, help="runs of each contender, alternating")
    runs = parser.parse_args(argv).runs
    figures = {path.stem: measure(path, runs) for path in sorted(EXAMPLES.glob("*.py"))}
    print(report.show(figures, baseline="airflow", figure="wall_ms"))
    worst = max(figures.values(), key=lambda of: of["restrack"]["wall_ms"] - of["airflow"]["wall_ms"])
    added = worst["restrack"]["wall_ms"] - worst["airflow"]["wall_ms"]
    print(f"\nadded by the provider, at most: {added:.0f} ms (aim: {AIM_MS:.0f} ms)")
    print(f"written: {report.write('parse', figures)}")
    return 0 if added <= AIM_MS else 1


def measure(path: Path, runs: int) -> dict[str, dict[str, float]]:
    """Return the median wall time in ms of a plain DAG file that imports Airflow, and of the example."""
    plain, ours = [], []
    for _ in range(runs):
        plain.append(time_import(AIRFLOW_ONLY))
        ours.append(time_import(path.read_text()))
    return {
        "airflow": {"wall_ms": statistics.median(plain)},
        "restrack": {"wall_ms": statistics.median(ours)},
    }


def time_import(work: str, warm: str = "") -> float:
    """Run the code in a fresh interpreter; return its wall time in ms, less the interpreter's start."""
    lines = work.replace("from __future__ import annotations\n", "")
    script = TIMED.format(warm=warm, work=lines)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return float(done.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main())
