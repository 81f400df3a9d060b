"""Roll up the same days of samples with numpy, as the operator does, and with polars; compare and print both.

Each contender has one thread. A sample is one row of 40 metrics; every tier is made of it. Both must give the
same, or the benchmark fails.
"""

from __future__ import annotations

import os

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # before polars is imported: figures are per core

import argparse
import statistics
import sys
import time

import numpy as np

from benchmarks import report
from benchmarks.rollup.memory import measure_peak
from benchmarks.rollup.works import CONTENDERS, make_days

WORKS = {"dense": 0.0, "absent": 0.2}
BASELINE = "polars"


def main(argv: list[str] | None = None) -> int:
    """Measure every work; print medians of samples a second and of CPU time, and peaks of memory."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rollup", description=__doc__)
    parser.add_argument("--hosts", type=int, default=50, help="host-days of 8,640 samples (default: 50)")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args(argv)
    try:
        figures = {name: measure(arguments.hosts, absent, arguments.runs) for name, absent in WORKS.items()}
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print(report.show(figures, baseline=BASELINE, figure="samples_per_second"))
    print(f"written: {report.write('rollup', figures)}")
    return 0


def measure(hosts: int, absent: float, runs: int) -> dict[str, dict[str, float]]:
    """Return figures by contender; the days are made outside of the time that counts, and alternate.

    :raises ValueError: if two contenders differ.
    """
    taken: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    samples = 0
    for _ in range(runs):
        spent = dict.fromkeys(CONTENDERS, 0.0)
        samples = 0
        for number, (times, values) in enumerate(make_days(hosts, absent=absent)):
            samples += times.size
            found = {}
            for name in CONTENDERS if number % 2 else reversed(CONTENDERS):
                began = time.process_time()
                found[name] = CONTENDERS[name](times, values)
                spent[name] += time.process_time() - began
            check(found)
        for name, seconds in spent.items():
            taken[name].append(seconds)
    return {
        name: {
            "samples_per_second": round(samples / statistics.median(seconds)),
            "cpu_us_per_sample": round(statistics.median(seconds) / samples * 1e6, 3),
            "peak_mb": measure_peak(name, absent=absent),
        }
        for name, seconds in taken.items()
    }


def check(found: dict[str, dict[int, np.ndarray]]) -> None:
    """Compare what the contenders have made.

    :raises ValueError: if they differ by more than the last digits of a sum.
    """
    ours = found["restrack"]
    for name, other in found.items():
        for seconds, numbers in other.items():
            # Of no value polars makes a sum of 0, and we nothing.
            wanted = np.where(ours[seconds][0] > 0, ours[seconds], 0)
            if not np.allclose(np.nan_to_num(numbers), wanted, rtol=1e-9, atol=0):
                raise ValueError(f"{name} and restrack differ over buckets of {seconds} s")


if __name__ == "__main__":
    sys.exit(main())
