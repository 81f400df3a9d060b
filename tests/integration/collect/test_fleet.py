"""The fan-out against real sshd hosts, and against peers that behave as badly as hosts do."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paramiko
import pytest

from airflow_provider_restrack import clock
from airflow_provider_restrack.collect.fleet import Fleet, FleetStoppedError
from airflow_provider_restrack.collect.frames import AgentRun, read_agent_source
from airflow_provider_restrack.collect.inventory import Target
from airflow_provider_restrack.collect.known_hosts import HostKey, KnownHosts
from airflow_provider_restrack.collect.schedule import SchedulePolicy
from airflow_provider_restrack.collect.ssh import SshPolicy, SshSession
from airflow_provider_restrack.collect.ssh_config import read_ssh_config
from airflow_provider_restrack.store.schema import FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from services import SshdServer

pytestmark = pytest.mark.ssh

NAMES = {field.name for field in FIELDS} - {"day"}
WINDOW_S = 0.1


def target_of(server: SshdServer, **changes: Any) -> Target:
    return Target(
        **{
            "host": server.host.name,
            "address": server.address,
            "port": server.port,
            "username": server.user,
            **changes,
        }
    )


def policy_of(server: SshdServer, **changes: Any) -> SshPolicy:
    known_hosts = KnownHosts.parse(server.known_hosts.read_text(), str(server.known_hosts))
    return SshPolicy(
        **{
            "conn_id": "ssh_test",
            "username": server.user,
            "known_hosts": known_hosts,
            "pkey": paramiko.Ed25519Key.from_private_key_file(str(server.client_key)),
            "look_for_keys": False,
            **changes,
        }
    )


def make_fleet(
    targets: Sequence[Target],
    policy: SshPolicy,
    *,
    samples: int = 1,
    interval: float = 1.0,
    host_timeout: float = 15.0,
    connect_timeout: float = 10.0,
    python: str = "python3",
    source: bytes | None = None,
    window: float = WINDOW_S,
) -> Fleet:
    run = AgentRun(source or read_agent_source(), window, python)
    return Fleet(
        targets,
        SchedulePolicy(samples, interval, 32, host_timeout),
        lambda target: SshSession(target, policy, run, connect_timeout),
    )


def collect(*args: Any, **options: Any) -> list[dict[str, Any]]:
    return make_fleet(*args, **options).run().samples


def collect_one(target: Target, policy: SshPolicy, **options: Any) -> dict[str, Any]:
    (row,) = collect([target], policy, **options)
    assert set(row) == NAMES
    if not row["up"]:
        said = {"host", "timestamp", "id", "labels", "up", "outcome", "error", "collect_seconds"}
        assert all(value is None for name, value in row.items() if name not in said)
    return row


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """Return a starter of TCP peers: each connection is given to a function; the port is returned."""
    listeners: list[socket.socket] = []

    def start(handle: Callable[[socket.socket], None]) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve_one(connection: socket.socket) -> None:
            with connection:
                handle(connection)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve_one, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return int(listener.getsockname()[1])

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def relay(connection: socket.socket, port: int) -> None:
    """Connect a peer to a port of this machine until one of both ends."""
    with socket.create_connection(("127.0.0.1", port)) as other:

        def pass_on(source: socket.socket, sink: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while data := source.recv(65536):
                    sink.sendall(data)
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

        back = threading.Thread(target=pass_on, args=(other, connection), daemon=True)
        back.start()
        pass_on(connection, other)
        back.join()


def list_commands(*words: str) -> list[str]:
    """Return the command lines of processes that have one of these words."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(path.read_text(errors="replace").replace("\0", " "))
    return [line for line in lines if any(word in line for word in words)]


def list_agents(window: float) -> list[str]:
    """Return the command lines of running agents that have a window."""
    return [line for line in list_commands(f"--window {window:g} ") if "--sentinel" in line]


