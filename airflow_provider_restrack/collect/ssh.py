"""One host over SSH: the only door to Paramiko, whose errors leave it as outcomes of a sample."""

from __future__ import annotations

import contextlib
import errno
import logging
import select
import shlex
import socket
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import paramiko

from airflow_provider_restrack import clock
from airflow_provider_restrack.collect.frames import AgentRun, FrameScanner, explain_silence, new_sentinel
from airflow_provider_restrack.collect.known_hosts import (
    SSH_PORT,
    HostKey,
    HostKeyCheck,
    KnownHosts,
    Match,
    explain_refusal,
    host_key_name,
    order_key_types,
)
from airflow_provider_restrack.collect.sample import CollectError, Reading, excerpt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from airflow_provider_restrack.collect.inventory import Target

# Paramiko logs the traceback of each host that is down, whose row says it in a line: set its level to see it.
_PARAMIKO_LOG = "airflow_provider_restrack.paramiko"
_CHUNK = 64 * 1024
_STDERR_HEAD = 2048
# Well below the idle limits of firewalls and NAT, which drop a kept connection without telling.
_KEEPALIVE_S = 30
# OpenSSH sends the exit status right after the end of output.
_EXIT_STATUS_WAIT_S = 2.0
_RESOLVE = "resolve the name"
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
    ssh_config: paramiko.SSHConfig | None = field(default=None, repr=False)

    def match(self, address: str, port: int) -> Match:
        """Return the keys that a host may have: the connection's ``host_key`` where the file has none."""
        found = self.known_hosts.match(host_key_name(address, port))
        if found.keys or self.host_key is None:
            return found
        source = f"`host_key` of connection {self.conn_id!r}"
        return Match(source, (self.host_key,), found.revoked, remedy=f"put the new key into {source}")


def read_ssh_config(path: Path) -> paramiko.SSHConfig | None:
    """Read the OpenSSH client configuration, if there is one.

    :raises ValueError: if it cannot be read.
    """
    if not path.is_file():
        return None
    try:
        return paramiko.SSHConfig.from_path(str(path))
    except (OSError, UnicodeError, paramiko.SSHException) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


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
        self._socket: socket.socket | None = None
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
        proxy, identity_file = self._read_ssh_config()
        sock = self._start_proxy(proxy) if proxy else self._dial(until)
        match = self._policy.match(self._target.address, self._port)
        self._client = client = paramiko.SSHClient()
        client.set_log_channel(_PARAMIKO_LOG)
        judge = _HostKeyJudge(match, self._policy.host_key_check, self._target.address, self._port)
        client.set_missing_host_key_policy(judge)
        with self._mapped("log in", until):
            left = self._left(until)
            client.connect(
                self._target.address,
                port=self._port,
                username=self._username,
                password=self._policy.password,
                pkey=self._policy.pkey,
                key_filename=identity_file,
                passphrase=self._policy.passphrase,
                sock=sock,
                timeout=left,
                banner_timeout=left,
                auth_timeout=left,
                compress=self._policy.compress,
                look_for_keys=self._policy.look_for_keys,
                disabled_algorithms=self._policy.disabled_algorithms,
                transport_factory=_TransportFactory(self._policy, match),
            )
            transport = client.get_transport()
            assert transport is not None
            transport.set_keepalive(_KEEPALIVE_S)
            return transport.open_session(timeout=self._left(until))

    def _dial(self, until: float) -> socket.socket:
        address, port = self._target.address, self._port
        with self._mapped(_RESOLVE, until):
            infos = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
        for position, (family, kind, protocol, _, destination) in enumerate(infos):
            with self._mapped("connect", until):
                sock = socket.socket(family, kind, protocol)
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

    def _start_proxy(self, command: str) -> socket.socket:
        """Start a ProxyCommand, which talks on its stdin and stdout, at the other end of a socket pair."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._keep_socket(ours)
            try:
                self._proxy = subprocess.Popen(  # noqa: S603 - the worker's own configuration names it
                    shlex.split(command), stdin=theirs.fileno(), stdout=theirs.fileno()
                )
            except (OSError, ValueError) as error:
                raise CollectError(
                    "unreachable", f"{self.where}: ProxyCommand {command!r} of ~/.ssh/config: {error}"
                ) from error
        return ours

    def _keep_socket(self, sock: socket.socket) -> None:
        self._socket = sock
        if self._aborted:  # between the caller's last step and this one
            sock.close()
            raise CollectError("timeout", f"{self.where}: given up before the connection was made")

    def _read_ssh_config(self) -> tuple[str | None, str | None]:
        """Return this host's ProxyCommand and first IdentityFile, what the ssh provider takes too."""
        if self._policy.ssh_config is None:
            return None, None
        found: dict[str, Any] = dict(self._policy.ssh_config.lookup(self._target.address))
        has_secret = self._policy.password is not None or self._policy.pkey is not None
        identity_files = found.get("identityfile") or []
        return found.get("proxycommand"), identity_files[0] if identity_files and not has_secret else None

    def _run_agent(self, channel: paramiko.Channel, deadline: float) -> Reading:
        sentinel = new_sentinel()
        scanner = FrameScanner(sentinel)
        with self._mapped("run the agent", deadline):
            asked = clock.monotonic()
            channel.exec_command(self._run.command(sentinel, self._left(deadline)))
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
        poller = select.poll()
        poller.register(channel.fileno(), select.POLLIN)
        while True:
            left = deadline - clock.monotonic()
            if left <= 0:
                raise TimeoutError(f"the host has printed {excerpt(scanner.head + stderr)!r}")
            if channel.recv_ready():
                if scanner.feed(channel.recv(_CHUNK), clock.utc_now()):
                    return stderr
            elif channel.recv_stderr_ready():
                # Unread, it would fill the window that stdout shares.
                chunk = channel.recv_stderr(_CHUNK)
                scanner.count(chunk)
                stderr += chunk[: _STDERR_HEAD - len(stderr)]
            elif channel.eof_received or channel.closed:
                return stderr
            else:
                poller.poll(left * 1000)

    def _explain_silence(
        self, channel: paramiko.Channel, scanner: FrameScanner, stderr: bytes
    ) -> CollectError:
        channel.status_event.wait(_EXIT_STATUS_WAIT_S)
        transport = channel.get_transport()
        if not transport.is_active():
            return CollectError("unreachable", f"{self.where}: the connection dropped while the agent ran")
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
            timed_out = isinstance(error, TimeoutError) or clock.monotonic() >= until
            raise explain_error(error, step, self.where, self._policy.conn_id, timed_out=timed_out) from error


