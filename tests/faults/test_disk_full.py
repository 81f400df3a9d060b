"""Cassandra cannot write its commit log any more: no offset may be committed past what it has stored."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.cassandra import CassandraServer
    from tests.faults.rig import Rig

pytestmark = [pytest.mark.kafka, pytest.mark.cassandra, pytest.mark.slow]

_TOO_SMALL = 1024 * 1024  # for a segment of the commit log, which has 5 MiB


def test_a_commit_log_that_takes_no_more_loses_nothing(
    rig: Rig, cassandra: CassandraServer, times: Callable[[int, int], int]
) -> None:
    for _ in range(times(1, 3)):
        task = rig.start_busy(12_000, most=0.2)
        assert cassandra.pid is not None
        # As on a full disk, the segment that is open can be written to its end, and no further one be made.
        # The limit needs no mount and no root. The server stops serving by its commit_failure_policy.
        resource.prlimit(cassandra.pid, resource.RLIMIT_FSIZE, (_TOO_SMALL, resource.RLIM_INFINITY))
        outcome = task.finish()
        assert outcome.code != 0, f"{rig}: the load has not met the fault"
        log = cassandra.log_file.read_text()
        assert "Failed managing commit log segments" in log, f"{rig}: the commit log has not met the fault"
        cassandra.kill()
        cassandra.start()
        rig.check_commits()

    rig.run_to_end()
    rig.check()
