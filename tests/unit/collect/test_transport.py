"""Limits and choices that Paramiko lacks; real sshd test the rest."""

from __future__ import annotations

import socket
import threading
from typing import Any

import paramiko
import pytest

from airflow_provider_restrack import clock
from airflow_provider_restrack.collect.known_hosts import HostKey, Match
from airflow_provider_restrack.collect.sample import CollectError
from airflow_provider_restrack.collect.transport import (
    CountedSocket,
    HostKeyJudge,
    TransportFactory,
    request_exec,
    request_kill,
)


def connect() -> tuple[CountedSocket, socket.socket]:
    ours, theirs = socket.socketpair()
    return CountedSocket(fileno=ours.detach()), theirs


def test_a_peer_that_sends_more_than_allowed_is_cut_off() -> None:
    ours, theirs = connect()
    with ours, theirs:
        ours.allowed = 10
        theirs.sendall(b"x" * 10)
        assert ours.recv(10) == b"x" * 10

        theirs.sendall(b"x")
        with pytest.raises(OSError, match="more was sent"):
            ours.recv(10)


def test_what_comes_at_once_is_read_at_once_and_given_as_it_is_asked_for() -> None:
    ours, theirs = connect()
    with ours, theirs:
        theirs.sendall(b"abcdef")
        first = ours.recv(2)
        theirs.sendall(b"gh")
        theirs.close()

        assert [first, ours.recv(3), ours.recv(9), ours.recv(9), ours.recv(9)] == [
            b"ab", b"cde", b"f", b"gh", b"",
        ]  # fmt: skip


class FakeChannel:
    """Plays a channel whose host answers at once, or never."""

    remote_chanid = 0

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.event = threading.Event()
        self.event_ready = False
        self.closed = False
        self.sent: list[paramiko.Message] = []

    def get_transport(self) -> FakeChannel:
        return self

    def get_exception(self) -> None:
        return None

    def _event_pending(self) -> None:
        self.event.clear()

    def _send_user_message(self, message: paramiko.Message) -> None:
        self.sent.append(message)
        if self.answer != "none":
            self.event_ready = self.answer == "yes"
            self.event.set()


def test_a_command_is_asked_for_as_paramiko_does() -> None:
    channel: Any = FakeChannel("yes")

    request_exec(channel, "true", 1.0)

    assert channel.sent[0].asbytes() == b"b\0\0\0\0\0\0\0\x04exec\x01\0\0\0\x04true"


def test_a_host_that_does_not_answer_a_command_holds_nobody_longer_than_asked() -> None:
    channel: Any = FakeChannel("none")

    with pytest.raises(TimeoutError, match="did not answer"):
        request_exec(channel, "true", 0.01)


def test_a_command_that_is_refused_is_an_error() -> None:
    channel: Any = FakeChannel("no")

    with pytest.raises(paramiko.SSHException, match="refused"):
        request_exec(channel, "true", 1.0)


def test_a_kill_is_asked_for_without_an_answer_and_not_on_a_channel_that_is_closed() -> None:
    channel: Any = FakeChannel("none")

    request_kill(channel)
    channel.closed = True
    request_kill(channel)

    assert [request.asbytes() for request in channel.sent] == [b"b\0\0\0\0\0\0\0\x06signal\0\0\0\0\x04KILL"]


def list_offered(ciphers: tuple[str, ...] = ()) -> list[str]:
    ours, theirs = connect()
    with ours, theirs:
        transport = TransportFactory(Match("file"), ciphers, "c")(ours)
        offered = list(transport.get_security_options().ciphers)
        transport.close()
    return offered


def test_ciphers_that_need_no_mac_are_offered_first_and_the_others_after_them() -> None:
    offered = list_offered()

    assert offered[0] == "aes128-gcm@openssh.com"
    assert "aes128-ctr" in offered


def test_ciphers_of_the_connection_are_offered_alone() -> None:
    assert list_offered(("aes256-ctr",)) == ["aes256-ctr"]


def test_each_attempt_to_log_in_has_what_is_left_of_the_time_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    ours, theirs = connect()
    with ours, theirs:
        transport = TransportFactory(Match("file"), (), "c", until=110.0)(ours)
        transport.auth_timeout = 30.0  # as Paramiko's client does
        left = []
        for moment in (100.0, 107.5, 111.0):
            now[0] = moment
            left.append(transport.auth_timeout)
        transport.close()

    assert left == [10.0, 2.5, 0.0]


def test_a_key_that_is_not_known_is_refused() -> None:
    key = paramiko.ECDSAKey.generate()
    client: Any = None

    with pytest.raises(CollectError, match="is not in file") as caught:
        HostKeyJudge(Match("file"), "known", "h", 22).missing_host_key(client, "h", key)
    known = Match("file", (HostKey(key.get_name(), key.get_base64()),))
    HostKeyJudge(known, "known", "h", 22).missing_host_key(client, "h", key)

    assert caught.value.outcome == "hostkey_mismatch"
