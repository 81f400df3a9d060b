"""The fleet that is looked at, the same at every run: 15 minutes of samples every 10 s, and ten rules."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_restrack.alert.rules import parse_rules

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYSPACE = "bench_alerting"
INTERVAL_S = 10
SAMPLES = 90
START = datetime(2026, 1, 1, 12, tzinfo=UTC)
END = START + timedelta(seconds=INTERVAL_S * (SAMPLES - 1))
# Of each metric, so many hosts are beyond the threshold from some moment on.
HOT_SHARE = 0.03


class Level(NamedTuple):
    """How a metric moves: about a mean, which is another where something is wrong."""

    calm: float
    hot: float
    noise: float


MOUNTS = ("/", "/var")
LEVELS: dict[tuple[str, str | None], Level] = {
    ("cpu_usage", None): Level(40, 96, 3),
    ("memory_usage", None): Level(60, 93, 2),
    ("swap_usage", None): Level(5, 70, 5),
    ("disk_usage", None): Level(50, 95, 0.5),
    ("load_5m", None): Level(4, 24, 1.5),
    ("network_errors", None): Level(0.5, 12, 0.3),
    **{("filesystem_usage", mount): Level(55, 95, 0.5) for mount in MOUNTS},
    **{("inode_usage", mount): Level(20, 97, 0.5) for mount in MOUNTS},
}
UP = ("up", None)

# The windows of Prometheus 2 include both ends, ours the later one: 9m55s holds the samples of our 10m.
RULES = parse_rules(
    [
        {"name": "cpu", "metric": "cpu_usage", "op": ">", "threshold": 90, "for": "10m"},
        {
            "name": "cpu_avg",
            "metric": "cpu_usage",
            "op": ">",
            "threshold": 85,
            "aggregate": "avg",
            "window": "10m",
        },
        {"name": "memory", "metric": "memory_usage", "op": ">", "threshold": 90, "for": "5m"},
        {
            "name": "swap_p95",
            "metric": "swap_usage",
            "op": ">",
            "threshold": 60,
            "aggregate": "p95",
            "window": "10m",
        },
        {"name": "disk", "metric": "disk_usage", "op": ">=", "threshold": 90, "for": "5m"},
        {"name": "mounts", "metric": "filesystem_usage", "op": ">", "threshold": 90, "for": "5m"},
        {"name": "inodes", "metric": "inode_usage", "op": ">", "threshold": 95},
        {"name": "load", "metric": "load_5m", "op": ">", "threshold": 16, "for": "10m"},
        {
            "name": "errors",
            "metric": "network_errors",
            "op": ">",
            "threshold": 5,
            "aggregate": "max",
            "window": "5m",
        },
        {"name": "down", "metric": "up", "op": "==", "threshold": False, "for": "2m"},
    ]
)
PROMETHEUS_RULES = (
    {"alert": "cpu", "expr": "cpu_usage > 90", "for": "10m"},
    {"alert": "cpu_avg", "expr": "avg_over_time(cpu_usage[9m55s]) > 85"},
    {"alert": "memory", "expr": "memory_usage > 90", "for": "5m"},
    {"alert": "swap_p95", "expr": "quantile_over_time(0.95, swap_usage[9m55s]) > 60"},
    {"alert": "disk", "expr": "disk_usage >= 90", "for": "5m"},
    {"alert": "mounts", "expr": "filesystem_usage > 90", "for": "5m"},
    {"alert": "inodes", "expr": "inode_usage > 95"},
    {"alert": "load", "expr": "load_5m > 16", "for": "10m"},
    {"alert": "errors", "expr": "max_over_time(network_errors[4m55s]) > 5"},
    {"alert": "down", "expr": "up == 0", "for": "2m"},
)
# What a single sample decides: answered from the newest sample of each host.
NEWEST_RULES = parse_rules(
    [
        {"name": "cpu", "metric": "cpu_usage", "op": ">", "threshold": 90},
        {"name": "memory", "metric": "memory_usage", "op": ">", "threshold": 90},
        {"name": "disk", "metric": "disk_usage", "op": ">=", "threshold": 90},
        {"name": "down", "metric": "up", "op": "==", "threshold": False},
    ]
)
# The same in a fleet that is well: beyond what any host has.
CALM_RULES = parse_rules(
    [
        {"name": "cpu", "metric": "cpu_usage", "op": ">", "threshold": 101},
        {"name": "memory", "metric": "memory_usage", "op": ">", "threshold": 101},
        {"name": "disk", "metric": "disk_usage", "op": ">=", "threshold": 101},
        {"name": "load", "metric": "load_5m", "op": ">", "threshold": 1000},
    ]
)

Points = dict[tuple[str, str | None], list[float]]


def name_host(number: int) -> str:
    """Return the name of a host of the fleet."""
    return f"host-{number:05d}"


def generate(hosts: int) -> Iterator[tuple[str, Points]]:
    """Yield each host and the values of its metrics, oldest first; ``up`` is 1 or 0."""
    for number in range(hosts):
        host = name_host(number)
        chance = random.Random(host)
        points = {key: _make_values(chance, level) for key, level in LEVELS.items()}
        points[UP] = [float(value > 0) for value in _make_values(chance, Level(1, -1, 0))]
        yield host, points


def _make_values(chance: random.Random, level: Level) -> list[float]:
    since = chance.randrange(SAMPLES) if chance.random() < HOT_SHARE else SAMPLES
    return [
        round((level.hot if n >= since else level.calm) + level.noise * (2 * chance.random() - 1), 2)
        for n in range(SAMPLES)
    ]
