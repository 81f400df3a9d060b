"""Reads rows of samples and rollups as columns, and writes rollups: each row whole, in place of the old.

A row is written by one batch of its partition: the row is deleted with the time stamp before the new one's,
and inserted. So a metric that a later look no longer finds leaves nothing behind, and Cassandra keeps one
marker of the deleted row, not one a column. The time stamp is when the samples were read: whatever the order
in which runs end, the one that has seen most stays.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from cassandra import InvalidRequest, Unauthorized
from cassandra.cluster import EXEC_PROFILE_DEFAULT
from cassandra.query import UNSET_VALUE, BatchStatement, BatchType, BoundStatement

from airflow_provider_restrack.store.columns import Key, build_columns
from airflow_provider_restrack.store.raw_rows import MARK, keep_rows, use_raw_rows
from airflow_provider_restrack.store.read import ReadFailedError, TableUnusableError
from airflow_provider_restrack.store.schema import SAMPLE_COLUMNS, SYSTEM_METRICS, check_identifier
from airflow_provider_restrack.store.session import DRIVER_ERRORS, CassandraError
from airflow_provider_restrack.store.tiers import (
    AGGREGATE_FIELDS,
    COUNTERS,
    DAY_S,
    METRICS,
    ROLLUP_COLUMNS,
    Tier,
    floor_to,
    period_of,
    periods_between,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from airflow_provider_restrack.store.columns import Columns

PAGE_ROWS = 5000
# Cassandra refuses a batch of 50 KiB; rows of one partition are one mutation, so that it does not warn
# before.
BATCH_BYTES = 40 * 1024
_IN_FLIGHT = 16
_COLUMN_NAMES = tuple(ROLLUP_COLUMNS)
_METRIC_AT = {one.name: _COLUMN_NAMES.index(one.name) for one in METRICS}


@dataclass(frozen=True, slots=True)
class Rollup:
    """Aggregates of series × buckets. Where ``count`` is 0 the other arrays hold NaN: absent, not zero.

    ``starts`` are the buckets' starts in seconds since 1970, of those that have a sample; ``samples`` is how
    many each has, ``interval`` the usual (median) distance between them in seconds, NaN with fewer than two.
    """

    starts: NDArray[np.int64]
    samples: NDArray[np.int64]
    interval: NDArray[np.float64]
    count: NDArray[np.int64]
    min: NDArray[np.float64]
    max: NDArray[np.float64]
    sum: NDArray[np.float64]
    last: NDArray[np.float64]
    p95: NDArray[np.float64]


class RollupWriteError(CassandraError):
    """Rollups could not be written; to run again writes them all."""


class RowReader:
    """One prepared read of a table's rows of a host between two times, as columns.

    :param tier: whose rollups are read; None for samples.
    :param metrics: columns to read, beside the time.
    :raises TableUnusableError: if the table or a column is not there.
    """

    def __init__(self, session: Any, keyspace: str, tier: Tier | None, metrics: Sequence[str]) -> None:
        use_raw_rows(session)
        self._session, self._tier = session, tier
        self._types = dict(SAMPLE_COLUMNS if tier is None else ROLLUP_COLUMNS)
        self._names = ("timestamp", *metrics)
        name = SYSTEM_METRICS.name if tier is None else tier.table_name
        self._table = f"{check_identifier(keyspace, 'keyspace')}.{name}"
        part = "day" if tier is None else "period"
        self._statement = _prepare(
            session,
            self._table,
            f"SELECT {', '.join((f'timestamp AS {MARK}', *metrics))} FROM {self._table} "  # noqa: S608 - checked
            f"WHERE host = ? AND {part} = ? AND timestamp >= ? AND timestamp < ?",
        )
        self._statement.fetch_size = PAGE_ROWS
        self._profile = session.execution_profile_clone_update(EXEC_PROFILE_DEFAULT, row_factory=keep_rows)

    def read(self, host: str, since_s: int, until_s: int) -> Columns:
        """Return the rows with ``since <= timestamp < until``, times in seconds since 1970, oldest first.

        The partitions are asked at once.

        :raises ReadFailedError: if Cassandra does not answer.
        """
        try:
            futures = [
                self._session.execute_async(
                    self._statement,
                    (host, part, _moment(start), _moment(end)),
                    execution_profile=self._profile,
                )
                for part, start, end in self._parts(since_s, until_s)
            ]
            rows = [row for future in futures for row in _pages(future.result())]
        except DRIVER_ERRORS as error:
            raise ReadFailedError(
                f"Reading {self._table} of host {host!r} failed: {error}. "
                "Check the nodes and the consistency asked for."
            ) from error
        return build_columns(rows, self._names, self._types)

    def _parts(self, since_s: int, until_s: int) -> Iterator[tuple[Any, int, int]]:
        if self._tier is not None:
            yield from periods_between(self._tier, since_s, until_s)
            return
        start = since_s
        while start < until_s:
            end = min(until_s, floor_to(start, DAY_S) + DAY_S)
            yield _moment(start).date(), start, end
            start = end


class RollupWriter:
    """Writes rollups of one tier, as many batches in flight as the cluster takes well.

    :raises TableUnusableError: if the table or a column is not there.
    """

    def __init__(self, session: Any, keyspace: str, tier: Tier) -> None:
        self._session, self._tier = session, tier
        self._table = f"{check_identifier(keyspace, 'keyspace')}.{tier.table_name}"
        marks = ", ".join("?" * len(_COLUMN_NAMES))
        self._insert = _prepare(
            session,
            self._table,
            f"INSERT INTO {self._table} ({', '.join(_COLUMN_NAMES)}) VALUES ({marks})"  # noqa: S608 - checked
            " USING TIMESTAMP ? AND TTL ?",
        )
        self._delete = _prepare(
            session,
            self._table,
            f"DELETE FROM {self._table} USING TIMESTAMP ? WHERE host = ? AND period = ? AND timestamp = ?",  # noqa: S608 - checked
        )

    def write(self, host: str, keys: Sequence[Key], made: Rollup, read_at: datetime, ttl_s: int) -> int:
        """Write buckets of a host, and return how many.

        :param keys: of each series its metric and device.
        :param read_at: when the reading of the samples began; decides which of two writes stays.
        :param ttl_s: how long a bucket lives, from its start; 0 for ever. One whose time is over is left out.
        :raises RollupWriteError: if a batch is not acknowledged.
        """
        stamp, now_s = round(read_at.timestamp() * 1_000_000), int(read_at.timestamp())
        cells = _encode_cells(keys, made)
        waiting: list[Any] = []
        batches = _Batches()
        written = 0
        for number, start in enumerate(made.starts.tolist()):
            ttl = 0 if ttl_s == 0 else start + ttl_s - now_s
            if ttl_s and ttl <= 0:
                continue
            key = [host.encode(), period_of(self._tier, start).encode(), _long(start * 1000)]
            row = [*key, *_head(made, number), *cells[number], _long(stamp), struct.pack(">i", ttl)]
            batches.add(
                key[1], self._bound(self._delete, [_long(stamp - 1), *key]), self._bound(self._insert, row)
            )
            written += 1
        for batch in batches.all:
            if len(waiting) >= _IN_FLIGHT:
                self._await(host, waiting.pop(0))
            waiting.append(self._session.execute_async(batch))
        for future in waiting:
            self._await(host, future)
        return written

    @staticmethod
    def _bound(statement: Any, values: Sequence[Any]) -> Any:
        """Return a bound statement of values that are bytes already: to bind them took most of the time."""
        bound = BoundStatement(statement)
        bound.values = list(values)
        return bound

    def _await(self, host: str, future: Any) -> None:
        try:
            future.result()
        except DRIVER_ERRORS as error:
            raise RollupWriteError(
                f"Writing {self._table} of host {host!r} failed: {error}. Check the nodes; "
                "to run the task again writes all its buckets anew."
            ) from error


class _Batches:
    """Statements gathered into batches of one partition and a size that the server takes."""

    def __init__(self) -> None:
        self.all: list[Any] = []
        self._period, self._bytes = b"", 0

    def add(self, period: bytes, delete: Any, insert: Any) -> None:
        size = sum(len(value) for value in insert.values if isinstance(value, bytes))
        if not self.all or period != self._period or self._bytes + size > BATCH_BYTES:
            self.all.append(BatchStatement(batch_type=BatchType.UNLOGGED))
            self._period, self._bytes = period, 0
        self.all[-1].add(delete)
        self.all[-1].add(insert)
        self._bytes += size


def read_ttls(session: Any, keyspace: str, tables: Sequence[str]) -> dict[str, int]:
    """Return ``default_time_to_live`` of tables in seconds; 0 for ever.

    :raises TableUnusableError: if one of them is not there.
    """
    cql = "SELECT table_name, default_time_to_live FROM system_schema.tables WHERE keyspace_name = %s"
    try:
        found = {name: int(ttl) for name, ttl in session.execute(cql, (keyspace,))}
    except DRIVER_ERRORS as error:
        raise ReadFailedError(
            f"Cassandra does not say how long tables of {keyspace} keep rows: {error}"
        ) from error
    if missing := [f"{keyspace}.{name}" for name in tables if name not in found]:
        raise TableUnusableError(f"There is no {', '.join(missing)}: create it with ProvisionOperator.")
    return {name: found[name] for name in tables}


def _prepare(session: Any, table: str, cql: str) -> Any:
    try:
        return session.prepare(cql)
    except (InvalidRequest, Unauthorized) as error:
        raise TableUnusableError(
            f"{table} cannot be used: {error}. Create it, or the columns that it lacks "
            "(add_missing_columns=True), with ProvisionOperator."
        ) from error
    except DRIVER_ERRORS as error:
        raise ReadFailedError(f"{table}: Cassandra does not prepare a statement: {error}") from error


def _pages(result: Any) -> Iterator[Any]:
    yield from result.current_rows
    while result.has_more_pages:
        result.fetch_next_page()
        yield from result.current_rows


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)


def _long(value: int) -> bytes:
    return struct.pack(">q", value)


def _head(made: Rollup, number: int) -> tuple[bytes, Any]:
    interval = float(made.interval[number])
    known = UNSET_VALUE if interval != interval else struct.pack(">d", interval)  # noqa: PLR0124 - NaN
    return struct.pack(">i", int(made.samples[number])), known


def _encode_cells(keys: Sequence[Key], made: Rollup) -> list[list[Any]]:
    """Return of each bucket the cells of all metrics, in the columns' order; absent ones unset."""
    width = len(_COLUMN_NAMES) - 5
    rows: list[list[Any]] = [[UNSET_VALUE] * width for _ in made.starts]
    devices: dict[str, list[tuple[str, int]]] = {}
    encoded = [_encode_series(key.column, made, number) for number, key in enumerate(keys)]
    for number, key in enumerate(keys):
        if key.device is not None:
            devices.setdefault(key.column, []).append((key.device, number))
            continue
        at = _METRIC_AT[key.column] - 5
        for bucket, cell in enumerate(encoded[number]):
            if cell is not None:
                rows[bucket][at] = cell
    for column, found in devices.items():
        names = [(_text(device), number) for device, number in sorted(found)]
        for bucket, row in enumerate(rows):
            items = [(name, cell) for name, number in names if (cell := encoded[number][bucket]) is not None]
            if items:
                pairs = b"".join(name + struct.pack(">i", len(cell)) + cell for name, cell in items)
                row[_METRIC_AT[column] - 5] = struct.pack(">i", len(items)) + pairs
    return rows


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack(">i", len(raw)) + raw


def _encode_series(metric: str, made: Rollup, series: int) -> list[bytes | None]:
    """Return one ``aggregate`` a bucket, as the protocol has it, or None where the metric is absent."""
    kept = ("count", "last") if metric in COUNTERS else tuple(AGGREGATE_FIELDS)
    kinds = {name: ">i4" if kind == "int" else ">f8" for name, kind in AGGREGATE_FIELDS.items()}
    layout = [
        part
        for name, kind in kinds.items()
        for part in ((f"{name}_size", ">i4"), *(((name, kind),) if name in kept else ()))
    ]
    cells = np.zeros(len(made.starts), layout)
    for name, kind in kinds.items():
        cells[f"{name}_size"] = int(kind[2]) if name in kept else -1
        if name in kept:
            cells[name] = getattr(made, name)[series]
    raw, size = cells.tobytes(), cells.itemsize
    present = made.count[series] > 0
    return [raw[n * size : (n + 1) * size] if there else None for n, there in enumerate(present.tolist())]
