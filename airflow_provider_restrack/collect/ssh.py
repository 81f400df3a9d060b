"""One host over SSH: the only door to Paramiko, whose errors leave it as outcomes of a sample."""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import paramiko

from airflow_provider_restrack import clock
from airflow_provider_restrack.collect.fleet import TransientError
from airflow_provider_restrack.collect.frames import (
    MAX_OUTPUT_BYTES,
    AgentRun,
    FrameScanner,
    explain_silence,
    new_sentinel,
)
from airflow_provider_restrack.collect.known_hosts import (
    SSH_PORT,
    HostKey,
    HostKeyCheck,
    KnownHosts,
    Match,
    host_key_name,
)
from airflow_provider_restrack.collect.lean import may_compress
from airflow_provider_restrack.collect.sample import CollectError, Reading, excerpt
from airflow_provider_restrack.collect.ssh_config import build_proxy_argv
from airflow_provider_restrack.collect.ssh_errors import RESOLVE, explain_error
from airflow_provider_restrack.collect.transport import (
    CountedSocket,
    HostKeyJudge,
    TransportFactory,
    request_exec,
    request_kill,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from airflow_provider_restrack.collect.inventory import Target
    from airflow_provider_restrack.collect.ssh_config import HostOptions, SshConfig

# Paramiko logs the traceback of each host that is down, whose row says it in a line: set its level to see it.
_PARAMIKO_LOG = "airflow_provider_restrack.paramiko"
_CHUNK = 64 * 1024
_STDERR_HEAD = 2048
# Well below the idle limits of firewalls and NAT, which drop a kept connection without telling.
_KEEPALIVE_S = 30
# How often a thread looks up from a quiet connection, which wakes it by itself; Paramiko's own is ten times a
# second, for each host.
_IDLE_CHECK_S = 5.0
_MAX_SESSION_BYTES = MAX_OUTPUT_BYTES + 1024 * 1024
# OpenSSH sends the exit status right after the end of output.
_EXIT_STATUS_WAIT_S = 2.0
_PARAMIKO_ERRORS = (paramiko.SSHException, EOFError, OSError, UnicodeError)


@dataclass(frozen=True, slots=True)
class SshPolicy:
    """How to log in to the hosts of one SSH connection; secrets stay out of its repr."""

    conn_id: str
    username: str
    known_hosts: KnownHosts
    port: int = SSH_PORT
    password: str | None = field(default=None, repr=False)
    pkey: paramiko.PKey | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)
    host_key: HostKey | None = None
    host_key_check: HostKeyCheck = "known"
    compress: bool = True
    ciphers: tuple[str, ...] = ()
    disabled_algorithms: dict[str, Any] | None = None
    look_for_keys: bool = True
    ssh_config: SshConfig | None = field(default=None, repr=False)

    def options(self, address: str) -> HostOptions | None:
        """Return what the worker's OpenSSH configuration says of a host, if there is one."""
        return None if self.ssh_config is None else self.ssh_config.options(address)

    def match(self, address: str, port: int) -> Match:
        """Return the keys that a host may have: the connection's ``host_key`` where the file has none."""
        found = self.known_hosts.match(host_key_name(address, port))
        if found.keys or self.host_key is None:
            return found
        source = f"`host_key` of connection {self.conn_id!r}"
        return Match(source, (self.host_key,), found.revoked, remedy=f"put the new key into {source}")


