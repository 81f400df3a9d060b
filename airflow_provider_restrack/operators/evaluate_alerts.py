"""Evaluates alert rules over a fleet, records what changed, and tells notifiers."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, BaseOperator

from airflow_provider_restrack import clock
from airflow_provider_restrack.alert.durations import parse_duration
from airflow_provider_restrack.alert.rules import parse_rules
from airflow_provider_restrack.notify import mask, notify
from airflow_provider_restrack.store.alert_tables import ALL_SCOPES
from airflow_provider_restrack.store.schema import KEYSPACE, check_identifier
from airflow_provider_restrack.templates import is_literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import BaseNotifier, Context

    from airflow_provider_restrack.alert.messages import Message
    from airflow_provider_restrack.alert.observe import SampleReader
    from airflow_provider_restrack.alert.records import Silence
    from airflow_provider_restrack.alert.rounds import Lease, Round, RoundPolicy

OnPipelineError = Literal["fail", "warn", "ignore"]
LOADER_KEYS = ("topic", "group_id", "kafka_config_id")
MAX_LISTED = 100


class AlertRoundError(RuntimeError):
    """The alerts are evaluated and recorded, but not told to all, or the pipeline has stalled."""


class EvaluateAlertsOperator(BaseOperator):
    """Evaluate alert rules over the history in Cassandra, record transitions, and tell each once.

    The history alone decides: a retry, a pause or a killed task changes nothing of what is recorded. One
    task of a scope works at a time; another waits for it. What is recorded stands in ``alerts`` and
    ``alert_history``, which ProvisionOperator makes.

    Notifiers are ordinary notifiers of Airflow. Each is called once for each severity that has news, with
    ``alerts`` (a list of dicts), ``alert_text``, ``alert_title``, ``alert_severity`` and
    ``alert_message_id`` in the context of its templates. What one does not take is told again by the next
    run, what it took is not; the task fails after all were called.

    :param rules: a list of rules, one rule, JSON text, or ``file:PATH``. (templated)
    :param hosts: the expected hosts, in the forms of ``RemoteMetricsOperator``; None: all that have a newest
        sample in ``latest_metrics``. Alerts of others are resolved. (templated)
    :param scope: whose alerts these are: open ones of rules and hosts that are not given any more are
        resolved. The task's own by default; a mapped task needs one that tells its parts apart. (templated)
    :param notifiers: who is told. One is known by its class, several of a class by their order.
    :param evaluation_delay: how late samples may come. Younger ones are left to the next run.
    :param repeat_interval: after which an alert that still fires is told again; None: never.
    :param send_resolved: whether the end of an alert is told; one that is the first that a notifier hears of
        the alert is in any case.
    :param on_pipeline_error: what happens if no host has a new sample, or the loader lags: ``fail``, ``warn``
        or ``ignore``. Nothing is said of hosts then.
    :param stale_after: age of the newest sample from which on the pipeline has stalled.
    :param loader: ``{"topic", "group_id", "kafka_config_id"}`` of what loads the samples, to ask Kafka how
        far it has come; None: the newest sample tells. (templated)
    :param lease_wait: how long to wait for another task of the scope. The lease of one that was killed ends
        after a minute.
    :param keyspace: of samples and alerts. (templated)
    :param cassandra_conn_id: id of a ``cassandra`` connection. (templated)
    """

    template_fields: Sequence[str] = ("rules", "hosts", "scope", "loader", "keyspace", "cassandra_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"rules": "json", "hosts": "json", "loader": "json"}
    ui_color = "#f8dcd4"

    def __init__(
        self,
        *,
        rules: Any,
        hosts: Any = None,
        scope: str = "{{ dag.dag_id }}.{{ task.task_id }}",
        notifiers: Sequence[BaseNotifier] = (),
        evaluation_delay: str | float | timedelta = "1m",
        repeat_interval: str | float | timedelta | None = "4h",
        send_resolved: bool = True,
        on_pipeline_error: OnPipelineError = "fail",
        stale_after: str | float | timedelta = "15m",
        loader: Mapping[str, Any] | None = None,
        lease_wait: str | float | timedelta = "90s",
        keyspace: str = KEYSPACE,
        cassandra_conn_id: str = "cassandra_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.rules = rules
        self.hosts = hosts
        self.scope = scope
        self.notifiers = notifiers
        self.evaluation_delay = evaluation_delay
        self.repeat_interval = repeat_interval
        self.send_resolved = send_resolved
        self.on_pipeline_error = on_pipeline_error
        self.stale_after = stale_after
        self.loader = loader
        self.lease_wait = lease_wait
        self.keyspace = keyspace
        self.cassandra_conn_id = cassandra_conn_id
        self._check()

    def _check(self) -> None:
        """Refuse at once what can be known to be wrong when the DAG is parsed."""
        for name in ("evaluation_delay", "repeat_interval", "stale_after", "lease_wait"):
            if getattr(self, name) is not None or name != "repeat_interval":
                _read_duration(name, getattr(self, name))
        if self.on_pipeline_error not in ("fail", "warn", "ignore"):
            raise ValueError(
                f"on_pipeline_error is {self.on_pipeline_error!r}: it must be fail, warn or ignore"
            )
        if is_literal(self.rules):
            parse_rules(self.rules, self._find_folder())
        if self.scope in {"", ALL_SCOPES}:
            raise ValueError(f"scope is {self.scope!r}: it must be a name that no other task's alerts have")
        if is_literal(self.keyspace):
            check_identifier(self.keyspace, "keyspace")
        if self.loader is not None and is_literal(self.loader):
            read_loader(self.loader)

    def execute(self, context: Context) -> dict[str, Any]:
        """Evaluate, record and tell; return what was found.

        :raises AirflowFailException: if a rule, the hosts or the loader are wrong.
        :raises AlertRoundError: after all is done, if a notifier failed or the pipeline has stalled.
        """
        from airflow_provider_restrack.telemetry import count_alerts, task_tags

        try:
            policy = self._read_policy(context)
            loader = None if self.loader is None else read_loader(self.loader)
        except ValueError as error:
            raise AirflowFailException(f"Task {self.task_id}: {error}") from error
        oldest, lag_error = (None, None) if loader is None else self._ask_loader(loader)
        done = self._run(policy, context, oldest)
        pipeline = "; ".join(text for text in (lag_error, done.evaluation.pipeline_error) if text) or None
        result = summarise(done, self.scope, pipeline)
        self._log(done, result)
        count_alerts(result, task_tags(context, self.task_id))
        self._judge(done.failed, pipeline)
        return result

    def _read_policy(self, context: Context) -> RoundPolicy:
        from airflow_provider_restrack.alert.messages import TellPolicy
        from airflow_provider_restrack.alert.rounds import RoundPolicy
        from airflow_provider_restrack.collect.inventory import parse_host_names

        repeat = self.repeat_interval
        return RoundPolicy(
            rules=parse_rules(self.rules, self._find_folder()),
            hosts=None if self.hosts is None else tuple(parse_host_names(self.hosts)),
            delay_ms=round(_read_duration("evaluation_delay", self.evaluation_delay) * 1000),
            stale_after_s=_read_duration("stale_after", self.stale_after),
            receivers=name_receivers(self.notifiers),
            tell=TellPolicy(
                None if repeat is None else _read_duration("repeat_interval", repeat) * 1000,
                self.send_resolved,
            ),
            url=str(getattr(context.get("ti"), "log_url", "") or ""),
        )

    def _run(self, policy: RoundPolicy, context: Context, oldest_waiting_ms: int | None) -> Round:
        from airflow_provider_restrack.alert.evaluate import to_ms
        from airflow_provider_restrack.alert.rounds import run_round

        receivers = dict(zip(policy.receivers, self.notifiers, strict=True))

        def send(message: Message, words: Mapping[str, Any]) -> None:
            notify(receivers[message.receiver], {**context, **words})

        with self._open(context) as (lease, silences, reader):
            now_ms = to_ms(clock.utc_now())
            done = run_round(policy, lease, reader, silences, send, now_ms, oldest_waiting_ms)
        return replace(done, failed=tuple(mask(text) for text in done.failed))

    @contextmanager
    def _open(self, context: Context) -> Iterator[tuple[Lease, Sequence[Silence], SampleReader]]:
        """Take the scope's lease, and read what stands beside it. A seam for tests."""
        from airflow_provider_restrack.alert.ledger import AlertLedger, read_silences
        from airflow_provider_restrack.alert.observe import StoreReader
        from airflow_provider_restrack.hooks.cassandra import CassandraSessionHook

        wait_s = _read_duration("lease_wait", self.lease_wait)
        with CassandraSessionHook(self.cassandra_conn_id).session() as session:
            ledger = AlertLedger(session, self.keyspace, self.scope)
            with ledger.lease(self._name_owner(context), wait_s) as lease:
                silences = read_silences(session, self.keyspace, self.scope)
                yield lease, silences, StoreReader(session, self.keyspace)

    def _ask_loader(self, loader: Mapping[str, str]) -> tuple[int | None, str | None]:
        """Return how far the loader has come, or why that is not known: alerts are evaluated all the same."""
        from airflow_provider_restrack.hooks.kafka import KafkaClientHook
        from airflow_provider_restrack.load.errors import ConfigurationError, KafkaUnavailableError
        from airflow_provider_restrack.load.lag import LagQuestion, find_oldest_waiting

        connection = loader["kafka_config_id"]
        question = LagQuestion((loader["topic"],), loader["group_id"], connection)
        try:
            return find_oldest_waiting(question, KafkaClientHook(connection).config()), None
        # A connection that is missing or wrong is told like a broker that is down.
        except (ConfigurationError, KafkaUnavailableError, ValueError, AirflowException) as error:
            return None, f"how far the loader has come is not known: {mask(str(error))}"

    def _log(self, done: Round, result: Mapping[str, Any]) -> None:
        from airflow_provider_restrack.alert.notices import describe_transition

        moves = done.evaluation.transitions
        for move in moves[:MAX_LISTED]:
            self.log.info("%s", describe_transition(move))
        if len(moves) > MAX_LISTED:
            self.log.info("… and %d more transitions", len(moves) - MAX_LISTED)
        self.log.info(
            "Evaluated %d hosts up to %s: %s; open: %s; %d transitions; %d messages sent, %d failed;"
            " open and not told: %s",
            result["hosts"], result["horizon"], _count(result["states"]), _count(result["open"]),
            len(moves), result["messages"], len(done.failed), _count(result["suppressed"]),
        )  # fmt: skip
        for failure in done.failed:
            self.log.error("Not told: %s", failure)

    def _judge(self, failed: Sequence[str], pipeline: str | None) -> None:
        """Fail the task at the end for what needs a person or another try."""
        problems = []
        if pipeline and self.on_pipeline_error == "fail":
            problems.append(f"the pipeline: {pipeline}")
        elif pipeline and self.on_pipeline_error == "warn":
            self.log.warning("The pipeline: %s", pipeline)
        if failed:
            problems.append(f"not told, the next run does it: {'; '.join(failed)}")
        if problems:
            raise AlertRoundError(f"Alerts are evaluated and recorded, but {'; and '.join(problems)}")

    def _find_folder(self) -> Path | None:
        """Return the folder of the DAG's file, which paths of rule files are relative to."""
        folder = self.dag.folder if self.has_dag() else ""  # type: ignore[no-untyped-call] # Airflow's
        return Path(folder) if folder else None

    def _name_owner(self, context: Context) -> str:
        ti = context.get("ti")
        parts = (getattr(ti, name, None) for name in ("dag_id", "run_id", "task_id", "try_number"))
        return " ".join(str(part) for part in parts if part is not None) or self.task_id


