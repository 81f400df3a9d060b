"""Which of a host's programs reads its /proc and /sys: its Python, with psutil or without, else its shell.

One command decides it on the host, so that a host without Python costs no second round trip. What it needs
comes on its standard input: the agent for Python, whose last lines are comments to Python and the script for
the shell.
"""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from airflow_provider_restrack.collect.agent import PSEUDO_FILESYSTEMS

if TYPE_CHECKING:
    from collections.abc import Sequence

Collector = Literal["auto", "psutil", "procfs", "sh"]
COLLECTORS: tuple[str, ...] = get_args(Collector)
# Distributions without `python3` on the PATH have one of these; the last is that of RHEL 8 and newer.
PYTHONS = ("python3", *(f"python3.{minor}" for minor in range(14, 5, -1)), "/usr/libexec/platform-python")

_FOLDER = Path(__file__).parent
_IMPORT = re.compile(r"^from airflow_provider_restrack\.collect\.fields import \(.*?^\)\n", re.M | re.S)
_SHELL_LINE = "#|"
# In one line and without "!" and "'", which csh takes for its own. A name on the PATH can be a stub that
# finds no Python behind it: one that cannot be run (126, 127) has not read the agent; the next one is tried.
# Not as a script on stdin: Python reads that by the line, which costs a host 20 ms of CPU.
_RUN_PYTHON = "import sys; exec(sys.stdin.read())"
_FIND_PYTHON = (
    'for p in {pythons}; do f=$(command -v "$p") || continue;'
    ' case $(readlink -f "$f" 2>/dev/null) in *python[12]*|*python3.[0-5]) continue;; esac;'
    ' "$p" -B -c "{run}" "$@"; s=$?; case $s in 126|127) ;; *) exit $s;; esac; done; '
)
_RUN_SHELL = f'eval "$(sed -n "s/^{_SHELL_LINE}//p")"'
_GIVE_UP = 'echo "Python 3.6 or newer: not found under any of its usual names" >&2; exit 127'


@cache
def read_agent_source() -> bytes:
    """Return what is sent to hosts: a program for Python, with the script for a shell in its last lines."""
    fields = (_FOLDER / "fields.py").read_text(encoding="ascii")
    agent, count = _IMPORT.subn(lambda _: fields, (_FOLDER / "agent.py").read_text(encoding="ascii"))
    assert count == 1
    pseudo = f"pseudo='{' '.join(PSEUDO_FILESYSTEMS.split())}'\n"
    shell = pseudo + (_FOLDER / "agent.sh").read_text(encoding="ascii")
    return (agent + "".join(f"{_SHELL_LINE}{line}\n" for line in shell.splitlines())).encode()


def build_command(collector: Collector, python: str | None, options: Sequence[str]) -> list[str]:
    """Return the program that runs on a host and its arguments.

    :param python: the only interpreter to use; None to look for one, and for the shell where there is none.
    :param options: of the agent.
    """
    if collector == "sh":
        return ["sh", "-c", _RUN_SHELL, "restrack", *options]
    if collector != "auto":
        options = [*options, "--collector", collector]
    if python is not None:
        return [python, "-B", "-c", _RUN_PYTHON, *options]
    script = _FIND_PYTHON.format(pythons=" ".join(PYTHONS), run=_RUN_PYTHON) + (
        _RUN_SHELL if collector == "auto" else _GIVE_UP
    )
    return ["sh", "-c", script, "restrack", *options]


def quote_command(arguments: Sequence[str]) -> str:
    """Return a command for a login shell, of any kind, which ``exec`` replaces."""
    return "exec " + " ".join(shlex.quote(argument) for argument in arguments)
