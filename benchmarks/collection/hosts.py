"""The hosts: real sshd on addresses of loopback, near or behind a relay that makes them far."""

from __future__ import annotations

import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import services
from benchmarks.collection.task import Task
from services.loopback import LoopbackFleet, list_addresses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.collection.works import Work

_FILES_PER_HOST = 16
# The interpreter that the hosts run: the system's, if there is one, as hosts have it. A shim on this machine,
# or what its own installations import at every start, would be most of what a host costs.
PYTHON = next(path for path in ("/usr/bin/python3", f"{sys.base_prefix}/bin/python3") if Path(path).exists())


@contextmanager
def running_fleet(directory: Path, count: int) -> Iterator[LoopbackFleet]:
    """Run so many hosts for a ``with`` block.

    Their users' home is empty: what the shell of this machine's user does at a login, such as to set up its
    Pythons in 200 ms, is no part of what a host costs.
    """
    raise_file_limit(count * _FILES_PER_HOST)
    (port,) = services.find_free_ports(1)
    home = directory / "home"
    home.mkdir()
    fleet = LoopbackFleet(directory, list_addresses(count), port, extra_config=[f"SetEnv HOME={home}"])
    try:
        fleet.start()
        yield fleet
    finally:
        fleet.stop()


@contextmanager
def prepared_task(fleet: LoopbackFleet, work: Work, directory: Path) -> Iterator[Task]:
    """Give what a contender has to know for a work, with the relay running if its hosts are far."""
    addresses = fleet.addresses[: work.hosts]
    port = fleet.port
    relay: subprocess.Popen[str] | None = None
    if work.rtt_ms:
        (port,) = services.find_free_ports(1)
        relay = start_relay(addresses, port, fleet.port, work.rtt_ms)
    known_hosts = directory / f"known_hosts-{work.name}"
    known_hosts.write_text(fleet.known_hosts().replace(f"]:{fleet.port} ", f"]:{port} "))
    try:
        yield Task(
            addresses=addresses,
            port=port,
            user=fleet.user,
            client_key=str(fleet.client_key),
            known_hosts=str(known_hosts),
            python=PYTHON,
            concurrency=work.concurrency,
            directory=str(directory),
        )
    finally:
        if relay is not None:
            relay.kill()
            relay.wait()


def start_relay(addresses: tuple[str, ...], port: int, target: int, rtt_ms: float) -> subprocess.Popen[str]:
    """Start the relay and wait until it listens.

    :raises RuntimeError: if it ends before.
    """
    command = [sys.executable, "-m", "benchmarks.collection.delay", "--port", str(port)]
    command += ["--target", str(target), "--rtt-ms", str(rtt_ms)]
    relay = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert relay.stdin is not None
    assert relay.stdout is not None
    relay.stdin.write("\n".join(addresses))
    relay.stdin.close()
    if relay.stdout.readline() != "ready\n":
        raise RuntimeError(f"the relay on port {port} did not start")
    return relay


def raise_file_limit(wanted: int) -> None:
    """Raise the limit of open files, for this process and those that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
