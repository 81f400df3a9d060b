"""The page of a capacity report: one HTML file that needs nothing else, neither scripts nor the network."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from airflow_provider_restrack.capacity import plot, report
from airflow_provider_restrack.clock import format_utc

if TYPE_CHECKING:
    from airflow_provider_restrack.capacity.forecast import Forecast
    from airflow_provider_restrack.capacity.report import HourlyUse, Report

TEMPLATE = Path(__file__).with_name("page.html.j2")
MAX_LISTED = 100


def render_page(data: Report) -> str:
    """Return the report as an HTML page.

    It opens from a disk, an attachment or a server alike: pictures are SVG within it, and its Content
    Security Policy forbids anything that would have to be loaded.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "day": report.describe_day,
        "moment": _describe_moment,
        "percent": _describe_percent,
    }
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(_build_context(data))


def _build_context(data: Report) -> dict[str, Any]:
    resizes = report.list_resizes(data.advice)
    return {
        "report": data,
        "as_of": format_utc(data.as_of),
        "tiles": _build_tiles(data),
        "figures": [_build_figure(one) for one in data.outlooks],
        "rows": [_build_row(one, data) for one in data.ranked[:MAX_LISTED]],
        "unlisted": max(0, len(data.ranked) - MAX_LISTED),
        "hours": [f"{hour:02}" for hour in range(report.HOURS)],
        "heat": _build_heat(data.hourly),
        "unheated": max(0, len(data.hourly.hosts) - plot.MAX_ROWS),
        "users": [report.find_users(data.advice, resource, data.top) for resource in ("cpu", "memory")],
        "resources": {"cpu": "CPU", "memory": "memory"},
        "resizes": resizes[:MAX_LISTED],
        "resizes_unlisted": max(0, len(resizes) - MAX_LISTED),
        "undecided": sorted({one.host for one in data.advice if one.verdict == "insufficient data"}),
        "describe_change": report.describe_change,
        "describe_size": report.describe_size,
    }


def _build_tiles(data: Report) -> list[tuple[str, str, str]]:
    """Return what the report says in four numbers: number, what it counts, and where it stands."""
    over = sum(one.verdict == "already over" for one in data.near)
    cpus = report.describe_size("CPUs", report.sum_spare(data.advice, "cpu"))
    memory = report.describe_size("bytes", report.sum_spare(data.advice, "memory"))
    return [
        (
            str(len(data.near)),
            f"full within {data.within_days:g} days" + (f", {over} of them now" if over else ""),
            "filling",
        ),
        (f"{cpus} + {memory}", "bought and not used", "users"),
        (str(sum(one.verdict == "too small" for one in data.advice)), "sizes too small", "users"),
        (str(len(data.silent)), f"of {data.hosts} hosts without data", "silent"),
    ]


def _build_figure(outlook: report.Outlook) -> dict[str, Any]:
    forecast = outlook.forecast
    where = f"{forecast.host} {forecast.device}" if forecast.device else forecast.host
    when = report.describe_outlook(forecast)
    now = report.describe_value(outlook.unit, forecast.current)
    label = (
        f"{forecast.metric} of {where}: {now} now, "
        f"limit {report.describe_value(outlook.unit, forecast.limit)} {when}"
    )
    drawn = Markup(plot.forecast_svg(outlook, label))  # noqa: S704 - made by us, its texts escaped
    return {"where": where, "metric": forecast.metric, "when": when, "now": now, "svg": drawn}


def _build_row(forecast: Forecast, data: Report) -> dict[str, Any]:
    unit = report.unit_of(forecast.metric)
    slope = forecast.slope
    return {
        "forecast": forecast,
        "now": report.describe_value(unit, forecast.current),
        "limit": report.describe_value(unit, forecast.limit),
        "slope": "–"
        if slope is None
        else f"{slope:+.2f}"
        if unit != "bytes"
        else f"{slope / 2**30:+.2f} GiB",
        "near": forecast in data.near,
        "early": report.describe_day(report.full_day(forecast, forecast.days_early)),
        "likely": "now"
        if forecast.verdict == "already over"
        else report.describe_day(report.full_day(forecast, forecast.days_likely)),
        "late": report.describe_day(report.full_day(forecast, forecast.days_late)),
        "past": "–" if forecast.backtest_7d is None else f"{forecast.backtest_7d:+.1f}",
    }


def _build_heat(hourly: HourlyUse) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Return of each host the cells: text, colour and the text's colour."""
    return [
        (host, [_build_cell(float(value)) for value in values])
        for host, values in list(zip(hourly.hosts, hourly.usage, strict=True))[: plot.MAX_ROWS]
    ]


def _build_cell(value: float) -> tuple[str, str, str]:
    if math.isnan(value):
        return "–", "#ffffff", plot.GREY
    return f"{value:.0f}", plot.cell_colour(value), plot.text_colour(value)


def _describe_moment(moment: Any) -> str:
    return "never" if moment is None else f"{report.describe_day(moment)}, {moment:%H:%M} UTC"


def _describe_percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} %"
