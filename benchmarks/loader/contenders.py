"""Who loads: each contender as a command, run in a process of its own that ends by itself or is ended."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.loader.clients import RUNNERS, Task, Usage
from benchmarks.loader.works import KEYSPACE, SEED_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).parent.parent.parent
GO_SOURCE = Path(__file__).parent / "go"
SHARED_SOURCE = ROOT.parent / "shared" / "peers" / "go-loader"
BINARIES = ROOT / "build" / "bench" / "go"
RUN_LIMIT_S = 240.0
_BUILD_LIMIT_S = 300.0
# Requests in flight: the numbers at which each mode of Go is fastest on two cores.
_GO_MODES = {
    "batch": ("-mode", "batch", "-par", "32", "-batch", "50"),
    "conc": ("-mode", "conc", "-par", "128"),
}


class ContenderError(RuntimeError):
    """A contender that cannot be built or run, or does not end."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to load.

    :ivar most_rows: of each work; a slow one is measured on the first rows of it. None: all.
    """

    name: str
    command: Callable[[Task], list[str]]
    most_rows: int | None = None

    def rows_of(self, rows: int, scale: float) -> int:
        """Return how many of a work's rows it is given."""
        return rows if self.most_rows is None else min(rows, max(1, round(self.most_rows * scale)))


def list_contenders(go_binary: Path) -> dict[str, Contender]:
    """Return all contenders by name."""
    contenders = (
        Contender("restrack", python_command("restrack")),
        Contender("go-batch", go_command(go_binary, "batch")),
        Contender("go-conc", go_command(go_binary, "conc")),
        Contender("provider", python_command("provider"), most_rows=3_000),
        Contender("execute-concurrent", python_command("execute-concurrent"), most_rows=10_000),
    )
    return {contender.name: contender for contender in contenders}


def python_command(name: str) -> Callable[[Task], list[str]]:
    """Return what makes the command of a contender of ``clients``."""
    if name not in RUNNERS:
        raise ContenderError(f"{name} is none of {', '.join(RUNNERS)}")
    return lambda task: [sys.executable, "-m", "benchmarks.loader.clients", name, json.dumps(asdict(task))]


def go_command(binary: Path, mode: str) -> Callable[[Task], list[str]]:
    """Return what makes the command of a Go loader in a mode; the shared one takes the same flags."""

    def command(task: Task) -> list[str]:
        return [
            str(binary),
            *("-brokers", task.bootstrap, "-hosts", f"127.0.0.1:{task.cassandra_port}"),
            *("-keyspace", KEYSPACE, "-table", task.table),
            *("-topic", task.topic, "-group", task.group, "-limit", str(task.rows)),
            *_GO_MODES[mode],
            *(("-wide",) if task.columns != SEED_COLUMNS else ()),
        ]

    return command


def build_go(source: Path, name: str) -> Path:
    """Build a Go loader and return the program; the Go modules are downloaded once.

    :raises ContenderError: if there is no Go, or it does not build.
    """
    go = shutil.which("go")
    if go is None:
        raise ContenderError(
            "go is not on the PATH: install Go, or leave out go-batch and go-conc with --contenders"
        )
    binary = BINARIES / name
    BINARIES.mkdir(parents=True, exist_ok=True)
    # Modules are resolved by go.sum alone: a shared source may stand in a directory that is read-only.
    command = [go, "build", "-mod=readonly", "-buildvcs=false", "-o", str(binary), "."]
    done = subprocess.run(
        command, cwd=source, capture_output=True, text=True, timeout=_BUILD_LIMIT_S, check=False
    )
    if done.returncode != 0:
        raise ContenderError(f"the Go loader of {source.name} does not build:\n{done.stderr}")
    return binary


def run_contender(name: str, command: Sequence[str], airflow_home: Path) -> Usage:
    """Run a contender to its end and return what it reports.

    :param airflow_home: a scratch directory: the Kafka provider's operator imports Airflow.
    :raises ContenderError: if it fails, reports nothing or takes longer than ``RUN_LIMIT_S``.
    """
    environment = os.environ | {"AIRFLOW_HOME": str(airflow_home)}
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=RUN_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ContenderError(f"{name} did not end in {RUN_LIMIT_S:g} s") from error
    if done.returncode != 0:
        raise ContenderError(f"{name} failed with status {done.returncode}:\n{done.stdout}{done.stderr}")
    return parse_usage(name, done.stdout)


def parse_usage(name: str, output: str) -> Usage:
    """Return the usage that stands in a contender's last line, ours or that of the shared Go loader.

    :raises ContenderError: if there is none.
    """
    try:
        found = json.loads(output.splitlines()[-1])
        if "cpu_seconds" not in found:  # the shared one, which does not tell its memory either
            found |= {"cpu_seconds": found["cpu_us_per_row"] * found["rows"] / 1e6, "peak_mb": 0.0}
        return Usage(**{field: found[field] for field in ("rows", "seconds", "cpu_seconds", "peak_mb")})
    except (IndexError, ValueError, TypeError, KeyError) as error:
        raise ContenderError(f"{name} does not report what it took: {output[-500:]!r}") from error
