"""The agent's figures beside those of the usual tools, over the same seconds and under real load.

Tolerances: sizes 2 %, as they change in between; CPU shares 15 points and rates 40 %, as two windows of some
seconds never begin and end together; connections 10.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_restrack.collect.agent import Procfs, measure
from services import install

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WINDOW_S = 4


def tell(*command: str) -> str:
    env = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(command, capture_output=True, text=True, env=env, check=True, timeout=60).stdout


def beside(*command: str) -> tuple[dict[str, Any], str]:
    """Return the agent's sample and a tool's output of the same seconds."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "LC_ALL": "C"}
    ) as tool:
        sample = measure(Procfs(), Procfs(), WINDOW_S)[0]
        output, _ = tool.communicate(timeout=60)
    return sample, output


@contextmanager
def load(code: str) -> Iterator[None]:
    """Run a program that repeats its code until the end of the block."""
    program = f"import os, sys, time\nwhile True:\n    {code}\n"
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        try:
            yield
        finally:
            process.kill()


def sample_now() -> dict[str, Any]:
    return dict(measure(Procfs(), Procfs(), 0)[0])


def test_the_root_filesystem_is_as_df_has_it() -> None:
    sample = sample_now()

    size, used, available, share = tell("df", "-P", "-B1", "/").splitlines()[1].split()[1:5]
    inodes = tell("df", "-P", "-i", "/").splitlines()[1].split()[1:3]
    assert sample["disk_total"] == int(size)
    assert sample["disk_used"] == pytest.approx(int(used), rel=0.02)
    assert sample["disk_free"] == pytest.approx(int(available), rel=0.02)
    assert sample["disk_usage"] == pytest.approx(int(share.rstrip("%")), abs=1.5)  # df rounds up
    assert sample["inode_usage"]["/"] == pytest.approx(100 * int(inodes[1]) / int(inodes[0]), abs=0.5)


def test_memory_and_swap_are_as_free_has_them() -> None:
    block = bytearray(256 << 20)  # of use
    sample = sample_now()

    memory, swap = (line.split() for line in tell("free", "-b").splitlines()[1:3])
    assert sample["memory_total"] == int(memory[1])
    tolerance = 0.02 * int(memory[1])
    assert sample["memory_available"] == pytest.approx(int(memory[6]), abs=tolerance)
    assert sample["memory_used"] == pytest.approx(int(memory[1]) - int(memory[6]), abs=tolerance)
    assert (sample["swap_total"], sample["swap_used"]) == (
        int(swap[1]),
        pytest.approx(int(swap[2]), abs=tolerance),
    )
    del block


def test_cpu_shares_are_as_vmstat_has_them() -> None:
    with load("sum(range(10**6)); os.stat('/')"):
        sample, output = beside("vmstat", str(WINDOW_S), "2")

    head, *_, last = (line.split() for line in output.splitlines()[1:])
    told = dict(zip(head, map(int, last), strict=False))
    assert sample["cpu_usage"] >= 60 / os.cpu_count()  # type: ignore[operator]
    assert sample["cpu_user"] == pytest.approx(told["us"], abs=15)
    assert sample["cpu_system"] == pytest.approx(told["sy"], abs=15)
    assert sample["cpu_usage"] == pytest.approx(100 - told["id"] - told["wa"], abs=15)
    assert sample["cpu_iowait"] == pytest.approx(told["wa"], abs=15)


def test_disk_rates_are_as_iostat_has_them(tmp_path: Path) -> None:
    iostat = install.require_iostat()
    path = str(tmp_path / "written")
    opened = f"f = os.open({path!r}, os.O_WRONLY | os.O_CREAT)"
    code = f"{opened}; os.write(f, bytes(4 << 20)); os.fsync(f); os.close(f)"
    with load(code):
        sample, output = beside(iostat, "-dxky", "-o", "JSON", str(WINDOW_S), "1")

    devices = json.loads(output)["sysstat"]["hosts"][0]["statistics"][0]["disk"]
    told = {device["disk_device"]: device for device in devices}
    busiest = max(sample["device_write"], key=lambda name: sample["device_write"][name])
    assert sample["device_write"][busiest] > 1e6
    assert sample["device_write"][busiest] == pytest.approx(told[busiest]["wkB/s"] * 1024, rel=0.4)
    assert sample["device_busy"][busiest] == pytest.approx(min(100.0, told[busiest]["util"]), abs=25)
    kept = [told[name]["wkB/s"] * 1024 for name in sample["device_write"] if name in told]
    assert sample["disk_io_write"] == pytest.approx(sum(kept), rel=0.4)


def test_network_counters_are_as_ip_has_them() -> None:
    def counters() -> dict[str, dict[str, Any]]:
        return {link["ifname"]: link["stats64"] for link in json.loads(tell("ip", "-s", "-j", "link"))}

    before, sample, after = counters(), sample_now(), counters()

    kept = sample["interface_recv"] or {}
    for field, side in (("network_recv_bytes", "rx"), ("network_sent_bytes", "tx")):
        first, last = (sum(links[name][side]["bytes"] for name in kept) for links in (before, after))
        assert first <= (sample[field] or 0) <= last


def test_connections_are_as_ss_has_them() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ends = []
        for _ in range(50):
            ends.append(socket.create_connection(server.getsockname()))
            ends.append(server.accept()[0])
        sample = sample_now()
        told = len(tell("ss", "-Htn", "state", "established").splitlines())
        for end in ends:
            end.close()

    assert told >= 100
    assert sample["tcp_connections"] == pytest.approx(told, abs=10)


def test_processes_and_load_are_as_the_kernel_s_files_and_ps_have_them() -> None:
    sample = sample_now()

    assert sample["process_count"] == pytest.approx(len(tell("ps", "-e", "-o", "pid=").splitlines()), abs=15)
    averages = re.search(r"load average: ([\d.]+), ([\d.]+), ([\d.]+)", tell("uptime"))
    assert averages is not None
    told = [float(value) for value in averages.groups()]
    assert [sample["load_1m"], sample["load_5m"], sample["load_15m"]] == pytest.approx(told, abs=0.5)
