"""How a login is chosen and limited; real sshd test the rest."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from datetime import UTC, datetime
from typing import Any

import paramiko
import pytest

from airflow_provider_restrack.collect.frames import AgentRun, FrameScanner
from airflow_provider_restrack.collect.inventory import Target
from airflow_provider_restrack.collect.known_hosts import HostKey, KnownHosts
from airflow_provider_restrack.collect.sample import CollectError
from airflow_provider_restrack.collect.ssh import SshPolicy, SshSession
from airflow_provider_restrack.collect.ssh_config import read_ssh_config

KEY = HostKey("ssh-ed25519", "AAAA")


def make_policy(**changes: Any) -> SshPolicy:
    return SshPolicy(
        **{"conn_id": "c", "username": "ops", "known_hosts": KnownHosts.parse("", "file"), **changes}
    )


def make_session(target: Target, policy: SshPolicy | None = None) -> SshSession:
    return SshSession(target, policy or make_policy(), AgentRun(b""), 1.0)


def test_a_name_that_cannot_be_encoded_is_not_resolved() -> None:
    with pytest.raises(CollectError, match="name not resolved"):
        make_session(Target("h", "a" * 64 + ".example")).collect(time.monotonic() + 5)


def test_secrets_stay_out_of_the_policys_repr() -> None:
    policy = make_policy(password="open sesame", passphrase="hush", pkey=paramiko.ECDSAKey.generate())

    assert "sesame" not in repr(policy)
    assert "hush" not in repr(policy)
    assert "pkey" not in repr(policy)


def test_the_file_wins_over_the_connections_host_key() -> None:
    other = HostKey("ssh-ed25519", "BBBB")
    known_hosts = KnownHosts.parse(f"listed {other.kind} {other.data}", "file")
    policy = make_policy(known_hosts=known_hosts, host_key=KEY)

    assert policy.match("listed", 22).keys == (other,)
    assert policy.match("unlisted", 22).keys == (KEY,)
    assert "connection 'c'" in policy.match("unlisted", 22).source


@pytest.mark.parametrize(
    ("target", "where"),
    [
        (Target("h", "10.0.0.1"), "ops@10.0.0.1"),
        (Target("h", "10.0.0.1", 2222, "me"), "me@[10.0.0.1]:2222"),
    ],
)
def test_what_a_host_sets_wins_over_the_connection(target: Target, where: str) -> None:
    assert make_session(target).where == where


def test_a_session_given_up_before_it_connects_does_not_connect() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        session = make_session(Target("h", "127.0.0.1", listener.getsockname()[1]))
        session.abort()

        with pytest.raises(CollectError, match="given up"):
            session.collect(time.monotonic() + 5)

        session.close()
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()


class MuteLogin(paramiko.ServerInterface):
    """Plays an sshd that never says whether a password is right."""

    def __init__(self, done: threading.Event) -> None:
        self.done = done

    def get_allowed_auths(self, username: str) -> str:
        return "password"

    def check_auth_password(self, username: str, password: str) -> int:
        self.done.wait(30)
        return paramiko.AUTH_FAILED


def test_the_greeting_and_the_login_have_one_limit_together() -> None:
    key, done = paramiko.ECDSAKey.generate(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve() -> None:
            connection, _ = listener.accept()
            time.sleep(1.5)
            server = paramiko.Transport(connection)
            server.add_server_key(key)
            server.start_server(server=MuteLogin(done))
            done.wait(30)
            server.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        known = KnownHosts.parse(f"[127.0.0.1]:{port} {key.get_name()} {key.get_base64()}", "file")
        policy = make_policy(known_hosts=known, password="x", look_for_keys=False)
        session = SshSession(Target("h", "127.0.0.1", port), policy, AgentRun(b""), 2.5)
        started = time.monotonic()

        with pytest.raises(CollectError, match="could not log in in time") as caught:
            session.collect(time.monotonic() + 30)

        took = time.monotonic() - started
        done.set()
        session.close()
        thread.join(10)
    assert caught.value.outcome == "timeout"
    assert 2.4 < took < 3.7  # each limit anew would end after 4 s


class FakeChannel:
    """Plays a channel to a host that runs the agent as soon as it has the end of it."""

    def __init__(self) -> None:
        self.started: datetime | None = None

    def settimeout(self, _seconds: float) -> None:
        pass

    def sendall(self, _source: bytes) -> None:
        pass

    def shutdown_write(self) -> None:
        self.started = datetime.now(tz=UTC)
        time.sleep(0.01)


def test_the_agent_counts_as_sent_before_the_host_can_run_it() -> None:
    channel: Any = FakeChannel()

    sent_at = make_session(Target("h", "h"))._send_source(channel, time.monotonic() + 5)

    assert sent_at <= channel.started


class EndingChannel:
    """Plays a channel whose last data and end come while it is looked at, first the data."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.looks = 0
        self.event = threading.Event()
        self.eof_received = self.closed = False
        self.in_buffer = self.in_stderr_buffer = self

    def set_event(self, event: threading.Event) -> None:
        self.event = event

    def recv_ready(self) -> bool:
        self.looks += 1
        if self.looks == 1:  # nothing yet; by the next line both have come
            self.eof_received = True
            self.event.set()
            return False
        return bool(self.data)

    def recv(self, _size: int) -> bytes:
        data, self.data = self.data, b""
        return data

    def recv_stderr_ready(self) -> bool:
        return False


