"""Which records count as published by a run; the operator's tests read them from a real Kafka."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_restrack.load.published import RUN_HEADER, count_hosts
from tests.unit.load.fakes import UnreadableHeaders

OURS = [(RUN_HEADER, b"run 1")]


class FakeRecord:
    """A record of a topic that anybody may write to."""

    def __init__(self, value: bytes | None, headers: Any = None) -> None:
        self._value, self._headers = value, headers

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> Any:
        return self._headers


def test_samples_of_hosts_that_are_up_are_counted() -> None:
    records = [
        FakeRecord(b'{"host": "a", "up": true, "cpu_usage": 1}', OURS),
        FakeRecord(b'{"host": "a", "up": true}', [("trace", b"x"), *OURS]),
        FakeRecord(b'{"host": "b", "up": false}', OURS),
        FakeRecord(b'{"host": "c", "up": null}', OURS),
    ]

    assert count_hosts(records, "run 1") == {"a": 2}


@pytest.mark.parametrize(
    "record",
    [
        FakeRecord(b'{"host": "a", "up": true}'),
        FakeRecord(b'{"host": "a", "up": true}', []),
        FakeRecord(b'{"host": "a", "up": true}', [(RUN_HEADER, b"run 2")]),
        FakeRecord(b'{"host": "a", "up": true}', [("other", b"run 1")]),
        FakeRecord(None, OURS),
        FakeRecord(b"no json", OURS),
        FakeRecord(b"[1]", OURS),
        FakeRecord(b'{"host": 7, "up": true}', OURS),
        FakeRecord(b'{"up": true}', OURS),
    ],
)
def test_what_is_not_of_the_run_or_no_sample_is_passed_over(record: FakeRecord) -> None:
    assert count_hosts([record], "run 1") == {}


def test_a_record_whose_headers_cannot_be_read_is_nobodys() -> None:
    assert count_hosts([UnreadableHeaders(b'{"host": "a", "up": true}')], "run 1") == {}