def test_every_host_of_a_fleet_gives_a_full_sample(sshd_hosts: Sequence[SshdServer]) -> None:
    targets = [target_of(server, labels={"name": server.host.name}) for server in sshd_hosts]

    before = clock.format_utc(clock.utc_now())
    rows = collect(targets, policy_of(sshd_hosts[0]))
    after = clock.format_utc(clock.utc_now())

    assert sorted(row["host"] for row in rows) == sorted(target.host for target in targets)
    for row in rows:
        assert set(row) == NAMES
        assert (row["up"], row["outcome"], row["error"]) == (True, "ok", None)
        assert before <= row["timestamp"] <= after
        assert row["labels"] == {"name": row["host"]}
        assert abs(row["clock_skew"] or 0.0) <= 1.0
        assert row["memory_total"] > 0
        assert row["window_seconds"] >= WINDOW_S
    json.dumps(rows, allow_nan=False)


def test_an_interpreter_that_is_slow_to_start_is_no_clock_skew(
    sshd_hosts: Sequence[SshdServer], tmp_path: Path
) -> None:
    slow = tmp_path / "slow"
    slow.write_text('#!/bin/sh\nsleep 1.5\nexec python3 "$@"\n')
    slow.chmod(0o755)

    row = collect_one(target_of(sshd_hosts[0]), policy_of(sshd_hosts[0]), python=str(slow))

    # Half of the wait would be 0.75. A machine so busy that it says nothing is no error.
    assert abs(row["clock_skew"] or 0.0) < 0.5


def test_several_samples_come_over_one_connection(sshd_hosts: Sequence[SshdServer]) -> None:
    server = sshd_hosts[0]
    logins_before = server.log_file.read_text().count("Accepted publickey")

    result = make_fleet([target_of(server)], policy_of(server), samples=2, interval=2.0).run()

    assert [row["outcome"] for row in result.samples] == ["ok"] * 2
    assert result.samples[0]["id"] != result.samples[1]["id"]
    assert server.log_file.read_text().count("Accepted publickey") == logins_before + 1


def test_a_connection_dropped_between_samples_is_made_anew(start_sshd: Callable[..., SshdServer]) -> None:
    server = start_sshd("dropped")
    run = AgentRun(read_agent_source(), WINDOW_S)
    session = SshSession(target_of(server), policy_of(server), run, 10.0)
    try:
        session.collect(time.monotonic() + 15)
        session._cut_socket()
        reading = session.collect(time.monotonic() + 15)
    finally:
        session.close()

    assert reading.payload["outcome"] == "ok"


def test_an_unknown_host_key_is_refused_with_the_remedy(start_sshd: Callable[..., SshdServer]) -> None:
    server = start_sshd("unknown")
    policy = policy_of(server, known_hosts=KnownHosts.parse("", "/etc/keys"))

    row = collect_one(target_of(server), policy)

    assert row["outcome"] == "hostkey_mismatch"
    assert "is not in /etc/keys" in row["error"]
    assert f"ssh-keyscan -p {server.port} 127.0.0.1 >> /etc/keys" in row["error"]
    assert "SHA256:" in row["error"]


def test_a_changed_host_key_is_refused(
    start_sshd: Callable[..., SshdServer], sshd_hosts: Sequence[SshdServer]
) -> None:
    server = start_sshd("changed")
    other_key = " ".join(sshd_hosts[0].public_key.split()[:2])
    known_hosts = KnownHosts.parse(f"[127.0.0.1]:{server.port} {other_key}\n", "/etc/keys")

    row = collect_one(target_of(server), policy_of(server, known_hosts=known_hosts))

    assert row["outcome"] == "hostkey_mismatch"
    assert "has changed" in row["error"]
    assert f"ssh-keygen -R '[127.0.0.1]:{server.port}' -f /etc/keys" in row["error"]


def test_nothing_is_logged_in_with_before_the_host_key_is_known(
    start_sshd: Callable[..., SshdServer],
) -> None:
    server = start_sshd("careful")

    collect_one(target_of(server), policy_of(server, known_hosts=KnownHosts.parse("", "none")))

    assert "Accepted publickey" not in server.log_file.read_text()


