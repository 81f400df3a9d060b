"""Samples of hosts as an Airflow task: over SSH, or of the worker that the task runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_restrack.collect.inventory import parse_hosts, parse_labels
from airflow_provider_restrack.collect.patterns import parse_patterns
from airflow_provider_restrack.templates import is_literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_restrack.collect.fleet import Fleet, FleetResult, HostSession
    from airflow_provider_restrack.collect.frames import AgentRun
    from airflow_provider_restrack.collect.inventory import Target
    from airflow_provider_restrack.collect.rates import CounterStore, Rates
    from airflow_provider_restrack.collect.ssh import SshPolicy
    from airflow_provider_restrack.collect.tiers import Collector

_COUNTERS_KEY = "restrack_counters"
_RATES = ("window", "since_last_run")
_COLLECTORS = ("auto", "psutil", "procfs", "sh")
_MAX_NAMED_HOSTS = 20
# Far below what a poll of the system and the agent's own limit can count to.
_MAX_SECONDS = 86_400


class TooManyFailedHostsError(RuntimeError):
    """More hosts gave no sample than ``max_failed_fraction`` allows."""


class RemoteMetricsOperator(BaseOperator):
    """Take samples of hosts over SSH, or of the machine that the task runs on, and return them as a list of
    dicts.

    Each sample has every field of the metrics reference except ``day``; what is unknown is null. A host that
    cannot be sampled has a row too, with ``up`` false, an ``outcome`` and an ``error`` that says what to do.
    Nothing is installed on a host: the agent is sent to the host's own Python (3.6 or newer), or to its
    shell where there is none, and leaves nothing.

    .. note::
        Every host that is being asked takes a thread and a connection of the worker: split fleets of many
        hundreds into chunks with ``.expand(hosts=chunks)``. An sshd that all logins pass through, such as a
        bastion, drops what exceeds its ``MaxStartups`` (10 at once): lower ``concurrency`` then.

    :param hosts: None for the machine that the task runs on (a Celery worker collects itself by ``queue``);
        else a list of names, ``user@host:port``, ``[v6]:port``, or dicts with ``host`` and optionally
        ``address``, ``port``, ``username``, ``labels``, ``ssh_conn_id``; also as JSON or comma-separated
        text. (templated)
    :param ssh_conn_id: the SSH connection of hosts that name none of their own. (templated)
    :param window: seconds that CPU shares and rates are averaged over.
    :param samples: samples of each host, taken over one connection.
    :param interval: seconds from the start of a host's sample to that of its next. One that would start while
        the one before it still runs is skipped, and the log says so.
    :param concurrency: hosts asked at the same time.
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
    """

    template_fields: Sequence[str] = ("hosts", "ssh_conn_id", "labels", "python")
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
        connect_timeout: float = 10.0,
        host_timeout: float = 30.0,
        max_failed_fraction: float = 1.0,
        labels: Any = None,
        python: str | None = None,
        collector: Collector = "auto",
        include: Any = None,
        exclude: Any = None,
        rates: Rates = "window",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hosts = hosts
        self.ssh_conn_id = ssh_conn_id
        self.window = window
        self.samples = samples
        self.interval = interval
        self.concurrency = concurrency
        self.connect_timeout = connect_timeout
        self.host_timeout = host_timeout
        self.max_failed_fraction = max_failed_fraction
        self.labels = labels
        self.python = python
        self.collector = collector
        self.include = include
        self.exclude = exclude
        self.rates = rates
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
        if hosts is not None and is_literal(hosts):
            parse_hosts(hosts)

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Take the samples.

        :raises ValueError: if the hosts, labels or a connection cannot be read.
        :raises TooManyFailedHostsError: if more hosts failed than allowed; the samples are pushed before.
        """
        from airflow_provider_restrack.collect.fleet import Fleet
        from airflow_provider_restrack.collect.rates import count_sessions
        from airflow_provider_restrack.collect.schedule import SchedulePolicy

        targets, open_session = self._prepare_local() if self._is_local else self._prepare_remote()
        policy = SchedulePolicy(self.samples, self.interval, self.concurrency, self.host_timeout)
        store = self._pull_counters(context) if self.rates == "since_last_run" else None
        if store is not None:
            open_session = count_sessions(open_session, store)
        self._fleet = Fleet(targets, policy, open_session)
        if self._killed:
            self._fleet.stop()
        try:
            result = self._fleet.run()
        finally:
            self._fleet = None
        self._refuse_failures(result, context)
        if store is not None and context.get("ti") is not None:
            context["ti"].xcom_push(key=_COUNTERS_KEY, value=store.dump(target.host for target in targets))
        return result.samples

    def on_kill(self) -> None:
        """End all connections at once."""
        self._killed = True
        if self._fleet is not None:
            self._fleet.stop()

    def _prepare_local(self) -> tuple[Sequence[Target], Callable[[Target], HostSession]]:
        from airflow_provider_restrack.collect.local import LocalSession, local_target

        run = self._build_run()
        return (local_target(parse_labels(self.labels, "labels")),), lambda _: LocalSession(run)

    def _prepare_remote(self) -> tuple[Sequence[Target], Callable[[Target], HostSession]]:
        from airflow_provider_restrack.collect.ssh import SshSession

        if self.hosts is None:
            raise ValueError("hosts was rendered to None: the upstream task or parameter gave no hosts")
        _check_python(self.python)
        targets = parse_hosts(self.hosts, labels=parse_labels(self.labels, "labels"))
        policies = self._read_policies(targets)
        run = self._build_run()

        def open_session(target: Target) -> HostSession:
            policy = policies[target.ssh_conn_id or self.ssh_conn_id]
            return SshSession(target, policy, run, self.connect_timeout)

        return targets, open_session

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

    def _build_run(self) -> AgentRun:
        from airflow_provider_restrack.collect.frames import AgentRun, read_agent_source

        patterns = parse_patterns(self.include, self.exclude)
        by_run = self.rates == "since_last_run"
        window = 0.0 if by_run else self.window
        return AgentRun(read_agent_source(), window, self.python, self.collector, patterns, counters=by_run)

    def _refuse_failures(self, result: FleetResult, context: Context) -> None:
        # Not at the top: it comes with the models of the database, which cost a parse 200 ms.
        from airflow.providers.common.compat.sdk import XCOM_RETURN_KEY

        from airflow_provider_restrack.collect.schedule import exceeds_failed_fraction

        failed = result.failed_hosts
        if not exceeds_failed_fraction(failed, result.hosts, self.max_failed_fraction):
            return
        ti = context.get("ti")
        if ti is not None and self.do_xcom_push:
            # The return value of a task that fails is lost, and with it the samples of the hosts that are up.
            ti.xcom_push(key=XCOM_RETURN_KEY, value=result.samples)
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
        for name in ("samples", "concurrency"):
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


def _check_python(python: Any) -> None:
    if python is None:
        return
    if not isinstance(python, str) or not python.strip() or not python.isprintable() or python[0] == "-":
        raise ValueError(f"python is {python!r}: give the interpreter's name or path on the hosts, as text")
