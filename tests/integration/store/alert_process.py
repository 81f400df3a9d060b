"""An evaluator as a process of its own, which kills or stops itself after a given number of writes."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import Any

from airflow_provider_restrack.store.alert_statements import Statements
from services.cassandra import build_cluster
from tests.integration.store.alert_kit import make_history, run_evaluator


def main() -> None:
    """Run; the argument is JSON: address, keyspace, scope, hosts, ttl_s, ``kill_after`` or ``stop_after``."""
    arguments = json.loads(sys.argv[1])
    for name, signum in (("kill_after", signal.SIGKILL), ("stop_after", signal.SIGSTOP)):
        if name in arguments:
            _end_after(arguments[name], signum)
    cluster = build_cluster(tuple(arguments["address"]))
    try:
        history = make_history(arguments["hosts"])
        keyspace, scope, ttl_s = (arguments[name] for name in ("keyspace", "scope", "ttl_s"))
        run_evaluator(cluster.connect(), keyspace, scope, history, ttl_s=ttl_s)
    finally:
        cluster.shutdown()


def _end_after(writes: int, signum: signal.Signals) -> None:
    """Make the process send itself a signal once so many writes have been acknowledged."""
    left = [writes]

    def count(method: Any) -> Any:
        def run(*arguments: Any) -> Any:
            result = method(*arguments)
            left[0] -= threading.current_thread() is threading.main_thread()  # the lease's own does not count
            if left[0] == 0:
                os.kill(os.getpid(), signum)
            return result

        return run

    Statements._run = count(Statements._run)  # type: ignore[method-assign]
    Statements.write = count(Statements.write)  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
