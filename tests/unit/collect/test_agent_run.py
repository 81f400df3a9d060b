"""The agent run on this machine as a worker runs it: on stdin or as a file, with psutil or without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_restrack.collect.tiers import read_agent_source

if TYPE_CHECKING:
    from pathlib import Path

STDIN = ["-c", "import sys; exec(sys.stdin.read())"]
SOURCE = read_agent_source().decode("ascii")


@pytest.fixture
def agent_file(tmp_path: Path) -> Path:
    """The agent as one file."""
    path = tmp_path / "agent.py"
    path.write_text(SOURCE, encoding="ascii")
    return path


def run(*arguments: str, where: str = "-", **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the agent with this interpreter."""
    return subprocess.run(
        [sys.executable, "-B", *(STDIN if where == "-" else [where]), *arguments],
        input=SOURCE if where == "-" else "",
        capture_output=True,
        text=True,
        timeout=30,
        **options,
    )


def sample_of(done: subprocess.CompletedProcess[str], sentinel: str = "restrack") -> dict[str, Any]:
    """Check the frame, that nothing else was printed, and that the JSON is strict; return the sample."""
    assert (done.returncode, done.stderr) == (0, "")
    hello, sample = done.stdout.splitlines()
    assert hello.startswith(f"{sentinel}:hello ")
    assert sample.startswith(f"{sentinel}:sample ")
    greeting = json.loads(hello.partition(" ")[2])
    measured = json.loads(sample.partition(" ")[2], parse_constant=pytest.fail)
    assert greeting.keys() == {"time"}
    assert greeting["time"] <= measured["host_time"] <= time.time()
    return dict(measured)


@pytest.mark.parametrize("collector", ["psutil", "procfs", "auto"])
@pytest.mark.parametrize("on_stdin", [True, False], ids=["on stdin", "as a file"])
def test_the_program_prints_two_framed_lines_and_nothing_else(
    collector: str, on_stdin: bool, agent_file: Path
) -> None:
    sentinel, where = "3f9c-frame", "-" if on_stdin else str(agent_file)

    done = run("--window", "0.1", "--sentinel", sentinel, "--collector", collector, where=where)

    sample = sample_of(done, sentinel)
    assert (sample["outcome"], sample["error"]) == ("ok", None)
    assert sample["collector"] == ("procfs" if collector == "procfs" else "psutil")
    assert 0.1 <= sample["window_seconds"] < 10


def test_psutil_and_the_files_of_proc_tell_the_same() -> None:
    psutil_sample, procfs_sample = (
        sample_of(run("--window", "0.2", "--collector", name)) for name in ("psutil", "procfs")
    )

    assert psutil_sample.keys() == procfs_sample.keys()
    nulls = [name for name in psutil_sample if (psutil_sample[name] is None) != (procfs_sample[name] is None)]
    assert nulls == []
    same = ["cpu_count", "memory_total", "swap_total", "disk_total", "boot_id", "container_memory_limit"]
    assert {name: psutil_sample[name] for name in same} == {name: procfs_sample[name] for name in same}
    maps = [name for name, value in psutil_sample.items() if isinstance(value, dict)]
    assert {name: set(psutil_sample[name]) for name in maps} == {
        name: set(procfs_sample[name]) for name in maps
    }
    counters = ["cpu_total_seconds", "network_recv_bytes", "network_sent_bytes", "disk_read_bytes"]
    counters += ["disk_write_bytes", "cpu_busy_seconds", "uptime"]
    for name in counters:
        assert psutil_sample[name] <= procfs_sample[name] <= psutil_sample[name] * 1.2 + 1e8, name
    near = ["memory_usage", "disk_usage", "process_count", "load_5m", "open_files"]
    for name in near:
        assert procfs_sample[name] == pytest.approx(psutil_sample[name], rel=0.25, abs=15), name


