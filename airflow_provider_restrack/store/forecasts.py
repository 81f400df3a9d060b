"""The ``forecasts`` table: the newest forecast of every series, written by a task and read by reports and
rules.

Needs the driver only when it is used: DAG files import the table.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.store.schema import GC_GRACE_S, Table, check_identifier

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    Key = tuple[str, str, str | None]

TTL_S = 35 * 86400
# A weekly run may come a day late; a forecast older than that tells of no present.
MAX_AGE = timedelta(days=8)
_IN_FLIGHT = 16
_PAGE_ROWS = 2000
# What can be told apart within one write time, see ``_write_time``: steps of 4 s reach 46 days, further than
# a row lives.
_OFFSET_STEP_S = 4
_LATEST_OFFSET_US = 999_999

FORECASTS = Table(
    name="forecasts",
    partition_key=("metric",),
    clustering=("host", "device"),
    write_mode="replace",
    options=MappingProxyType(
        {
            # Every row is overwritten at each run: levelled compaction keeps a read to one or two SSTables.
            "compaction": "{'class': 'LeveledCompactionStrategy'}",
            "default_time_to_live": str(TTL_S),
            "gc_grace_seconds": str(GC_GRACE_S),
            "comment": "'the newest forecast of every host, metric and device'",
        }
    ),
    meaning="the newest forecast of every series; `device` is empty where the metric is no map",
    columns=MappingProxyType(
        {
            "metric": "text",
            "host": "text",
            "device": "text",
            "as_of": "timestamp",
            "verdict": "text",
            "limit_value": "double",
            "current": "double",
            "slope": "double",
            "slope_low": "double",
            "slope_high": "double",
            "days_early": "double",
            "days_likely": "double",
            "days_late": "double",
            "n": "int",
            "span_days": "int",
            "coverage": "double",
            "since": "date",
            "season": "boolean",
            "backtest_7d": "double",
            "backtest_14d": "double",
        }
    ),
)


def write_forecasts(
    session: Any, keyspace: str, forecasts: Iterable[Mapping[str, Any]], written_at: datetime
) -> int:
    """Write forecasts, each over the one of its series before; return how many.

    A row is written whole, so that no old date stands beside a new verdict. Of two forecasts the one of
    the later ``as_of`` stays, whichever comes last; of one ``as_of`` the one that was made later.

    :param forecasts: mappings with the table's columns, ``limit`` for ``limit_value``.
    :param written_at: when they are made.
    :raises CassandraError: if the table is not there or Cassandra does not take them.
    """
    from cassandra.concurrent import execute_concurrent_with_args

    names = list(FORECASTS.columns)
    marks = ", ".join("?" * len(names))
    insert = f"INSERT INTO {_table(keyspace)} ({', '.join(names)}) VALUES ({marks}) USING TIMESTAMP ?"  # noqa: S608 - checked identifiers
    rows = [(*_to_row(one), _write_time(one["as_of"], written_at)) for one in forecasts]
    with _failing_as("written"):
        statement = session.prepare(insert)
        execute_concurrent_with_args(
            session, statement, rows, concurrency=_IN_FLIGHT, raise_on_first_error=True
        )
    return len(rows)


def read_forecasts(
    session: Any, keyspace: str, metrics: Sequence[str], hosts: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Return the newest forecast of every series of some metrics, by metric, host and device.

    :param hosts: only these; None: all.
    :raises CassandraError: if the table is not there or Cassandra does not answer.
    """
    from cassandra.cluster import EXEC_PROFILE_DEFAULT
    from cassandra.concurrent import execute_concurrent_with_args
    from cassandra.query import tuple_factory

    columns = list(FORECASTS.columns)
    select = f"SELECT {', '.join(columns)} FROM {_table(keyspace)} WHERE metric = ?"  # noqa: S608 - checked identifiers
    wanted = None if hosts is None else frozenset(hosts)
    with _failing_as("read"):
        statement = session.prepare(select)
        statement.fetch_size = _PAGE_ROWS
        profile = session.execution_profile_clone_update(EXEC_PROFILE_DEFAULT, row_factory=tuple_factory)
        results = execute_concurrent_with_args(
            session, statement, [(metric,) for metric in dict.fromkeys(metrics)], execution_profile=profile
        )
        rows = [_from_row(dict(zip(columns, row, strict=True))) for _, result in results for row in result]
    found = [row for row in rows if wanted is None or row["host"] in wanted]
    return sorted(found, key=lambda row: (row["metric"], row["host"], row["device"] or ""))


def read_time_to_limit(
    session: Any, keyspace: str, metrics: Sequence[str], now: datetime, hosts: Sequence[str] | None = None
) -> dict[Key, float | None]:
    """Return the days from ``now`` until each (host, metric, device) is likely at its limit.

    0 where it is there already, None where no date can be given. A forecast older than ``MAX_AGE`` is left
    out: to an alert it is as absent as one that was never made.

    :raises CassandraError: as ``read_forecasts``.
    """
    rows = read_forecasts(session, keyspace, metrics, hosts)
    return {
        (row["host"], row["metric"], row["device"]): days_left(row, now)
        for row in rows
        if now - row["as_of"] <= MAX_AGE
    }


def days_left(forecast: Mapping[str, Any], now: datetime) -> float | None:
    """Return the days from ``now`` until a forecast's likely time; None if it has none."""
    if forecast["verdict"] == "already over":
        return 0.0
    if forecast["days_likely"] is None:
        return None
    passed: timedelta = now - forecast["as_of"]
    return float(max(0.0, forecast["days_likely"] - passed / timedelta(days=1)))


def _table(keyspace: str) -> str:
    return f"{check_identifier(keyspace, 'keyspace')}.{FORECASTS.name}"


def _to_row(forecast: Mapping[str, Any]) -> tuple[Any, ...]:
    values = {**forecast, "limit_value": forecast["limit"], "device": forecast["device"] or ""}
    return tuple(values[name] for name in FORECASTS.columns)


def _from_row(row: dict[str, Any]) -> dict[str, Any]:
    row["limit"] = row.pop("limit_value")
    row["device"] = row["device"] or None
    row["as_of"] = row["as_of"].replace(tzinfo=UTC)
    row["since"] = row["since"].date() if row["since"] is not None else None
    return row


def _write_time(as_of: datetime, written_at: datetime) -> int:
    """Return microseconds: those of ``as_of`` to the second, and in the rest how much later it was made, in
    steps of four seconds.

    Cassandra decides between cells of one write time by their values, and would mix two forecasts.
    """
    offset = int((written_at - as_of).total_seconds()) // _OFFSET_STEP_S
    return int(as_of.timestamp()) * 1_000_000 + min(max(offset, 0), _LATEST_OFFSET_US)


@contextmanager
def _failing_as(what: str) -> Iterator[None]:
    """Say what failed and what to do, in place of the driver's words alone."""
    from airflow_provider_restrack.store.session import DRIVER_ERRORS, CassandraError

    try:
        yield
    except DRIVER_ERRORS as error:
        raise CassandraError(
            f"Table {FORECASTS.name} cannot be {what}: {error}. If it is missing, create it with"
            " ProvisionOperator; else check the nodes and the login's rights."
        ) from error
