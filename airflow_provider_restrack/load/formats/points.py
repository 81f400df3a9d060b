"""Makes rows of metrics that have a name, tags, fields and a time: those of Telegraf and of InfluxDB."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.load.cql_types import EPOCH
from airflow_provider_restrack.load.errors import RejectError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


def build_row(
    name: str, tags: Mapping[str, Any], fields: Mapping[str, Any], timestamp: datetime | int | str | None
) -> dict[str, Any]:
    """Return a metric as a flat row, in which columns find a value by any name that is clear.

    ``name``, ``tags``, ``fields`` and ``timestamp`` are the metric's own, the middle two as maps. Every tag
    and field is there under its full name, ``tags.KEY`` or ``fields.KEY``, and also under its bare one,
    unless tag and field share it or it is one of the former.
    """
    row = {key: value for key, value in tags.items() if key not in fields}
    row.update((key, value) for key, value in fields.items() if key not in tags)
    row.update((f"tags.{key}", value) for key, value in tags.items())
    row.update((f"fields.{key}", value) for key, value in fields.items())
    row.update(name=name, tags=tags, fields=fields, timestamp=timestamp)
    return row


def to_instant(count: int, unit_ns: int) -> datetime | int:
    """Return a number of units since 1970 as milliseconds, or to the microsecond where it is finer.

    :raises OverflowError: if it is finer than a millisecond and outside of the years 1 to 9999.
    """
    micros = count * unit_ns // 1000
    return micros // 1000 if micros % 1000 == 0 else EPOCH + timedelta(microseconds=micros)


def record_millis(record: Any) -> int:
    """Return Kafka's time of a record, for metrics that have none.

    :raises RejectError: if Kafka has none either.
    """
    kind, millis = record.timestamp()
    if not kind or millis <= 0:
        raise RejectError("neither the metric nor Kafka gives a time")
    return int(millis)
