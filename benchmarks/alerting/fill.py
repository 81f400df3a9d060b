"""Writes the fleet's samples into the provider's own tables: all fields, as an agent sends them."""

from __future__ import annotations

import uuid
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from cassandra.concurrent import execute_concurrent
from cassandra.query import BatchStatement, BatchType, BoundStatement

from airflow_provider_restrack.store.schema import FIELDS, LATEST_METRICS, SYSTEM_METRICS, build_create_table
from benchmarks.alerting.works import INTERVAL_S, KEYSPACE, START, generate
from benchmarks.loader.works import WORKS
from benchmarks.loader.works import generate as generate_full

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.alerting.works import Points

_PROTOCOL = 4
# Rows of one partition are one mutation: some 45 KiB.
_BATCH_ROWS = 45
_BATCHES_AT_ONCE = 300
_IN_FLIGHT = 16
_TRIES = 10


def fill_tables(session: Any, hosts: int) -> None:
    """Make the keyspace and tables anew, and write the samples of so many hosts."""
    session.execute(f"DROP KEYSPACE IF EXISTS {KEYSPACE}", timeout=120.0)
    session.execute(
        f"CREATE KEYSPACE {KEYSPACE}"
        " WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"
    )
    for table in (SYSTEM_METRICS, LATEST_METRICS):
        session.execute(build_create_table(table, KEYSPACE), timeout=120.0)
    filler = _Filler(session)
    batches = (batch for host, points in generate(hosts) for batch in filler.make_batches(host, points))
    while part := list(islice(batches, _BATCHES_AT_ONCE)):
        _write(session, part)


def _write(session: Any, batches: list[BatchStatement]) -> None:
    """Write batches, and again those that time out on a machine that does much else."""
    for _ in range(_TRIES):
        found = execute_concurrent(
            session, [(batch, ()) for batch in batches], concurrency=_IN_FLIGHT, raise_on_first_error=False
        )
        batches = [batch for batch, (stored, _) in zip(batches, found, strict=True) if not stored]
        if not batches:
            return
    raise RuntimeError(f"{len(batches)} batches were not stored in {_TRIES} tries: {found[-1][1]}")


class _Filler:
    """Makes rows of a template that is bound once: to bind all fields of each took most of the time."""

    def __init__(self, session: Any) -> None:
        names = [field.name for field in FIELDS]
        marks = ", ".join("?" * len(names))
        self._inserts = [
            session.prepare(f"INSERT INTO {KEYSPACE}.{table} ({', '.join(names)}) VALUES ({marks})")
            for table in (SYSTEM_METRICS.name, LATEST_METRICS.name)
        ]
        self._place = {name: place for place, name in enumerate(names)}
        self._types = {column.name: column.type for column in self._inserts[0].column_metadata}
        (sample,) = generate_full(WORKS["full"], 1)
        values = {**sample, "id": uuid.UUID(sample["id"]), "day": START.date(), "timestamp": START}
        self._template = [self._serialize(name, values[name]) for name in names]

    def make_batches(self, host: str, points: Points) -> Iterator[BatchStatement]:
        """Yield the writes of a host's samples, and of its newest."""
        rows = [self._make_row(host, number, points) for number in range(len(next(iter(points.values()))))]
        for first in range(0, len(rows), _BATCH_ROWS):
            yield self._batch(0, rows[first : first + _BATCH_ROWS])
        yield self._batch(1, rows[-1:])

    def _batch(self, table: int, rows: list[list[Any]]) -> BatchStatement:
        batch = BatchStatement(BatchType.UNLOGGED)
        for row in rows:
            bound = BoundStatement(self._inserts[table])
            bound.values = row
            batch.add(bound)
        return batch

    def _make_row(self, host: str, number: int, points: Points) -> list[Any]:
        row = list(self._template)
        values: dict[str, Any] = {"host": host, "timestamp": START + number * timedelta(seconds=INTERVAL_S)}
        for (name, device), series in points.items():
            if device is None:
                values[name] = bool(series[number]) if name == "up" else series[number]
            else:
                values.setdefault(name, {})[device] = series[number]
        for name, value in values.items():
            row[self._place[name]] = self._serialize(name, value)
        return row

    def _serialize(self, name: str, value: Any) -> bytes | None:
        found: bytes | None = None if value is None else self._types[name].serialize(value, _PROTOCOL)
        return found
