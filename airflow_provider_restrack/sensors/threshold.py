"""A task that waits until the samples in Cassandra breach a rule for long enough, or until that is over."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_restrack import clock
from airflow_provider_restrack.alert.rules import parse_rules
from airflow_provider_restrack.alert.until import check_until
from airflow_provider_restrack.store.schema import SYSTEM_METRICS, read_samples_keyspace
from airflow_provider_restrack.templates import is_literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_restrack.alert.observe import Observation, SampleReader
    from airflow_provider_restrack.alert.rules import AlertRule
    from airflow_provider_restrack.alert.until import Until

MAX_LOGGED_HOSTS = 10


class ThresholdSensorError(AirflowException):
    """The samples cannot be read; an AirflowException, so that ``soft_fail`` and ``never_fail`` see it."""


class ThresholdSensor(BaseSensorOperator):
    """Succeed when a rule is breached for long enough, or when that is over, and return the evidence.

    The evidence is a list of dicts, one for each rule, host and device in breach, with the values, since
    when, and a sentence (``text``). While nothing is breached, the log says once a poke how near each rule
    is.

    With ``until="clear"`` it succeeds when no instance of the rules is in breach any more, as fresh samples
    beyond ``clear_threshold`` for ``clear_for`` show; missing or old samples end nothing. The evidence is
    then one dict that says what was watched, since when it is clear, and which alerts ended.

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
    :param until: ``breach``: wait for one; ``clear``: wait until none is left.
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
        until: Until = "breach",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.rules = rules
        self.hosts = hosts
        self.cassandra_conn_id = cassandra_conn_id
        self.table = table
        self.deferrable = deferrable
        self.until = check_until(until)
        if is_literal(rules):
            parse_rules(rules)
        if hosts is not None and is_literal(hosts):
            _read_hosts(hosts)
        if is_literal(table):
            read_samples_keyspace(table)

    def execute(self, context: Context) -> Any:
        """Wait for a breach, or its end, and return the evidence.

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

    def poke(self, context: Context) -> PokeReturnValue:
        """Read and evaluate once.

        :raises ThresholdSensorError: if the samples cannot be read.
        """
        from airflow_provider_restrack.store.session import CassandraError

        rules, hosts = self._read_arguments()
        look = self._look_for_end if self.until == "clear" else self._look_for_breach
        try:
            with self._open_reader() as reader:
                evidence = look(rules, reader, hosts, _find_run_url(context))
        except (CassandraError, ValueError) as error:
            raise ThresholdSensorError(f"Samples of {self.table} cannot be read: {error}") from error
        return PokeReturnValue(bool(evidence), evidence or None)

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None) -> Any:
        """Return the evidence that the trigger found.

        :raises ThresholdSensorError: if it could not read the samples.
        """
        if not event or event.get("status") != self.until:
            message = (event or {}).get("message") or f"the trigger sent no {self.until}, but {event!r}"
            raise ThresholdSensorError(f"Task {self.task_id}: {message}")
        evidence, run_url = event["evidence"], {"run_url": _find_run_url(context)}
        if self.until == "clear":
            self.log.info("%s", evidence["text"])
            return evidence | run_url
        for found in evidence:
            self.log.info("Breached: %s", found["text"])
        return [found | run_url for found in evidence]

    def _look_for_breach(
        self,
        rules: Sequence[AlertRule],
        reader: SampleReader,
        hosts: list[str] | None,
        run_url: str | None,
    ) -> list[dict[str, Any]]:
        from airflow_provider_restrack.alert.evidence import build_evidence
        from airflow_provider_restrack.alert.observe import observe

        observation = observe(rules, reader, hosts, clock.utc_now())
        self._log_observation(rules, observation)
        return build_evidence(observation.breaches, run_url)

    def _look_for_end(
        self,
        rules: Sequence[AlertRule],
        reader: SampleReader,
        hosts: list[str] | None,
        run_url: str | None,
    ) -> dict[str, Any] | None:
        from airflow_provider_restrack.alert.clearance import observe_clearance
        from airflow_provider_restrack.alert.evidence import build_clear_evidence

        clearance = observe_clearance(rules, reader, hosts, clock.utc_now())
        for line in clearance.explain():
            self.log.info(line)
        if not clearance.is_over:
            return None
        evidence = build_clear_evidence(clearance, run_url)
        self.log.info("%s", evidence["text"])
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
        except AirflowTaskTimeout as error:
            if self.soft_fail or self.never_fail:
                raise AirflowSkipException("Skipped, because soft_fail or never_fail is set") from error
            raise
        except Exception as error:
            if self.silent_fail:
                self.log.error("The first look failed: %s", error)  # noqa: TRY400 - the message tells all
                return PokeReturnValue(is_done=False)
            if self.never_fail:
                raise AirflowSkipException(f"Skipped, because never_fail is set: {error}") from error
            raise

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
            until=self.until,
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


def _find_run_url(context: Context) -> str | None:
    """Return where Airflow shows this run of the task; None outside of Airflow."""
    url = getattr(context.get("ti"), "log_url", None)
    return url if isinstance(url, str) else None


def _read_hosts(hosts: Any) -> list[str]:
    """Return the names that samples carry, of hosts in any form that the collecting operator takes."""
    from airflow_provider_restrack.collect.inventory import parse_host_names

    return parse_host_names(hosts)
