"""What every contender is told of the fleet, and what each says of its run."""

from __future__ import annotations

import json
import resource
import time
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Task:
    """The hosts and how to log in to them."""

    addresses: tuple[str, ...]
    port: int
    user: str
    client_key: str
    known_hosts: str
    python: str
    concurrency: int
    directory: str

    def write(self, path: Path) -> None:
        """Write it for another process."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Task:
        """Read what ``write`` wrote."""
        data = json.loads(path.read_text())
        return cls(**{**data, "addresses": tuple(data["addresses"])})


@dataclass(frozen=True, slots=True)
class Usage:
    """What a run took: CPU of the client and of all that it has started and waited for; the memory of the
    largest process of them.
    """

    hosts: int
    seconds: float
    cpu_seconds: float
    peak_mb: float


class Meter:
    """Measures from its making to ``stop``."""

    def __init__(self) -> None:
        self._began, self._cpu = time.perf_counter(), _cpu_seconds()

    def stop(self, hosts: int) -> Usage:
        """Return what was used since, for so many hosts that gave a sample."""
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        peak = max(_read_peak_mb(), children)
        return Usage(hosts, time.perf_counter() - self._began, _cpu_seconds() - self._cpu, peak)


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _read_peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
