"""Waits for a breached rule in the triggerer: for a deferred sensor, or for ever in an AssetWatcher."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_provider_restrack import clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from datetime import datetime

    from airflow_provider_restrack.alert.evaluate import Breach
    from airflow_provider_restrack.alert.observe import Observation, SampleReader

DEFAULT_RETRY_FOR_S = 300.0
# A read that hangs must not hold up the triggerer's removal of this trigger.
CLOSE_TIMEOUT_S = 10.0


class ThresholdTrigger(BaseEventTrigger):
    """Evaluate rules over stored samples until one is breached for long enough, and fire.

    The event is ``{"status": "breach", "evidence": [...]}`` or ``{"status": "error", "message": ...}``. It
    never raises. Cassandra is read in a thread of the trigger's own, over one session that is kept between
    polls, so the triggerer's event loop never waits for it.

    In an ``AssetWatcher`` it runs for ever and fires once for each breach: the same unbroken run of a rule on
    a host and device is not told again, as long as the trigger runs (a restart of the triggerer tells it once
    more). An outage of Cassandra that lasts ``retry_for`` is told once, too: who watches must know that
    nobody looks.

    :param rules: as those of ``ThresholdSensor``; checked here, when the DAG file is parsed.
    :param hosts: names; None: all hosts that ``latest_metrics`` knows.
    :param table: the table of samples, with its keyspace.
    :param poll_interval: seconds between evaluations.
    :param retry_for: seconds that reads may fail in a row before that is told; each failure is logged.
        Settings that cannot work, such as a connection that does not exist, are told at once.
    :param once: end after the first event, as a deferred task needs it; an AssetWatcher leaves it False.
    """

    def __init__(
        self,
        *,
        rules: Any,
        hosts: Sequence[str] | None = None,
        cassandra_conn_id: str = "cassandra_default",
        table: str = "metrics.system_metrics",
        poll_interval: float = 60.0,
        retry_for: float = DEFAULT_RETRY_FOR_S,
        once: bool = False,
    ) -> None:
        from airflow_provider_restrack.alert.rules import parse_rules
        from airflow_provider_restrack.store.schema import read_samples_keyspace

        super().__init__()  # type: ignore[no-untyped-call] # airflow's is untyped
        self.rules = parse_rules(rules)
        self.hosts = None if hosts is None else _check_hosts(hosts)
        self.cassandra_conn_id = cassandra_conn_id
        self.table = table
        self.poll_interval = float(poll_interval)
        self.retry_for = float(retry_for)
        self.once = once
        self._keyspace = read_samples_keyspace(table)
        self._executor: ThreadPoolExecutor | None = None
        self._resources = ExitStack()
        self._reader: SampleReader | None = None
        self._failing_since: float | None = None
        self._failure_told = False
        self._reported: dict[tuple[str, str, str | None], datetime] = {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and its arguments as JSON-able data."""
        arguments = {
            # As text: Airflow encodes dicts within a list once more at each step to its database, takes a
            # watcher's trigger for another one at every parse of the DAG file, and removes it.
            "rules": json.dumps([rule.to_data() for rule in self.rules]),
            "hosts": self.hosts,
            "cassandra_conn_id": self.cassandra_conn_id,
            "table": self.table,
            "poll_interval": self.poll_interval,
            "retry_for": self.retry_for,
            "once": self.once,
        }
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def cleanup(self) -> None:
        """Close the session; safe to call more than once."""
        executor, self._executor = self._executor, None
        if executor is None:
            return
        # In the same thread, after a read that may still run there: a session that is only now being opened
        # by a cancelled poll would else stay open for ever.
        closing = executor.submit(self._close_reader)
        executor.shutdown(wait=False)
        try:
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(closing)), CLOSE_TIMEOUT_S)
        except TimeoutError:
            self.log.warning("A read of %s still runs; its session is closed when it ends", self.table)
        except Exception as error:  # noqa: BLE001 - the event that is to be told must not be lost over this
            self.log.warning("The session of %s did not close well: %s", self.table, error)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll, and yield an event for each new breach; with ``once`` end after the first event."""
        while True:
            event = await self._poll()
            if event is not None:
                if self.once:
                    await self.cleanup()
                yield TriggerEvent(event)  # type: ignore[no-untyped-call] # as above
                if self.once:
                    return
            await asyncio.sleep(self.poll_interval)

    async def _poll(self) -> dict[str, Any] | None:
        """Evaluate once and return the event to fire, if any."""
        try:
            event: dict[str, Any] | None = await self._in_thread(self._look)
        except Exception as error:  # noqa: BLE001 - a trigger that raises fails its task without a word
            return await self._handle_failure(error)
        self._failing_since, self._failure_told = None, False
        return event

    async def _in_thread(self, function: Callable[[], Any]) -> Any:
        """Call what blocks in the trigger's thread.

        By ``sync_to_async``, because a hook asks the triggerer's supervisor for its connection: the answer
        comes over the event loop, which older versions of Airflow find only through it.
        """
        from asgiref.sync import sync_to_async

        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="restrack-threshold")
        return await sync_to_async(function, thread_sensitive=False, executor=self._executor)()

    def _look(self) -> dict[str, Any] | None:
        """Read, evaluate and describe what is new; all of it takes time and can fail."""
        from airflow_provider_restrack.alert.evidence import build_evidence

        breaches = self._observe().breaches
        new = self._select_new(breaches)
        event = {"status": "breach", "evidence": build_evidence(new)} if new else None
        self._reported.update({_key(breach): breach.at for breach in breaches})
        return event

    def _observe(self) -> Observation:
        from airflow_provider_restrack.alert.observe import explain, observe

        if self._reader is None:
            self._reader = self._open_reader(self._resources)
        observation = observe(self.rules, self._reader, self.hosts, clock.utc_now())
        if not observation.breaches:
            for line in explain(self.rules, observation):
                self.log.info(line)
        return observation

    def _open_reader(self, resources: ExitStack) -> SampleReader:
        """Open what the polls read from; ``resources`` closes it. A seam for tests."""
        from airflow_provider_restrack.alert.observe import StoreReader
        from airflow_provider_restrack.hooks.cassandra import CassandraSessionHook

        session = resources.enter_context(CassandraSessionHook(self.cassandra_conn_id).session())
        return StoreReader(session, self._keyspace)

    def _close_reader(self) -> None:
        self._reader = None
        self._resources.close()

    async def _handle_failure(self, error: Exception) -> dict[str, Any] | None:
        """Log a failed poll, and return the event that tells of it once it has lasted too long."""
        now = clock.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        lasted = now - self._failing_since
        message = (
            f"Samples of {self.table} cannot be read (connection {self.cassandra_conn_id}): "
            f"{type(error).__name__}: {error}"
        )
        self.log.warning("%s; failing for %.0f s of %.0f s", message, lasted, self.retry_for)
        if self._executor is not None:
            # The next poll connects anew: nodes and settings may have changed.
            self._executor.submit(self._close_reader)
        if self._failure_told or (lasted < self.retry_for and not isinstance(error, _HOPELESS)):
            return None
        self._failure_told = True
        return {"status": "error", "message": message}

    def _select_new(self, breaches: Sequence[Breach]) -> list[Breach]:
        """Return the breaches that were not told yet.

        A run is the same if it began no later than the newest sample it had when it was told: a late sample
        may move its start, but not past that.
        """
        told = self._reported
        return [one for one in breaches if _key(one) not in told or one.since > told[_key(one)]]


def _key(breach: Breach) -> tuple[str, str, str | None]:
    return breach.rule.name, breach.host, breach.device


def _check_hosts(hosts: Sequence[Any]) -> list[str]:
    """Refuse a single text, which would be read as a list of letters: no breach would ever be seen."""
    names = [] if isinstance(hosts, str) else list(hosts)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"hosts {hosts!r} must be a list of names that is not empty, or None for all")
    return names


# What no retry mends: a connection that does not exist, or has fields that are wrong.
_HOPELESS = (ValueError, AirflowNotFoundException)
