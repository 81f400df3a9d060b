"""The agent under every Python of this machine: hosts have their own, from 3.6 on, mostly without psutil."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_restrack.collect.tiers import read_agent_source
from airflow_provider_restrack.store.schema import FIELDS
from services.layout import home
from services.server import locked

if TYPE_CHECKING:
    from collections.abc import Mapping

SOURCE = read_agent_source()
OLDEST = (3, 6)
METRIC_GROUPS = frozenset(
    ("cpu", "memory", "disk", "disk_io", "network", "processes", "pressure", "container", "counters")
)
METRICS = frozenset(field.name for field in FIELDS if field.group in METRIC_GROUPS)
RECORDED = Path(__file__).parents[2] / "unit/collect/recorded.py"
PLAIN = RECORDED.with_name("agent_cases") / "plain"


@cache
def interpreters() -> dict[str, str]:
    """One interpreter of each version that the agent supports: this one, pyenv's, and those of PATH."""
    folders = [Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"]
    candidates = [str(path) for folder in folders for path in sorted(folder.glob("*/bin/python"))]
    on_path = (shutil.which(f"python3.{minor}") for minor in range(OLDEST[1], 20))
    candidates += [path for path in on_path if path and "shims" not in path]
    found = {".".join(map(str, sys.version_info[:2])): sys.executable}
    for path in candidates:
        version = version_of(path)
        if version and version >= OLDEST:
            found.setdefault(".".join(map(str, version)), path)
    return dict(sorted(found.items(), key=lambda item: int(item[0].partition(".")[2])))


def version_of(path: str) -> tuple[int, int] | None:
    """The version that an interpreter tells, None if it does not start."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run(
        [path, "-c", code], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL
    )
    match = re.fullmatch(r"(\d+)\.(\d+)\n", done.stdout)
    return (int(match[1]), int(match[2])) if match else None


def run(version: str, *arguments: str, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    done = subprocess.run(
        [
            interpreters()[version],
            "-W",
            "error",
            "-B",
            "-c",
            "import sys; exec(sys.stdin.read())",
            *arguments,
        ],
        input=SOURCE.decode("ascii"),
        capture_output=True,
        text=True,
        timeout=30,
        env={"PATH": os.environ["PATH"], "LANG": "C", "LC_ALL": "C", **(env or {})},
    )
    assert (done.returncode, done.stderr) == (0, "")
    hello, sample = done.stdout.splitlines()
    assert hello.startswith("restrack:hello ")
    assert sample.startswith("restrack:sample ")
    return dict(json.loads(sample.partition(" ")[2], parse_constant=pytest.fail))


@pytest.mark.parametrize("version", list(interpreters()))
def test_the_agent_measures_this_machine_under_each_python(version: str) -> None:
    sample = run(version, "--window", "0.1", "--limit", "20")

    assert (sample["outcome"], sample["error"]) == ("ok", None)
    assert set(sample) >= METRICS
    assert sample["memory_total"] > 0
    assert 0 <= sample["cpu_usage"] <= 100
    assert 0.1 <= sample["window_seconds"] < 10


@pytest.mark.parametrize("version", list(interpreters()))
@pytest.mark.parametrize("case", ["plain", "mounts"])
def test_a_recorded_machine_gives_the_same_sample_under_each_python(
    version: str, case: str, tmp_path: Path
) -> None:
    folder = tmp_path / "machine"
    shutil.copytree(PLAIN, folder, symlinks=True)
    shutil.copytree(PLAIN.parent / case, folder, symlinks=True, dirs_exist_ok=True)
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))

    program = tmp_path / "agent.py"
    program.write_bytes(SOURCE)

    done = subprocess.run(
        [interpreters()[version], "-W", "error", str(RECORDED), str(program), str(folder)],
        capture_output=True,
        text=True,
        timeout=30,
        env={"PATH": os.environ["PATH"], "LANG": "C", "LC_ALL": "C"},
    )

    assert (done.returncode, done.stderr) == (0, "")
    sample = json.loads(done.stdout, parse_constant=pytest.fail)
    assert {key: sample[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ("3.6", "5.9.0"),
        ("3.7", "5.9.8"),
        ("3.8", "6.1.1"),
        ("3.9", "6.0.0"),
        ("3.10", "6.1.0"),
        ("3.11", "7.0.0"),
        ("3.12", "5.9.8"),
        ("3.13", "7.1.0"),
        ("3.13", "7.2.2"),
    ],
)
def test_the_agent_uses_each_psutil(version: str, release: str) -> None:
    if version not in interpreters():
        pytest.skip(f"this machine has no Python {version}")
    env = {"PYTHONPATH": str(psutil_of(version, release))}

    sample = run(version, "--window", "0.1", "--collector", "psutil", env=env)

    files = run(version, "--window", "0.1", "--collector", "procfs")
    assert (sample["outcome"], sample["error"], sample["collector"]) == ("ok", None, "psutil")
    assert {name for name in METRICS if sample[name] is None} == {
        name for name in METRICS if files[name] is None
    }
    for name in ("cpu_count", "memory_total", "disk_total", "boot_id"):
        assert sample[name] == files[name]
    assert sample["memory_used"] == pytest.approx(files["memory_used"], rel=0.25, abs=1 << 30)


def psutil_of(version: str, release: str) -> Path:
    """Return a directory with a release of psutil for a Python, installed once and kept."""
    cache = home() / "psutil"
    folder = cache / f"psutil-{release}-py{version}"
    with locked(cache / "lock", "another test session installs psutil"):
        if not folder.exists():
            partial = folder.with_name(folder.name + ".partial")
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            command += ["--no-deps", "--only-binary=:all:", "--python-version", version, "--upgrade"]
            command += ["--target", str(partial), f"psutil=={release}"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=100)
            assert done.returncode == 0, done.stderr[-2000:]
            partial.rename(folder)
    return folder


def test_the_machine_has_the_pythons_that_this_test_is_about() -> None:
    """Where there is pyenv with several versions, an old one must be among those that ran."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    installed = [path.name for path in root.glob("3.*")]

    assert len(interpreters()) >= min(2, len(installed)), f"found {interpreters()}, pyenv has {installed}"
