"""The agent on a recorded machine: a program for any Python that runs the agent, from 3.6 on.

``recorded.py AGENT FOLDER`` prints the sample of the snapshots ``FOLDER/0`` and ``FOLDER/1``, which are trees
of ``proc`` and ``sys`` with ``time`` and ``statvfs.json`` (six numbers of each mount point). Their kernels
count in ticks of 10 ms and pages of 4 KiB, whatever this machine's does.
"""

import json
import os
import sys
from importlib.util import module_from_spec, spec_from_file_location


def load(path):
    """Return the agent as a module."""
    spec = spec_from_file_location("restrack_agent", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def recorded(agent):
    """Return the class of a source that reads a recorded snapshot."""

    class Recorded(agent.Procfs):
        """A snapshot's source: a folder."""

        def clock(self):
            """Return the recorded time in epoch seconds, or None."""
            return float(self.text("time")) if self.find("time") else None

        def unit(self, name):
            """Return the units of the recorded kernels."""
            return {"SC_CLK_TCK": 100, "SC_PAGE_SIZE": 4096}[name]

        def statvfs(self, mountpoint):
            """Return the recorded numbers of a mount point."""
            return json.loads(self.text("statvfs.json"))[mountpoint]

    return Recorded


def replay(agent, folder, patterns=()):
    """Return the sample of a recorded machine."""
    source = recorded(agent)
    first, last = (source(os.path.join(folder, number), None, patterns) for number in ("0", "1"))
    return agent.measure(first, last, 0)[0]


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    print(json.dumps(replay(load(sys.argv[1]), sys.argv[2]), allow_nan=False))
