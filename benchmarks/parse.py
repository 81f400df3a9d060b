"""What the provider adds to the parse of a DAG file that imports Airflow anyway; the aim is 150 ms."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import report

EXAMPLES = Path(__file__).parent.parent / "example_dags"
AIM_MS = 150.0

# The peer: what any DAG file pays. Airflow's SDK, a DAG and two tasks of the SDK's own base classes.
AIRFLOW_ONLY = """
from datetime import datetime
from airflow.sdk import DAG, Asset, BaseNotifier, BaseOperator, BaseSensorOperator, task
with DAG("plain", schedule=None, start_date=datetime(2026, 1, 1)):
    BaseOperator(task_id="a") >> BaseSensorOperator(task_id="b")
"""
# Both in one interpreter, the second after the first: its time is what the provider adds, and nothing else.
TIMED = """
import json, sys, time
times = {}
for name, path in (("airflow", sys.argv[1]), ("restrack", sys.argv[2])):
    code = compile(open(path).read(), path, "exec")
    wall, cpu = time.perf_counter(), time.process_time()
    exec(code, {"__name__": name, "__doc__": name})
    times[name] = {"wall_ms": (time.perf_counter() - wall) * 1e3, "cpu_ms": (time.process_time() - cpu) * 1e3}
print(json.dumps(times))
"""


def main(argv: list[str] | None = None) -> int:
    """Measure every example DAG; print the aim beside."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parse", description=__doc__)
    parser.add_argument("--runs", type=int, default=7, help="fresh interpreters for each example")
    runs = parser.parse_args(argv).runs
    figures = {path.stem: measure(path, runs) for path in sorted(EXAMPLES.glob("*.py"))}
    print(report.show(figures, baseline="airflow", figure="wall_ms"))
    added = max(work["restrack"]["added_ms"] for work in figures.values())
    print(f"\nadded by the provider, at most: {added:.0f} ms (aim: {AIM_MS:.0f} ms)")
    print(f"written: {report.write('parse', figures)}")
    return 0


def measure(example: Path, runs: int) -> dict[str, dict[str, float]]:
    """Return the medians of a plain DAG file that imports Airflow, and of one that holds the example too."""
    taken = [time_parse(example) for _ in range(runs)]

    def median(contender: str, figure: str) -> float:
        return statistics.median(run[contender][figure] for run in taken)

    plain = {figure: median("airflow", figure) for figure in ("wall_ms", "cpu_ms")}
    added = {figure: median("restrack", figure) for figure in ("wall_ms", "cpu_ms")}
    both = {figure: plain[figure] + added[figure] for figure in plain}
    return {"airflow": {**plain, "added_ms": 0.0}, "restrack": {**both, "added_ms": added["wall_ms"]}}


def time_parse(example: Path) -> dict[str, dict[str, float]]:
    """Run both files in a fresh interpreter; return wall and CPU time of each in ms."""
    with tempfile.NamedTemporaryFile("w", suffix=".py") as plain:
        plain.write(AIRFLOW_ONLY)
        plain.flush()
        command = [sys.executable, "-c", TIMED, plain.name, str(example)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    times: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return times


if __name__ == "__main__":
    sys.exit(main())
