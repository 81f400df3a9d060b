"""Sends writes over lanes to the nodes that hold their rows, all in the caller's thread.

What a lane cannot do is left to the driver: a write that failed, a node without a lane, a driver or server
that does not fit.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from cassandra.cluster import EXEC_PROFILE_DEFAULT
from cassandra.policies import HostDistance

from airflow_provider_restrack.load.lanes import open_lane
from airflow_provider_restrack.load.wire import is_known_driver, routing_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_restrack.load.encode import EncodedRow
    from airflow_provider_restrack.load.lanes import Answer, Lane
    from airflow_provider_restrack.load.wire import PackedTable

log = logging.getLogger(__name__)

_OPEN_TIMEOUT_S = 5.0
_REOPEN_TIMEOUT_S = 1.0  # nothing else is done meanwhile
_REOPEN_S = (1.0, 32.0)  # pauses between tries to reach a node again: the first, doubled up to the last


class DirectChannel:
    """Lanes to the nodes of the session's data centre.

    :param level: consistency level; None takes that of the session's profile.
    :param now: the monotonic clock.
    """

    def __init__(
        self, session: Any, tables: Sequence[PackedTable], *, level: int | None, now: Callable[[], float]
    ) -> None:
        profile = session.get_execution_profile(EXEC_PROFILE_DEFAULT)
        self._session, self._tables, self._now = session, tuple(tables), now
        self._level = profile.consistency_level if level is None else level
        self._timeout_s: float = profile.request_timeout or 10.0
        self._distance = profile.load_balancing_policy.distance
        self._lanes: dict[Any, Lane] = {}
        self._failed: dict[Any, tuple[float, float]] = {}  # node → when to try again, and the pause after
        self._lost: list[Answer] = []

    @property
    def lanes(self) -> list[Lane]:
        """The open ones."""
        return [lane for lane in self._lanes.values() if not lane.closed]

    @property
    def has_answers(self) -> bool:
        """Whether ``receive`` has something to return without any node's doing."""
        return bool(self._lost)

    def open(self) -> None:
        """Open a lane to each node of the data centre."""
        for host in self._session.cluster.metadata.all_hosts():
            if self._distance(host) == HostDistance.LOCAL:
                self._open(host, _OPEN_TIMEOUT_S)

    def reopen(self) -> None:
        """Try to reach a node again whose lane was lost, after a pause; one at a time, as it may wait."""
        if not self._failed:
            return
        now = self._now()
        for host in self._session.cluster.metadata.all_hosts():
            due, _ = self._failed.get(host.endpoint, (now + 1, 0))
            if due <= now:
                self._open(host, _REOPEN_TIMEOUT_S)
                return

    def _open(self, host: Any, timeout_s: float) -> None:
        try:
            lane = open_lane(self._session, host, self._tables, level=self._level, timeout_s=timeout_s)
        except Exception as error:  # noqa: BLE001 - whatever it is, the driver does the writes
            self._note_failed(host.endpoint)
            log.info("writes to %s go through the driver: %s: %s", host.endpoint, type(error).__name__, error)
        else:
            self._failed.pop(host.endpoint, None)
            self._lanes[host.endpoint] = lane

    def _note_failed(self, endpoint: Any) -> None:
        first, last = _REOPEN_S
        _, pause = self._failed.get(endpoint, (0.0, first))
        self._failed[endpoint] = (self._now() + pause, min(2 * pause, last))

    def replicas(self, keyspace: str, partition_key: Sequence[bytes]) -> tuple[Lane, ...]:
        """Return the lanes to the nodes that hold a partition; of a single node, that one."""
        lanes = tuple(self.lanes)
        if len(lanes) <= 1:
            return lanes
        hosts = self._session.cluster.metadata.get_replicas(keyspace, routing_key(partition_key))
        found = tuple(lane for host in hosts if (lane := self._lanes.get(host.endpoint)) and not lane.closed)
        return found or lanes

    def send(self, request: Any, keyspace: str, rows: Sequence[EncodedRow]) -> bool:
        """Queue a write on the least busy lane to a node that holds it; False if there is none."""
        table = rows[0].packed
        lanes = self.replicas(keyspace, rows[0].partition_key)
        if not lanes or table is None:
            return False
        lane = lanes[0] if len(lanes) == 1 else min(lanes, key=lambda one: one.in_flight)
        lane.send(request, table, [row.statement for row in rows], self._now())
        return True

    def flush(self) -> None:
        """Send what is queued."""
        for lane in self.lanes:
            if lane.wants_to_write:
                self._lost += lane.flush()

    def receive(self) -> list[Answer]:
        """Return what has been answered, or lost, without waiting."""
        answers, self._lost = self._lost, []
        now = self._now()
        for endpoint, lane in list(self._lanes.items()):
            if not lane.closed:
                answers += lane.receive(now)
                if not lane.closed:
                    answers += lane.expire(now, self._timeout_s)
            if lane.closed:
                del self._lanes[endpoint]
                self._note_failed(endpoint)
        return answers

    def close(self) -> None:
        """Close all lanes."""
        for lane in self._lanes.values():
            lane.close()
        self._lanes.clear()


def open_direct(
    session: Any, tables: Sequence[PackedTable | None], *, level: int | None, now: Callable[[], float]
) -> DirectChannel | None:
    """Return lanes to the nodes of a session; None if the driver, or any table, does not allow them."""
    packed = [table for table in tables if table is not None]
    if not is_known_driver() or len(packed) < len(tables) or not packed:
        return None
    if not hasattr(getattr(session, "cluster", None), "_make_connection_kwargs"):
        return None
    channel = DirectChannel(session, packed, level=level, now=now)
    channel.open()
    return channel
