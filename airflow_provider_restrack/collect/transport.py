"""What a fleet needs of Paramiko and its sockets beyond what they do by themselves."""

from __future__ import annotations

import errno
import math
import socket
from functools import cache
from typing import TYPE_CHECKING, Any

import paramiko

from airflow_provider_restrack import clock
from airflow_provider_restrack.collect.known_hosts import HostKey, explain_refusal, order_key_types
from airflow_provider_restrack.collect.lean import choose_transport
from airflow_provider_restrack.collect.sample import CollectError

if TYPE_CHECKING:
    from airflow_provider_restrack.collect.known_hosts import HostKeyCheck, Match

# A login takes some 10 KiB; Paramiko collects a banner without an end, and copies it for every 128 bytes.
_MAX_LOGIN_BYTES = 256 * 1024
# What Paramiko offers first needs a MAC, which it compares byte by byte in Python.
_FIRST_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
_READ_AHEAD = 32 * 1024
_CHANNEL_REQUEST = 98  # SSH_MSG_CHANNEL_REQUEST of RFC 4254


class CountedSocket(socket.socket):
    """Ends a connection that sends more than it may: no peer fills the worker's memory or time.

    It reads ahead, as Paramiko asks for each packet in two or three small pieces.

    :ivar allowed: bytes that may still come.
    """

    allowed = _MAX_LOGIN_BYTES
    _ahead = b""

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Receive as a socket does.

        :raises OSError: if more came than is allowed.
        """
        data = self._ahead or self._receive(flags)
        self._ahead = data[bufsize:]
        return data[:bufsize]

    def _receive(self, flags: int) -> bytes:
        data = super().recv(_READ_AHEAD, flags)
        self.allowed -= len(data)
        if self.allowed < 0:
            raise OSError(errno.EMSGSIZE, "more was sent than any login or sample takes")
        return data


def request_exec(channel: paramiko.Channel, command: str, timeout_s: float) -> None:
    """Ask for a command as ``Channel.exec_command`` does, which waits for the answer without a limit.

    :raises TimeoutError: if the host does not answer in time.
    """
    request = _build_request(channel, "exec", command, is_answered=True)
    transport: Any = channel.get_transport()
    waiting: Any = channel
    waiting._event_pending()  # noqa: SLF001
    transport._send_user_message(request)  # noqa: SLF001
    if not channel.event.wait(timeout_s):
        raise TimeoutError("the host took the command and did not answer")
    if not channel.event_ready:
        raise transport.get_exception() or paramiko.SSHException("the command was refused")


def request_kill(channel: paramiko.Channel) -> None:
    """Ask that what runs on a channel is killed (RFC 4254, 6.9); no answer comes.

    OpenSSH does so from 7.9 on, for the whole process group, but neither for root nor for a forced command.
    """
    if not channel.closed:
        transport: Any = channel.get_transport()
        request = _build_request(channel, "signal", "KILL", is_answered=False)
        transport._send_user_message(request)  # noqa: SLF001


def _build_request(
    channel: paramiko.Channel, kind: str, value: str, *, is_answered: bool
) -> paramiko.Message:
    request = paramiko.Message()
    request.add_byte(bytes([_CHANNEL_REQUEST]))
    request.add_int(channel.remote_chanid)
    request.add_string(kind)
    request.add_boolean(is_answered)
    request.add_string(value)
    return request


class HostKeyJudge(paramiko.MissingHostKeyPolicy):
    """Checks each host key against the parsed file; the client's own list stays empty, so all come here."""

    def __init__(self, match: Match, check: HostKeyCheck, address: str, port: int) -> None:
        self._match = match
        self._check: HostKeyCheck = check
        self._address = address
        self._port = port

    def missing_host_key(self, _client: paramiko.SSHClient, _hostname: str, key: paramiko.PKey) -> None:
        """Decide on the key that a host offers.

        :raises CollectError: with ``hostkey_mismatch``, if it is refused.
        """
        offered = HostKey(key.get_name(), key.get_base64())
        refusal = explain_refusal(offered, self._match, self._check, self._address, self._port)
        if refusal is not None:
            raise CollectError("hostkey_mismatch", refusal)


class _JointLimit:
    """Gives each key and password what is left of the time for the connection, and not as much anew.

    :ivar until: monotonic time by which the login is done.
    """

    until = math.inf

    @property
    def auth_timeout(self) -> float:
        """How long Paramiko may wait for the answer to an attempt."""
        return max(0.0, self.until - clock.monotonic())

    @auth_timeout.setter
    def auth_timeout(self, seconds: float) -> None:
        """Take no notice: Paramiko's own is for each attempt."""


@cache
def _limited_transport() -> Any:
    kind = choose_transport()
    return type(kind.__name__, (_JointLimit, kind), {})


class TransportFactory:
    """Makes the transport with the connection's ciphers, asking for the key types that are known first.

    :param until: monotonic time by which the login is done.
    """

    def __init__(self, match: Match, ciphers: tuple[str, ...], conn_id: str, until: float = math.inf) -> None:
        self._match = match
        self._ciphers = ciphers
        self._conn_id = conn_id
        self._until = until

    def __call__(self, sock: Any, **options: Any) -> paramiko.Transport:
        """Return a transport over a connected socket.

        :raises CollectError: if the connection's ciphers are none that Paramiko has.
        """
        transport: Any = _limited_transport()(sock, **options)
        transport.until = self._until
        security = transport.get_security_options()
        security.key_types = order_key_types(security.key_types, self._match)
        if not self._ciphers:
            security.ciphers = sorted(security.ciphers, key=lambda name: name not in _FIRST_CIPHERS)
        else:
            try:
                security.ciphers = self._ciphers
            except ValueError as error:
                raise CollectError(
                    "unreachable", f"connection {self._conn_id!r}: extra `ciphers`: {error}"
                ) from error
        limited: paramiko.Transport = transport
        return limited