def test_cpu_use_is_seen_by_both_collectors() -> None:
    burn = "import time\nend = time.monotonic() + 20\nwhile time.monotonic() < end: pass"
    with subprocess.Popen([sys.executable, "-c", burn]) as busy:
        try:
            samples = [
                sample_of(run("--window", "0.5", "--collector", name)) for name in ("psutil", "procfs")
            ]
        finally:
            busy.kill()

    for sample in samples:
        assert sample["cpu_usage"] >= 60 / sample["cpu_count"]
        assert max(sample["cpu_core_usage"]) >= 30
        assert sample["cpu_user"] <= sample["cpu_usage"] <= 100
        assert len(sample["cpu_core_usage"]) == sample["cpu_count"]


def test_psutil_asked_for_by_name_and_missing_is_said_and_procfs_stands_in_only_for_auto(
    tmp_path: Path,
) -> None:
    (tmp_path / "psutil.py").write_text("raise ImportError('built for another Python')\n")
    broken = {**os.environ, "PYTHONPATH": str(tmp_path)}

    named = run("--collector", "psutil", "--window", "0", env=broken)
    automatic = run("--window", "0", env=broken)

    assert (named.returncode, named.stderr) == (2, "agent: built for another Python\n")
    assert sample_of(automatic)["collector"] == "procfs"


@pytest.mark.parametrize("flags", [[], ["-I"]], ids=["plain", "isolated"])
@pytest.mark.parametrize("where", ["-", "agent.py"])
def test_modules_beside_it_or_where_a_shell_starts_are_not_taken_for_the_library(
    where: str, flags: list[str], tmp_path: Path
) -> None:
    for name in ("json", "threading", "psutil", "warnings"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not the library')\n")
    (tmp_path / "agent.py").write_text(SOURCE, encoding="ascii")

    done = subprocess.run(
        [
            sys.executable,
            "-B",
            *flags,
            *(STDIN if where == "-" else [where]),
            "--window",
            "0",
            "--limit",
            "20",
        ],
        input=SOURCE,
        capture_output=True,
        text=True,
        timeout=30,
        cwd=tmp_path,
    )

    sample = sample_of(done)
    assert (sample["outcome"], sample["collector"]) == ("ok", "psutil")


def test_a_mount_that_never_answers_does_not_keep_the_process_from_ending() -> None:
    stuck = "\n".join(
        (
            "import os, threading",
            "os.statvfs = lambda path: threading.Event().wait()",
            SOURCE.replace("FILESYSTEMS_S = 2.0", "FILESYSTEMS_S = 0.2"),
        )
    )

    done = subprocess.run(
        [sys.executable, "-B", *STDIN, "--window", "0"],
        input=stuck,
        capture_output=True,
        text=True,
        timeout=30,
    )

    sample = sample_of(done)
    assert sample["outcome"] == "partial"
    assert "disk: / gives no answer in 0.2 s" in sample["error"]
    assert (sample["disk_usage"], sample["filesystem_usage"], sample["inode_usage"]) == (None, None, None)


def test_the_watchdog_ends_a_process_that_takes_too_long_whatever_it_does() -> None:
    start = time.monotonic()

    done = run("--window", "60", "--limit", "0.3")

    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.startswith("restrack:hello ")
    assert done.stdout.count("\n") == 1
    assert time.monotonic() - start < 10


def test_a_process_whose_output_nobody_reads_any_more_ends_at_once(agent_file: Path) -> None:
    command = [sys.executable, "-B", str(agent_file), "--window", "60", "--limit", "50"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"restrack:hello ")
        process.stdout.close()

        assert process.wait(10) == 3


def test_a_locale_without_letters_and_warnings_as_errors_change_nothing() -> None:
    bare = {"PATH": os.environ["PATH"], "LANG": "C", "LC_ALL": "C", "PYTHONWARNINGS": "error"}

    assert sample_of(run("--window", "0", env=bare))["outcome"] == "ok"


def test_one_sample_costs_little_cpu_time() -> None:
    before = os.times()
    for _ in range(5):
        sample_of(run("--window", "0", "--collector", "procfs"))
    after = os.times()

    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert spent / 5 < 0.25  # some 0.05 s on an idle machine; a busy or slow one may take several times that
