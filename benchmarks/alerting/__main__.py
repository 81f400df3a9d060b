"""Read and evaluate ten rules over a fleet's last 15 minutes, beside the sequential read and Prometheus.

All must find the same alerts, or the benchmark fails. Before it alerts are timed while samples are lost. The
Cassandra is the benchmark's own.
"""

from __future__ import annotations

import argparse
import logging
import signal
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import report
from benchmarks.alerting import loss, prometheus
from benchmarks.alerting.contenders import READERS, evaluate_history, evaluate_newest, go_on, run_once
from benchmarks.alerting.fill import fill_tables
from benchmarks.alerting.works import CALM_RULES, RULES, SAMPLES
from benchmarks.loader.servers import running_servers
from services.cassandra import build_cluster

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.alerting.contenders import Evaluate, Run
    from benchmarks.alerting.prometheus import Firing

    Figures = dict[str, dict[str, dict[str, float]]]

_PER_COMPARISON = "evaluate_cpu_us_per_sample_and_rule"

log = logging.getLogger("benchmarks.alerting")


class DifferenceError(RuntimeError):
    """Two contenders find other alerts."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 if contenders differ or a server fails."""
    arguments = _parse_arguments(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("cassandra").setLevel(logging.ERROR)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped then too
    figures: Figures = {}
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
            _measure_losses(arguments, Path(scratch), figures)
            _measure_fleets(arguments, Path(scratch), figures)
    except RuntimeError as error:  # the servers' and the contenders' own errors all are
        print(error, file=sys.stderr)
        return 1
    print(f"written: {report.write('alerting', figures)}")
    return 0


def _show(figures: Figures, figure: str) -> None:
    print(report.show(figures, baseline="prometheus", figure=figure), flush=True)


def _parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.alerting", description=__doc__)
    parser.add_argument(
        "--hosts", type=int, nargs="*", default=[1000, 10_000], help="fleets to measure; none: none"
    )
    parser.add_argument("--runs", type=int, default=3, help="of each fleet and contender (default: 3)")
    parser.add_argument("--series", type=int, default=loss.SERIES, help="whose samples are lost; 0: none")
    return parser.parse_args(argv)


def _measure_losses(arguments: argparse.Namespace, scratch: Path, figures: Figures) -> None:
    if not arguments.series:
        return
    for share in loss.SHARES:
        log.info("%d series of which %.0f %% of samples are lost", arguments.series, 100 * share)
        figures[f"loss of {share:.0%}"] = loss.measure_loss(share, arguments.series, loss.MINUTES, scratch)
    _show(figures, "fire_minutes")


def _measure_fleets(arguments: argparse.Namespace, scratch: Path, figures: Figures) -> None:
    if not arguments.hosts:
        return
    with running_servers(kafka=False) as instance:
        cluster = build_cluster(instance.cassandra.address, timeout_s=60.0)
        try:
            session = cluster.connect()
            for hosts in arguments.hosts:
                log.info("filling %d hosts", hosts)
                fill_tables(session, hosts)
                found: Figures = {}
                measure_fleet(session, hosts, arguments.runs, scratch, found)
                _show(found, "evaluate_seconds")
                figures |= found
        finally:
            cluster.shutdown()


def measure_fleet(session: Any, hosts: int, runs: int, scratch: Path, figures: Figures) -> None:
    """Measure what is stored of a fleet, and put the figures under its works' names.

    :raises DifferenceError: if contenders find other alerts.
    :raises PrometheusError: if Prometheus does.
    """
    found, firing = _measure_readers(session, evaluate_history, runs)
    going_on, again = _measure_readers(session, go_on(session), runs)
    if again != firing:
        raise DifferenceError("an evaluation that goes on from another finds other alerts")
    compared = hosts * SAMPLES * len(RULES)
    log.info("promtool over %d hosts", hosts)
    found["prometheus"] = prometheus.measure(hosts, scratch, firing)
    for name in found:
        found[name][_PER_COMPARISON] = found[name]["evaluate_cpu_seconds"] / compared * 1e6
    figures[f"{hosts} hosts"] = found
    figures[f"{hosts} hosts, going on"] = going_on
    figures[f"newest of {hosts} hosts"], _ = _measure_readers(session, evaluate_newest, runs)
    calm = partial(evaluate_newest, rules=CALM_RULES)
    figures[f"newest of {hosts} hosts, all well"], none = _measure_readers(session, calm, runs)
    if none:
        raise DifferenceError("alerts fire in a fleet that is well")


def _measure_readers(
    session: Any, evaluate: Evaluate, runs: int
) -> tuple[dict[str, dict[str, float]], Firing]:
    taken: dict[str, list[Run]] = {name: [] for name in READERS}
    for number in range(runs + 1):  # the first warms up Cassandra
        for name in READERS if number % 2 else reversed(READERS):
            taken[name].append(run_once(session, name, evaluate))
            run = taken[name][-1]
            log.info("%s: %.2f s", name, run.wall_seconds)
    firings = [run.firing for found in taken.values() for run in found]
    if any(firing != firings[0] for firing in firings):
        raise DifferenceError("restrack and the sequential read find other alerts")
    log.info("%d alerts fire", len(firings[0]))
    return {name: _summarize(found[1:]) for name, found in taken.items()}, firings[0]


def _summarize(found: Sequence[Run]) -> dict[str, float]:
    """Return medians."""
    names = ("wall_seconds", "evaluate_seconds", "cpu_seconds", "evaluate_cpu_seconds")
    return {name: statistics.median(getattr(run, name) for run in found) for name in names}


if __name__ == "__main__":
    sys.exit(main())
