"""Who listens on a port, told from the kernel's tables, so that two servers never meet on one."""

from __future__ import annotations

import errno
import random
import socket
from itertools import islice
from typing import TYPE_CHECKING

from services.errors import ServiceError
from services.layout import ADDRESS
from services.process import PROC, command_line

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_LISTEN = "0A"  # as /proc/net/tcp writes the state
_SCRATCH_PORTS = range(20000, 32000)


def check_free(what: str, ports: Iterable[int], address: str = ADDRESS) -> None:
    """Make sure that a server's ports are free.

    :param what: the server, for the message.
    :param address: of loopback, on which it listens.
    :raises ServiceError: naming the port and, if it can be known, the process that holds it.
    """
    for port in ports:
        if not is_free(port, address):
            raise ServiceError(f"{what} cannot start: port {port} is taken by {describe_owner(port)}")


def is_free(port: int, address: str = ADDRESS) -> bool:
    """Tell whether a server can listen on a port of loopback now."""
    with socket.socket() as probe:
        # Connections of an earlier server that linger in TIME_WAIT are no hindrance to a listener.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def accepts(port: int, timeout_s: float = 1.0, address: str = ADDRESS) -> bool:
    """Tell whether something accepts connections on a port of loopback."""
    try:
        socket.create_connection((address, port), timeout_s).close()
    except OSError:
        return False
    return True


def find_free_ports(count: int) -> tuple[int, ...]:
    """Return ports that are free now, for servers that live as long as one test.

    They lie below those that Linux hands out for outgoing connections, one of which could take the port of a
    server while it starts again.
    """
    candidates = random.SystemRandom().sample(_SCRATCH_PORTS, len(_SCRATCH_PORTS))
    return tuple(islice(filter(is_free, candidates), count))


def describe_owner(port: int, proc: Path = PROC) -> str:
    """Say which process listens on a port; another user's process cannot be seen without being root."""
    pid = find_owner(port, proc)
    if pid is None:
        return "another process (find it with: ss -ltnp)"
    return f"pid {pid} ({command_line(pid, proc).strip()})"


def find_owner(port: int, proc: Path = PROC) -> int | None:
    """Return the pid that listens on a port, or None if it cannot be known."""
    inodes = set()
    for table in ("net/tcp", "net/tcp6"):
        try:
            inodes |= parse_listeners((proc / table).read_text(), port)
        except FileNotFoundError:
            continue
    targets = {f"socket:[{inode}]" for inode in inodes}
    for entry in proc.iterdir() if targets else ():
        if entry.name.isdecimal() and _holds(entry / "fd", targets):
            return int(entry.name)
    return None


def parse_listeners(table: str, port: int) -> set[str]:
    """Return the socket inodes that listen on a port, from the text of ``/proc/net/tcp``."""
    inodes = set()
    for line in table.splitlines()[1:]:
        fields = line.split()
        if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
            inodes.add(fields[9])
    return inodes


def _holds(fds: Path, targets: set[str]) -> bool:
    try:
        return any(str(fd.readlink()) in targets for fd in fds.iterdir())
    except (PermissionError, FileNotFoundError, ProcessLookupError):
        return False
