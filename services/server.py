"""One server process: launched once, waited for until it answers, stopped by its own pid and nothing else."""

from __future__ import annotations

import fcntl
import logging
import signal
import time
from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING

from services import process
from services.errors import ServiceError
from services.layout import ADDRESS
from services.ports import check_free

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

log = logging.getLogger("services")

_PROBE_INTERVAL_S = 0.1
_STOP_LIMIT_S = 30.0
_KILL_LIMIT_S = 10.0
_TAIL_LINES = 20
_MAX_TAIL_BYTES = 64 * 1024


class Server(ABC):
    """A server with its directory, pidfile, log and ports.

    :param directory: of configuration, data, log and pidfile.
    :param ports: all the ports it listens on, each checked before it starts.
    :param label: what messages and ``status`` call it, if not by its name.
    :param address: of loopback, on which it listens.
    """

    ready_limit_s = 60.0
    stop_signal = signal.SIGTERM

    def __init__(
        self,
        name: str,
        directory: Path,
        ports: tuple[int, ...],
        label: str | None = None,
        *,
        address: str = ADDRESS,
    ) -> None:
        self.name = name
        self.label = name if label is None else label
        self.directory = directory
        self.ports = ports
        self.listen_address = address
        self.pidfile = directory / "pid.json"
        self.console = directory / "console.log"

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.label} {self.endpoint} {'running' if self.running else 'stopped'}>"
        )

    @property
    @abstractmethod
    def endpoint(self) -> str:
        """Where clients connect, as ``address:port``."""

    @property
    @abstractmethod
    def log_file(self) -> Path:
        """The log that tells why it does not run."""

    @abstractmethod
    def configure(self) -> None:
        """Write its configuration and make what it needs before its first start."""

    @abstractmethod
    def command(self) -> list[str]:
        """Return the absolute path and the arguments that run it in the foreground."""

    def environment(self) -> Mapping[str, str] | None:
        """Return the environment it runs in; None for this process's own."""
        return None

    @abstractmethod
    def probe(self, timeout_s: float) -> bool:
        """Tell whether it answers a client, by the request that a client would make first."""

    @property
    def live(self) -> process.ProcessId | None:
        """The live process, or None; a stale pidfile counts for nothing."""
        found = process.read_pidfile(self.pidfile)
        return found if found is not None and process.is_alive(found) else None

    @property
    def pid(self) -> int | None:
        """The pid of the live process, or None."""
        found = self.live
        return None if found is None else found.pid

    @property
    def running(self) -> bool:
        """Whether its process lives; `wait_ready` tells whether it answers."""
        return self.live is not None

    def start(self) -> bool:
        """Start it unless it runs, wait until it answers, and tell whether it was started by this call.

        :raises ServiceError: if a port is taken, it ends while starting, or it does not answer in time.
        """
        ran, launched = self.running, None
        try:
            launched = self.launch()
            self.wait_ready()
        except BaseException:
            # Ctrl-C can come when the process is there and launch() has not returned.
            if not ran and launched is not False:
                self.stop()
            raise
        return launched

    def launch(self) -> bool:
        """Start its process unless it runs, without waiting for it to answer."""
        with self._locked():
            if self.running:
                log.info("%s already runs at %s (pid %s)", self.label, self.endpoint, self.pid)
                return False
            check_free(self.label, self.ports, self.listen_address)
            self.configure()
            command = self.command()
            with _uninterrupted():
                started = process.spawn(command, self.console, self.environment())
                process.write_pidfile(self.pidfile, started)
            log.info("%s starts (pid %d)", self.label, started.pid)
            return True

    def wait_ready(self, timeout_s: float | None = None) -> None:
        """Wait until it answers a client.

        :raises ServiceError: with the end of its log, if it has ended or does not answer in time.
        """
        limit_s = self.ready_limit_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + limit_s
        while (live := self.live) is not None:
            left_s = deadline - time.monotonic()
            if self.probe(max(min(left_s, 10.0), 0.1)):
                log.info("%s answers at %s", self.label, self.endpoint)
                return
            if left_s <= 0:
                raise ServiceError(f"{self.label} does not answer after {limit_s:.0f} s{self.tail()}")
            process.wait_end(live, _PROBE_INTERVAL_S)
        raise ServiceError(f"{self.label} does not run: it has ended or was never started{self.tail()}")

    def stop(self, timeout_s: float = _STOP_LIMIT_S) -> bool:
        """Ask it to end, kill it if it has not after the limit, and tell whether it ran."""
        with self._locked():
            live = self.live
            if live is not None:
                self._end(live, timeout_s)
                log.info("%s stopped", self.label)
            self.pidfile.unlink(missing_ok=True)
            return live is not None

    def kill(self) -> bool:
        """End it at once, as a crash would: the pidfile stays, and nothing is written out."""
        with self._locked():
            live = self.live
            if live is not None:
                self._end(live, 0)
            return live is not None

    def suspend(self) -> bool:
        """Freeze it, as a machine that swaps or a virtual machine that is moved; tell whether it ran."""
        return self._signal(signal.SIGSTOP)

    def resume(self) -> bool:
        """Let it go on after ``suspend``, and tell whether it ran."""
        return self._signal(signal.SIGCONT)

    def _signal(self, signum: signal.Signals) -> bool:
        live = self.live
        return live is not None and process.send_signal(live, signum)

    def _end(self, live: process.ProcessId, timeout_s: float) -> None:
        family = process.descendants(live)
        asked = timeout_s > 0 and process.send_signal(live, self.stop_signal)
        if asked:
            process.send_signal(live, signal.SIGCONT)  # a suspended one would not notice
        ended = asked and process.wait_end(live, timeout_s)
        if not ended:
            process.send_signal(live, signal.SIGKILL)
            if not process.wait_end(live, _KILL_LIMIT_S):
                raise ServiceError(f"{self.label} (pid {live.pid}) does not end, even when it is killed")
        for child in family:
            process.send_signal(child, signal.SIGKILL)
            process.wait_end(child, _KILL_LIMIT_S)

    def tail(self, lines: int = _TAIL_LINES) -> str:
        """Return the end of its logs, for a message; empty if there are none."""
        parts = []
        for path in dict.fromkeys((self.console, self.log_file)):
            text = read_tail(path, lines)
            if text:
                parts.append(f"\n--- end of {path}\n{text}")
        return "".join(parts)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.directory.mkdir(parents=True, exist_ok=True)
        with locked(self.directory / "lock", f"another process starts or stops {self.label}"):
            yield


def start_all(servers: Iterable[Server]) -> tuple[Server, ...]:
    """Start the servers that do not run, all at the same time, and return those once every one answers.

    :raises ServiceError: if one cannot start; those that this call started are stopped again.
    """
    wanted, launched = tuple(servers), list[Server]()
    try:
        for server in wanted:
            # Noted first: Ctrl-C can come when the process is there and launch() has not returned.
            launched.append(server)
            if not server.launch():
                launched.remove(server)
        for server in wanted:
            server.wait_ready()
    except BaseException:
        for server in launched:
            server.stop()
        raise
    return tuple(launched)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold back Ctrl-C: between a process and its pidfile it would leave a server that nobody knows of."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def locked(path: Path, waiting: str) -> Iterator[None]:
    """Hold a lock that ends with this process however it ends; say ``waiting`` if another one holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("%s: waiting for it", waiting)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def read_tail(path: Path, lines: int) -> str:
    """Return the last lines of a log, however large it is."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(stream.seek(0, 2) - _MAX_TAIL_BYTES, 0))
            text = stream.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
