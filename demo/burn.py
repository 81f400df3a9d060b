"""Put load on every CPU, so that the demo's alert is a real one; nice 19, so that nothing waits for it."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Ends by itself after the limit, or when its parent is gone (its standard input then ends).
_BURNER = """
import os, select, sys, time
os.nice(19)
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end and not select.select([sys.stdin], [], [], 0)[0]:
    for _ in range(200_000):
        pass
"""


@contextmanager
def load_on_all_cpus(limit_s: float) -> Iterator[int]:
    """Keep every CPU busy inside the ``with`` block, for at most ``limit_s``; yields how many CPUs."""
    count = len(os.sched_getaffinity(0))
    command = [sys.executable, "-c", _BURNER, str(limit_s)]
    burners = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(count)]
    try:
        yield count
    finally:
        for burner in burners:
            burner.terminate()
            burner.communicate()
