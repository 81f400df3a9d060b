"""The command line of the development servers: ``python -m services start|stop|status|logs|prepare``."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import TYPE_CHECKING

from services.errors import ServiceError
from services.instance import Instance, instance, prepare
from services.layout import INSTANCES
from services.server import read_tail

if TYPE_CHECKING:
    from collections.abc import Sequence

# What the init scripts of Linux answer when a service does not run.
_NOT_RUNNING = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 1 on an error, 3 from ``status`` if not all run."""
    options = _parse(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    logging.getLogger("services").setLevel(logging.INFO)
    try:
        return _run(options.command, instance(options.instance), options.lines)
    except ServiceError as error:
        sys.stderr.write(f"services: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m services", description=__doc__)
    parser.add_argument("command", choices=("start", "stop", "status", "logs", "prepare"))
    parser.add_argument("--instance", choices=tuple(INSTANCES), default="dev", help="dev (default) or test")
    parser.add_argument("--lines", type=int, default=20, metavar="N", help="of each log (default 20)")
    return parser.parse_args(arguments)


def _run(command: str, chosen: Instance, lines: int) -> int:
    if command == "prepare":
        prepare()
    elif command == "start":
        chosen.start()
    elif command == "stop":
        if not chosen.stop():
            print(f"the instance {chosen.name} does not run")
    elif command == "status":
        print(describe(chosen))
        return 0 if chosen.running else _NOT_RUNNING
    else:
        for server in chosen.servers:
            print(f"--- {server.log_file}\n{read_tail(server.log_file, lines)}")
    return 0


def describe(chosen: Instance) -> str:
    """Return one line a server: label, address, state and pid."""
    rows = []
    for server in chosen.servers:
        pid = server.pid
        rows.append(f"{server.label:<12} {server.endpoint:<16} {f'running, pid {pid}' if pid else 'stopped'}")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