class SshSession:
    """A connection to one host that runs the agent as often as asked, and connects anew when it was dropped.

    ``collect`` is called from one thread at a time; ``abort`` from any, also from a signal handler.
    """

    def __init__(self, target: Target, policy: SshPolicy, run: AgentRun, connect_timeout_s: float) -> None:
        self._target = target
        self._policy = policy
        self._run = run
        self._connect_timeout_s = connect_timeout_s
        self._port = target.port or policy.port
        self._username = target.username or policy.username
        self._client: paramiko.SSHClient | None = None
        self._socket: CountedSocket | None = None
        self._proxy: subprocess.Popen[bytes] | None = None
        self._aborted = False

    @property
    def where(self) -> str:
        """The login as people write it, for messages."""
        return f"{self._username}@{host_key_name(self._target.address, self._port)}"

    def collect(self, deadline: float) -> Reading:
        """Run the agent once.

        :param deadline: monotonic time by which connecting, logging in and the agent are done together.
        :raises CollectError: with the outcome of the host's row.
        """
        channel = self._open_channel(deadline)
        try:
            return self._run_agent(channel, deadline)
        except BaseException:  # what hangs before the agent starts has no limit of its own
            with contextlib.suppress(*_PARAMIKO_ERRORS):
                request_kill(channel)
            raise
        finally:
            channel.close()

    def log_in(self, deadline: float) -> None:
        """Connect, check the host key and log in, without running anything.

        :raises CollectError: with the reason.
        """
        self._open_channel(deadline).close()

    def abort(self) -> None:
        """Cut the connection at once, without waiting for anyone; whoever works on it gets an error."""
        self._aborted = True
        self._cut_socket()

    def close(self) -> None:
        """End the connection; also when another thread does the same."""
        self._cut_socket()
        client, self._client = self._client, None
        sock, self._socket = self._socket, None
        proxy, self._proxy = self._proxy, None
        if client is not None:
            client.close()
        if sock is not None:
            sock.close()
        if proxy is not None:
            proxy.kill()
            proxy.wait()

    def _cut_socket(self) -> None:
        # Paramiko's threads wait on the socket: its end wakes them all, and nothing here can block.
        sock = self._socket
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _open_channel(self, deadline: float) -> paramiko.Channel:
        transport = self._client.get_transport() if self._client is not None else None
        if transport is not None and transport.is_active():
            # A firewall may have dropped the idle connection without a word: only using it tells.
            with contextlib.suppress(*_PARAMIKO_ERRORS):
                return transport.open_session(timeout=self._left(self._connect_until(deadline)))
        self.close()
        return self._connect(self._connect_until(deadline))

    def _connect(self, until: float) -> paramiko.Channel:
        options = self._policy.options(self._target.address)
        argv = self._build_proxy_argv(options) if options else None
        sock = self._start_proxy(argv) if argv else self._dial(until)
        match = self._policy.match(self._target.address, self._port)
        self._client = client = paramiko.SSHClient()
        client.set_log_channel(_PARAMIKO_LOG)
        judge = HostKeyJudge(match, self._policy.host_key_check, self._target.address, self._port)
        client.set_missing_host_key_policy(judge)
        has_secret = self._policy.password is not None or self._policy.pkey is not None
        with self._mapped("log in", until):
            left = self._left(until)
            client.connect(
                self._target.address,
                port=self._port,
                username=self._username,
                password=self._policy.password,
                pkey=self._policy.pkey,
                key_filename=options.identity_file if options and not has_secret else None,
                passphrase=self._policy.passphrase,
                sock=sock,
                timeout=left,
                banner_timeout=left,
                compress=self._policy.compress and may_compress(),
                look_for_keys=self._policy.look_for_keys,
                disabled_algorithms=self._policy.disabled_algorithms,
                transport_factory=TransportFactory(match, self._policy.ciphers, self._policy.conn_id, until),
            )
            transport = client.get_transport()
            assert transport is not None
            transport.set_keepalive(_KEEPALIVE_S)
            sock.settimeout(_IDLE_CHECK_S)
            return transport.open_session(timeout=self._left(until))

    def _dial(self, until: float) -> CountedSocket:
        address, port = self._target.address, self._port
        with self._mapped(RESOLVE, until):
            infos = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
        for position, (family, kind, protocol, _, destination) in enumerate(infos):
            with self._mapped("connect", until):
                sock = CountedSocket(family, kind, protocol)
                self._keep_socket(sock)
                # Addresses that swallow packets leave time for those after them.
                sock.settimeout(self._left(until) / (len(infos) - position))
                try:
                    sock.connect(destination)
                except OSError:
                    sock.close()
                    if position == len(infos) - 1:
                        raise
                else:
                    return sock
        raise CollectError("unreachable", f"{self.where}: the name has no address")

    def _build_proxy_argv(self, options: HostOptions) -> list[str] | None:
        try:
            return build_proxy_argv(options, self._port, self._username)
        except ValueError as error:
            raise CollectError(
                "unreachable", f"{self.where}: its ProxyCommand or ProxyJump of ~/.ssh/config: {error}"
            ) from error

    def _start_proxy(self, argv: list[str]) -> CountedSocket:
        """Start a ProxyCommand, which talks on its stdin and stdout, at the other end of a socket pair."""
        ours, theirs = socket.socketpair()
        sock = CountedSocket(fileno=ours.detach())
        with theirs:
            self._keep_socket(sock)
            try:
                self._proxy = subprocess.Popen(  # noqa: S603 - the worker's own configuration names it
                    argv, stdin=theirs.fileno(), stdout=theirs.fileno()
                )
            except (OSError, ValueError) as error:
                raise CollectError(  # without the arguments, which can hold passwords and tokens
                    "unreachable",
                    f"{self.where}: {argv[0]!r}, its ProxyCommand of ~/.ssh/config: {_reason_of(error)}",
                ) from error
        return sock

    def _keep_socket(self, sock: CountedSocket) -> None:
        self._socket = sock
        if self._aborted:  # between the caller's last step and this one
            sock.close()
            raise CollectError("timeout", f"{self.where}: given up before the connection was made")

    def _run_agent(self, channel: paramiko.Channel, deadline: float) -> Reading:
        sentinel = new_sentinel()
        scanner = FrameScanner(sentinel)
        if self._socket is not None:
            self._socket.allowed = _MAX_SESSION_BYTES
        with self._mapped("run the agent", deadline):
            asked = clock.monotonic()
            left = self._left(deadline)
            request_exec(channel, self._run.command(sentinel, left), left)
            round_trip_s = clock.monotonic() - asked
        sent_at = self._send_source(channel, deadline)
        with self._mapped("read the sample", deadline):
            stderr = self._read_frames(channel, scanner, deadline)
            if scanner.sample is None and not scanner.finish(clock.utc_now()):
                raise self._explain_silence(channel, scanner, stderr)
        return scanner.reading(sent_at, round_trip_s)

    def _send_source(self, channel: paramiko.Channel, deadline: float) -> datetime:
        """Send the agent; return a time before which the host cannot have run it."""
        channel.settimeout(self._left(deadline))
        sent_at = clock.utc_now()
        # A command that is not found ends before it reads: what it printed and its status say why, not this
        # error.
        with contextlib.suppress(OSError):
            channel.sendall(self._run.source)
            sent_at = clock.utc_now()
            channel.shutdown_write()  # an interpreter reads its script to the end before it runs it
        return sent_at

    def _read_frames(self, channel: paramiko.Channel, scanner: FrameScanner, deadline: float) -> bytes:
        """Read until the sample is complete or output ends; return the start of stderr."""
        stderr = b""
        # One event for both: it is set when something arrives or ends, and looked for before each wait.
        arrived = threading.Event()
        channel.in_buffer.set_event(arrived)
        channel.in_stderr_buffer.set_event(arrived)
        while True:
            left = deadline - clock.monotonic()
            if left <= 0:
                raise TimeoutError(f"the host has printed {excerpt(scanner.head + stderr)!r}")
            ended = channel.eof_received or channel.closed  # before the look for data, which precede it
            if channel.recv_ready():
                if scanner.feed(channel.recv(_CHUNK), clock.utc_now()):
                    return stderr
            elif channel.recv_stderr_ready():
                # Unread, it would fill the window that stdout shares.
                chunk = channel.recv_stderr(_CHUNK)
                scanner.count(chunk)
                stderr += chunk[: _STDERR_HEAD - len(stderr)]
            elif ended:
                return stderr
            else:
                arrived.wait(left)

    def _explain_silence(
        self, channel: paramiko.Channel, scanner: FrameScanner, stderr: bytes
    ) -> CollectError:
        channel.status_event.wait(_EXIT_STATUS_WAIT_S)
        transport = channel.get_transport()
        if not transport.is_active():
            reason = excerpt(str(transport.get_exception() or "").encode("utf-8", "replace"))
            return self._explain_flood() or TransientError(
                "unreachable",
                f"{self.where}: the connection dropped while the agent ran{reason and f' ({reason})'}",
            )
        status = channel.recv_exit_status() if channel.exit_status_ready() else None
        return explain_silence(scanner, status, stderr, self._run.python)

    def _connect_until(self, deadline: float) -> float:
        return min(deadline, clock.monotonic() + self._connect_timeout_s)

    def _left(self, until: float) -> float:
        """Return the seconds that are left.

        :raises TimeoutError: if there are none.
        """
        left = until - clock.monotonic()
        if left <= 0:
            raise TimeoutError("the time is over")
        return left

    @contextlib.contextmanager
    def _mapped(self, step: str, until: float) -> Iterator[None]:
        """Turn the errors of a step into the outcome of the row."""
        try:
            yield
        except _PARAMIKO_ERRORS as error:
            flood = self._explain_flood()
            if flood is not None:
                raise flood from error
            timed_out = isinstance(error, TimeoutError) or clock.monotonic() >= until
            raise explain_error(error, step, self.where, self._policy.conn_id, timed_out=timed_out) from error

    def _explain_flood(self) -> CollectError | None:
        if self._socket is None or self._socket.allowed >= 0:
            return None
        return CollectError("parse_error", f"{self.where}: cut off, as it sent more than any sample takes")


def _reason_of(error: Exception) -> str:
    """Return why a program was not started: what is said beside it is the program's own name."""
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)


if logging.getLogger(_PARAMIKO_LOG).level == logging.NOTSET:
    logging.getLogger(_PARAMIKO_LOG).setLevel(logging.CRITICAL)