class RunningChannel:
    """Records what is done with a channel on which something runs."""

    remote_chanid = 0
    closed = False

    def __init__(self) -> None:
        self.done: list[str] = []

    def get_transport(self) -> RunningChannel:
        return self

    def _send_user_message(self, message: paramiko.Message) -> None:
        self.done.append("kill" if b"KILL" in message.asbytes() else "other")

    def close(self) -> None:
        self.done.append("close")


@pytest.mark.parametrize(
    ("error", "done"),
    [
        pytest.param(None, ["close"], id="sample"),
        pytest.param(CollectError("timeout", "mute"), ["kill", "close"], id="no-sample"),
        pytest.param(KeyboardInterrupt(), ["kill", "close"], id="stopped"),
    ],
)
def test_what_runs_on_a_host_is_killed_where_no_sample_came(
    error: BaseException | None, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, session = RunningChannel(), make_session(Target("h", "h"))

    def run(*_arguments: Any) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(session, "_open_channel", lambda _deadline: channel)
    monkeypatch.setattr(session, "_run_agent", run)

    with contextlib.suppress(CollectError, KeyboardInterrupt):
        session.collect(time.monotonic() + 5)

    assert channel.done == done


def test_data_that_come_together_with_the_end_are_read() -> None:
    channel: Any = EndingChannel(b'S:sample {"outcome": "ok"}\n')
    scanner = FrameScanner("S")

    make_session(Target("h", "h"))._read_frames(channel, scanner, time.monotonic() + 5)

    assert scanner.sample == {"outcome": "ok"}


def test_a_session_can_be_closed_twice_and_unused() -> None:
    session = make_session(Target("h", "h"))
    session.close()
    session.close()
    session.abort()

    with pytest.raises(CollectError):
        session.collect(time.monotonic() - 1)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        pytest.param(
            "/no/such/relay --token sesame %h %p", "'/no/such/relay', its ProxyCommand", id="missing"
        ),
        pytest.param("relay --token 'sesame %h", "its ProxyCommand", id="quotes"),
        pytest.param("relay --token sesame %z", "%z is not known", id="token"),
        pytest.param("relay\0 --token sesame", "null byte", id="null"),
    ],
)
def test_a_proxy_command_that_cannot_be_started_is_named_without_its_secrets(
    command: str, said: str, tmp_path: Any
) -> None:
    config = tmp_path / "config"
    config.write_text(f"Host *\n  ProxyCommand {command}\n")
    session = make_session(Target("h", "10.0.0.1"), make_policy(ssh_config=read_ssh_config(config)))

    with pytest.raises(CollectError) as caught:
        session.collect(time.monotonic() + 5)

    session.close()
    assert caught.value.outcome == "unreachable"
    assert said in str(caught.value)
    assert "~/.ssh/config" in str(caught.value)
    assert "sesame" not in str(caught.value)
