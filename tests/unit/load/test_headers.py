from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_restrack.load.errors import RejectError
from airflow_provider_restrack.load.headers import UNREADABLE, headers_of, read_headers


class Record:
    """A record of confluent-kafka, whose headers may have a name that is no text."""

    def __init__(
        self, headers: list[tuple[str, bytes | None]] | None, error: Exception | None = None
    ) -> None:
        self._headers, self._error = headers, error

    def headers(self) -> Any:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return self._headers

    def set_headers(self, headers: list[tuple[str, bytes | None]]) -> None:
        self._headers = headers


BAD = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")


def wrapped() -> SystemError:
    error = SystemError("headers returned a result with an exception set")
    error.__cause__ = BAD
    return error


@pytest.mark.parametrize("headers", [None, [], [("a", b"1"), ("a", None)]])
def test_headers_are_a_list_also_if_there_are_none(headers: Any) -> None:
    assert read_headers(Record(headers)) == headers_of(Record(headers)) == list(headers or ())


@pytest.mark.parametrize("error", [BAD, wrapped()])
def test_a_name_that_is_no_text_rejects_the_record_and_leaves_one_header(error: Exception) -> None:
    record = Record([("\ufffd", b"1")], error)

    with pytest.raises(RejectError, match=r"name of a header is no UTF-8 text.*invalid start byte"):
        read_headers(record)

    [(name, value)] = read_headers(record)
    assert (name, b"invalid start byte" in (value or b"")) == (UNREADABLE, True)


def test_a_dead_letter_has_the_header_that_says_so() -> None:
    assert [name for name, _ in headers_of(Record([], wrapped()))] == [UNREADABLE]
