"""Makes the pictures of a capacity report that the README shows, from generated history.

``python -m docs.report_pictures`` writes them to ``docs/images``: the same bytes each time, with one release
of matplotlib. ``--page PATH`` writes the whole page too. No server is needed: samples are rolled up in
memory.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_restrack.capacity.forecast import (
    DailyRow,
    Forecast,
    SeriesKey,
    forecast_series,
    rank,
)
from airflow_provider_restrack.capacity.gather import read_outlooks
from airflow_provider_restrack.capacity.plot import forecasts_png, hourly_png, users_png
from airflow_provider_restrack.capacity.policy import ReportPolicy
from airflow_provider_restrack.capacity.report import HOURS, HourlyUse, Report, find_silent
from airflow_provider_restrack.capacity.rightsize import size_hosts
from airflow_provider_restrack.capacity.rollup import roll_up
from airflow_provider_restrack.store.tiers import DAY_S
from demo.history import make_samples

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

IMAGES = Path(__file__).with_name("images")
AS_OF = datetime(2026, 11, 24, tzinfo=UTC)
POLICY = ReportPolicy("generated", plots=6)


class GeneratedHistory:
    """A ``DailyReader`` of samples in memory."""

    def __init__(self, samples: Iterable[dict[str, Any]]) -> None:
        self._times: dict[str, list[int]] = {}
        self._values: dict[str, list[dict[tuple[str, str | None], float]]] = {}
        self.newest: dict[str, dict[str, Any]] = {}
        for sample in samples:
            moment = datetime.fromisoformat(sample["timestamp"])
            self._times.setdefault(sample["host"], []).append(int(moment.timestamp() * 1000))
            self._values.setdefault(sample["host"], []).append(dict(_flatten(sample)))
            self.newest[sample["host"]] = {**sample, "timestamp": moment}

    def read_daily(
        self, hosts: Sequence[str] | None, metrics: Sequence[str], since: date, until: date
    ) -> Iterator[tuple[SeriesKey, list[DailyRow]]]:
        """Yield every series of the hosts, rolled up by day."""
        for host in sorted(self._times) if hosts is None else hosts:
            keys = sorted(
                {key for one in self._values.get(host, ()) for key in one if key[0] in metrics}, key=str
            )
            if keys:
                yield from self._roll_up(host, keys, since, until)

    def _roll_up(
        self, host: str, keys: Sequence[tuple[str, str | None]], since: date, until: date
    ) -> Iterator[tuple[SeriesKey, list[DailyRow]]]:
        made = roll_up(*self._columns(host, keys), DAY_S)
        days = [datetime.fromtimestamp(int(start), tz=UTC).date() for start in made.starts]
        parts = (made.count, made.min, made.max, made.sum, made.last, made.p95)
        for number, (metric, device) in enumerate(keys):
            rows = [
                DailyRow(day, int(parts[0][number][n]), *(float(part[number][n]) for part in parts[1:]))
                for n, day in enumerate(days)
                if since <= day <= until
            ]
            yield SeriesKey(host, metric, device), rows

    def hourly(self, since: date, until: date) -> HourlyUse:
        """Return CPU use by hour of the days from ``since`` to ``until``, the busiest host first."""
        usage: dict[str, NDArray[np.float64]] = {}
        for host in self._times:
            made = roll_up(*self._columns(host, [("cpu_usage", None)]), 3600)
            days = [datetime.fromtimestamp(int(start), tz=UTC).date() for start in made.starts]
            inside = np.array([since <= day <= until for day in days])
            hours, means = (made.starts // 3600) % HOURS, made.sum[0] / made.count[0]
            if inside.any():
                usage[host] = np.array([means[inside & (hours == hour)].mean() for hour in range(HOURS)])
        hosts = sorted(usage, key=lambda host: -float(usage[host].mean()))
        return HourlyUse(hosts, np.array([usage[host] for host in hosts]), since, until)

    def _columns(
        self, host: str, keys: Sequence[tuple[str, str | None]]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        values = [[one.get(key, np.nan) for one in self._values[host]] for key in keys]
        return np.array(self._times[host]), np.array(values, dtype=np.float64)


@cache
def build_report(as_of: datetime = AS_OF) -> Report:
    """Return the report of the generated history before a time."""
    history = GeneratedHistory(make_samples(as_of))
    since, until = (as_of - timedelta(days=POLICY.history_days)).date(), (as_of - timedelta(days=1)).date()
    forecasts: list[Forecast] = [
        forecast_series(key, rows, as_of, POLICY.metrics[key.metric])
        for key, rows in history.read_daily(None, list(POLICY.metrics), since, until)
    ]
    ranked = rank(forecasts)
    return Report(
        title=POLICY.title,
        as_of=as_of,
        made_at=as_of,
        hosts=len(history.newest),
        ranked=ranked,
        outlooks=read_outlooks(history, ranked[: POLICY.plots], POLICY),
        verdicts=dict(Counter(one.verdict for one in forecasts)),
        outdated=0,
        hourly=history.hourly(until - timedelta(days=POLICY.hourly_days - 1), until),
        advice=size_hosts(history, None, until, POLICY.size),
        silent=find_silent(history.newest.values(), history.newest, as_of),
    )


def make_pictures(data: Report) -> dict[str, bytes]:
    """Return the pictures by name."""
    return {
        "report_forecasts.png": forecasts_png(data.outlooks, data.as_of),
        "report_cpu_by_hour.png": hourly_png(data.hourly),
        "report_users.png": users_png(data.advice, POLICY.size, data.top),
    }


def _flatten(sample: dict[str, Any]) -> Iterator[tuple[tuple[str, str | None], float]]:
    for name, value in sample.items():
        if isinstance(value, dict) and name != "labels":
            for device, one in value.items():
                yield (name, device), float(one)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield (name, None), float(value)


def main(argv: list[str] | None = None) -> int:
    """Write the pictures, and the page if asked."""
    parser = argparse.ArgumentParser(prog="python -m docs.report_pictures", description=__doc__)
    parser.add_argument("--page", type=Path, help="file that the whole page is written to")
    options = parser.parse_args(argv)
    data = build_report()
    IMAGES.mkdir(exist_ok=True)
    for name, picture in make_pictures(data).items():
        (IMAGES / name).write_bytes(picture)
    if options.page:
        from airflow_provider_restrack.capacity.page import render_page

        options.page.write_text(render_page(data), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
