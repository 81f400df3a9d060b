"""Where the development servers keep their data and on which ports they listen, as data for all else."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from services.errors import ServiceError

ADDRESS = "127.0.0.1"
ROOT = Path(__file__).resolve().parent.parent
SSHD_NAMES = ("web-1", "web-2", "db-1")
_REFUSED = frozenset(":,;%$&<>\"'\\*{}")


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of one instance, all on loopback; ``sshd`` has one for each host of ``SSHD_NAMES``."""

    kafka: int
    kafka_controller: int
    cassandra: int
    cassandra_storage: int
    cassandra_storage_ssl: int
    sshd: tuple[int, ...]


# Below 32768: Linux hands out the ports above for outgoing connections, and one of those could hold ours.
INSTANCES = {
    "dev": Ports(9092, 9093, 9042, 7010, 7011, (2201, 2202, 2203)),
    "test": Ports(19092, 19093, 19042, 17010, 17011, (12201, 12202, 12203)),
}


def home() -> Path:
    """Return the directory of all data and jars: ``RESTRACK_HOME``, else ``.restrack`` in the repository.

    :raises ServiceError: if its path has a character with a meaning in class paths, XML or ``log.dirs``.
    """
    path = Path(os.environ.get("RESTRACK_HOME") or ROOT / ".restrack").absolute()
    refused = _REFUSED & set(str(path))
    if refused:
        raise ServiceError(
            f"the servers cannot keep their data in {path}, for its {' '.join(sorted(refused))}: "
            "set RESTRACK_HOME to a plain path"
        )
    return path


def jars_home() -> Path:
    """Return the directory of the downloaded jars, which all instances share."""
    return home() / "jars"
