"""What the agent costs a host, beyond the start of its interpreter: CPU, as the host's kernel counts it."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING

from airflow_provider_restrack.collect.frames import AgentRun, read_agent_source
from benchmarks.collection.hosts import PYTHON
from benchmarks.collection.works import WINDOW_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_restrack.collect.tiers import Collector

_LIMIT_S = 60
# The interpreter of a host with psutil is this one, as it has it.
_PYTHONS: Mapping[Collector, str | None] = {"procfs": PYTHON, "psutil": sys.executable, "sh": None}


def measure_agent(runs: int) -> dict[str, dict[str, float]]:
    """Return the median milliseconds of CPU of each collector on this machine."""
    return {collector: {"cpu_ms_on_host": _measure(collector, runs)} for collector in _PYTHONS}


def _measure(collector: Collector, runs: int) -> float:
    source = read_agent_source()
    run = AgentRun(source, WINDOW_S, _PYTHONS[collector], collector)
    command = run.arguments("s", _LIMIT_S)
    # The same start with nothing to do: an interpreter or a shell that is given an empty program.
    return statistics.median(
        (_cpu_seconds(command, source) - _cpu_seconds(command, b"")) * 1000 for _ in range(runs)
    )


def _cpu_seconds(command: Sequence[str], source: bytes) -> float:
    """Run a command and return the CPU that it and what it waited for have used.

    :raises RuntimeError: if it fails.
    """
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        process.stdin.write(source)
        process.stdin.close()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            said = process.stderr.read() if process.stderr else b""
            raise RuntimeError(f"the agent failed on this machine: {said[-500:]!r}")
    return usage.ru_utime + usage.ru_stime
