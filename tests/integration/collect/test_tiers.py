"""All collectors side by side on this machine, in several shells, beside a dead mount, and over SSH."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paramiko
import pytest

from airflow_provider_restrack import clock
from airflow_provider_restrack.collect.frames import AgentRun, FrameScanner, new_sentinel, read_agent_source
from airflow_provider_restrack.collect.inventory import Target
from airflow_provider_restrack.collect.known_hosts import KnownHosts
from airflow_provider_restrack.collect.sample import build_up_row
from airflow_provider_restrack.collect.ssh import SshPolicy, SshSession
from airflow_provider_restrack.store.schema import FIELDS
from services import install

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_restrack.collect.tiers import Collector
    from services import SshdServer

STUCK_MOUNT = Path(__file__).with_name("stuck_mount.py")
METRICS = [field.name for field in FIELDS if field.group not in ("identity", "outcome")]
CONSTANT = ("cpu_count", "memory_total", "swap_total", "disk_total", "boot_id", "container_memory_limit")
COUNTERS = [field.name for field in FIELDS if field.group == "counters"]
NEAR = ("memory_usage", "swap_usage", "disk_usage", "load_5m", "load_15m", "open_files", "process_count")
can_mount = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/fuse").exists(), reason="only root mounts, and that needs /dev/fuse"
)


def run_agent(
    collector: Collector,
    *,
    before: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    window: float = 0.5,
    patterns: tuple[tuple[str, str], ...] = (),
) -> dict[str, Any]:
    """Run the agent as a login shell does, after the words ``before``; return its sample."""
    python = None if collector in ("auto", "sh") else sys.executable
    run = AgentRun(read_agent_source(), window, python, collector, patterns)
    sentinel = new_sentinel()
    command = [*before, "sh", "-c", run.command(sentinel, 20.0)]
    done = subprocess.run(command, input=run.source, capture_output=True, env=env, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    scanner = FrameScanner(sentinel)
    assert scanner.feed(done.stdout, clock.utc_now()), done.stdout[-500:]
    assert scanner.sample is not None
    return dict(scanner.sample)


@pytest.fixture(scope="module")
def bare_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH with nothing but the programs of busybox: a host without Python."""
    busybox = install.require_busybox()
    folder = tmp_path_factory.mktemp("busybox")
    names = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    for name in names:
        (folder / name).symlink_to(busybox)
    return str(folder)


