"""A benchmark's own Kafka and Cassandra: fresh ones on free ports, stopped and deleted at the end."""

from __future__ import annotations

import shutil
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from services import Instance, Ports, find_free_ports
from services.layout import home, jars_home
from services.server import locked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HEAP_MB = 1024


@contextmanager
def running_servers(*, kafka: bool = True) -> Iterator[Instance]:
    """Yield an instance whose Kafka, if it is needed, and Cassandra run; its hosts do not.

    The directory is the same at every run, so that servers which a killed run left behind are found by their
    pidfiles and stopped.
    """
    directory = home() / "bench"
    with (
        locked(home() / "bench.lock", "another benchmark with servers of its own runs"),
        ExitStack() as stack,
    ):
        instance = _build_instance(directory)
        servers = (instance.kafka, instance.cassandra) if kafka else (instance.cassandra,)
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        for server in (instance.kafka, instance.cassandra):
            server.stop()
            stack.callback(server.stop)
        shutil.rmtree(directory, ignore_errors=True)
        for server in servers:
            server.launch()
        for server in servers:
            server.wait_ready()
        yield instance


def _build_instance(directory: Path) -> Instance:
    kafka, controller, cassandra, storage, storage_ssl, *sshd = find_free_ports(8)
    ports = Ports(kafka, controller, cassandra, storage, storage_ssl, tuple(sshd))
    # Cassandra's own way of syncing its commit log, as in production; tests take another.
    return Instance("bench", directory, ports, jars_home(), heap_mb=_HEAP_MB, commitlog_sync="periodic")
