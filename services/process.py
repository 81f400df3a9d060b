"""Processes by pid and start time, so that a reused pid is never taken for the server and signalled."""

from __future__ import annotations

import errno
import json
import os
import select
import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from services.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROC = Path("/proc")
_DEAD_STATES = frozenset("ZX")
_LOG_MODE = 0o644


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process that no other can be mistaken for: its start time counts ticks since the boot it names."""

    pid: int
    start_time: int
    boot_id: str


def parse_stat(stat: str) -> tuple[str, int, int]:
    """Return state, parent pid and start time of ``/proc/<pid>/stat``; the command may hold brackets."""
    fields = stat.rpartition(")")[2].split()
    return fields[0], int(fields[1]), int(fields[19])


def identify(pid: int, proc: Path = PROC) -> ProcessId | None:
    """Return the identity of a live process, or None if there is none: a zombie counts as none."""
    found = _look_up(pid, proc)
    return None if found is None or found[0] in _DEAD_STATES else found[1]


def _look_up(pid: int, proc: Path = PROC) -> tuple[str, ProcessId] | None:
    """Return state and identity of a process, be it a zombie, or None if there is none."""
    try:
        state, _, start_time = parse_stat((proc / str(pid) / "stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None
    boot_id = (proc / "sys/kernel/random/boot_id").read_text().strip()
    return state, ProcessId(pid, start_time, boot_id)


def read_pidfile(path: Path) -> ProcessId | None:
    """Return what a pidfile says, or None if there is none or it is damaged, as a power cut leaves it."""
    try:
        return ProcessId(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def write_pidfile(path: Path, process: ProcessId) -> None:
    """Write a pidfile in one step, so that a reader never sees half of it."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(process)) + "\n")
    partial.replace(path)


def is_alive(process: ProcessId) -> bool:
    """Tell whether this very process lives; its exit status is collected if it is our child and has ended."""
    return not wait_end(process, 0)


def wait_end(process: ProcessId, timeout_s: float) -> bool:
    """Wait until a process has ended, with all its threads, and tell whether it has.

    The state in ``/proc/<pid>/stat`` is no measure: it is that of the first thread, and while the others of a
    killed Java go on ending, the ports stay taken.
    """
    pidfd = _open_pidfd(process)
    if pidfd is None:
        return True
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        ended = bool(poll.poll(max(timeout_s, 0) * 1000))
    finally:
        os.close(pidfd)
    if ended:
        _reap(process.pid)
    return ended


def send_signal(process: ProcessId, signum: signal.Signals) -> bool:
    """Signal exactly this process and tell whether it was there; one that reuses its pid is left alone."""
    pidfd = _open_pidfd(process)
    if pidfd is None:
        return False
    try:
        signal.pidfd_send_signal(pidfd, signum)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def descendants(process: ProcessId, proc: Path = PROC) -> tuple[ProcessId, ...]:
    """Return the children of a process, theirs and so on: an sshd leaves its sessions behind when it ends."""
    children: dict[int, list[int]] = {}
    for entry in proc.iterdir():
        if entry.name.isdecimal():
            try:
                parent = parse_stat((entry / "stat").read_text())[1]
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [process.pid]
    while todo:
        for pid in children.get(todo.pop(), ()):
            todo.append(pid)
            found.append(identify(pid, proc))
    return tuple(child for child in found if child is not None)


def spawn(command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> ProcessId:
    """Start a process in a session of its own, so that Ctrl-C at the terminal reaches us and not the server.

    :param command: an absolute path and its arguments.
    :param log: receives stdout and stderr, and is emptied first.
    """
    output = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), output, _LOG_MODE),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    # A pipe of make or of a CI runner that a server keeps open would make the reader wait for the server.
    actions += [(os.POSIX_SPAWN_CLOSE, fd) for fd in _inheritable_fds()]
    pid = os.posix_spawn(
        command[0],
        list(command),
        dict(os.environ if env is None else env),
        file_actions=actions,
        setsid=True,
        setsigmask=(),
        setsigdef=(signal.SIGINT, signal.SIGPIPE, signal.SIGTERM),
    )
    found = _look_up(pid)
    if found is None:  # cannot be: a child that has ended at once is a zombie of ours
        raise ServiceError(f"{command[0]} (pid {pid}) has vanished")
    return found[1]


def command_line(pid: int, proc: Path = PROC) -> str:
    """Return the start of a process's command line, for messages."""
    try:
        return (proc / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:60]
    except OSError:
        return "unknown"


def _open_pidfd(process: ProcessId) -> int | None:
    """Open the process itself, checked after the opening: from then on no reuse of its pid can mislead."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError as error:
        if error.errno == errno.ESRCH:
            return None
        raise
    found = _look_up(process.pid)
    if found is not None and found[1] == process:
        return pidfd
    os.close(pidfd)
    return None


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return  # started by another process, whose matter it is


def _inheritable_fds() -> list[int]:
    found = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - the listing's own descriptor is gone when it is looked at
        try:
            if int(name) > 2 and os.get_inheritable(int(name)):
                found.append(int(name))
        except OSError:
            continue
    return found
