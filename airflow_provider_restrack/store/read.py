"""Reads of samples: which partitions a window covers, then as many at once as the cluster takes well."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from cassandra import InvalidRequest, Unauthorized
from cassandra.cluster import EXEC_PROFILE_DEFAULT
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.query import tuple_factory

from airflow_provider_restrack.store.schema import (
    FIELD_BY_NAME,
    LATEST_METRICS,
    SYSTEM_METRICS,
    check_identifier,
)
from airflow_provider_restrack.store.session import DRIVER_ERRORS, CassandraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

PAGE_ROWS = 2000
# A row of latest_metrics holds a tombstone for every field that its sample lacks, about sixty if the host is
# down. Cassandra fails a page that meets 100,000 of them, and writes a warning to its log at 1,000.
SCAN_PAGE_ROWS = 50
SCAN_RANGES = 32
# The driver slows down above about 50 requests in flight; a read returns pages, not acknowledgements.
IN_FLIGHT = 16
# A guard against a window given in the wrong unit: every day is one query for every host.
MAX_DAYS = 400


class ReadFailedError(CassandraError):
    """A query for samples failed."""


class TableUnusableError(ReadFailedError):
    """The table, its keyspace or one of its columns is not there, or may not be read."""


def check_window(since: datetime, until: datetime) -> None:
    """Refuse a window of time that makes no sense.

    :raises ValueError: if a time is naive or the window is reversed.
    """
    for name, moment in (("since", since), ("until", until)):
        if moment.tzinfo is None:
            raise ValueError(f"{name} {moment.isoformat()} has no time zone: give an aware time")
    if until < since:
        raise ValueError(f"until {until.isoformat()} lies before since {since.isoformat()}")


def days_between(since: datetime, until: datetime) -> tuple[date, ...]:
    """Return the UTC days, oldest first, that a window touches, its ends included: the partitions to read.

    :raises ValueError: if a time is naive, the window is reversed, or it covers more than ``MAX_DAYS`` days.
    """
    check_window(since, until)
    first, last = since.astimezone(UTC).date(), until.astimezone(UTC).date()
    count = (last - first).days + 1
    if count > MAX_DAYS:
        raise ValueError(f"a window of {count} days is over the {MAX_DAYS} that one read covers")
    return tuple(first + timedelta(days=n) for n in range(count))


def check_columns(columns: Iterable[str]) -> tuple[str, ...]:
    """Return the columns to select, ``timestamp`` first, each once.

    :raises ValueError: if one is no field of a sample.
    """
    wanted = tuple(dict.fromkeys(("timestamp", *columns)))
    unknown = [name for name in wanted if name not in FIELD_BY_NAME]
    if unknown:
        raise ValueError(f"no field of a sample: {', '.join(map(repr, unknown))}; store/schema.py lists them")
    return wanted


def read_hosts(session: Any, keyspace: str) -> list[str]:
    """Return the names of all hosts that have a newest sample, sorted."""
    return sorted(row["host"] for row in _scan_latest(session, keyspace, "host"))


def read_latest(
    session: Any, keyspace: str, hosts: Sequence[str] | None = None, columns: Iterable[str] | None = None
) -> list[dict[str, Any]]:
    """Return the newest sample of every host, or of the given ones that have any, sorted by host.

    Unknown values are None.

    :param columns: that are there beside host and timestamp; None: all fields that the table has.
    """
    selected = "*" if columns is None else ", ".join(dict.fromkeys(("host", *check_columns(columns))))
    if hosts is None:
        rows = _scan_latest(session, keyspace, selected)
    else:
        table = f"{check_identifier(keyspace, 'keyspace')}.{LATEST_METRICS.name}"
        select = f"SELECT {selected} FROM {table} WHERE host = ?"  # noqa: S608 - checked identifiers
        rows = Query(session, table, select).run((host,) for host in dict.fromkeys(hosts))
    return sorted(rows, key=lambda row: str(row["host"]))


def _scan_latest(session: Any, keyspace: str, selected: str) -> Iterator[dict[str, Any]]:
    """Yield all rows of the newest samples, by ranges of their tokens that are read at the same time.

    Tokens are only known of Cassandra's default partitioner; with another, pages follow each other.
    """
    table = f"{check_identifier(keyspace, 'keyspace')}.{LATEST_METRICS.name}"
    select = f"SELECT {selected} FROM {table}"  # noqa: S608 - checked identifiers
    arguments: list[tuple[Any, ...]] = [()]
    metadata = getattr(getattr(session, "cluster", None), "metadata", None)
    if str(getattr(metadata, "partitioner", "")).endswith(".Murmur3Partitioner"):
        select += " WHERE token(host) > ? AND token(host) <= ?"
        arguments = [*split_tokens(SCAN_RANGES)]
    return Query(session, table, select, SCAN_PAGE_ROWS).run(arguments)


def split_tokens(count: int) -> list[tuple[int, int]]:
    """Return ranges of the tokens of Murmur3Partitioner: above one, up to the other.

    They hold every partition: the least token of all is none's, as Cassandra takes the greatest in its place.
    """
    ends = [(1 << 64) * number // count - (1 << 63) for number in range(count + 1)]
    ends[-1] -= 1
    return list(pairwise(ends))


def read_samples(  # noqa: PLR0917 - the order reads as a sentence, and callers use it so
    session: Any, keyspace: str, host: str, since: datetime, until: datetime, columns: Iterable[str]
) -> list[dict[str, Any]]:
    """Return one host's samples of a window, its ends included, oldest first.

    Each is a dict of ``timestamp`` and the columns, None where unset. Times are aware and in UTC, ids are
    strings.

    :raises ValueError: if a column is no field of a sample or the window makes no sense.
    :raises ReadFailedError: if Cassandra does not answer; ``TableUnusableError`` if the table or a column
        is missing.
    """
    return read_many(session, keyspace, [host], since, until, columns)[host]


def read_many(  # noqa: PLR0917 - as read_samples
    session: Any,
    keyspace: str,
    hosts: Iterable[str],
    since: datetime,
    until: datetime,
    columns: Iterable[str],
) -> dict[str, list[dict[str, Any]]]:
    """Return each host's samples of a window, as ``read_samples`` does.

    At most ``IN_FLIGHT`` queries run at once. A host without samples has an empty list. All rows are held in
    memory: ask for the columns that are needed, of some hosts at a time.
    """
    return SampleRead(session, keyspace, columns).run(hosts, since, until)


class SampleRead:
    """One prepared read of some columns of samples, for as long as its session: to prepare asks all nodes.

    :raises ValueError: if a column is no field of a sample.
    :raises TableUnusableError: if the table or a column is missing.
    """

    def __init__(self, session: Any, keyspace: str, columns: Iterable[str]) -> None:
        self._wanted = check_columns(columns)
        selected = ", ".join(name for name in self._wanted if name != "host")
        table = f"{check_identifier(keyspace, 'keyspace')}.{SYSTEM_METRICS.name}"
        self._query = Query(
            session,
            table,
            f"SELECT host, {selected} FROM {table} "  # noqa: S608 - checked identifiers
            "WHERE host = ? AND day = ? AND timestamp >= ? AND timestamp <= ?",
        )

    def run(self, hosts: Iterable[str], since: datetime, until: datetime) -> dict[str, list[dict[str, Any]]]:
        """Return each host's samples of a window, as ``read_many`` does."""
        days = days_between(since, until)
        found: dict[str, list[dict[str, Any]]] = {host: [] for host in hosts}
        for row in self._query.run((host, day, since, until) for host in found for day in days):
            host = row["host"]
            if "host" not in self._wanted:
                del row["host"]
            found[host].append(row)
        for rows in found.values():
            rows.sort(key=lambda row: row["timestamp"])
        return found


