"""The command that chooses a host's collector, run by real shells over names that stand for Pythons."""

from __future__ import annotations

import ast
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_provider_restrack.collect import tiers

if TYPE_CHECKING:
    from collections.abc import Sequence

RUN = "import sys; exec(sys.stdin.read())"
OPTIONS = ["--window", "0.5", "--sentinel", "S"]
ECHO = '#!/bin/sh\ncat >/dev/null\necho "$0 $*"\n'
BROKEN = "#!/bin/sh\nexit 127\n"


def test_the_source_is_one_program_without_the_package_and_the_shell_finds_its_script_in_it() -> None:
    source = tiers.read_agent_source().decode("ascii")

    imported = {
        name
        for node in ast.walk(ast.parse(source))
        for name in (
            [node.module] if isinstance(node, ast.ImportFrom) else
            [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        )
    }  # fmt: skip
    assert imported == {
        "os",
        "select",
        "sys",
        "time",
        "_thread",
        "_json",
        "json.encoder",
        "warnings",
        "fnmatch",
        "psutil",
    }
    script = "".join(line[2:] for line in source.splitlines(keepends=True) if line.startswith("#|"))
    assert script.startswith("pseudo='aufs autofs ")
    assert script.endswith((Path(tiers.__file__).parent / "agent.sh").read_text()[-100:])


@pytest.mark.parametrize("collector", tiers.COLLECTORS)
@pytest.mark.parametrize("python", [None, "python3.9"])
def test_a_command_has_nothing_that_a_csh_takes_for_its_own(
    collector: tiers.Collector, python: str | None
) -> None:
    command = tiers.quote_command(tiers.build_command(collector, python, OPTIONS))

    assert "\n" not in command
    assert "!" not in command
    assert "'\"'\"'" not in command
    assert len(command) < 1000  # an sshd of small devices takes no more than 9000, some less


def test_an_interpreter_that_is_named_is_the_only_one() -> None:
    command = tiers.quote_command(tiers.build_command("auto", "my python; rm -rf /", OPTIONS))

    assert shlex.split(command) == ["exec", "my python; rm -rf /", "-B", "-c", RUN, *OPTIONS]


def run_with(programs: dict[str, str], folder: Path, command: Sequence[str]) -> tuple[int, str, str]:
    """Run a command where PATH has nothing but some tools and these programs."""
    tools = folder / "tools"
    tools.mkdir()
    for name in ("cat", "sed", "readlink", "sh"):
        (tools / name).symlink_to(shutil.which(name) or name)
    for name, text in programs.items():
        path = folder / name
        if text.startswith("#!"):
            path.write_text(text)
            path.chmod(0o755)
        else:
            path.symlink_to(folder / text)
    done = subprocess.run(
        command,
        input="print('agent')\n#|echo shell \"$@\"\n",
        env={"PATH": f"{folder}{os.pathsep}{tools}"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.returncode, done.stdout.replace(f"{folder}/", "").strip(), done.stderr


@pytest.mark.parametrize(
    ("programs", "chosen"),
    [
        pytest.param({"python3": ECHO, "python3.12": ECHO}, f"python3 -B -c {RUN} ", id="python3"),
        pytest.param(
            {"python3.7": ECHO, "python3.11": ECHO}, f"python3.11 -B -c {RUN} ", id="newest-versioned"
        ),
        pytest.param(
            {"python3": BROKEN, "python3.8": ECHO}, f"python3.8 -B -c {RUN} ", id="stub-without-python"
        ),
        pytest.param(
            {"python3.5": ECHO, "python3": "python3.5", "python3.6": ECHO},
            f"python3.6 -B -c {RUN} ",
            id="too-old",
        ),
        pytest.param({"python": ECHO, "python2": ECHO}, "shell ", id="python-2-only"),
        pytest.param({}, "shell ", id="none"),
    ],
)
def test_the_first_interpreter_that_runs_is_taken_and_the_shell_where_there_is_none(
    programs: dict[str, str], chosen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiers, "PYTHONS", tiers.PYTHONS[:-1])  # this machine could have the last

    status, printed, _ = run_with(programs, tmp_path, tiers.build_command("auto", None, OPTIONS))

    assert (status, printed) == (0, chosen + " ".join(OPTIONS))


def test_without_python_a_collector_that_needs_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiers, "PYTHONS", tiers.PYTHONS[:-1])

    status, printed, error = run_with({}, tmp_path, tiers.build_command("procfs", None, OPTIONS))

    assert (status, printed) == (127, "")
    assert "not found" in error


def test_the_shell_is_taken_by_name_though_there_is_a_python(tmp_path: Path) -> None:
    status, printed, _ = run_with({"python3": ECHO}, tmp_path, tiers.build_command("sh", None, OPTIONS))

    assert (status, printed) == (0, "shell " + " ".join(OPTIONS))


def test_what_the_agent_ends_with_is_what_the_command_ends_with(tmp_path: Path) -> None:
    programs = {"python3": "#!/bin/sh\nexit 3\n", "python3.9": ECHO}

    assert run_with(programs, tmp_path, tiers.build_command("psutil", None, OPTIONS))[:2] == (3, "")
