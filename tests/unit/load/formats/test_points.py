from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.load.cql_types import to_microseconds
from airflow_provider_restrack.load.errors import RejectError
from airflow_provider_restrack.load.formats.points import build_row, record_millis, to_instant
from tests.unit.load.fakes import FakeMessage


def test_a_value_has_its_full_name_and_its_bare_one() -> None:
    assert build_row("cpu", {"host": "a"}, {"usage": 1.5}, 7) == {
        "name": "cpu",
        "tags": {"host": "a"},
        "fields": {"usage": 1.5},
        "timestamp": 7,
        "tags.host": "a",
        "fields.usage": 1.5,
        "host": "a",
        "usage": 1.5,
    }


def test_a_bare_name_that_tag_and_field_share_is_neither() -> None:
    row = build_row("disk", {"device": "sda"}, {"device": 8}, 7)

    assert "device" not in row
    assert (row["tags.device"], row["fields.device"]) == ("sda", 8)


def test_the_metrics_own_names_win_over_tags_and_fields() -> None:
    row = build_row("m", {"name": "x", "fields.v": "y"}, {"timestamp": 1, "tags": 2, "v": 3}, 7)

    assert (row["name"], row["timestamp"], row["tags"]["name"], row["fields.v"]) == ("m", 7, "x", 3)
    assert (row["tags.name"], row["fields.timestamp"], row["fields.tags"]) == ("x", 1, 2)


@pytest.mark.parametrize(
    ("count", "unit_ns", "instant"),
    [
        (1_458_229_140, 10**9, 1_458_229_140_000),
        (1_458_229_140_123, 10**6, 1_458_229_140_123),
        (1_458_229_140_123_456, 10**3, datetime(2016, 3, 17, 15, 39, 0, 123456, UTC)),
        (1_458_229_140_123_456_789, 1, datetime(2016, 3, 17, 15, 39, 0, 123456, UTC)),
        (-1, 1, datetime(1969, 12, 31, 23, 59, 59, 999999, UTC)),
        (0, 1, 0),
    ],
)
def test_times_keep_their_microseconds(count: int, unit_ns: int, instant: object) -> None:
    assert to_instant(count, unit_ns) == instant


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_nanosecond_is_an_instant_and_never_a_later_one(count: int) -> None:
    assert 0 <= count - to_microseconds(to_instant(count, 1)) * 1000 < 1000


def test_kafkas_time_is_taken_or_its_lack_told() -> None:
    assert record_millis(FakeMessage(b"", moment=(1, 5))) == 5
    for moment in [(0, -1), (1, -1), (1, 0)]:
        with pytest.raises(RejectError, match="neither the metric nor Kafka gives a time"):
            record_millis(FakeMessage(b"", moment=moment))
