from __future__ import annotations

import sys

import pytest

from benchmarks.collection.agent_cost import _cpu_seconds


def test_cpu_is_that_of_the_process_alone() -> None:
    burn = b"import time\nwhile time.process_time() < 0.2: pass"

    used = _cpu_seconds([sys.executable, "-c", "import sys; exec(sys.stdin.read())"], burn)

    assert 0.2 <= used < 2.0


def test_an_agent_that_fails_is_no_figure() -> None:
    with pytest.raises(RuntimeError, match="failed on this machine: b'no'"):
        _cpu_seconds([sys.executable, "-c", "import sys; sys.stderr.write('no'); sys.exit(1)"], b"")