def explain_error(error: Exception, step: str, where: str, conn_id: str, *, timed_out: bool) -> CollectError:
    """Decide what an error of Paramiko or of a socket means for the row of a host.

    :param step: what was being done, as a verb.
    :param timed_out: whether the time for it is over: Paramiko then reports whatever it waited for.
    """
    # It can quote what the host sent in the place of a banner.
    said = excerpt(str(error).encode("utf-8", "replace")) or type(error).__name__
    if timed_out:
        return CollectError(
            "timeout", f"{where}: could not {step} in time ({said}): see connect_timeout and host_timeout"
        )
    if isinstance(error, paramiko.AuthenticationException) or "No authentication methods" in said:
        return CollectError(
            "auth_failed",
            f"{where}: login refused ({said}): check the user, key or password of connection {conn_id!r} and"
            " authorized_keys on the host",
        )
    if step == _RESOLVE or isinstance(error, socket.gaierror):
        return CollectError(
            "unreachable", f"{where}: name not resolved ({said}): check it, or give an address"
        )
    if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
        said += "; it is this worker that has too many: lower concurrency, or raise its limit (ulimit -n)"
    if "banner" in said:
        said += "; a server with too many logins at once does that: see its MaxStartups, or lower concurrency"
    return CollectError("unreachable", f"{where}: could not {step}: {said}")


class _HostKeyJudge(paramiko.MissingHostKeyPolicy):
    """Checks each host key against the parsed file; the client's own list stays empty, so all come here."""

    def __init__(self, match: Match, check: HostKeyCheck, address: str, port: int) -> None:
        self._match = match
        self._check: HostKeyCheck = check
        self._address = address
        self._port = port

    def missing_host_key(self, _client: paramiko.SSHClient, _hostname: str, key: paramiko.PKey) -> None:
        offered = HostKey(key.get_name(), key.get_base64())
        refusal = explain_refusal(offered, self._match, self._check, self._address, self._port)
        if refusal is not None:
            raise CollectError("hostkey_mismatch", refusal)


class _TransportFactory:
    """Makes the transport with the connection's ciphers, asking for the key types that are known first."""

    def __init__(self, policy: SshPolicy, match: Match) -> None:
        self._policy = policy
        self._match = match

    def __call__(self, sock: Any, **options: Any) -> paramiko.Transport:
        transport = paramiko.Transport(sock, **options)
        security = transport.get_security_options()
        security.key_types = order_key_types(security.key_types, self._match)
        if self._policy.ciphers:
            try:
                security.ciphers = self._policy.ciphers
            except ValueError as error:
                raise CollectError(
                    "unreachable", f"connection {self._policy.conn_id!r}: extra `ciphers`: {error}"
                ) from error
        return transport


if logging.getLogger(_PARAMIKO_LOG).level == logging.NOTSET:
    logging.getLogger(_PARAMIKO_LOG).setLevel(logging.CRITICAL)