class Query:
    """One prepared SELECT of a table, run for many arguments.

    :raises TableUnusableError: if the table or a column is missing.
    """

    def __init__(self, session: Any, table: str, cql: str, page_rows: int | None = None) -> None:
        self._session, self._table = session, table
        try:
            self._statement = session.prepare(cql)
        except (InvalidRequest, Unauthorized) as error:
            raise TableUnusableError(
                f"{table} cannot be read: {as_text(error)}. Create the table, or the columns that it lacks "
                "(add_missing_columns=True), with ProvisionOperator."
            ) from error
        except DRIVER_ERRORS as error:
            raise self._failed(error) from error
        self._statement.fetch_size = page_rows or PAGE_ROWS

    def run(self, arguments: Iterable[tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
        """Yield the rows of all arguments as plain dicts; those of one argument stay together."""
        for names, rows in self.iterate_results(arguments, tuple_factory):
            yield from _plain_rows(names, rows)

    def iterate_results(
        self, arguments: Iterable[tuple[Any, ...]], row_factory: Any
    ) -> Iterator[tuple[Sequence[str], list[Any]]]:
        """Yield the names of columns and all rows of each of the arguments, in their order.

        :raises ReadFailedError: if Cassandra does not answer.
        """
        profile = self._session.execution_profile_clone_update(EXEC_PROFILE_DEFAULT, row_factory=row_factory)
        try:
            results = execute_concurrent_with_args(
                self._session,
                self._statement,
                list(arguments),
                concurrency=IN_FLIGHT,
                execution_profile=profile,
            )
            for result in results:
                found = result.result_or_exc
                yield found.column_names, list(found)
        except DRIVER_ERRORS as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> ReadFailedError:
        return ReadFailedError(
            f"Reading {self._table} failed: {as_text(error)}. Check the nodes and the consistency asked for."
        )


def _plain_rows(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Turn rows into dicts of plain values; columns that are no field of ours are left out."""
    columns = [
        (index, name, _PLAIN.get(FIELD_BY_NAME[name].type))
        for index, name in enumerate(names)
        if name in FIELD_BY_NAME
    ]
    for row in rows:
        yield {
            name: row[index] if plain is None or row[index] is None else plain(row[index])
            for index, name, plain in columns
        }


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC)


def _date(value: Any) -> date:
    found: date = value.date()
    return found


# What the driver returns as classes of its own, or as naive times; numbers, texts and truth values pass as
# they are.
_PLAIN: dict[str, Callable[[Any], Any]] = {
    "timestamp": _aware,
    "date": _date,
    "uuid": str,
    "map<text,text>": dict,
    "map<text,double>": dict,
    "list<double>": list,
}


def as_text(error: object) -> str:
    """Return an error in one line: the driver's no-host error keeps the reasons in an attribute."""
    reasons = getattr(error, "errors", None)
    if isinstance(reasons, dict) and reasons:
        return "; ".join(f"{host}: {reason}" for host, reason in reasons.items())
    return str(error) or type(error).__name__