def compare(first: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Hold a sample against one that was taken a moment before it."""
    nulls = [name for name in METRICS if (first[name] is None) != (other[name] is None)]
    assert nulls == []
    assert [other[name] for name in CONSTANT] == [first[name] for name in CONSTANT]
    maps = [name for name in METRICS if isinstance(first[name], dict)]
    assert {name: set(other[name]) for name in maps} == {name: set(first[name]) for name in maps}
    for name in COUNTERS:
        assert first[name] <= other[name] <= first[name] * 1.2 + 1e9, name
    for name in (name for name in NEAR if first[name] is not None):
        assert other[name] == pytest.approx(first[name], rel=0.25, abs=20), name
    for name in ("cpu_usage", "cpu_user", "disk_io_busy"):
        assert other[name] is None or 0 <= other[name] <= 100


def test_all_collectors_give_the_same_fields_of_this_machine() -> None:
    samples = {name: run_agent(name) for name in ("psutil", "procfs", "sh")}

    for name, sample in samples.items():
        assert (sample["collector"], sample["outcome"], sample["error"]) == (name, "ok", None)
        assert 0.5 <= sample["window_seconds"] < 5
    compare(samples["psutil"], samples["procfs"])
    compare(samples["procfs"], samples["sh"])


def test_a_load_is_seen_by_all_collectors() -> None:
    burn = "import time\nend = time.monotonic() + 30\nwhile time.monotonic() < end: pass"
    with subprocess.Popen([sys.executable, "-c", burn]) as busy:
        try:
            samples = [run_agent(name, window=1.0) for name in ("psutil", "procfs", "sh")]
        finally:
            busy.kill()

    assert min(max(sample["cpu_core_usage"]) for sample in samples) >= 30


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_the_script_runs_in_the_shells_of_distributions(shell: str, tmp_path: Path) -> None:
    (tmp_path / "sh").symlink_to(f"/bin/{shell}")
    env = {"PATH": f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}

    sample = run_agent("sh", env=env)

    compare(sample, run_agent("procfs"))
    assert sample["outcome"] == "ok"


def test_a_host_of_busybox_alone_falls_to_its_shell(bare_path: str) -> None:
    before = run_agent("procfs")

    sample = run_agent("auto", env={"PATH": bare_path})

    assert (sample["collector"], sample["outcome"], sample["error"]) == ("sh", "ok", None)
    compare(before, sample)


def list_marked(sentinel: str) -> list[str]:
    """The processes that have a mark among their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += [str(path)] if sentinel.encode() in path.read_bytes() else []
    return found


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
@pytest.mark.parametrize("stuck", ["window", "program"])
def test_a_shell_ends_itself_and_what_it_started_at_the_limit(
    shell: str, stuck: str, bare_path: str, tmp_path: Path
) -> None:
    path = bare_path if shell == "busybox" else "/usr/bin:/bin"
    if shell != "busybox":
        (tmp_path / "sh").symlink_to(f"/bin/{shell}")
    sentinel = new_sentinel()
    if stuck == "program":
        hung = tmp_path / "getconf"
        hung.write_text(f"#!/bin/sh\nsh -c 'sleep 300; : {sentinel}'\n")
        hung.chmod(0o755)
    run = AgentRun(read_agent_source(), 120.0 if stuck == "window" else 0.1, None, "sh")

    done = subprocess.run(
        ["sh", "-c", run.command(sentinel, 1.0)],
        input=run.source,
        capture_output=True,
        env={"PATH": f"{tmp_path}:{path}"},
        timeout=20,
    )

    assert done.returncode == -signal.SIGKILL
    assert f"{sentinel}:hello".encode() in done.stdout
    assert f"{sentinel}:end".encode() not in done.stdout
    wait_until(lambda: list_marked(sentinel) == [])


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_shell_that_is_done_leaves_no_watch_of_its_limit() -> None:
    run, sentinel = AgentRun(read_agent_source(), 0.1, None, "sh"), new_sentinel()

    done = subprocess.run(
        ["sh", "-c", run.command(sentinel, 300.0)], input=run.source, capture_output=True, timeout=60
    )

    assert (done.returncode, done.stderr) == (0, b"")
    wait_until(lambda: list_marked(sentinel) == [])


def test_df_stands_in_where_stat_knows_no_filesystems(bare_path: str, tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "stat").chmod(0o755)
    by_stat = run_agent("sh", env={"PATH": bare_path})

    sample = run_agent("sh", env={"PATH": f"{tmp_path}:{bare_path}"})

    for name in ("filesystem_usage", "filesystem_free", "inode_usage"):
        assert sample[name] == pytest.approx(by_stat[name], rel=0.02, abs=0.5), name


@pytest.mark.parametrize("collector", ["psutil", "procfs", "sh"])
@can_mount
def test_a_dead_mount_costs_seconds_and_is_named_and_nothing_is_left(
    collector: Collector, tmp_path: Path
) -> None:
    before = [sys.executable, str(STUCK_MOUNT), str(tmp_path)]
    start = time.monotonic()

    sample = run_agent(collector, before=before, window=0.1)

    took = time.monotonic() - start
    assert sample["outcome"] == "partial"
    assert sample["error"] == f"disk: {tmp_path} gives no answer in 2 s"
    assert set(sample["filesystem_usage"]) >= {"/"}
    assert took < 20  # 2 s, and whatever else the machine has to do


@pytest.mark.parametrize("collector", ["procfs", "sh"])
@can_mount
def test_a_dead_mount_that_is_excluded_is_not_looked_at(collector: Collector, tmp_path: Path) -> None:
    before = [sys.executable, str(STUCK_MOUNT), str(tmp_path)]

    sample = run_agent(collector, before=before, window=0.1, patterns=(("exclude", f"mounts={tmp_path}"),))

    assert (sample["outcome"], sample["error"]) == ("ok", None)


def test_a_script_whose_output_nobody_reads_any_more_ends_at_once() -> None:
    run = AgentRun(read_agent_source(), 60.0, collector="sh")
    with subprocess.Popen(
        ["sh", "-c", run.command("S", 90.0)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(run.source)
        process.stdin.close()
        while not process.stdout.readline().startswith(b"S:hello "):
            pass
        process.stdout.close()

        assert process.wait(15) != 0


@pytest.mark.ssh
def test_a_host_without_python_is_sampled_over_ssh(
    bare_path: str, start_sshd: Callable[..., SshdServer]
) -> None:
    command = f'ForceCommand env -i PATH={bare_path} sh -c "$SSH_ORIGINAL_COMMAND"'
    server = start_sshd("bare", extra_config=[command])
    target = Target(host="bare", address=server.address, port=server.port, username=server.user)
    policy = SshPolicy(
        conn_id="ssh_test",
        username=server.user,
        known_hosts=KnownHosts.parse(server.known_hosts.read_text(), str(server.known_hosts)),
        pkey=paramiko.Ed25519Key.from_private_key_file(str(server.client_key)),
        look_for_keys=False,
    )
    session = SshSession(target, policy, AgentRun(read_agent_source(), 0.3), 10.0)

    try:
        row = build_up_row(target, session.collect(clock.monotonic() + 30), 1.0)
    finally:
        session.close()

    assert (row["up"], row["outcome"], row["collector"], row["error"]) == (True, "ok", "sh", None)
    assert row["memory_total"] > 0
    assert abs(row["clock_skew"] or 0.0) <= 1.0
