"""What is loaded: works of generated samples, the same at every run, so that their contents are known."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack import clock
from airflow_provider_restrack.collect.sample import sample_id
from airflow_provider_restrack.store.schema import FIELD_BY_NAME, FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_restrack.store.schema import Field

KEYSPACE = "bench"
PARTITIONS = 4  # of each topic
START = datetime(2026, 1, 1, tzinfo=UTC)
INTERVAL = timedelta(seconds=10)
KEY = ("host", "day", "timestamp")
SEED_COLUMNS = (
    *KEY, "id", "cpu_usage", "memory_usage", "disk_usage", "network_io_recv", "network_io_sent",
)  # fmt: skip
_FIXED: dict[str, Any] = {
    "labels": {"dc": "fra1", "role": "web"},
    "up": True,
    "outcome": "ok",
    "collector": "psutil",
    "boot_id": "3e1f8a52-6f0c-4a54-9a31-0d1c5d1e7c11",
    # What a healthy host outside of a container does not have; the agent sends it as null all the same.
    "error": None,
    "container_cpu_usage": None,
    "container_memory_usage": None,
    "container_memory_limit": None,
}
_MOUNTS, _DEVICES, _INTERFACES = ("/", "/var"), ("nvme0n1", "sda"), ("eth0", "eth1")
_CPUS = 4


@dataclass(frozen=True, slots=True)
class Work:
    """Samples of ``hosts`` hosts, each at ``samples`` times, in the order in which a fleet is collected.

    :ivar columns: of the table; its samples hold the fields of the same names.
    """

    name: str
    hosts: int
    samples: int
    columns: tuple[str, ...]

    @property
    def rows(self) -> int:
        """How many rows its whole topic holds."""
        return self.hosts * self.samples

    def scaled(self, scale: float) -> Work:
        """Return a smaller or larger one: other samples of each host, or other hosts where each has one."""
        if self.samples == 1:
            return Work(self.name, max(1, round(self.hosts * scale)), 1, self.columns)
        return Work(self.name, self.hosts, max(1, round(self.samples * scale)), self.columns)


WORKS = {
    work.name: work
    for work in (
        Work("seed", hosts=1000, samples=500, columns=SEED_COLUMNS),
        Work("full", hosts=1000, samples=60, columns=tuple(field.name for field in FIELDS)),
        Work("live", hosts=100_000, samples=1, columns=SEED_COLUMNS),
    )
}


def generate(work: Work, rows: int) -> Iterator[dict[str, Any]]:
    """Yield the first ``rows`` samples of a work: every host's first, then every host's second …"""
    return islice(_all_samples(work), rows)


def _all_samples(work: Work) -> Iterator[dict[str, Any]]:
    chance = random.Random(work.name)
    makers = [
        (name, _maker(FIELD_BY_NAME[name], chance)) for name in work.columns if name not in (*KEY, "id")
    ]
    for step in range(work.samples):
        timestamp = clock.format_utc(START + step * INTERVAL)
        for number in range(work.hosts):
            host = f"host-{number:05d}"
            sample = {"host": host, "timestamp": timestamp, "id": sample_id(host, timestamp)}
            for name, make in makers:
                sample[name] = make()
            yield sample


def _maker(field: Field, chance: random.Random) -> Callable[[], Any]:
    """Return a maker of plausible values of a field."""
    if field.name in _FIXED:
        return lambda: _FIXED[field.name]
    number = _number_maker(field, chance)
    if field.type == "map<text,double>":
        keys = _map_keys(field.name)
        return lambda: {key: number() for key in keys}
    if field.type == "list<double>":
        return lambda: [number() for _ in range(_CPUS)]
    return number


def _number_maker(field: Field, chance: random.Random) -> Callable[[], float | int]:
    if field.type == "int":
        return lambda: chance.randrange(500)
    if field.type == "bigint":
        return lambda: chance.randrange(1 << 38)
    top = {"%": 100.0, "bytes": 1e11, "bytes/s": 1e7}.get(field.unit, 1000.0)
    return lambda: round(chance.random() * top, 2)


def _map_keys(name: str) -> tuple[str, ...]:
    if name.startswith("device"):
        return _DEVICES
    return _INTERFACES if name.startswith("interface") else _MOUNTS
