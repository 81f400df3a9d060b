"""Makes the rows of a record for all tables at once: one decoding, one write time, one time to live."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cassandra import InvalidRequest, Unauthorized

from airflow_provider_restrack.load.decode import Decoder, plan_fields
from airflow_provider_restrack.load.encode import RowEncoder, build_insert
from airflow_provider_restrack.load.errors import ConfigurationError, RejectError, StoreError
from airflow_provider_restrack.load.pack import PackedEncoder, arrange
from airflow_provider_restrack.load.table import check_mapping, parse_targets, plan_table, read_columns
from airflow_provider_restrack.load.wire import open_packing
from airflow_provider_restrack.store.session import DRIVER_ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_restrack.load.encode import EncodedRow
    from airflow_provider_restrack.load.formats.registry import Format
    from airflow_provider_restrack.load.policy import LoadPolicy


@dataclass(frozen=True, slots=True)
class RowMaker:
    """Makes the rows of a record: decoder, encoders of the tables, and the rules of write time and TTL.

    :ivar format: what reads the records' values; None for JSON.
    """

    decoder: Decoder
    encoders: tuple[RowEncoder | PackedEncoder, ...]
    timestamp_position: int
    ttl: int | None
    ahead: AheadLimit
    format: Format | None = None

    def make(self, record: Any, now_us: int, values: list[Any] | None = None) -> list[EncodedRow] | None:
        """Return a record's row for each table, or None if its time to live is over.

        :param values: what was read of it; None decodes its JSON.
        :raises RejectError: if no row can be made of it.
        """
        if values is None:
            values = self.decoder.decode(record.value())
        if self.decoder.computed:
            self.decoder.add_computed(values, record)
        write_us = values[self.timestamp_position]
        if write_us is None:
            write_us = _record_time(record)
        self.ahead.check(write_us, now_us)
        ttl = None
        if self.ttl is not None:
            ttl = remaining_ttl(self.ttl, write_us, now_us)
            if ttl <= 0:
                return None
        return [encoder.encode(values, write_us, ttl, record) for encoder in self.encoders]

    def make_all(self, record: Any, now_us: int) -> list[list[EncodedRow] | None]:
        """Return what ``make`` does for each of the rows that the format finds in a record.

        :raises RejectError: if one of them cannot be made; then none is.
        :raises SchemaRegistryError: if a schema is not to be had now.
        """
        if self.format is None:
            return [self.make(record, now_us)]
        value = record.value()
        if value is None:
            raise RejectError("the record has no value (a tombstone)")
        rows = self.format.parse(value, record)
        made = []
        for index, row in enumerate(rows, 1):
            try:
                made.append(self.make(record, now_us, self.decoder.decode_mapping(row)))
            except RejectError as error:
                raise RejectError(f"{self.format.name}, row {index} of {len(rows)}: {error}") from error
        return made


@dataclass(frozen=True, slots=True)
class AheadLimit:
    """How far a write time may be ahead of the worker's clock: one row of the far future in a table of the
    newest rows is never overwritten by those that follow.

    :ivar field: the field of the write time, for the message.
    :ivar seconds: None is no limit.
    """

    field: str
    seconds: float | None

    def check(self, write_us: int, now_us: int) -> None:
        """Refuse a write time that is too far ahead.

        :raises RejectError: naming field, time and limit.
        """
        if self.seconds is not None and write_us - now_us > self.seconds * 1_000_000:
            raise RejectError(
                f"the write time (field {self.field!r}, else Kafka's) is {write_us} µs since 1970,"
                f" {(write_us - now_us) // 1_000_000} s ahead of the worker's clock; max_ahead is"
                f" {self.seconds:g} s"
            )


def remaining_ttl(retention_s: int, write_us: int, now_us: int) -> int:
    """Return the seconds that a row still has to live; zero or less if it is expired.

    A row from the future, by a wrong clock, gets no longer than the others.
    """
    return min(retention_s, retention_s - math.ceil((now_us - write_us) / 1_000_000))


def build_row_maker(policy: LoadPolicy, session: Any, record_format: Format | None = None) -> RowMaker:
    """Read the tables' columns and compile decoder and encoders from them.

    :param record_format: what reads the records' values; None for JSON.
    :raises ConfigurationError: if a table does not exist or may not be written, or a column cannot be filled.
    :raises StoreError: if Cassandra does not answer.
    """
    columns = {}
    for target in parse_targets(policy.tables):
        with _naming(f"read the columns of {target.full_name}", policy):
            columns[target] = read_columns(session, target, connection=policy.cassandra_connection)
    check_mapping(columns, policy.columns)
    plans = [
        arrange(plan_table(target, found, policy.columns, timestamp_field=policy.timestamp_field))
        for target, found in columns.items()
    ]
    fields = plan_fields(plans, policy.timestamp_field)
    decoder = Decoder(fields)
    encoders: list[RowEncoder | PackedEncoder] = []
    for plan in plans:
        with _naming(f"prepare the writes to {plan.target.full_name}", policy):
            prepared = session.prepare(build_insert(plan, with_ttl=policy.ttl is not None))
        packed = open_packing(session, prepared, plan)
        if packed is None:
            encoders.append(RowEncoder(plan, prepared, fields, decoder.position))
        else:
            encoders.append(PackedEncoder(plan, packed, fields, decoder.position))
    ahead = AheadLimit(policy.timestamp_field, policy.max_ahead)
    position = decoder.position[policy.timestamp_field]
    return RowMaker(decoder, tuple(encoders), position, policy.ttl, ahead, record_format)


@contextmanager
def _naming(what: str, policy: LoadPolicy) -> Iterator[None]:
    """Give the driver's errors the connection and the question, which they lack."""
    where = f"Cassandra (connection {policy.cassandra_connection!r}) was asked to {what} and"
    try:
        yield
    except (InvalidRequest, Unauthorized) as error:
        raise ConfigurationError(f"{where} refuses: {error}") from error
    except DRIVER_ERRORS as error:
        raise StoreError(f"{where} failed: {type(error).__name__}: {error}") from error


def _record_time(record: Any) -> int:
    kind, millis = record.timestamp()
    if not kind or millis <= 0:
        raise RejectError("neither the record nor Kafka gives a time to write it at")
    return int(millis) * 1000
