"""Keeps the tables of rollups up to date: a thin class over ``capacity.refresh``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseOperator

from airflow_provider_restrack.store.schema import KEYSPACE, check_identifier
from airflow_provider_restrack.store.tiers import TIER_BY_NAME
from airflow_provider_restrack.templates import is_literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from airflow_provider_restrack.capacity.refresh import RollupPolicy, RollupResult


class RollupOperator(BaseOperator):
    """Roll samples up into ``system_metrics_5m``, ``_1h`` and ``_1d``, for the run's data interval.

    Every bucket is made anew from all of its samples and written whole, so that retries, backfills, cleared
    and late runs, in any order, leave the same rows. A run writes the buckets that have ended in its interval
    and are final by now, and those of ``lookback`` before it once more: samples that came late are in them
    then. Buckets whose samples have begun to expire when a host is read are left as they are, counted and
    logged; a run that has only such is skipped.

    Needs the extra ``capacity`` (numpy).

    :param hosts: the hosts, in the forms of ``RemoteMetricsOperator``, such as one chunk of a mapped task;
        all that have a newest sample if left out.
    :param keyspace: keyspace of the tables.
    :param tiers: which tiers to write, of ``5m``, ``1h`` and ``1d``.
    :param lookback: how far before the interval buckets are done again, in seconds or as ``"3h"``: at
        least the time between two runs, ``delay`` and an hour. ``"48h"`` once a day reconciles what came
        late.
    :param delay: how long after its end a bucket is final.
    :param raw_ttl: how long samples live; the table's ``default_time_to_live`` if left out. Give it if the
        loader writes another ``ttl``; 0 if they do not expire.
    :param workers: hosts that are read and written at once.
    :param cassandra_conn_id: Airflow connection of Cassandra.
    """

    template_fields: Sequence[str] = (
        "hosts",
        "keyspace",
        "tiers",
        "lookback",
        "delay",
        "raw_ttl",
        "cassandra_conn_id",
    )
    ui_color = "#e6eef2"

    def __init__(
        self,
        *,
        hosts: Sequence[str] | str | None = None,
        keyspace: str = KEYSPACE,
        tiers: Sequence[str] | str = ("5m", "1h", "1d"),
        lookback: float | str | timedelta = "3h",
        delay: float | str | timedelta = "5m",
        raw_ttl: float | str | timedelta | None = None,
        workers: int = 4,
        cassandra_conn_id: str = "cassandra_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if workers < 1:
            raise ValueError(f"workers must be 1 or more, it is {workers}")
        if is_literal(keyspace):
            check_identifier(keyspace, "keyspace")
        if is_literal(tiers):
            parse_tiers(tiers)
        for name, value in (("lookback", lookback), ("delay", delay), ("raw_ttl", raw_ttl)):
            if is_literal(value) and value is not None:
                _seconds(name, value)
        self.hosts = hosts
        self.keyspace = keyspace
        self.tiers = tiers
        self.lookback = lookback
        self.delay = delay
        self.raw_ttl = raw_ttl
        self.workers = workers
        self.cassandra_conn_id = cassandra_conn_id

    def execute(self, context: Any) -> dict[str, Any]:
        """Write the rollups of the data interval, and return the counts of ``RollupResult``.

        :raises AirflowSkipException: if the samples of all its buckets have begun to expire.
        """
        from airflow_provider_restrack import clock
        from airflow_provider_restrack.capacity.refresh import refresh
        from airflow_provider_restrack.collect.inventory import parse_host_names
        from airflow_provider_restrack.hooks.cassandra import CassandraSessionHook
        from airflow_provider_restrack.store.read import read_hosts
        from airflow_provider_restrack.telemetry import count_rollup, task_tags

        policy = self._policy()
        since, until = find_interval(context, clock.utc_now())
        with CassandraSessionHook(self.cassandra_conn_id).session() as session:
            if self.hosts in (None, ""):
                hosts = read_hosts(session, policy.keyspace)
            else:
                hosts = parse_host_names(self.hosts)
            result = refresh(session, policy, hosts, since, until)
        count_rollup(result, task_tags(context, self.task_id))
        self._report(result)
        return result.as_dict()

    def _report(self, result: RollupResult) -> None:
        """Log what was done and what was left out.

        :raises AirflowSkipException: if nothing could be done because the samples expire.
        """
        self.log.info(
            "%d samples of %d hosts in %.1f s; buckets written: %s; spans: %s",
            result.samples, result.hosts, result.seconds, result.buckets, result.spans,
        )  # fmt: skip
        left_out = {tier: count for tier, count in result.expired.items() if count}
        if not left_out:
            return
        text = (
            f"Buckets of a host left as they are, because their samples have begun to expire: {left_out}. "
            "Roll up sooner, or let samples live longer (ttl)."
        )
        if all(since == until for since, until in result.spans.values()):
            raise AirflowSkipException(text)
        self.log.warning(text)

    def _policy(self) -> RollupPolicy:
        from airflow_provider_restrack.capacity.refresh import RollupPolicy

        return RollupPolicy(
            keyspace=check_identifier(self.keyspace, "keyspace"),
            tiers=tuple(TIER_BY_NAME[name] for name in parse_tiers(self.tiers)),
            lookback_s=_seconds("lookback", self.lookback),
            delay_s=_seconds("delay", self.delay),
            raw_ttl_s=None if self.raw_ttl in (None, "") else _seconds("raw_ttl", self.raw_ttl),
            workers=self.workers,
        )


def find_interval(context: Any, now: datetime) -> tuple[datetime, datetime]:
    """Return the run's data interval; a run that has none, such as one by hand, ends now."""
    since, until = context.get("data_interval_start"), context.get("data_interval_end")
    if since is None or until is None or since == until:
        moment = until or now
        return moment, moment
    return since, until


def parse_tiers(value: Sequence[str] | str) -> tuple[str, ...]:
    """Return names of tiers.

    :raises ValueError: if one is unknown or there is none.
    """
    found = _parse_json(value) if isinstance(value, str) else value
    names = (found,) if isinstance(found, str) else tuple(found)
    if not names or any(name not in TIER_BY_NAME for name in names):
        raise ValueError(f"tiers must be of {', '.join(TIER_BY_NAME)}, it is {value!r}")
    return names


def _parse_json(text: str) -> Any:
    import json

    if not text.strip().startswith(("[", '"')):
        return text.strip()
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"no valid JSON: {text!r}") from error


def _seconds(name: str, value: Any) -> float:
    from airflow_provider_restrack.alert.durations import parse_duration

    try:
        return parse_duration(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
