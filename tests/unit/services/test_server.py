from __future__ import annotations

import dataclasses
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from services import ServiceError, find_free_ports, process
from services.ports import accepts, is_free
from services.server import Server, locked, read_tail, start_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LISTEN = (
    "import socket, signal; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1);"
)
LISTEN += "s.bind(('127.0.0.1', {port})); s.listen();"
ORDERLY = LISTEN + "signal.pause()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + LISTEN
STUBBORN += "[signal.pause() for _ in iter(int, 1)]"
DYING = "import sys; sys.exit('no space left on device')"
SILENT = "import signal; signal.pause()"


class ScriptServer(Server):
    """A server of a few lines of Python, which ready when it accepts connections."""

    def __init__(self, directory: Path, script: str) -> None:
        (self.port,) = find_free_ports(1)
        super().__init__("script", directory, (self.port,))
        self.script = script.format(port=self.port)
        self.configured = 0

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log_file(self) -> Path:
        return self.console

    def configure(self) -> None:
        self.configured += 1

    def command(self) -> list[str]:
        return [sys.executable, "-S", "-c", self.script]

    def probe(self, timeout_s: float) -> bool:
        return accepts(self.port, timeout_s)


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[[str], ScriptServer]]:
    made = []

    def make(script: str) -> ScriptServer:
        made.append(ScriptServer(tmp_path / f"server-{len(made)}", script))
        return made[-1]

    yield make
    for server in made:
        server.stop(timeout_s=1)


def test_a_second_start_finds_the_first(make_server: Callable[[str], ScriptServer]) -> None:
    server = make_server(ORDERLY)
    assert server.start()
    first = server.pid

    assert not server.start()
    assert server.pid == first
    assert server.configured == 1


def test_another_object_on_the_same_directory_finds_and_stops_it(
    make_server: Callable[[str], ScriptServer],
) -> None:
    server = make_server(ORDERLY)
    server.start()
    other = ScriptServer(server.directory, ORDERLY)

    assert other.pid == server.pid
    assert other.stop()
    assert not server.running


def test_stop_frees_the_port_and_says_whether_it_ran(make_server: Callable[[str], ScriptServer]) -> None:
    server = make_server(ORDERLY)
    server.start()

    assert server.stop()
    assert is_free(server.port)
    assert not server.pidfile.exists()
    assert not server.stop()


def test_a_server_that_ignores_the_request_to_end_is_killed(
    make_server: Callable[[str], ScriptServer],
) -> None:
    server = make_server(STUBBORN)
    server.start()

    assert server.stop(timeout_s=0.3)
    assert not server.running


def test_kill_leaves_the_pidfile_and_the_next_start_passes_over_it(
    make_server: Callable[[str], ScriptServer],
) -> None:
    server = make_server(ORDERLY)
    server.start()
    killed = server.pid
    server.kill()

    assert not server.running
    assert server.pidfile.exists()
    assert server.start()
    assert server.pid != killed


def test_stop_never_ends_a_foreign_process_that_has_the_pid_of_the_server(
    make_server: Callable[[str], ScriptServer],
) -> None:
    foreign, server = make_server(ORDERLY), make_server(ORDERLY)
    foreign.start()
    server.directory.mkdir()
    live = foreign.live
    assert live is not None
    process.write_pidfile(server.pidfile, dataclasses.replace(live, start_time=live.start_time - 1))

    assert not server.running
    assert not server.stop()
    assert not server.kill()
    assert foreign.running
    assert server.start()
    assert server.pid != foreign.pid


def test_a_server_that_ends_while_it_starts_is_reported_with_the_end_of_its_log(
    make_server: Callable[[str], ScriptServer],
) -> None:
    server = make_server(DYING)

    with pytest.raises(
        ServiceError, match=r"script does not run[^\n]*\n--- end of .*console.log\nno space left"
    ):
        server.start()


def test_a_server_that_never_answers_is_reported_and_stopped(
    make_server: Callable[[str], ScriptServer],
) -> None:
    server = make_server(SILENT)
    server.ready_limit_s = 0.3

    with pytest.raises(ServiceError, match=r"script does not answer after 0 s"):
        server.start()
    assert not server.running


