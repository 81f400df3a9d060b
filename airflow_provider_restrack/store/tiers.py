"""The tiers of history, as data: raw samples, and the tables of rollups over 5 minutes, an hour and a day.

Needs no driver: DAG files import it. A rollup keeps every metric of a sample under the metric's own name, as
the user-defined type ``aggregate``; a map of devices becomes a map of aggregates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

from airflow_provider_restrack.store.schema import FIELDS, GC_GRACE_S, Field, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DAY_S = 86400
# Windows over the life of a table: few enough files to read, and what expires leaves in small parts.
_WINDOWS = 30
_PERIODS = {"%Y-%m-%d": "UTC day", "%Y-%m": "UTC month", "%Y": "UTC year"}

AGGREGATE = "aggregate"
AGGREGATE_FIELDS: Mapping[str, str] = MappingProxyType(
    {"count": "int", "min": "double", "max": "double", "sum": "double", "last": "double", "p95": "double"}
)
METRICS: tuple[Field, ...] = tuple(one for one in FIELDS if one.is_metric)
METRIC_BY_NAME: Mapping[str, Field] = MappingProxyType({one.name: one for one in METRICS})
# What only ever grows says nothing by its smallest, largest or mean value: count and last are kept.
COUNTERS: frozenset[str] = frozenset(one.name for one in METRICS if one.group == "counters")

ROLLUP_COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "host": "text",
        "period": "text",
        "timestamp": "timestamp",
        "samples": "int",
        "interval": "double",
        **{
            one.name: f"frozen<map<text,frozen<{AGGREGATE}>>>" if "<" in one.type else f"frozen<{AGGREGATE}>"
            for one in METRICS
        },
    }
)


@dataclass(frozen=True, slots=True)
class Tier:
    """One table of rollups: how long a bucket and a row's life are, in seconds, and how it is partitioned.

    ``period_format`` gives the partition of a bucket from its start (UTC): a day of 5 minutes, a month of
    hours and a year of days are 288 to 744 rows, some 2 to 4 MB.
    """

    name: str
    seconds: int
    ttl_s: int
    period_format: str

    @property
    def table_name(self) -> str:
        """Name of its table."""
        return f"system_metrics_{self.name}"

    def table(self) -> Table:
        """Return its table, as data."""
        period = _PERIODS[self.period_format]
        return with_ttl(
            Table(
                name=self.table_name,
                partition_key=("host", "period"),
                clustering=("timestamp",),
                write_mode="replace",
                options=MappingProxyType(
                    {
                        "compaction": "",
                        "gc_grace_seconds": str(GC_GRACE_S),
                        "comment": f"'rollups of samples over {self.name}, one row a host and bucket'",
                    }
                ),
                meaning=f"rollups over {self.name}, newest first within a host's {period}",
                columns=ROLLUP_COLUMNS,
                user_types=MappingProxyType({AGGREGATE: AGGREGATE_FIELDS}),
            ),
            self.ttl_s,
        )


def with_ttl(table: Table, ttl_s: int) -> Table:
    """Return a table whose rows live so long, in compaction windows of about a thirtieth of it."""
    days = max(1, round(ttl_s / DAY_S / _WINDOWS))
    compaction = (
        "{'class': 'TimeWindowCompactionStrategy', 'compaction_window_unit': 'DAYS',"
        f" 'compaction_window_size': {days}}}"
    )
    options = {**table.options, "compaction": compaction, "default_time_to_live": str(ttl_s)}
    return replace(table, options=MappingProxyType(options))


TIERS: tuple[Tier, ...] = (
    Tier("5m", 300, 90 * DAY_S, "%Y-%m-%d"),
    Tier("1h", 3600, 2 * 365 * DAY_S, "%Y-%m"),
    Tier("1d", DAY_S, 5 * 365 * DAY_S, "%Y"),
)
TIER_BY_NAME: Mapping[str, Tier] = MappingProxyType({tier.name: tier for tier in TIERS})
ROLLUP_TABLES: tuple[Table, ...] = tuple(tier.table() for tier in TIERS)


def period_of(tier: Tier, start_s: int) -> str:
    """Return the partition of the bucket that starts at a time, in seconds since 1970."""
    return datetime.fromtimestamp(start_s, tz=UTC).strftime(tier.period_format)


def floor_to(seconds: int, bucket_s: int) -> int:
    """Return the start of the bucket that a time lies in: buckets are counted from 1970, in UTC."""
    return seconds // bucket_s * bucket_s


def ceil_to(seconds: int, bucket_s: int) -> int:
    """Return the first start of a bucket that is not before a time."""
    return -(-seconds // bucket_s) * bucket_s


def periods_between(tier: Tier, since_s: int, until_s: int) -> Iterator[tuple[str, int, int]]:
    """Yield each partition that has buckets starting in ``[since, until)``, and the part that lies inside.

    Oldest first; the times are in seconds, and the first is a whole bucket's start.
    """
    start = ceil_to(since_s, tier.seconds)
    while start < until_s:
        period, end = period_of(tier, start), start
        while end < until_s and period_of(tier, end) == period:
            end = min(until_s, ceil_to(end + 1, DAY_S))
        yield period, start, end
        start = end
