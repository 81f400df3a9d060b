"""Reads the headers of Kafka records, whatever bytes their names are."""

from __future__ import annotations

from typing import Any

from airflow_provider_restrack.load.errors import RejectError

UNREADABLE = "__restrack.headers.unreadable"


def read_headers(record: Any) -> list[tuple[str, bytes | None]]:
    """Return a record's headers; every reading of them goes through here.

    Where a name is no UTF-8 text, confluent-kafka raises at the first call, and at the next returns a list
    with a hole in it: to touch that ends the process. So the record gets one header in their place,
    ``UNREADABLE``, which holds the reason, and is all that later calls return.

    :raises RejectError: at the first call, if a name is no UTF-8 text: none of the headers can be read then.
    """
    try:
        return list(record.headers() or ())
    except (SystemError, UnicodeDecodeError) as error:
        reason = str(error.__cause__ or error)  # a SystemError only wraps it
        record.set_headers([(UNREADABLE, reason.encode())])
        raise RejectError(f"the name of a header is no UTF-8 text, and none can be read: {reason}") from error


def headers_of(record: Any) -> list[tuple[str, bytes | None]]:
    """Return a record's headers; if they cannot be read, the one that says so."""
    try:
        return read_headers(record)
    except RejectError:
        return read_headers(record)
