from __future__ import annotations

import dataclasses
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from services import process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Callable[[str], process.ProcessId]]:
    """Start a shell script as a server is started; all are killed after the test."""
    started = []

    def start(script: str) -> process.ProcessId:
        started.append(process.spawn(["/bin/sh", "-c", script], tmp_path / "log"))
        return started[-1]

    yield start
    for one in started:
        family = process.descendants(one)
        for member in (one, *family):
            process.send_signal(member, signal.SIGKILL)
            process.wait_end(member, 10)


@pytest.mark.parametrize(
    "command",
    [pytest.param("java", id="plain"), pytest.param("a) S 7 (b", id="brackets-and-spaces-in-the-command")],
)
def test_the_stat_line_is_read_after_the_command(command: str) -> None:
    rest = "S 41 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 200"

    assert process.parse_stat(f"42 ({command}) {rest}\n") == ("S", 41, 98765)


def test_a_process_is_known_by_its_start_time_and_not_only_by_its_pid() -> None:
    own = process.identify(os.getpid())

    assert own is not None
    assert process.is_alive(own)
    assert not process.is_alive(dataclasses.replace(own, start_time=own.start_time - 1))
    assert not process.is_alive(dataclasses.replace(own, boot_id="the boot before"))


def test_a_zombie_counts_as_ended_and_is_collected(spawn: Callable[[str], process.ProcessId]) -> None:
    child = spawn("exit 3")
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    assert process.identify(child.pid) is None
    assert not process.is_alive(child)
    with pytest.raises(ChildProcessError):
        os.waitpid(child.pid, os.WNOHANG)


def test_a_pidfile_reads_back_as_it_was_written(tmp_path: Path) -> None:
    written = process.ProcessId(42, 98765, "boot")
    process.write_pidfile(tmp_path / "pid.json", written)

    assert process.read_pidfile(tmp_path / "pid.json") == written
    assert [path.name for path in tmp_path.iterdir()] == ["pid.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "42", '{"pid": 42}'])
def test_a_damaged_pidfile_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "pid.json").write_text(text)

    assert process.read_pidfile(tmp_path / "pid.json") is None


def test_a_missing_pidfile_counts_as_none(tmp_path: Path) -> None:
    assert process.read_pidfile(tmp_path / "pid.json") is None


def test_a_signal_never_reaches_a_process_that_reuses_the_pid(
    spawn: Callable[[str], process.ProcessId],
) -> None:
    foreign = spawn("exec sleep 60")
    stale = dataclasses.replace(foreign, start_time=foreign.start_time - 100)

    assert not process.send_signal(stale, signal.SIGKILL)
    assert not process.wait_end(foreign, 0.2)


def test_a_signal_reaches_the_very_process(spawn: Callable[[str], process.ProcessId]) -> None:
    child = spawn("exec sleep 60")

    assert process.send_signal(child, signal.SIGTERM)
    assert process.wait_end(child, 10)
    assert not process.send_signal(child, signal.SIGTERM)


def test_a_server_has_a_session_of_its_own(spawn: Callable[[str], process.ProcessId]) -> None:
    child = spawn("exec sleep 60")

    assert os.getsid(child.pid) == child.pid != os.getsid(0)


def test_the_log_has_both_outputs_and_is_emptied_first(
    spawn: Callable[[str], process.ProcessId], tmp_path: Path
) -> None:
    (tmp_path / "log").write_text("of the run before")
    child = spawn("echo out; echo err >&2")

    assert process.wait_end(child, 10)
    assert (tmp_path / "log").read_text() == "out\nerr\n"


def test_a_server_keeps_no_pipe_of_its_starter_open(spawn: Callable[[str], process.ProcessId]) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    try:
        spawn("exec sleep 60")
        os.close(writer)

        assert select.select([reader], [], [], 10)[0]
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)


def test_children_and_their_children_are_found(
    spawn: Callable[[str], process.ProcessId], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "ready")
    parent = spawn(f"sh -c 'sleep 60 & echo go > {tmp_path}/ready; wait' & wait")
    (tmp_path / "ready").read_text()

    assert len(process.descendants(parent)) == 2


KILLED_WITH_A_THREAD_THAT_LINGERS = """
import os, threading, ctypes
reader, writer = os.pipe()
def outlive():
    print("ready", flush=True)
    os.read(reader, 1)
threading.Thread(target=outlive).start()
ctypes.CDLL(None).syscall({exit}, 0)
"""


def test_a_process_lives_until_its_last_thread_has_ended(tmp_path: Path) -> None:
    # exit(2), unlike exit_group(2), ends one thread: the first is a zombie then, and the other one reads on.
    exit_of_one_thread = {"x86_64": 60}.get(os.uname().machine, 93)
    script = KILLED_WITH_A_THREAD_THAT_LINGERS.format(exit=exit_of_one_thread)
    child = process.spawn([sys.executable, "-S", "-c", script], tmp_path / "log")
    try:
        wait_for_zombie_leader(child.pid)

        assert process.is_alive(child)
    finally:
        process.send_signal(child, signal.SIGKILL)
    assert process.wait_end(child, 10)
    assert not process.is_alive(child)


def wait_for_zombie_leader(pid: int) -> None:
    deadline = time.monotonic() + 10
    while process.parse_stat(Path(f"/proc/{pid}/stat").read_text())[0] != "Z":
        assert time.monotonic() < deadline, "the first thread does not end"
        time.sleep(0.01)
