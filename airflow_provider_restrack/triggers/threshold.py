"""Waits for a breach or its end in the triggerer: for a deferred sensor, or for ever in an AssetWatcher."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_provider_restrack import clock
from airflow_provider_restrack.alert.until import check_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from airflow_provider_restrack.alert.evaluate import Breach
    from airflow_provider_restrack.alert.observe import Observation, SampleReader
    from airflow_provider_restrack.alert.until import Until
    from airflow_provider_restrack.store.shared_session import SharedSession

DEFAULT_RETRY_FOR_S = 300.0
# A read that hangs must not hold up the triggerer's removal of this trigger.
CLOSE_TIMEOUT_S = 10.0


class ThresholdTrigger(BaseEventTrigger):
    """Evaluate rules over stored samples until one is breached for long enough, or all is over, and fire.

    The event is ``{"status": "breach", "evidence": [...]}``, ``{"status": "clear", "evidence": {...}}`` or
    ``{"status": "error", "message": ...}``. It never raises. All triggers of one connection in a triggerer
    share one session and four threads, which read and evaluate, so the event loop never waits for Cassandra.
    The session is opened with the connection as it is then: changed settings count once it has failed, or
    when its last user has left.

    In an ``AssetWatcher`` it runs for ever and fires once for each breach: the same unbroken run of a rule on
    a host and device is not told again at the same severity, as long as the trigger runs (a restart of the
    triggerer tells it once more). With ``until="clear"`` it fires each time that what was in breach is over.
    An outage of Cassandra that lasts ``retry_for`` is told once, too: who watches must know that nobody
    looks.

    :param rules: as those of ``ThresholdSensor``; checked here, when the DAG file is parsed.
    :param hosts: names; None: all hosts that ``latest_metrics`` knows.
    :param table: the table of samples, with its keyspace.
    :param poll_interval: seconds between evaluations.
    :param retry_for: seconds that reads may fail in a row before that is told; each failure is logged.
        Settings that cannot work, such as a connection that does not exist, are told at once.
    :param once: end after the first event, as a deferred task needs it; an AssetWatcher leaves it False.
    :param until: wait for a ``breach``, or until it is ``clear``.
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
        until: Until = "breach",
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
        self.until = check_until(until)
        self._keyspace = read_samples_keyspace(table)
        self._shared: SharedSession | None = None
        self._reader: tuple[Any, SampleReader] | None = None
        self._failing_since: float | None = None
        self._failure_told = False
        self._reported: dict[tuple[str, ...], datetime] = {}
        # What was never seen in breach cannot end: a watcher tells of ends alone, a task asks how it stands.
        self._clear_told = not once

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
            "until": self.until,
        }
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def cleanup(self) -> None:
        """Leave the shared session, and close it if nobody else uses it; safe to call more than once."""
        from airflow_provider_restrack.store.shared_session import leave

        shared, self._shared, self._reader = self._shared, None, None
        closing = None if shared is None else leave(shared)
        if closing is None:
            return
        try:
            # Shielded: it closes in a thread after reads that still run there, also if this is cancelled.
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(closing)), CLOSE_TIMEOUT_S)
        except TimeoutError:
            self.log.warning("A read of %s still runs; its session is closed when it ends", self.table)

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
            event = await self._look_in_thread()
        except Exception as error:  # noqa: BLE001 - a trigger that raises fails its task without a word
            return self._handle_failure(error)
        self._failing_since, self._failure_told = None, False
        return event

    async def _look_in_thread(self) -> dict[str, Any] | None:
        """Look in one of the shared threads.

        By ``sync_to_async``, because a hook asks the triggerer's supervisor for its connection: the answer
        comes over the event loop, which older versions of Airflow find only through it.
        """
        from asgiref.sync import sync_to_async

        from airflow_provider_restrack.store.shared_session import join

        shared = self._shared
        if shared is None:
            shared = self._shared = join(self.cassandra_conn_id, self._open_session)
        look = sync_to_async(self._look, thread_sensitive=False, executor=shared.executor)
        return await look(shared, shared.failures)

    def _open_session(self) -> AbstractContextManager[Any]:
        """Open a session for all triggers of the connection. A seam for tests."""
        from airflow_provider_restrack.hooks.cassandra import CassandraSessionHook

        return CassandraSessionHook(self.cassandra_conn_id).session()

    def _look(self, shared: SharedSession, failures_before: int) -> dict[str, Any] | None:
        """Read, evaluate and describe what is new; all of it takes time and can fail."""
        from airflow_provider_restrack.store.read import TableUnusableError
        from airflow_provider_restrack.store.session import CassandraError

        with shared.use(failures_before) as session:
            try:
                reader = self._find_reader(session)
                return self._look_for_end(reader) if self.until == "clear" else self._look_for_breach(reader)
            except CassandraError as error:
                self._reader = None
                # The session is none the worse for a table that only this trigger asks for.
                if not isinstance(error, TableUnusableError):
                    shared.retire(session)
                raise

    def _find_reader(self, session: Any) -> SampleReader:
        """Return the reader of a session, which keeps its prepared statements between polls."""
        found = self._reader
        if found is None or found[0] is not session:
            found = self._reader = session, self._make_reader(session)
        return found[1]

    def _make_reader(self, session: Any) -> SampleReader:
        """Return what the polls read from. A seam for tests."""
        from airflow_provider_restrack.alert.observe import StoreReader

        return StoreReader(session, self._keyspace)

    def _look_for_breach(self, reader: SampleReader) -> dict[str, Any] | None:
        from airflow_provider_restrack.alert.evidence import build_evidence

        breaches = self._observe(reader).breaches
        new = self._select_new(breaches)
        event = {"status": "breach", "evidence": build_evidence(new)} if new else None
        self._reported.update({_key(breach): breach.at for breach in breaches})
        return event

    def _observe(self, reader: SampleReader) -> Observation:
        from airflow_provider_restrack.alert.observe import explain, observe

        observation = observe(self.rules, reader, self.hosts, clock.utc_now())
        if not observation.breaches:
            for line in explain(self.rules, observation):
                self.log.info(line)
        return observation

    def _look_for_end(self, reader: SampleReader) -> dict[str, Any] | None:
        from airflow_provider_restrack.alert.clearance import observe_clearance
        from airflow_provider_restrack.alert.evidence import build_clear_evidence

        clearance = observe_clearance(self.rules, reader, self.hosts, clock.utc_now())
        for line in clearance.explain():
            self.log.info(line)
        if any(one.is_on for one in clearance.standings):
            self._clear_told = False
        if self._clear_told or not clearance.is_over:
            return None
        evidence = build_clear_evidence(clearance)
        self._clear_told = True
        return {"status": "clear", "evidence": evidence}

    def _handle_failure(self, error: Exception) -> dict[str, Any] | None:
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


def _key(breach: Breach) -> tuple[str, ...]:
    return breach.rule.name, breach.rule.severity, breach.host, breach.device or ""


def _check_hosts(hosts: Sequence[Any]) -> list[str]:
    """Refuse a single text, which would be read as a list of letters: no breach would ever be seen."""
    names = [] if isinstance(hosts, str) else list(hosts)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"hosts {hosts!r} must be a list of names that is not empty, or None for all")
    return names


# What no retry mends: a connection that does not exist, or has fields that are wrong.
_HOPELESS = (ValueError, AirflowNotFoundException)