def test_an_interruption_stops_the_server_that_was_about_to_start(
    make_server: Callable[[str], ScriptServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make_server(ORDERLY)

    def interrupt(timeout_s: float) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "probe", interrupt)
    with pytest.raises(KeyboardInterrupt):
        server.start()
    assert not server.running
    assert is_free(server.port)


def test_a_taken_port_is_an_error_before_anything_is_written_or_started(
    make_server: Callable[[str], ScriptServer],
) -> None:
    server = make_server(ORDERLY)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", server.port))
        listener.listen()
        with pytest.raises(ServiceError, match=f"script cannot start: port {server.port} is taken by pid"):
            server.start()

    assert server.configured == 0
    assert not server.pidfile.exists()


def test_stop_ends_what_the_server_has_started_too(make_server: Callable[[str], ScriptServer]) -> None:
    child = "import subprocess; subprocess.Popen(['/bin/sleep', '60']);"
    server = make_server(child + ORDERLY)
    server.start()
    live = server.live
    assert live is not None
    family = process.descendants(live)
    server.stop()

    assert len(family) == 1
    assert not process.is_alive(family[0])


def test_two_starts_at_once_start_one_server(make_server: Callable[[str], ScriptServer]) -> None:
    server = make_server(ORDERLY)
    twin = ScriptServer(server.directory, ORDERLY)
    twin.port, twin.ports, twin.script = server.port, server.ports, server.script
    started: list[bool] = []
    threads = [threading.Thread(target=lambda one=one: started.append(one.start())) for one in (server, twin)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(started) == [False, True]


def test_a_held_lock_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    order: list[str] = []

    def hold_next() -> None:
        with locked(tmp_path / "lock", "another one"):
            order.append("second")

    with caplog.at_level("INFO", "services"), locked(tmp_path / "lock", "another one"):
        thread = threading.Thread(target=hold_next)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join(30)

    assert order == ["first", "second"]
    assert "another one: waiting for it" in caplog.messages


@pytest.mark.parametrize(
    ("text", "tail"), [("", ""), ("a\nb\nc\n", "b\nc"), ("é" * 100_000 + "\nend\n", "end")]
)
def test_the_tail_of_a_log_is_its_last_lines(tmp_path: Path, text: str, tail: str) -> None:
    (tmp_path / "log").write_text(text)

    assert read_tail(tmp_path / "log", 2).endswith(tail)
    assert len(read_tail(tmp_path / "log", 2)) <= 64 * 1024


def test_a_missing_log_has_no_tail(tmp_path: Path) -> None:
    assert read_tail(tmp_path / "log", 2) == ""


def test_sigint_is_not_ignored_by_a_server_whose_starter_ignores_it(
    make_server: Callable[[str], ScriptServer],
) -> None:
    before: Any = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        server = make_server(ORDERLY)
        server.start()
    finally:
        signal.signal(signal.SIGINT, before)
    live = server.live
    assert live is not None

    assert process.send_signal(live, signal.SIGINT)
    assert process.wait_end(live, 10)


def test_a_suspended_server_lives_and_answers_nobody_until_it_is_resumed(
    make_server: Callable[[str], ScriptServer],
) -> None:
    server = make_server(ORDERLY)
    server.start()
    pid = server.pid
    assert server.suspend()
    assert wait_for_state(server.pid, "T")
    assert server.pid == pid

    assert server.resume()
    assert wait_for_state(server.pid, "S")


def test_a_suspended_server_is_stopped_in_order_too(make_server: Callable[[str], ScriptServer]) -> None:
    server = make_server(ORDERLY)
    server.start()
    live = server.live
    server.suspend()

    assert server.stop(timeout_s=30)
    assert live is not None
    assert not process.is_alive(live)


def test_nothing_is_suspended_where_nothing_runs(make_server: Callable[[str], ScriptServer]) -> None:
    server = make_server(ORDERLY)

    assert not server.suspend()
    assert not server.resume()


def test_servers_start_together_or_not_at_all(make_server: Callable[[str], ScriptServer]) -> None:
    good, ran, bad = make_server(ORDERLY), make_server(ORDERLY), make_server(DYING)
    ran.start()
    with pytest.raises(ServiceError, match="no space left on device"):
        start_all([good, ran, bad])

    assert [server.running for server in (good, ran, bad)] == [False, True, False]
    assert start_all([good, ran]) == (good,)


def wait_for_state(pid: int | None, state: str) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if process.parse_stat(Path(f"/proc/{pid}/stat").read_text())[0] == state:
            return True
    return False