def test_the_host_key_of_the_connection_stands_in_for_a_missing_line(
    start_sshd: Callable[..., SshdServer],
) -> None:
    server = start_sshd("pinned")
    kind, data = server.public_key.split()[:2]
    empty = KnownHosts.parse("", "none")

    right = collect_one(target_of(server), policy_of(server, known_hosts=empty, host_key=HostKey(kind, data)))
    wrong = collect_one(
        target_of(server),
        policy_of(server, known_hosts=empty, host_key=HostKey("ssh-ed25519", "AAAA")),
    )

    assert right["outcome"] == "ok"
    assert wrong["outcome"] == "hostkey_mismatch"
    assert "put the new key into `host_key` of connection 'ssh_test'" in wrong["error"]


def test_the_known_type_is_asked_of_a_host_with_several_keys(
    start_sshd: Callable[..., SshdServer], tmp_path: Any
) -> None:
    rsa = tmp_path / "rsa"
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", str(rsa)], check=True)
    server = start_sshd("several", extra_config=[f"HostKey {rsa}"])
    public = " ".join(rsa.with_suffix(".pub").read_text().split()[:2])
    known_hosts = KnownHosts.parse(f"[127.0.0.1]:{server.port} {public}\n", "file")

    assert collect_one(target_of(server), policy_of(server, known_hosts=known_hosts))["outcome"] == "ok"


def test_a_wrong_key_is_refused_at_login(sshd_hosts: Sequence[SshdServer]) -> None:
    policy = policy_of(sshd_hosts[0], pkey=paramiko.ECDSAKey.generate())

    row = collect_one(target_of(sshd_hosts[0]), policy)

    assert row["outcome"] == "auth_failed"
    assert "'ssh_test'" in row["error"]


def test_a_wrong_password_is_refused_and_stays_secret(sshd_hosts: Sequence[SshdServer]) -> None:
    policy = policy_of(sshd_hosts[0], pkey=None, password="open sesame")

    row = collect_one(target_of(sshd_hosts[0]), policy)

    assert row["outcome"] == "auth_failed"
    assert "sesame" not in json.dumps(row) + repr(policy)


def test_no_key_and_no_password_is_a_failed_login(sshd_hosts: Sequence[SshdServer]) -> None:
    row = collect_one(target_of(sshd_hosts[0]), policy_of(sshd_hosts[0], pkey=None))

    assert row["outcome"] == "auth_failed"


