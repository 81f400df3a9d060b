"""What the runs amount to: medians, and the aims that they are held against."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from benchmarks.collection.works import WORKS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.collection.task import Usage

    Figures = Mapping[str, Mapping[str, Mapping[str, float]]]

OURS = "restrack"
CPU_MS, PEAK_MB, TIMES_ANSIBLE, TIMES_IMPLIED = 5.0, 150.0, 10.0, 1.5
HOST_CPU_MS = 30.0


def summarize_runs(runs: Sequence[Usage]) -> dict[str, float]:
    """Return the medians of a contender's runs and its highest memory."""
    return {
        "wall_seconds": statistics.median(run.seconds for run in runs),
        "cpu_ms_per_host": statistics.median(run.cpu_seconds / run.hosts * 1000 for run in runs),
        "peak_mb": max(run.peak_mb for run in runs),
    }


def list_verdicts(figures: Figures) -> list[str]:
    """Say in a line each what was aimed at and what came; what was not measured is left out."""
    found = [
        *_judge(figures, "100", "cpu_ms_per_host", CPU_MS, "client CPU a host at 100 hosts, ms"),
        *_judge(figures, "1000", "peak_mb", PEAK_MB, "memory of the task at 1,000 hosts, MB"),
    ]
    far = "500-100ms"
    if OURS in figures.get(far, {}):
        ratio = figures[far][OURS]["wall_seconds"] / WORKS[far].implied_seconds
        found.append(_say("wall time by what is implied, 500 hosts at 100 ms", ratio, TIMES_IMPLIED))
    near = figures.get("100", {})
    if {OURS, "ansible"} <= near.keys():
        ratio = near["ansible"]["wall_seconds"] / near[OURS]["wall_seconds"]
        met = "met" if ratio >= TIMES_ANSIBLE else "not met"
        found.append(f"faster than ansible at 100 hosts: {ratio:.1f} × (aim: {TIMES_ANSIBLE:g} ×), {met}")
    return found


def list_agent_verdicts(agent: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Say in a line each what the collectors cost a host; the aim is that of an agent that needs nothing."""
    what = "CPU on the host beyond the interpreter's start, ms"
    return [
        _say(f"{what}, {collector}", figures["cpu_ms_on_host"], HOST_CPU_MS)
        if collector == "procfs"
        else f"{what}, {collector}: {figures['cpu_ms_on_host']:.1f}"
        for collector, figures in agent.items()
    ]


def _judge(figures: Figures, work: str, figure: str, most: float, what: str) -> list[str]:
    measured = figures.get(work, {}).get(OURS)
    return [] if measured is None else [_say(what, measured[figure], most)]


def _say(what: str, value: float, most: float) -> str:
    return f"{what}: {value:.1f} (aim: at most {most:g}), {'met' if value <= most else 'not met'}"
