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

import pytest

from airflow_provider_restrack.collect.tiers import read_agent_source
from airflow_provider_restrack.store.schema import FIELDS

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


def run(version: str, *arguments: str) -> dict[str, object]:
    done = subprocess.run(
        [interpreters()[version], "-W", "error", "-B", "-", *arguments],
        input=SOURCE.decode("ascii"),
        capture_output=True,
        text=True,
        timeout=30,
        env={"PATH": os.environ["PATH"], "LANG": "C", "LC_ALL": "C"},
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


def test_the_machine_has_the_pythons_that_this_test_is_about() -> None:
    """Where there is pyenv with several versions, an old one must be among those that ran."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    installed = [path.name for path in root.glob("3.*")]

    assert len(interpreters()) >= min(2, len(installed)), f"found {interpreters()}, pyenv has {installed}"