def test_a_host_that_is_down_is_unreachable(sshd_hosts: Sequence[SshdServer]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    row = collect_one(target_of(sshd_hosts[0], host="down", port=port), policy_of(sshd_hosts[0]))

    assert (row["outcome"], row["host"]) == ("unreachable", "down")
    assert "refused" in row["error"]


def test_a_name_that_is_not_resolved_is_unreachable(sshd_hosts: Sequence[SshdServer]) -> None:
    target = target_of(sshd_hosts[0], address="no-such-host.invalid")

    row = collect_one(target, policy_of(sshd_hosts[0]))

    assert row["outcome"] == "unreachable"
    assert "name not resolved" in row["error"]


def test_a_host_without_python_says_which_argument_helps(sshd_hosts: Sequence[SshdServer]) -> None:
    row = collect_one(target_of(sshd_hosts[0]), policy_of(sshd_hosts[0]), python="no-such-python")

    assert row["outcome"] == "no_python"
    assert "no-such-python" in row["error"]
    assert "`python`" in row["error"]


def test_an_interpreter_that_is_a_directory_is_no_python(sshd_hosts: Sequence[SshdServer]) -> None:
    assert (
        collect_one(target_of(sshd_hosts[0]), policy_of(sshd_hosts[0]), python="/")["outcome"] == "no_python"
    )


def test_the_interpreter_is_one_word_whatever_is_in_it(
    sshd_hosts: Sequence[SshdServer], tmp_path: Any
) -> None:
    mark = tmp_path / "mark"

    row = collect_one(target_of(sshd_hosts[0]), policy_of(sshd_hosts[0]), python=f"python3; touch {mark}")

    assert row["outcome"] == "no_python"
    assert not mark.exists()


def test_an_rc_file_that_prints_before_and_after_breaks_nothing(
    start_sshd: Callable[..., SshdServer],
) -> None:
    noisy = "printf 'Welcome! restrack:sample {} no newline'; sh -c \"$SSH_ORIGINAL_COMMAND\"; echo bye"
    server = start_sshd("noisy", extra_config=[f"ForceCommand {noisy}"])

    assert collect_one(target_of(server), policy_of(server))["outcome"] == "ok"


def test_garbage_output_is_a_parse_error_with_an_excerpt(start_sshd: Callable[..., SshdServer]) -> None:
    server = start_sshd("garbage", extra_config=["ForceCommand printf 'This is\\033[31m a router\\n'"])

    row = collect_one(target_of(server), policy_of(server))

    assert row["outcome"] == "parse_error"
    assert "a router" in row["error"]
    assert row["error"].isprintable()


def test_a_script_that_fails_is_a_parse_error_that_says_why(sshd_hosts: Sequence[SshdServer]) -> None:
    row = collect_one(
        target_of(sshd_hosts[0]), policy_of(sshd_hosts[0]), source=b"raise SystemExit('disk on fire')"
    )

    assert row["outcome"] == "parse_error"
    assert "disk on fire" in row["error"]


def test_a_garbled_frame_is_a_parse_error(sshd_hosts: Sequence[SshdServer]) -> None:
    source = b"import sys; print(sys.argv[4] + ':sample {\"cpu_usage\": 1')"

    row = collect_one(target_of(sshd_hosts[0]), policy_of(sshd_hosts[0]), source=source)

    assert row["outcome"] == "parse_error"
    assert "garbled sample frame" in row["error"]


def test_nan_from_a_host_becomes_null_and_names_its_field(sshd_hosts: Sequence[SshdServer]) -> None:
    source = (
        b"import sys; s = sys.argv[4]\n"
        b"print(s + ':hello {\"time\": 1}')\n"
        b'print(s + \':sample {"outcome": "ok", "cpu_usage": NaN, "load_1m": 2, "surprise": 1}\')\n'
    )

    row = collect_one(target_of(sshd_hosts[0]), policy_of(sshd_hosts[0]), source=source)

    assert (row["up"], row["outcome"], row["cpu_usage"], row["load_1m"]) == (True, "partial", None, 2.0)
    assert "cpu_usage: is nan" in row["error"]


def test_a_host_that_accepts_and_says_nothing_times_out(
    sshd_hosts: Sequence[SshdServer], serve: Callable[..., int]
) -> None:
    done = threading.Event()
    port = serve(lambda _connection: done.wait())
    started = time.monotonic()

    row = collect_one(target_of(sshd_hosts[0], port=port), policy_of(sshd_hosts[0]), connect_timeout=0.5)

    done.set()
    assert row["outcome"] == "timeout"
    assert "connect_timeout" in row["error"]
    assert time.monotonic() - started < 10


def test_a_server_that_drops_the_connection_is_unreachable_at_the_second_attempt(
    sshd_hosts: Sequence[SshdServer], serve: Callable[..., int]
) -> None:
    dropped: list[socket.socket] = []

    row = collect_one(target_of(sshd_hosts[0], port=serve(dropped.append)), policy_of(sshd_hosts[0]))

    assert row["outcome"] == "unreachable"
    assert "MaxStartups" in row["error"]
    assert "(at the second attempt)" in row["error"]
    assert len(dropped) == 2


def test_a_login_that_was_dropped_is_made_once_more(
    start_sshd: Callable[..., SshdServer], serve: Callable[..., int]
) -> None:
    server = start_sshd("busy")
    seen: list[socket.socket] = []

    def drop_the_first(connection: socket.socket) -> None:
        seen.append(connection)
        if len(seen) > 1:
            relay(connection, server.port)

    port = serve(drop_the_first)
    key = " ".join(server.public_key.split()[:2])
    policy = policy_of(server, known_hosts=KnownHosts.parse(f"[127.0.0.1]:{port} {key}", "file"))

    row = collect_one(target_of(server, port=port), policy)

    assert (row["outcome"], len(seen)) == ("ok", 2)


def test_a_wrong_key_is_tried_once(start_sshd: Callable[..., SshdServer]) -> None:
    server = start_sshd("strict")

    collect_one(target_of(server), policy_of(server, pkey=paramiko.ECDSAKey.generate()))

    assert server.log_file.read_text().count("Connection from") <= 2  # one is the probe of the fixture


@pytest.mark.parametrize("flood", [b"x" * 65536, b"hello\r\n" * 8192], ids=["one-line", "lines"])
def test_a_peer_that_sends_a_gigabyte_in_the_place_of_a_banner_is_cut_off(
    sshd_hosts: Sequence[SshdServer], serve: Callable[..., int], flood: bytes
) -> None:
    sent = [0]

    def send_on(connection: socket.socket) -> None:
        try:
            while sent[0] < 2**30:
                sent[0] += connection.send(flood)
        except OSError:
            return

    row = collect_one(target_of(sshd_hosts[0], port=serve(send_on)), policy_of(sshd_hosts[0]))

    assert row["outcome"] in {"parse_error", "unreachable"}  # a hundred lines are no banner either
    assert sent[0] < 64 * 2**20
    assert len(row["error"]) < 500


class _MuteServer(paramiko.ServerInterface):
    """Lets anybody in, and never answers a command."""

    def __init__(self, done: threading.Event) -> None:
        self.done = done

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return 0

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return 0

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self.done.wait(30)
        return False


def test_a_host_that_never_answers_the_command_ends_at_its_own_limit(
    sshd_hosts: Sequence[SshdServer], serve: Callable[..., int]
) -> None:
    done, key = threading.Event(), paramiko.ECDSAKey.generate()

    def play(connection: socket.socket) -> None:
        transport = paramiko.Transport(connection)
        transport.daemon = True
        transport.add_server_key(key)
        transport.start_server(server=_MuteServer(done))
        done.wait(30)
        transport.close()

    port = serve(play)
    known = KnownHosts.parse(f"[127.0.0.1]:{port} {key.get_name()} {key.get_base64()}", "file")

    row = collect_one(
        target_of(sshd_hosts[0], port=port), policy_of(sshd_hosts[0], known_hosts=known), host_timeout=1.0
    )

    done.set()
    assert row["outcome"] == "timeout"
    assert "took the command and did not answer" in row["error"]


def test_a_host_that_stops_in_the_middle_of_its_sample_times_out(sshd_hosts: Sequence[SshdServer]) -> None:
    source = (
        b"import sys, time\n"
        b"s = sys.argv[4]\n"
        b"print(s + ':hello {\"time\": 1}'); sys.stdout.write(s + ':sample {\"cpu_usage\": 1')\n"
        b"sys.stdout.flush(); time.sleep(60)"
    )

    row = collect_one(target_of(sshd_hosts[0]), policy_of(sshd_hosts[0]), source=source, host_timeout=1.5)

    assert row["outcome"] == "timeout"


def test_a_shell_that_never_ends_after_the_sample_delays_nothing(
    start_sshd: Callable[..., SshdServer],
) -> None:
    server = start_sshd("endless", extra_config=['ForceCommand sh -c "$SSH_ORIGINAL_COMMAND"; exec sleep 20'])

    row = collect_one(target_of(server), policy_of(server), host_timeout=15)

    assert row["outcome"] == "ok"
    assert row["collect_seconds"] < 10


def test_a_host_that_sends_without_end_is_cut_off(start_sshd: Callable[..., SshdServer]) -> None:
    server = start_sshd("endless", extra_config=["ForceCommand yes"])

    row = collect_one(target_of(server), policy_of(server))

    assert row["outcome"] == "parse_error"
    assert "cut off" in row["error"]


def test_a_host_that_never_ends_its_sample_times_out(sshd_hosts: Sequence[SshdServer]) -> None:
    source = b"import time; time.sleep(60)"
    started = time.monotonic()

    row = collect_one(target_of(sshd_hosts[0]), policy_of(sshd_hosts[0]), source=source, host_timeout=1.5)

    assert row["outcome"] == "timeout"
    assert time.monotonic() - started < 10


def test_a_host_that_asks_something_is_quoted_when_it_times_out(
    start_sshd: Callable[..., SshdServer],
) -> None:
    asking = "echo 'Your password has expired.'; printf 'New password: ' >&2; exec sleep 20"
    server = start_sshd("asking", extra_config=[f"ForceCommand {asking}"])

    row = collect_one(target_of(server), policy_of(server), host_timeout=1.5)

    assert row["outcome"] == "timeout"
    assert "'Your password has expired. New password:'" in row["error"]


def test_a_host_that_hangs_does_not_delay_the_others(
    sshd_hosts: Sequence[SshdServer], serve: Callable[..., int]
) -> None:
    done = threading.Event()
    port = serve(lambda _connection: done.wait())
    targets = [target_of(sshd_hosts[0], host="mute", port=port), *map(target_of, sshd_hosts)]

    rows = collect(targets, policy_of(sshd_hosts[0]), connect_timeout=6.0)

    done.set()
    assert [row["outcome"] for row in rows] == ["ok"] * len(sshd_hosts) + ["timeout"]
    assert all(row["collect_seconds"] < rows[-1]["collect_seconds"] for row in rows[:-1])


def test_stop_ends_all_connections_within_two_seconds(
    sshd_hosts: Sequence[SshdServer], serve: Callable[..., int]
) -> None:
    connected, gone = threading.Event(), threading.Event()

    def hold(connection: socket.socket) -> None:
        connected.set()
        while connection.recv(1024):
            pass
        gone.set()

    target = target_of(sshd_hosts[0], host="mute", port=serve(hold))
    fleet = make_fleet(
        [target, *map(target_of, sshd_hosts)], policy_of(sshd_hosts[0]), samples=9, interval=30
    )

    stopped: list[float] = []

    def stop_when_connected() -> None:
        connected.wait()
        stopped.append(time.monotonic())
        fleet.stop()

    threading.Thread(target=stop_when_connected).start()
    with pytest.raises(FleetStoppedError):
        fleet.run()

    assert time.monotonic() - stopped[0] < 2.5
    assert gone.wait(2)


def test_stop_leaves_no_process_on_the_hosts(sshd_hosts: Sequence[SshdServer]) -> None:
    window = 43.21
    run = AgentRun(read_agent_source(), window)
    policy = policy_of(sshd_hosts[0])
    fleet = Fleet(
        [target_of(server) for server in sshd_hosts],
        SchedulePolicy(1, 1.0, 32, 60.0),
        lambda target: SshSession(target, policy, run, 10.0),
    )
    ended: list[int] = []

    def stop_when_all_run() -> None:
        for _ in range(300):
            if len(list_agents(window)) >= len(sshd_hosts):
                break
            time.sleep(0.1)
        ended.append(len(list_agents(window)))
        fleet.stop()

    stopper = threading.Thread(target=stop_when_all_run)
    stopper.start()
    with pytest.raises(FleetStoppedError):
        fleet.run()
    stopper.join()

    for _ in range(20):
        if not list_agents(window):
            break
        time.sleep(0.1)
    assert ended[0] >= len(sshd_hosts)
    assert list_agents(window) == []


def test_sshd_is_asked_to_kill_what_hangs_before_the_agent_starts(
    start_sshd: Callable[..., SshdServer], tmp_path: Path
) -> None:
    server = start_sshd("hanging")
    hanging = tmp_path / "hanging-python"
    hanging.write_text("#!/bin/sh\nsleep 12.76\necho never\n")
    hanging.chmod(0o755)

    def is_answered() -> bool:
        # OpenSSH kills the group, but for root it has no process that could: it says so in its log.
        is_refused = "signalling requires privilege separation" in server.log_file.read_text()
        return is_refused or not list_commands("12.76", str(hanging))

    row = collect_one(target_of(server), policy_of(server), python=str(hanging), host_timeout=1.5)

    assert row["outcome"] == "timeout"
    left = time.monotonic() + 5
    while not is_answered() and time.monotonic() < left:
        time.sleep(0.1)
    assert is_answered()


def test_a_connection_lost_in_the_middle_of_a_sample_is_made_anew(
    start_sshd: Callable[..., SshdServer], serve: Callable[..., int]
) -> None:
    server = start_sshd("lost")
    seen: list[socket.socket] = []

    def serve_and_cut_the_first(connection: socket.socket) -> None:
        seen.append(connection)
        if len(seen) == 1:
            threading.Timer(0.7, lambda: connection.shutdown(socket.SHUT_RDWR)).start()
        relay(connection, server.port)

    port = serve(serve_and_cut_the_first)
    key = " ".join(server.public_key.split()[:2])
    policy = policy_of(server, known_hosts=KnownHosts.parse(f"[127.0.0.1]:{port} {key}", "file"))

    rows = collect([target_of(server, port=port)], policy, samples=3, interval=5.0, window=2.0)

    assert [row["outcome"] for row in rows] == ["ok"] * 3
    assert len(seen) == 2


def test_an_agent_whose_worker_is_gone_ends_itself() -> None:
    # The agent's own watchdog is what is tested; the window keeps it busy far beyond the limit.
    command = AgentRun(read_agent_source(), 60.0).command("s", 1.0)

    done = subprocess.run(command, shell=True, input=read_agent_source(), capture_output=True, timeout=20)

    assert done.returncode == 3


def test_a_proxy_command_of_the_ssh_config_is_used(sshd_hosts: Sequence[SshdServer], tmp_path: Any) -> None:
    server = sshd_hosts[0]
    relay = tmp_path / "relay.py"
    relay.write_text(
        "import socket, sys, threading, os\n"
        f"s = socket.create_connection(('127.0.0.1', {server.port}))\n"
        "def up():\n"
        "    while data := os.read(0, 65536): s.sendall(data)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while data := s.recv(65536): os.write(1, data)\n"
    )
    config = tmp_path / "config"
    config.write_text(f"Host behind\n  ProxyCommand python3 {relay} %h %p %r\n")
    key = " ".join(server.public_key.split()[:2])
    policy = policy_of(
        server,
        ssh_config=read_ssh_config(config),
        known_hosts=KnownHosts.parse(f"[behind]:2222 {key}\n", "file"),
    )

    row = collect_one(target_of(server, address="behind", port=2222), policy)

    assert row["outcome"] == "ok", row["error"]


def test_a_fleet_behind_a_bastion_is_reached_by_proxy_jump(
    sshd_hosts: Sequence[SshdServer],
    start_sshd: Callable[..., SshdServer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More logins at once than the bastion takes would be dropped by it at random."""
    bastion = start_sshd("bastion", extra_config=["MaxStartups 3:100:3"])
    client = tmp_path / "bin" / "ssh"
    client.parent.mkdir()
    client.write_text(
        f"#!/bin/sh\nexec /usr/bin/ssh -F none -i {bastion.client_key}"
        f' -o IdentitiesOnly=yes -o UserKnownHostsFile={bastion.known_hosts} "$@"\n'
    )
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(client.parent), prepend=":")
    config = tmp_path / "config"
    config.write_text(f"Host 127.*\n  ProxyJump {bastion.user}@127.0.0.1:{bastion.port}\n")
    policy = policy_of(sshd_hosts[0], ssh_config=read_ssh_config(config))
    servers = [sshd_hosts[number % len(sshd_hosts)] for number in range(9)]
    targets = [target_of(server, host=f"h{number}") for number, server in enumerate(servers)]
    options = policy.options("127.0.0.1")
    assert options is not None
    assert options.bastion is not None
    run = AgentRun(read_agent_source(), WINDOW_S)

    result = Fleet(
        targets,
        SchedulePolicy(1, 1.0, 32, 30.0, bastion_concurrency=2),
        lambda target: SshSession(target, policy, run, 10.0),
        bastions={target.host: options.bastion for target in targets},
    ).run()

    assert result.outcomes == {"ok": 9}
    assert bastion.log_file.read_text().count("Accepted publickey") == 9
    assert "MaxStartups" not in bastion.log_file.read_text()