def name_receivers(notifiers: Sequence[Any]) -> tuple[str, ...]:
    """Return the names by which is remembered what notifiers were told: their class, and which of it."""
    seen: Counter[str] = Counter()
    names = []
    for notifier in notifiers:
        name = type(notifier).__name__
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return tuple(names)


def read_loader(loader: Any) -> dict[str, str]:
    """Return whose lag is asked for.

    :raises ValueError: if a key is missing or not known.
    """
    given = dict(loader) if hasattr(loader, "keys") else {}
    known = {"kafka_config_id": "kafka_default", **given}
    if set(known) != set(LOADER_KEYS) or not all(
        isinstance(value, str) and value for value in known.values()
    ):
        raise ValueError(
            f"loader is {loader!r}: it must be a dict of texts with topic, group_id and, if it is not"
            " kafka_default, kafka_config_id"
        )
    return known


def summarise(done: Round, scope: str, pipeline: str | None) -> dict[str, Any]:
    """Return a round as JSON-able data."""
    from airflow_provider_restrack.alert.evaluate import from_ms
    from airflow_provider_restrack.alert.notices import list_transition

    found = done.evaluation
    return {
        "scope": scope,
        "horizon": clock.format_utc(from_ms(found.horizon_ms)),
        "hosts": found.hosts,
        "samples": found.samples,
        "states": dict(found.states),
        "open": dict(done.open),
        "changed": dict(Counter(move.kind for move in found.transitions)),
        "transitions": [list_transition(move) for move in found.transitions[:MAX_LISTED]],
        "messages": len(done.sent),
        "told": dict(Counter(notice.what for message in done.sent for notice in message.notices)),
        "failed": list(done.failed),
        "suppressed": done.plan.reasons,
        "pipeline": pipeline,
    }


def _read_duration(name: str, value: Any) -> float:
    try:
        return parse_duration(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _count(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"
