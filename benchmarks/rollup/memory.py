"""The memory of one contender: a process that does nothing but roll up some host-days, and its peak."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path


def measure_peak(contender: str, *, absent: float, hosts: int = 4) -> float:
    """Return the most memory in MB (resident) that a process of its own needs for a contender.

    The interpreter, its libraries and the samples of one host-day are in it, for each contender alike.
    """
    command = [sys.executable, "-m", "benchmarks.rollup.memory", contender, str(absent), str(hosts)]
    environment = {**os.environ, "POLARS_MAX_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout)


def read_peak(status: str) -> float:
    """Return the peak of a process in MB from its ``/proc/PID/status``."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    if found is None:
        raise ValueError("/proc does not tell the peak of a process (VmHWM): Linux is needed")
    return round(int(found[1]) / 1024, 1)


def main(contender: str, absent: str, hosts: str) -> None:
    """Roll up host-days, one after the other, and print the peak of this process."""
    from benchmarks.rollup.works import CONTENDERS, make_days

    for times, values in make_days(int(hosts), absent=float(absent)):
        CONTENDERS[contender](times, values)
    print(read_peak(Path("/proc/self/status").read_text()))


if __name__ == "__main__":
    main(*sys.argv[1:])
