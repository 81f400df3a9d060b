"""The generated history of a small fleet: samples that are a function of host and time alone.

So the same samples come whenever they are made, and to load them twice changes nothing. Each big filesystem
grows for weeks and is then cleaned up, every host at another time: on any day some are far on.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.clock import format_utc
from airflow_provider_restrack.collect.sample import sample_id

if TYPE_CHECKING:
    from collections.abc import Iterator

STEP = timedelta(minutes=15)
DAYS = 60
SILENT_DAYS = 4
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class GeneratedHost:
    """One host: its size, how busy it is, and the filesystem that grows from ``low`` to ``high`` %.

    :ivar period: days that this takes, after which it is cleaned up.
    :ivar phase: how far it is through that at the start of 2026, as a share.
    :ivar leak: percent of memory a day that a service loses until it is restarted with the clean-up.
    """

    name: str
    cpus: int
    memory_gib: int
    base: float
    swing: float
    peak_hour: float
    memory: float
    mount: str = "/var"
    period: float = 96.0
    phase: float = 0.0
    low: float = 35.0
    high: float = 97.0
    leak: float = 0.0


FLEET = (
    GeneratedHost("gen-db-1", 16, 64, 30, 30, 14, 62, "/var/lib/postgresql", period=70, phase=0.79),
    GeneratedHost("gen-db-2", 16, 64, 18, 15, 3, 48, "/var/lib/postgresql", period=110, phase=0.85, low=45),
    GeneratedHost("gen-web-1", 8, 16, 22, 45, 15, 42, "/var/log", period=80, phase=0.71, low=20),
    GeneratedHost("gen-web-2", 8, 16, 20, 42, 15, 40, "/var/log", period=95, phase=0.17, low=20),
    GeneratedHost("gen-batch-1", 32, 128, 88, 4, 2, 91, "/scratch", period=60, phase=0.27, low=10),
    GeneratedHost("gen-cache-1", 4, 64, 9, 5, 15, 42, period=90, phase=0.24, leak=0.5),
    GeneratedHost("gen-ci-1", 16, 32, 4, 6, 11, 18, "/home", period=160, phase=0.05, low=30),
    GeneratedHost("gen-old-1", 8, 32, 3, 2, 12, 12, "/srv", period=1e6, low=55, high=56),
)


def make_samples(until: datetime, *, days: int = DAYS) -> Iterator[dict[str, Any]]:
    """Yield the samples of the fleet over the days before a time, as the collector would have taken them.

    The last host sends none any more for the last ``SILENT_DAYS``.
    """
    for host in FLEET:
        end = until - timedelta(days=SILENT_DAYS) if host is FLEET[-1] else until
        moment = _EPOCH + math.ceil((until - timedelta(days=days) - _EPOCH) / STEP) * STEP
        while moment < end:
            yield make_sample(host, moment)
            moment += STEP


def make_sample(host: GeneratedHost, moment: datetime) -> dict[str, Any]:
    """Return the sample of a host at a time."""
    timestamp = format_utc(moment)
    chance = random.Random(f"{host.name} {timestamp}")  # noqa: S311 - no secret
    days = (moment - _EPOCH) / timedelta(days=1)
    through = (days / host.period + host.phase) % 1
    cpu = _limit(host.base + host.swing * _busy(host, moment) + chance.gauss(0, 2.5))
    memory = _limit(
        host.memory + host.leak * through * host.period + 2 * _wander(host, days) + chance.gauss(0, 1)
    )
    wander = _wander(host, days)
    grown = host.low + (host.high - host.low) * through + 2.5 * wander * math.sin(math.pi * through)
    filled = _limit(grown + _nightly(moment) + chance.gauss(0, 0.3))
    total = host.memory_gib * _GIB
    return {
        "host": host.name,
        "timestamp": timestamp,
        "id": sample_id(host.name, timestamp),
        "labels": {"generated": "true"},
        "up": True,
        "outcome": "ok",
        "collector": "generated",
        "cpu_usage": round(cpu, 2),
        "cpu_count": host.cpus,
        "load_1m": round(cpu / 100 * host.cpus, 2),
        "memory_total": total,
        "memory_used": round(total * memory / 100),
        "memory_usage": round(memory, 2),
        "disk_usage": round(41 + chance.gauss(0, 0.2), 2),
        "filesystem_usage": {"/": round(41 + chance.gauss(0, 0.2), 2), host.mount: round(filled, 2)},
        "inode_usage": {"/": 12.0, host.mount: 7.0},
        "network_io_recv": round(max(0.0, cpu * 40_000 + chance.gauss(0, 20_000)), 1),
        "network_io_sent": round(max(0.0, cpu * 90_000 + chance.gauss(0, 50_000)), 1),
    }


def _busy(host: GeneratedHost, moment: datetime) -> float:
    """Return how busy an hour is, 0 to 1: highest at the peak hour, and less at weekends."""
    hours = moment.hour + moment.minute / 60
    apart = min(abs(hours - host.peak_hour), 24 - abs(hours - host.peak_hour))
    return math.exp(-((apart / 4) ** 2)) * (0.45 if moment.weekday() >= 5 else 1.0)


def _wander(host: GeneratedHost, days: float) -> float:
    """Return what goes up and down over days and weeks, about -1 to 1, each host in its own way."""
    shift = host.phase * 50
    return sum(math.sin(2 * math.pi * (days + shift) / period) for period in (5.3, 11.7, 27.1)) / 2


def _nightly(moment: datetime) -> float:
    """Return what a dump takes until it is moved away, from one to half past two."""
    return 2.0 if 1 <= moment.hour + moment.minute / 60 < 2.5 else 0.0


def _limit(value: float) -> float:
    return min(max(value, 0.0), 99.9)
