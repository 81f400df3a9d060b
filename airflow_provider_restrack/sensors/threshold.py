"""A task that waits until a rule is breached for long enough by the samples in Cassandra."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, cast

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_restrack import clock
from airflow_provider_restrack.alert.rules import parse_rules
from airflow_provider_restrack.store.schema import SYSTEM_METRICS, read_samples_keyspace
from airflow_provider_restrack.templates import is_literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_restrack.alert.observe import Observation, SampleReader
    from airflow_provider_restrack.alert.rules import AlertRule

MAX_LOGGED_HOSTS = 10


class ThresholdSensorError(AirflowException):
    """The samples cannot be read; an AirflowException, so that ``soft_fail`` and ``never_fail`` see it."""


class ThresholdSensor(BaseSensorOperator):
    """Succeed when a rule is breached for long enough, and return the evidence.

    The evidence is a list of dicts, one for each rule, host and device in breach, with the values, since
    when, and a sentence (``text``). While nothing is breached, the log says once a poke how near each rule
    is.

    A rule is a dict: ``name``, ``metric``, ``op`` and ``threshold``; optional are ``for`` ("10m"; without it
    a single sample suffices), ``aggregate`` and ``window``, ``hosts`` (patterns), ``labels``,
    ``min_coverage``, ``min_samples``, ``max_gap``, ``severity`` and ``summary``. ``for`` holds give or take
    a tenth of the samples' interval: three samples 5 minutes apart are 10 minutes, whatever the scheduler's
    jitter. A mistake in a rule is told when the DAG is parsed if the rule is written there; in a templated
    rule it fails the task without retry.

    ``timeout=0`` looks once; with ``soft_fail`` the task is then skipped if nothing is breached. As in all
    sensors of Airflow, ``soft_fail`` skips a poking task only at its timeout, and a deferred one at errors
    too. Rules that are wrong are never skipped.

    :param rules: a list of such dicts, one dict, or JSON text. (templated)
    :param hosts: the hosts to look at, in the forms of ``RemoteMetricsOperator``; None: all that have a
        newest sample in ``latest_metrics``. (templated)
    :param cassandra_conn_id: id of a ``cassandra`` connection. (templated)
    :param table: the table of samples with its keyspace, which must be a ``system_metrics``. (templated)
    :param deferrable: wait in the triggerer, without a worker slot. It looks once before that. Reads that
        fail are retried there for five minutes, with ``silent_fail`` until the timeout.
    """

    template_fields: Sequence[str] = ("rules", "hosts", "cassandra_conn_id", "table")
    template_fields_renderers: ClassVar[dict[str, str]] = {"rules": "json", "hosts": "json"}

    def __init__(
        self,
        *,
        rules: Any,
        hosts: Any = None,
        cassandra_conn_id: str = "cassandra_default",
        table: str = f"metrics.{SYSTEM_METRICS.name}",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.rules = rules
        self.hosts = hosts
        self.cassandra_conn_id = cassandra_conn_id
        self.table = table
        self.deferrable = deferrable
        if is_literal(rules):
            parse_rules(rules)
        if hosts is not None and is_literal(hosts):
            _read_hosts(hosts)
        if is_literal(table):
            read_samples_keyspace(table)

    def execute(self, context: Context) -> Any:
        """Wait for a breach and return its evidence.

        :raises AirflowFailException: if a rule, the hosts or the table are wrong; outside of ``poke``, where
            ``soft_fail`` would turn it into a skip.
        """
        try:
            rules, hosts = self._read_arguments()
        except ValueError as error:
            raise AirflowFailException(f"Task {self.task_id}: {error}") from error
        if not self.deferrable or not self.timeout:
            return super().execute(context)
        found = self._look_before_deferring(context)
        return found.xcom_value if found.is_done else self._defer(rules, hosts)

    def poke(self, context: Context) -> PokeReturnValue:  # noqa: ARG002 - Airflow's signature
        """Read and evaluate once.

        :raises ThresholdSensorError: if the samples cannot be read.
        """
        from airflow_provider_restrack.alert.evidence import build_evidence
        from airflow_provider_restrack.alert.observe import observe
        from airflow_provider_restrack.store.session import CassandraError

        rules, hosts = self._read_arguments()
        try:
            with self._open_reader() as reader:
                observation = observe(rules, reader, hosts, clock.utc_now())
        except (CassandraError, ValueError) as error:
            raise ThresholdSensorError(f"Samples of {self.table} cannot be read: {error}") from error
        self._log_observation(rules, observation)
        evidence = build_evidence(observation.breaches)
        return PokeReturnValue(bool(evidence), evidence or None)

    def execute_complete(
        self,
        context: Context,  # noqa: ARG002 - Airflow's signature
        event: Mapping[str, Any] | None,
    ) -> list[dict[str, Any]]:
        """Return the evidence that the trigger found.

        :raises ThresholdSensorError: if it could not read the samples.
        """
        if not event or event.get("status") != "breach":
            message = (event or {}).get("message") or f"the trigger sent no breach, but {event!r}"
            raise ThresholdSensorError(f"Task {self.task_id}: {message}")
        evidence = cast("list[dict[str, Any]]", event["evidence"])
        for found in evidence:
            self.log.info("Breached: %s", found["text"])
        return evidence

    def _read_arguments(self) -> tuple[tuple[AlertRule, ...], list[str] | None]:
        """Return rules and hosts, after templates are rendered; refuse a wrong table with them."""
        hosts = None if self.hosts is None else _read_hosts(self.hosts)
        rules = parse_rules(self.rules)
        read_samples_keyspace(self.table)
        return rules, hosts

    def _look_before_deferring(self, context: Context) -> PokeReturnValue:
        """Look once, and treat an error as Airflow's own loop of pokes does."""
        try:
            return self.poke(context)
        except AirflowException as error:
            if self.never_fail:
                raise AirflowSkipException(f"Skipped, because never_fail is set: {error}") from error
            if not self.silent_fail:
                raise
            self.log.error("The first look failed: %s", error)  # noqa: TRY400 - the message tells all
            return PokeReturnValue(is_done=False)

    def _defer(self, rules: Sequence[AlertRule], hosts: list[str] | None) -> NoReturn:
        from airflow_provider_restrack.triggers.threshold import DEFAULT_RETRY_FOR_S, ThresholdTrigger

        trigger = ThresholdTrigger(
            rules=[rule.to_data() for rule in rules],
            hosts=hosts,
            cassandra_conn_id=self.cassandra_conn_id,
            table=self.table,
            poll_interval=self.poke_interval,
            retry_for=self.timeout if self.silent_fail else DEFAULT_RETRY_FOR_S,
            once=True,
        )
        self.defer(trigger=trigger, method_name="execute_complete", timeout=timedelta(seconds=self.timeout))

    @contextmanager
    def _open_reader(self) -> Iterator[SampleReader]:
        """Open what a poke reads from. A seam for tests."""
        from airflow_provider_restrack.alert.observe import StoreReader
        from airflow_provider_restrack.hooks.cassandra import CassandraSessionHook

        with CassandraSessionHook(self.cassandra_conn_id).session() as session:
            yield StoreReader(session, read_samples_keyspace(self.table))

    def _log_observation(self, rules: Sequence[AlertRule], observation: Observation) -> None:
        from airflow_provider_restrack.alert.evidence import describe
        from airflow_provider_restrack.alert.observe import explain

        if not observation.hosts:
            self.log.warning("No host is known in latest_metrics: has anything been loaded?")
        if observation.silent:
            named = ", ".join(observation.silent[:MAX_LOGGED_HOSTS])
            self.log.warning("%d hosts have no sample of the last day: %s", len(observation.silent), named)
        for breach in observation.breaches:
            self.log.info("Breached: %s", describe(breach))
        if not observation.breaches:
            for line in explain(rules, observation):
                self.log.info(line)


def _read_hosts(hosts: Any) -> list[str]:
    """Return the names that samples carry, of hosts in any form that the collecting operator takes."""
    from airflow_provider_restrack.collect.inventory import parse_hosts

    return [target.host for target in parse_hosts(hosts)]
