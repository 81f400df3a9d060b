"""Writes the capacity report of a fleet: a page and pictures, from forecasts and rollups in Cassandra."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator, BaseOperatorLink

from airflow_provider_restrack import clock
from airflow_provider_restrack.capacity.policy import ReportPolicy, parse_metrics
from airflow_provider_restrack.capacity.rightsize import SizePolicy
from airflow_provider_restrack.operators.forecast import find_as_of
from airflow_provider_restrack.store.schema import KEYSPACE, check_identifier
from airflow_provider_restrack.templates import is_literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_restrack.capacity.report import Report

PAGE = "capacity.html"
MAX_LISTED = 100


class CapacityReportLink(BaseOperatorLink):
    """The button of the task that leads to the page. Airflow keeps it in XCom when the task has ended."""

    name = "Capacity report"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ARG002 - Airflow's form
        """Return where the page of this run is; empty if none was written."""
        return getattr(operator, "url", "")


class CapacityReportOperator(BaseOperator):
    """Write what will be full and when, when CPUs work, who uses most and least, and who gives no data.

    The page is one HTML file that needs nothing else: it opens from a disk or an attachment, prints, and
    fits a phone. Beside it stand pictures (PNG). It tells of the complete days before the end of the run's
    data interval; the forecasts are those that ``ForecastOperator`` wrote last, so run it after that. Needs
    the extra ``capacity``.

    :param path: folder for the files, made if it is missing; files there are replaced. Put a date in to keep
        every report: ``/srv/reports/{{ dag_run.run_after | ds }}``. (templated)
    :param url_prefix: address at which a web server serves that folder: the task's link leads there. Left
        out, the link is the file's own address (``file://``), which browsers open only when it is pasted.
        (templated)
    :param title: heading of the page. (templated)
    :param metrics: metrics whose forecasts are told, as ``ForecastOperator`` takes them. (templated)
    :param hosts: the hosts to tell of, in the forms of ``RemoteMetricsOperator``; None: all that have a
        newest sample. (templated)
    :param within_days: a limit that is likely met within so many days is marked and counted as near.
    :param plots: forecasts that are drawn, the most urgent first.
    :param top: hosts at either end of the lists of users.
    :param hourly_days: days of the heat map of CPU by hour.
    :param size: when a size does not fit: ``low``, ``high``, ``target`` (in %), ``days`` and
        ``min_coverage`` of right-sizing, where they differ from its defaults.
    :param keyspace: of the tables. (templated)
    :param cassandra_conn_id: id of a ``cassandra`` connection. (templated)
    """

    template_fields: Sequence[str] = (
        "path",
        "url_prefix",
        "title",
        "metrics",
        "hosts",
        "keyspace",
        "cassandra_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"metrics": "json", "hosts": "json"}
    operator_extra_links = (CapacityReportLink(),)
    ui_color = "#f5ead6"

    def __init__(
        self,
        *,
        path: str,
        url_prefix: str | None = None,
        title: str = "Capacity report",
        metrics: Any = None,
        hosts: Any = None,
        within_days: float = 30.0,
        plots: int = 12,
        top: int = 10,
        hourly_days: int = 7,
        size: Mapping[str, Any] | None = None,
        keyspace: str = KEYSPACE,
        cassandra_conn_id: str = "cassandra_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.url_prefix = url_prefix
        self.title = title
        self.metrics = metrics
        self.hosts = hosts
        self.within_days = within_days
        self.plots = plots
        self.top = top
        self.hourly_days = hourly_days
        self.size = size
        self.keyspace = keyspace
        self.cassandra_conn_id = cassandra_conn_id
        self.url = ""
        if is_literal([metrics, keyspace]):
            self._policy()

    def execute(self, context: Context) -> dict[str, Any]:
        """Read, draw and write; return the paths and what the report says in short.

        :raises CassandraError: if a table is missing or Cassandra does not answer.
        :raises OSError: if the folder cannot be written.
        """
        from airflow_provider_restrack.capacity.page import render_page
        from airflow_provider_restrack.capacity.plot import forecasts_png, hourly_png, users_png

        policy = self._policy()
        report = self._gather(policy, find_as_of(context))
        files = {
            PAGE: render_page(report).encode(),
            "capacity_forecasts.png": forecasts_png(report.outlooks, report.as_of),
            "capacity_cpu_by_hour.png": hourly_png(report.hourly),
            "capacity_users.png": users_png(report.advice, policy.size, report.top),
        }
        folder = Path(self.path).expanduser().absolute()
        written = [write_whole(folder / name, content) for name, content in files.items()]
        self.url = find_url(written[0], self.url_prefix)
        result = {**summarize(report), "files": [str(path) for path in written], "url": self.url}
        self.log.info(
            "Report of %d hosts: %d near their limit, %d sizes to change, %d without data; %s",
            result["hosts"], result["near"], len(result["resizes"]), len(result["silent"]), self.url,
        )  # fmt: skip
        return result

    def _gather(self, policy: ReportPolicy, as_of: datetime) -> Report:
        """Read the report. A seam for tests."""
        from airflow_provider_restrack.capacity.gather import gather_report
        from airflow_provider_restrack.collect.inventory import parse_host_names
        from airflow_provider_restrack.hooks.cassandra import CassandraSessionHook

        hosts = None if self.hosts in (None, "") else parse_host_names(self.hosts)
        with CassandraSessionHook(self.cassandra_conn_id).session() as session:
            return gather_report(session, policy, hosts, as_of, clock.utc_now())

    def _policy(self) -> ReportPolicy:
        """Return the arguments, checked.

        :raises ValueError: naming the one that makes no sense.
        """
        try:
            size = SizePolicy(**dict(self.size or {}))
        except TypeError as error:
            raise ValueError(f"size: {error}") from error
        return ReportPolicy(
            keyspace=check_identifier(self.keyspace, "keyspace"),
            metrics=parse_metrics(self.metrics),
            title=self.title,
            within_days=self.within_days,
            plots=self.plots,
            top=self.top,
            hourly_days=self.hourly_days,
            size=size,
        )


def summarize(report: Report) -> dict[str, Any]:
    """Return what a report says in short, for XCom."""
    from airflow_provider_restrack.capacity.report import list_resizes

    return {
        "as_of": clock.format_utc(report.as_of),
        "hosts": report.hosts,
        "verdicts": dict(report.verdicts),
        "near": len(report.near),
        "forecasts": [one.to_data() for one in report.near[:MAX_LISTED]],
        "resizes": [one.to_data() for one in list_resizes(report.advice)[:MAX_LISTED]],
        "silent": [one.host for one in report.silent[:MAX_LISTED]],
    }


def find_url(page: Path, url_prefix: str | None) -> str:
    """Return the address of the page: below the prefix if there is one, else the file's own."""
    return f"{url_prefix.rstrip('/')}/{page.name}" if url_prefix else page.as_uri()


def write_whole(path: Path, content: bytes) -> Path:
    """Write a file so that whoever looks sees the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    return partial.replace(path)
