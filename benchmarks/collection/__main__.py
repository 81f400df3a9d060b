"""Ask the same hosts with our operator and with its peers, alternating; print times, ratios and aims.

Every run must give a sample of every host, or the benchmark fails. That an aim is missed is printed.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import report
from benchmarks.collection.agent_cost import measure_agent
from benchmarks.collection.clients import ANSIBLE
from benchmarks.collection.figures import OURS, list_agent_verdicts, list_verdicts, summarize_runs
from benchmarks.collection.hosts import prepared_task, running_fleet
from benchmarks.collection.task import Usage
from benchmarks.collection.works import LIMITS, WORKS, contenders_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.collection.works import Work
    from services.loopback import LoopbackFleet

log = logging.getLogger("benchmarks.collection")

_RUN_LIMIT_S = 1800


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark."""
    arguments = parse_arguments(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("services").setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the hosts are stopped then too
    works = [WORKS[name] for name in arguments.works]
    try:
        if "ansible" in arguments.contenders and any(work.hosts <= LIMITS["ansible"] for work in works):
            install_ansible(ANSIBLE)
        with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
            directory = Path(scratch)
            with running_fleet(directory, max(work.hosts for work in works)) as fleet:
                figures = {
                    work.name: measure(fleet, work, directory, arguments)
                    for work in works
                    if contenders_of(work, arguments.contenders)
                }
        agent = measure_agent(arguments.runs)
    except RuntimeError as error:  # the servers' own errors are of this kind too
        print(error, file=sys.stderr)
        return 1
    print(report.show(figures, baseline=OURS, figure="wall_seconds"))
    print("\n" + "\n".join([*list_verdicts(figures), *list_agent_verdicts(agent)]))
    print(f"written: {report.write('collection', {**figures, 'agent': agent})}")
    return 0


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.collection", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="of each contender and work (default: 3)")
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--contenders", nargs="+", choices=LIMITS, default=list(LIMITS))
    arguments = parser.parse_args(argv)
    if arguments.runs < 1:
        parser.error("--runs must be positive")
    return arguments


def install_ansible(directory: Path) -> None:
    """Make an environment with ansible-core, once."""
    if (directory / "bin" / "ansible").exists():
        return
    log.info("ansible-core is installed into %s", directory)
    venv.create(directory, with_pip=True)
    command = [str(directory / "bin" / "pip"), "install", "--quiet", "ansible-core"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"ansible-core cannot be installed into {directory}: {done.stderr[-1000:]}")


def measure(
    fleet: LoopbackFleet, work: Work, directory: Path, arguments: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Run every contender so many times over a work, in turn; return the figures of each."""
    names = contenders_of(work, arguments.contenders)
    runs: dict[str, list[Usage]] = {name: [] for name in names}
    with prepared_task(fleet, work, directory) as task:
        path = directory / f"task-{work.name}.json"
        task.write(path)
        for turn in range(arguments.runs):
            for name in names if turn % 2 == 0 else reversed(names):
                usage = run(name, path, work)
                runs[name].append(usage)
                log.info(
                    "%s %d/%d %s: %.2f s, %.1f ms CPU a host, %.0f MB",
                    work.name, turn + 1, arguments.runs, name,
                    usage.seconds, usage.cpu_seconds / usage.hosts * 1000, usage.peak_mb,
                )  # fmt: skip
    return {name: summarize_runs(taken) for name, taken in runs.items()}


def run(name: str, task: Path, work: Work) -> Usage:
    """Run one contender in a process of its own.

    :raises RuntimeError: if it fails, or a host gave it no sample.
    """
    command = [sys.executable, "-m", "benchmarks.collection.clients", name, str(task)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_RUN_LIMIT_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{name} failed over {work.name}:\n{done.stdout[-2000:]}{done.stderr[-3000:]}")
    usage = Usage(**json.loads(done.stdout.splitlines()[-1]))
    if usage.hosts != work.hosts:
        raise RuntimeError(
            f"{name} has samples of {usage.hosts} of {work.hosts} hosts:\n{done.stdout[-3000:]}"
        )
    return usage


if __name__ == "__main__":
    sys.exit(main())
