"""Forecasts what will be full and when, from the daily rollups in Cassandra."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_restrack import clock
from airflow_provider_restrack.capacity.policy import ForecastPolicy, parse_metrics
from airflow_provider_restrack.notify import describe_error, notify
from airflow_provider_restrack.store.schema import KEYSPACE, check_identifier
from airflow_provider_restrack.templates import is_literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow.providers.common.compat.sdk import BaseNotifier, Context

    from airflow_provider_restrack.capacity.forecast import DailyReader, Forecast

MAX_LISTED = 100
MAX_LOGGED = 20


class ForecastOperator(BaseOperator):
    """Forecast when series meet their limits, keep that in the table ``forecasts``, and tell what is near.

    It reads the daily rollups of the complete days before the end of the run's data interval, so that a
    retry, a backfill or a cleared run says the same, and writes the newest forecast of every series. A
    date is given only where the slope's interval lies above zero; otherwise the verdict says why there is
    none. It needs the extra ``capacity`` (numpy) on the worker.

    :param metrics: what to forecast: a list of names, or ``{name: {"limit": 90, "aggregate": "p95"}}``
        with the limit in the metric's unit and the daily ``max``, ``p95``, ``last``, ``avg`` or ``min``.
        Left out: the filesystems' and inodes' daily maximum and the memory's daily p95, against 100 %.
        (templated)
    :param hosts: the hosts to look at, in the forms of ``RemoteMetricsOperator``; None or an
        empty text: all that have a newest sample in ``latest_metrics``. (templated)
    :param within_days: what is listed and told: a limit that is likely met within so many days.
    :param notifiers: notifiers that are called when something is listed, with ``forecasts`` (a list of
        dicts, the most urgent first) and ``forecast_text`` (a line for each) in the context of their
        templates.
    :param history_days: days of history that are read.
    :param confidence: of the slope's interval.
    :param keyspace: of the tables. (templated)
    :param cassandra_conn_id: id of a ``cassandra`` connection. (templated)
    """

    template_fields: Sequence[str] = ("metrics", "hosts", "keyspace", "cassandra_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"metrics": "json", "hosts": "json"}
    ui_color = "#f5ead6"

    def __init__(
        self,
        *,
        metrics: Any = None,
        hosts: Any = None,
        within_days: float = 30.0,
        notifiers: Sequence[BaseNotifier] = (),
        history_days: int = 90,
        confidence: float = 0.99,
        keyspace: str = KEYSPACE,
        cassandra_conn_id: str = "cassandra_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        ForecastPolicy(history_days=history_days, confidence=confidence)
        if within_days <= 0:
            raise ValueError(f"within_days must be more than 0, it is {within_days}")
        if is_literal(metrics):
            parse_metrics(metrics)
        if is_literal(keyspace):
            check_identifier(keyspace, "keyspace")
        self.metrics = metrics
        self.hosts = hosts
        self.within_days = within_days
        self.notifiers = notifiers
        self.history_days = history_days
        self.confidence = confidence
        self.keyspace = keyspace
        self.cassandra_conn_id = cassandra_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Forecast, write and notify; return the counts and the ranked list."""
        from airflow_provider_restrack.capacity.forecast import rank
        from airflow_provider_restrack.store.forecasts import write_forecasts

        as_of = find_as_of(context)
        with self._open() as (session, reader):
            forecasts = list(self._forecast(reader, as_of))
            rows = (asdict(forecast) for forecast in forecasts)
            written = write_forecasts(session, self.keyspace, rows, clock.utc_now())
        ranked = [one for one in rank(forecasts) if (one.days_likely or 0.0) <= self.within_days]
        result = {
            "as_of": clock.format_utc(as_of),
            "written": written,
            "verdicts": dict(Counter(one.verdict for one in forecasts)),
            "near": len(ranked),
            "forecasts": [one.to_data() for one in ranked[:MAX_LISTED]],
        }
        self._log(result, ranked)
        if ranked:
            self._notify(context, ranked)
        return result

    def _forecast(self, reader: DailyReader, as_of: datetime) -> Iterator[Forecast]:
        from airflow_provider_restrack.capacity.forecast import forecast_series
        from airflow_provider_restrack.collect.inventory import parse_host_names

        metrics = parse_metrics(self.metrics)
        hosts = None if self.hosts in (None, "") else parse_host_names(self.hosts)
        policy = ForecastPolicy(history_days=self.history_days, confidence=self.confidence)
        until = as_of.date() - timedelta(days=1)
        since = as_of.date() - timedelta(days=self.history_days)
        for key, rows in reader.read_daily(hosts, list(metrics), since, until):
            yield forecast_series(key, rows, as_of, metrics[key.metric], policy)

    @contextmanager
    def _open(self) -> Iterator[tuple[Any, DailyReader]]:
        """Open a session and what is read through it. A seam for tests."""
        from airflow_provider_restrack.capacity.daily import StoreDailyReader
        from airflow_provider_restrack.hooks.cassandra import CassandraSessionHook

        with CassandraSessionHook(self.cassandra_conn_id).session() as session:
            yield session, StoreDailyReader(session, self.keyspace)

    def _log(self, result: dict[str, Any], ranked: Sequence[Forecast]) -> None:
        from airflow_provider_restrack.capacity.forecast import describe

        counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(result["verdicts"].items()))
        self.log.info("Forecasts as of %s: %s", result["as_of"], counts or "no series was found")
        for forecast in ranked[:MAX_LOGGED]:
            self.log.warning("%s", describe(forecast))
        if len(ranked) > MAX_LOGGED:
            self.log.warning("… and %d more within %g days", len(ranked) - MAX_LOGGED, self.within_days)

    def _notify(self, context: Context, ranked: Sequence[Forecast]) -> None:
        """Call every notifier, also after one that fails.

        :raises RuntimeError: if one failed; the forecasts are written by then.
        """
        from airflow_provider_restrack.capacity.forecast import describe

        listed = ranked[:MAX_LISTED]
        extra = {
            "forecasts": [one.to_data() for one in listed],
            "forecast_text": "\n".join(describe(one) for one in listed),
        }
        told: Any = {**context, **extra}
        failed = []
        for notifier in self.notifiers:
            try:
                notify(notifier, told)
            except Exception as error:
                self.log.exception("Notifier %s failed", type(notifier).__name__)
                failed.append(f"{type(notifier).__name__}: {describe_error(error)}")
        if failed:
            raise RuntimeError(f"The forecasts are written, but not told to all: {'; '.join(failed)}")


def find_as_of(context: Any) -> datetime:
    """Return the end of the run's data interval, or where a run has none, now."""
    moment = context.get("data_interval_end") or clock.utc_now()
    return datetime.fromtimestamp(int(moment.timestamp()), tz=UTC)
