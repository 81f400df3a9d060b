"""How statements of the alerts' tables are run: consistency, repeats and errors are the same for all.

Whatever the connection says, these tables are written and read at ``LOCAL_QUORUM``, and conditions are
decided at ``LOCAL_SERIAL``: with less, one evaluation would not see what the one before it recorded.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from cassandra import AuthenticationFailed, ConsistencyLevel, InvalidRequest, Unauthorized
from cassandra.cluster import EXEC_PROFILE_DEFAULT
from cassandra.concurrent import execute_concurrent
from cassandra.protocol import SyntaxException
from cassandra.query import UNSET_VALUE, BatchStatement, BatchType, tuple_factory

from airflow_provider_restrack import clock
from airflow_provider_restrack.store.read import as_text
from airflow_provider_restrack.store.schema import check_identifier
from airflow_provider_restrack.store.session import DRIVER_ERRORS, CassandraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from airflow_provider_restrack.store.schema import Table

log = logging.getLogger(__name__)

PAGE_ROWS = 2000
IN_FLIGHT = 32
# Rows of one batch: each is some 300 bytes, and Cassandra takes at least 50 KiB.
BATCH_ROWS = 100
# Pauses before the repeats of a statement whose outcome is not known.
REPEATS_S = (0.1, 0.5, 2.0)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - the driver returns naive times in UTC
# No repeat makes these better.
_REFUSALS = (InvalidRequest, Unauthorized, AuthenticationFailed, SyntaxException)


class AlertStoreError(CassandraError):
    """Alerts, their history or silences cannot be read or written."""


class Statements:
    """Prepared statements of one table, for as long as their session.

    :param what: whose rows they are, for messages: ``scope night``.
    :param sleep: waits before a repeat; a seam for tests.
    """

    def __init__(
        self,
        session: Any,
        keyspace: str,
        table: Table,
        what: str = "",
        *,
        sleep: Callable[[float], None] = clock.sleep,
    ) -> None:
        self.name = f"{check_identifier(keyspace, 'keyspace')}.{table.name}"
        self.where = f"{self.name} ({what})" if what else self.name
        self._session = session
        self._sleep = sleep
        self._profile = session.execution_profile_clone_update(
            EXEC_PROFILE_DEFAULT, row_factory=tuple_factory
        )

    def prepare(self, cql: str) -> Any:
        """Prepare a statement in which ``{table}`` stands for the table.

        :raises AlertStoreError: if the table is not there or lacks a column.
        """
        try:
            statement = self._session.prepare(cql.replace("{table}", self.name))
        except DRIVER_ERRORS as error:
            raise self._explain("used", error) from error
        statement.consistency_level = ConsistencyLevel.LOCAL_QUORUM
        statement.serial_consistency_level = ConsistencyLevel.LOCAL_SERIAL
        statement.fetch_size = PAGE_ROWS
        return statement

    def prepare_select(self, columns: Sequence[str], where: str) -> Any:
        """Prepare a read of some columns; raises as ``prepare``."""
        return self.prepare(f"SELECT {', '.join(columns)} FROM {{table}} WHERE {where}")  # noqa: S608 - constants

    def prepare_insert(self, columns: Sequence[str], using: str = "") -> Any:
        """Prepare an insert of some columns; raises as ``prepare``."""
        marks = ", ".join("?" * len(columns))
        return self.prepare(f"INSERT INTO {{table}} ({', '.join(columns)}) VALUES ({marks}) {using}")  # noqa: S608 - constants

    def read(self, statement: Any, *values: Any) -> list[tuple[Any, ...]]:
        """Return all rows, page by page.

        :raises AlertStoreError: if Cassandra does not answer.
        """
        try:
            return list(self._session.execute(statement, values, execution_profile=self._profile))
        except DRIVER_ERRORS as error:
            raise self._explain("read", error) from error

    def write(self, statement: Any, rows: Iterable[Sequence[Any]], partition: int = 0) -> None:
        """Write rows without condition: those of one partition as batches, several at once.

        :param partition: which of the values is the partition.
        :raises AlertStoreError: if one is not acknowledged; all may be written again.
        """
        batches = [(self._batch((statement, row) for row in some), None) for some in _chunk(rows, partition)]
        try:
            execute_concurrent(self._session, batches, concurrency=IN_FLIGHT, execution_profile=self._profile)
        except DRIVER_ERRORS as error:
            raise self._explain("written", error) from error

    def apply(self, statement: Any, *values: Any, repeats: Sequence[float] = REPEATS_S) -> tuple[Any, ...]:
        """Run one conditional statement; return its row: whether it was applied, then what else there is.

        One whose outcome is not known, as after a timeout, is repeated: the caller's statements set values
        that do not depend on what was there, so that the second of two that are applied changes nothing.

        :raises AlertStoreError: if it is refused, or the outcome is still not known after the last repeat.
        """
        return self._decide(lambda: self._run(statement, values), repeats)

    def apply_batch(
        self, parts: Iterable[tuple[Any, Sequence[Any]]], repeats: Sequence[float] = REPEATS_S
    ) -> bool:
        """Run statements of one partition as one, all or nothing; return whether the condition held.

        :raises AlertStoreError: as ``apply``.
        """
        batch = self._batch(parts)
        return bool(self._decide(lambda: self._run(batch, None), repeats)[0])

    @staticmethod
    def _batch(parts: Iterable[tuple[Any, Sequence[Any]]]) -> Any:
        batch = BatchStatement(
            BatchType.UNLOGGED,
            consistency_level=ConsistencyLevel.LOCAL_QUORUM,
            serial_consistency_level=ConsistencyLevel.LOCAL_SERIAL,
        )
        for statement, values in parts:
            batch.add(statement, values)
        return batch

    def _run(self, statement: Any, values: Sequence[Any] | None) -> tuple[Any, ...]:
        result = self._session.execute(statement, values, execution_profile=self._profile)
        return (result.was_applied, *result.one()[1:])

    def _decide(self, run: Callable[[], tuple[Any, ...]], repeats: Sequence[float]) -> tuple[Any, ...]:
        for pause in repeats:
            try:
                return run()
            except _REFUSALS as error:
                raise self._explain("written", error) from error
            except DRIVER_ERRORS as error:
                log.warning(
                    "%s: the outcome of a write is not known (%s); it is repeated",
                    self.where,
                    as_text(error),
                )
                self._sleep(pause)
        try:
            return run()
        except DRIVER_ERRORS as error:
            raise self._explain("written", error) from error

    def _explain(self, what: str, error: Exception) -> AlertStoreError:
        if isinstance(error, _REFUSALS):
            remedy = (
                "Create it, or the columns that it lacks (add_missing_columns=True), with ProvisionOperator;"
                " the login needs SELECT and MODIFY."
            )
        elif what == "written":
            remedy = (
                "Whether the last write is there is not known: run again, it is found or repeated. Check the"
                " nodes."
            )
        else:
            remedy = "Check the nodes, and run again."
        return AlertStoreError(f"Table {self.where} cannot be {what}: {as_text(error)}. {remedy}")


def _chunk(rows: Iterable[Sequence[Any]], partition: int) -> Iterator[list[Sequence[Any]]]:
    """Yield up to ``BATCH_ROWS`` rows of one partition at a time."""
    by_partition: dict[Any, list[Sequence[Any]]] = {}
    for row in rows:
        by_partition.setdefault(row[partition], []).append(row)
    for some in by_partition.values():
        for start in range(0, len(some), BATCH_ROWS):
            yield some[start : start + BATCH_ROWS]


def unset_nulls(values: Iterable[Any]) -> Iterator[Any]:
    """Yield values for a row that was not there before: what is unknown stays unset, without a tombstone."""
    return (UNSET_VALUE if value is None else value for value in values)


def from_timestamp(moment: datetime) -> int:
    """Return ms since 1970 of a time as the driver returns it."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)
