"""Samples of hosts as an Airflow task: over SSH, or of the worker that the task runs on."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_restrack.collect.inventory import is_file, parse_hosts, parse_labels
from airflow_provider_restrack.collect.patterns import parse_patterns
from airflow_provider_restrack.templates import is_literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_restrack.collect.fleet import Fleet, FleetResult, HostSession, Progress
    from airflow_provider_restrack.collect.frames import AgentRun
    from airflow_provider_restrack.collect.inventory import Target
    from airflow_provider_restrack.collect.rates import CounterStore, Rates
    from airflow_provider_restrack.collect.ssh import SshPolicy
    from airflow_provider_restrack.collect.tiers import Collector
    from airflow_provider_restrack.load.published import PublishedPolicy

_COUNTERS_KEY = "restrack_counters"
_RATES = ("window", "since_last_run")
_COLLECTORS = ("auto", "psutil", "procfs", "sh")
_MAX_NAMED_HOSTS = 20
# Far below what a poll of the system and the agent's own limit can count to.
_MAX_SECONDS = 86_400
# What an XCom in Airflow's database should hold at most: it is read, written and shown as one value.
_XCOM_BYTES = 1_048_576
# Clocks of scheduler, worker and brokers differ, and a record is looked for by its time.
_CLOCKS_APART = timedelta(minutes=10)
_PUBLISH_TIMEOUT_S = 60.0


class TooManyFailedHostsError(RuntimeError):
    """More hosts gave no sample than ``max_failed_fraction`` allows."""


class _Plan(NamedTuple):
    """Whom to ask, how, and which of them are behind which bastion."""

    targets: Sequence[Target]
    open_session: Callable[[Target], HostSession]
    bastions: Mapping[str, str]


class RemoteMetricsOperator(BaseOperator):
    """Take samples of hosts over SSH, or of the machine that the task runs on, and return them as a list of
    dicts, or publish each to a Kafka topic as it arrives.

    Each sample has every field of the metrics reference except ``day``; what is unknown is null. A host that
    cannot be sampled has a row too, with ``up`` false, an ``outcome`` and an ``error`` that says what to do.
    Nothing is installed on a host: the agent is sent to the host's own Python (3.6 or newer), or to its
    shell where there is none, and leaves nothing.

    .. note::
        A list of some hundred samples is all that XCom in Airflow's database should hold: above 1 MiB the
        log warns. Name a ``topic`` for larger fleets, or split them with
        ``.expand(hosts=chunk_hosts(hosts, 250))``.

    :param hosts: None for the machine that the task runs on (a Celery worker collects itself by ``queue``);
        else a list of names, ``user@host:port``, ``[v6]:port``, or dicts with ``host`` and optionally
        ``address``, ``port``, ``username``, ``labels``, ``ssh_conn_id``; also as JSON or comma-separated
        text, or ``file:PATH`` on the worker, with such a list or an Ansible inventory. (templated)
    :param ssh_conn_id: the SSH connection of hosts that name none of their own. (templated)
    :param window: seconds that CPU shares and rates are averaged over.
    :param samples: samples of each host, taken over one connection.
    :param interval: seconds from the start of a host's sample to that of its next. One that would start while
        the one before it still runs is skipped, and the log says so.
    :param concurrency: hosts asked at the same time; each takes two threads and a connection of the worker.
    :param bastion_concurrency: hosts behind one ProxyJump or ProxyCommand of the worker's ``~/.ssh/config``
        that are asked at the same time: an sshd drops what exceeds its ``MaxStartups``, by default 10.
    :param connect_timeout: seconds for connecting and logging in to a host.
    :param host_timeout: seconds for one sample of a host in all.
    :param max_failed_fraction: the task fails if more than this share of the hosts has no sample that is
        ``up``; at 1, the default, hosts never fail it. The samples of a task that failed so are still in its
        XCom: a publish task with ``trigger_rule="all_done"`` gets them.
    :param labels: labels of every sample; a host's own labels win. (templated)
    :param python: the interpreter on the hosts: a name on the login's PATH, or a path, absolute or below the
        login's home. None looks for one under its usual names. The local machine is sampled with the
        worker's own. (templated)
    :param collector: what reads a host's figures: ``psutil`` or ``procfs`` with the host's Python, ``sh``
        with its shell; ``auto`` is the first of them that the host has.
    :param include: what is measured in the place of the default choice: a dict of ``mounts``, ``devices`` and
        ``interfaces`` to patterns, as a list. Totals still count no byte twice.
    :param exclude: what is left out, as a dict like that of ``include``.
    :param rates: ``window`` averages rates and CPU shares over ``window``; ``since_last_run`` over the time
        since the previous successful run of this task, and takes no window. Its counters are in the task's
        XCom ``restrack_counters``.
    :param topic: an existing topic to publish each sample to as it arrives, keyed by host; the task then
        returns a summary in place of the samples. A retry asks only the hosts that the tries before it have
        published no sample of that is ``up``. (templated)
    :param kafka_config_id: id of the ``kafka`` connection of ``topic``. (templated)
    """

    template_fields: Sequence[str] = (
        "hosts",
        "ssh_conn_id",
        "labels",
        "python",
        "topic",
        "kafka_config_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"hosts": "json", "labels": "json"}

    def __init__(
        self,
        *,
        hosts: Any = None,
        ssh_conn_id: str = "ssh_default",
        window: float = 1.0,
        samples: int = 1,
        interval: float = 10.0,
        concurrency: int = 32,
        bastion_concurrency: int = 8,
        connect_timeout: float = 10.0,
        host_timeout: float = 30.0,
        max_failed_fraction: float = 1.0,
        labels: Any = None,
        python: str | None = None,
        collector: Collector = "auto",
        include: Any = None,
        exclude: Any = None,
        rates: Rates = "window",
        topic: str | None = None,
        kafka_config_id: str = "kafka_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hosts = hosts
        self.ssh_conn_id = ssh_conn_id
        self.window = window
        self.samples = samples
        self.interval = interval
        self.concurrency = concurrency
        self.bastion_concurrency = bastion_concurrency
        self.connect_timeout = connect_timeout
        self.host_timeout = host_timeout
        self.max_failed_fraction = max_failed_fraction
        self.labels = labels
        self.python = python
        self.collector = collector
        self.include = include
        self.exclude = exclude
        self.rates = rates
        self.topic = topic
        self.kafka_config_id = kafka_config_id
        self._is_published = topic is not None
        # An upstream task that returns None gives no hosts; it does not ask for this machine.
        self._is_local = hosts is None
        self._fleet: Fleet | None = None
        self._killed = False
        self._check_numbers()
        parse_patterns(include, exclude)
        if rates not in _RATES:
            raise ValueError(f"rates is {rates!r}: give one of {', '.join(_RATES)}")
        if collector not in _COLLECTORS:
            raise ValueError(f"collector is {collector!r}: give one of {', '.join(_COLLECTORS)}")
        if is_literal(python):
            _check_python(python)
        if is_literal(labels):
            parse_labels(labels, "labels")
        if hosts is not None and is_literal(hosts) and not is_file(hosts):
            parse_hosts(hosts)

    def execute(self, context: Context) -> list[dict[str, Any]] | dict[str, Any]:
        """Take the samples, and return them or a summary.

        :raises ValueError: if the hosts, labels or a connection cannot be read.
        :raises TooManyFailedHostsError: if more hosts failed than allowed; the output is pushed before.
        """
        plan = self._prepare_local() if self._is_local else self._prepare_remote()
        store = self._pull_counters(context) if self.rates == "since_last_run" else None
        if store is not None:
            plan = _count_rates(plan, store)
        if self._is_published:
            result, output = self._publish(plan, context)
            self._refuse_failures(result, output, context)
            self._push_counters(plan, store, context)
            return output
        result = self._run(plan)
        self._warn_of_size(result)
        self._refuse_failures(result, result.samples, context)
        self._push_counters(plan, store, context)
        return result.samples

    def on_kill(self) -> None:
        """End all connections at once."""
        self._killed = True
        if self._fleet is not None:
            self._fleet.stop()

    def _run(self, plan: _Plan, **options: Any) -> FleetResult:
        from airflow_provider_restrack.collect.fleet import Fleet
        from airflow_provider_restrack.collect.schedule import SchedulePolicy

        policy = SchedulePolicy(
            self.samples, self.interval, self.concurrency, self.host_timeout, self.bastion_concurrency
        )
        tags = {"dag_id": self.dag_id, "task_id": self.task_id}
        self._fleet = Fleet(
            plan.targets,
            policy,
            plan.open_session,
            bastions=plan.bastions,
            report=lambda progress: _count_progress(progress, tags),
            **options,
        )
        if self._killed:
            self._fleet.stop()
        try:
            result = self._fleet.run()
        finally:
            self._fleet = None
        _count_outcomes(result, tags)
        return result

    def _publish(self, plan: _Plan, context: Context) -> tuple[FleetResult, dict[str, Any]]:
        from airflow_provider_restrack.hooks.kafka import KafkaClientHook
        from airflow_provider_restrack.load.publish import PublishPolicy
        from airflow_provider_restrack.load.published import RUN_HEADER, count_published
        from airflow_provider_restrack.load.stream import open_stream

        if not self.topic:
            raise ValueError(f"topic was rendered to {self.topic!r}: name the topic to publish to")
        config = KafkaClientHook(self.kafka_config_id).config()
        earlier = self._find_earlier(context)
        taken = count_published(earlier, config) if earlier is not None else {}
        if taken:
            self.log.info("%d hosts were published by an earlier try of this run", len(taken))
        policy = PublishPolicy(
            topic=self.topic,
            headers={RUN_HEADER: _name_run(context)},
            timeout_s=_PUBLISH_TIMEOUT_S,
            connection=self.kafka_config_id,
        )
        with open_stream(policy, config) as stream:
            result = self._run(plan, take=stream.send, taken=taken)
            delivered = stream.finish()
        self.log.info("Delivered %d samples to topic %s", delivered, self.topic)
        return result, _summarize(result, self.topic, delivered, sum(taken.values()))

    def _find_earlier(self, context: Context) -> PublishedPolicy | None:
        """Return what to look for of the tries before this one, if there was one."""
        from airflow_provider_restrack.load.published import PublishedPolicy

        ti, dag_run = context.get("ti"), context.get("dag_run")
        if ti is None or dag_run is None or ti.try_number < 2 or self.topic is None:
            return None
        # A run that is cleared after its end starts anew, and so does this.
        since = (dag_run.start_date or dag_run.run_after) - _CLOCKS_APART
        return PublishedPolicy(
            self.topic, _name_run(context), since, self.kafka_config_id, _PUBLISH_TIMEOUT_S
        )

    def _warn_of_size(self, result: FleetResult) -> None:
        size = sum(len(json.dumps(sample)) + 2 for sample in result.samples) if self.do_xcom_push else 0
        if size > _XCOM_BYTES:
            self.log.warning(
                "%d samples are %.1f MiB, more than the 1 MiB that XCom should hold: publish them as they"
                " arrive with topic=, or split hosts with .expand(hosts=chunk_hosts(hosts, 250))",
                len(result.samples),
                size / _XCOM_BYTES,
            )

    def _prepare_local(self) -> _Plan:
        from airflow_provider_restrack.collect.local import LocalSession, local_target

        run = self._build_run()
        targets = (local_target(parse_labels(self.labels, "labels")),)
        return _Plan(targets, lambda _: LocalSession(run), {})

    def _prepare_remote(self) -> _Plan:
        from airflow_provider_restrack.collect.ssh import SshSession

        if self.hosts is None:
            raise ValueError("hosts was rendered to None: the upstream task or parameter gave no hosts")
        _check_python(self.python)
        targets = parse_hosts(self.hosts, labels=parse_labels(self.labels, "labels"))
        policies = self._read_policies(targets)
        run = self._build_run()

        def policy_of(target: Target) -> SshPolicy:
            return policies[target.ssh_conn_id or self.ssh_conn_id]

        def open_session(target: Target) -> HostSession:
            return SshSession(target, policy_of(target), run, self.connect_timeout)

        found = {target.host: policy_of(target).options(target.address) for target in targets}
        bastions = {host: each.bastion for host, each in found.items() if each and each.bastion}
        return _Plan(targets, open_session, bastions)

    def _read_policies(self, targets: Sequence[Target]) -> Mapping[str, SshPolicy]:
        """Look up each connection once, however many hosts use it."""
        from airflow_provider_restrack.hooks.ssh_fleet import SSHFleetHook

        conn_ids = {target.ssh_conn_id or self.ssh_conn_id for target in targets}
        return {conn_id: SSHFleetHook(conn_id).policy() for conn_id in sorted(conn_ids)}

    def _pull_counters(self, context: Context) -> CounterStore:
        """Return the counters that the newest run before this one has left."""
        from airflow_provider_restrack.collect.rates import CounterStore

        ti = context.get("ti")
        if ti is None:
            return CounterStore()
        found = ti.xcom_pull(
            task_ids=self.task_id, key=_COUNTERS_KEY, include_prior_dates=True, map_indexes=ti.map_index
        )
        return CounterStore(found)

    def _push_counters(self, plan: _Plan, store: CounterStore | None, context: Context) -> None:
        if store is not None and context.get("ti") is not None:
            kept = store.dump(target.host for target in plan.targets)
            context["ti"].xcom_push(key=_COUNTERS_KEY, value=kept)

    def _build_run(self) -> AgentRun:
        from airflow_provider_restrack.collect.frames import AgentRun, read_agent_source

        patterns = parse_patterns(self.include, self.exclude)
        by_run = self.rates == "since_last_run"
        window = 0.0 if by_run else self.window
        return AgentRun(read_agent_source(), window, self.python, self.collector, patterns, counters=by_run)

    def _refuse_failures(self, result: FleetResult, output: Any, context: Context) -> None:
        # Not at the top: it comes with the models of the database, which cost a parse 200 ms.
        from airflow.providers.common.compat.sdk import XCOM_RETURN_KEY

        from airflow_provider_restrack.collect.schedule import exceeds_failed_fraction

        failed = result.failed_hosts
        if not exceeds_failed_fraction(failed, result.hosts, self.max_failed_fraction):
            return
        ti = context.get("ti")
        if ti is not None and self.do_xcom_push:
            # The return value of a task that fails is lost, and with it the samples of the hosts that are up.
            ti.xcom_push(key=XCOM_RETURN_KEY, value=output)
        names = ", ".join(failed[:_MAX_NAMED_HOSTS]) + (", …" if len(failed) > _MAX_NAMED_HOSTS else "")
        raise TooManyFailedHostsError(
            f"{len(failed)} of {result.hosts} hosts gave no sample, over max_failed_fraction"
            f" {self.max_failed_fraction:g}: {names}; the log and their rows say why"
        )

    def _check_numbers(self) -> None:
        for name in ("window", "interval", "connect_timeout", "host_timeout"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 < value <= _MAX_SECONDS:
                raise ValueError(f"{name} is {value!r}: give seconds above 0, at most {_MAX_SECONDS} (a day)")
        for name in ("samples", "concurrency", "bastion_concurrency"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}: give a whole number of at least 1")
        fraction: Any = self.max_failed_fraction
        if not isinstance(fraction, int | float) or not 0 <= fraction <= 1:
            raise ValueError(f"max_failed_fraction is {self.max_failed_fraction!r}: give a share from 0 to 1")
        if self.window >= self.host_timeout:
            raise ValueError(
                f"window ({self.window:g} s) must be below host_timeout ({self.host_timeout:g} s)"
            )
        if self.samples > 1 and self.window >= self.interval:
            raise ValueError(f"window ({self.window:g} s) has to be below interval ({self.interval:g})")


def _count_rates(plan: _Plan, store: CounterStore) -> _Plan:
    from airflow_provider_restrack.collect.rates import count_sessions

    return plan._replace(open_session=count_sessions(plan.open_session, store))


def _summarize(result: FleetResult, topic: str, delivered: int, earlier: int) -> dict[str, Any]:
    """Return what a task that publishes leaves in XCom, whatever the size of the fleet."""
    return {
        "topic": topic,
        "hosts": result.hosts,
        "delivered": delivered,
        "delivered_before": earlier,
        "outcomes": result.outcomes,
        "failed": len(result.failed_hosts),
        "failed_hosts": list(result.failed_hosts[:_MAX_NAMED_HOSTS]),
        "slowest": [{"host": host, "seconds": seconds} for host, seconds in result.slowest],
        "seconds": round(result.seconds, 3),
    }


def _name_run(context: Context) -> str:
    """Return the name that all tries of a task in one run share, and nothing else has."""
    ti = context.get("ti")
    return "" if ti is None else f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{ti.map_index}"


def _count_progress(progress: Progress, tags: dict[str, str]) -> None:
    from airflow.providers.common.compat.sdk import Stats

    for name in ("hosts", "done", "failed", "running"):
        Stats.gauge(f"restrack.collect.{name}", getattr(progress, name), tags=tags)


def _count_outcomes(result: FleetResult, tags: dict[str, str]) -> None:
    from airflow.providers.common.compat.sdk import Stats

    for outcome, count in result.outcomes.items():
        Stats.incr(f"restrack.collect.outcome.{outcome}", count, tags=tags)
    Stats.timing("restrack.collect.duration", result.seconds * 1000, tags=tags)


def _check_python(python: Any) -> None:
    if python is None:
        return
    if not isinstance(python, str) or not python.strip() or not python.isprintable() or python[0] == "-":
        raise ValueError(f"python is {python!r}: give the interpreter's name or path on the hosts, as text")
