from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_restrack.load import assembly
from airflow_provider_restrack.load.assembly import Assembly
from airflow_provider_restrack.load.encode import EncodedRow
from airflow_provider_restrack.load.errors import RejectError
from airflow_provider_restrack.load.offsets import Partition


def row(size: int) -> EncodedRow:
    return EncodedRow((b"a",), (b"a",), 1, size, object(), None)


def test_the_rows_of_a_record_go_to_their_tables() -> None:
    gathered, rows = Assembly([[], []]), [row(1), row(2), row(3), row(4)]
    gathered.add(rows[:2])
    gathered.add(rows[2:])

    assert gathered.tables == [[rows[0], rows[2]], [rows[1], rows[3]]]
    assert gathered.size == 10


def test_a_record_has_a_row_for_each_table() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Assembly([[], []]).add([row(1)])


def test_the_furthest_end_of_each_partition_is_kept() -> None:
    gathered = Assembly([[]])
    assert gathered.is_empty
    gathered.note_read({Partition("t", 0): 5, Partition("t", 1): 3}, 8)
    gathered.note_read({Partition("t", 0): 9}, 4)

    assert gathered.ends == {Partition("t", 0): 9, Partition("t", 1): 3}
    assert gathered.records == 12
    assert not gathered.is_empty


def test_ends_without_records_are_something_read() -> None:
    gathered = Assembly([[]])
    gathered.note_read({Partition("t", 0): 5}, 0)

    assert not gathered.is_empty
    assert not gathered.is_full


def test_rejected_records_keep_their_reasons() -> None:
    gathered, record, error = Assembly([[]]), object(), RejectError("no")
    gathered.reject(record, error)

    assert gathered.rejected == [(record, error)]


def test_it_is_full_by_records(monkeypatch: Any) -> None:
    monkeypatch.setattr(assembly, "MAX_RECORDS", 10)
    gathered = Assembly([[]])
    gathered.note_read({Partition("t", 0): 9}, 9)
    assert not gathered.is_full

    gathered.note_read({Partition("t", 0): 10}, 1)
    assert gathered.is_full


def test_it_is_full_by_bytes(monkeypatch: Any) -> None:
    monkeypatch.setattr(assembly, "MAX_BYTES", 10)
    gathered = Assembly([[], []])
    gathered.add([row(4), row(5)])
    assert not gathered.is_full

    gathered.add([row(0), row(1)])
    assert gathered.is_full


def test_it_is_full_by_bytes_of_the_records_too(monkeypatch: Any) -> None:
    monkeypatch.setattr(assembly, "MAX_BYTES", 10)
    gathered, part = Assembly([[]]), Assembly([[]])
    part.add([row(1)])
    part.note_read({Partition("t", 0): 1}, 1, size=5)
    gathered.extend(part)
    assert not gathered.is_full

    gathered.extend(part)
    assert gathered.is_full


def test_two_assemblies_share_nothing() -> None:
    first, second = Assembly([[]]), Assembly([[]])
    first.note_read({Partition("t", 0): 1}, 1)
    first.reject(object(), RejectError("no"))

    assert (second.is_empty, second.rejected) == (True, [])
