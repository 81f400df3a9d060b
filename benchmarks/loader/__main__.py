"""Load the same topics with our loader and with its peers, alternating; print rates, ratios and aims.

After every run the table is read back, and its row count and a checksum of its contents are compared with
what was sent. Exit 1 if they differ; that an aim is missed is printed.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import report
from benchmarks.loader import contenders, fill
from benchmarks.loader.bench import Bench
from benchmarks.loader.figures import AIMS, BASELINES, summarize_runs
from benchmarks.loader.servers import running_servers
from benchmarks.loader.works import WORKS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.loader.clients import Usage
    from benchmarks.loader.contenders import Contender
    from benchmarks.loader.works import Work

log = logging.getLogger("benchmarks.loader")

# Java compiles what runs often: without some runs before, the first contender meets slower servers than the
# others. The first three take both ways of writing, batches and single rows.
_WARM_UP_SHARE = 0.1
_WARM_UP_CONTENDERS = 3
_CHECK_PEER = ("go-batch", "shared-batch", "go-conc", "shared-conc")
_NOISE = 0.1  # of two runs of the same program


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark."""
    arguments = parse_arguments(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for noisy in ("cassandra", "airflow_provider_restrack"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped then too
    try:
        known = choose_contenders(arguments)
        with running_servers() as instance, tempfile.TemporaryDirectory(prefix="bench-") as scratch:
            bench = Bench(instance, Path(scratch))
            with bench.session() as session:
                fill.create_keyspace(session)
            figures = {
                name: measure(bench, WORKS[name].scaled(arguments.scale), known, arguments)
                for name in arguments.works
            }
    except RuntimeError as error:  # the servers', Kafka's and the contenders' own errors all are
        print(error, file=sys.stderr)
        return 1
    return show(figures, arguments)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    names = list(contenders.list_contenders(Path()))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loader", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="of each contender and work (default: 3)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the rows; below 1 for a trial")
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--contenders", nargs="+", choices=names, default=names)
    parser.add_argument(
        "--check-peer",
        action="store_true",
        help="compare our Go loader with the one in ../shared/peers/go-loader, and nothing else",
    )
    arguments = parser.parse_args(argv)
    if arguments.runs < 1 or not arguments.scale > 0:
        parser.error("--runs and --scale must be positive")
    return arguments


def choose_contenders(arguments: argparse.Namespace) -> dict[str, Contender]:
    """Return the contenders that are asked for, built.

    :raises ContenderError: if a Go loader does not build, or there is no shared one to check against.
    """
    if arguments.check_peer:
        if not contenders.SHARED_SOURCE.is_dir():
            raise contenders.ContenderError(f"--check-peer: there is no {contenders.SHARED_SOURCE}")
        shared = contenders.build_go(contenders.SHARED_SOURCE, "shared")
    needs_go = arguments.check_peer or any(name.startswith("go-") for name in arguments.contenders)
    own = contenders.build_go(contenders.GO_SOURCE, "loader") if needs_go else Path()
    known = contenders.list_contenders(own)
    if not arguments.check_peer:
        return {name: known[name] for name in arguments.contenders}
    for mode in ("batch", "conc"):
        name = f"shared-{mode}"
        known[name] = contenders.Contender(name, contenders.go_command(shared, mode))
    return {name: known[name] for name in _CHECK_PEER}


def measure(
    bench: Bench, work: Work, chosen: dict[str, Contender], arguments: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Run every contender so many times over a work, each in turn; return the figures of each."""
    counts = {name: one.rows_of(work.rows, arguments.scale) for name, one in chosen.items()}
    bootstrap = bench.instance.kafka.bootstrap
    warm_up = max(1, round(work.rows * _WARM_UP_SHARE))
    topics = {rows: fill.fill_topic(bootstrap, work, rows) for rows in {*counts.values(), warm_up}}
    log.info("%s: topics of %s rows filled", work.name, ", ".join(map(str, sorted(topics))))
    for contender in list(chosen.values())[:_WARM_UP_CONTENDERS]:
        bench.run(contender, work, topics[warm_up])
    runs: dict[str, list[Usage]] = {name: [] for name in chosen}
    for turn in range(arguments.runs):
        for name in reorder(list(chosen), turn):
            usage = bench.run(chosen[name], work, topics[counts[name]])
            runs[name].append(usage)
            log.info(
                "%s %d/%d %s: %.0f rows/s, %.1f µs CPU a row, contents as sent",
                work.name, turn + 1, arguments.runs, name,
                usage.rows / usage.seconds, usage.cpu_seconds / usage.rows * 1e6,
            )  # fmt: skip
    return {name: summarize_runs(taken) for name, taken in runs.items()}


def reorder(names: list[str], turn: int) -> list[str]:
    """Return the names in another order at each turn: from another start, every other time backwards.

    Turned round alone, each would be measured after the same one, and meet what that one left to compact.
    """
    start = turn % len(names)
    turned = names[start:] + names[:start]
    return turned[::-1] if turn % 2 else turned


def show(figures: report.Figures, arguments: argparse.Namespace) -> int:
    """Print and write the figures; return the exit status."""
    for work, measured in figures.items():
        print(f"\n{report.show({work: measured}, baseline=BASELINES[work], figure='rows_per_second')}")
    if arguments.check_peer:
        return show_peers(figures)
    print("\n" + "\n".join(aim.verdict(figures) for aim in AIMS if aim.work in figures))
    print(f"written: {report.write('loader', figures)}")
    return 0


def show_peers(figures: report.Figures) -> int:
    """Print how fast our Go loader is beside the shared one; return 1 if it is slower, but for the noise."""
    status = 0
    for work, measured in figures.items():
        for mode in ("batch", "conc"):
            rates = [measured[f"{whose}-{mode}"]["rows_per_second"] for whose in ("go", "shared")]
            print(f"{work}: go-{mode} is {rates[0] / rates[1]:.2f} × shared-{mode}")
            status |= rates[0] < (1 - _NOISE) * rates[1]
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
