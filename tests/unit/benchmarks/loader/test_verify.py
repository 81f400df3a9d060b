from __future__ import annotations

import struct
import uuid
from datetime import datetime
from typing import Any

from cassandra import cqltypes
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.store.schema import FIELD_BY_NAME
from benchmarks.loader.verify import (
    Contents,
    RowPacker,
    describe_difference,
    hash_page,
    hash_row,
    summarize,
)
from benchmarks.loader.works import WORKS, generate

FULL = WORKS["full"]
DRIVER_TYPES = {
    "text": cqltypes.UTF8Type,
    "uuid": cqltypes.UUIDType,
    "double": cqltypes.DoubleType,
    "int": cqltypes.Int32Type,
    "bigint": cqltypes.LongType,
    "boolean": cqltypes.BooleanType,
    "timestamp": cqltypes.DateType,
    "date": cqltypes.SimpleDateType,
    "map<text,text>": cqltypes.MapType.apply_parameters([cqltypes.UTF8Type, cqltypes.UTF8Type]),
    "map<text,double>": cqltypes.MapType.apply_parameters([cqltypes.UTF8Type, cqltypes.DoubleType]),
    "list<double>": cqltypes.ListType.apply_parameters([cqltypes.DoubleType]),
}
PROTOCOL = 5


def as_driver_packs(sample: dict[str, Any]) -> bytes:
    """Return a sample's cells as the driver itself serialises them."""
    taken = datetime.fromisoformat(sample["timestamp"])
    values = {**sample, "timestamp": taken, "day": taken.date(), "id": uuid.UUID(sample["id"])}
    cells = []
    for name in FULL.columns:
        value = values[name]
        if value is None:
            cells.append(struct.pack(">i", -1))
            continue
        packed = DRIVER_TYPES[FIELD_BY_NAME[name].type].to_binary(value, PROTOCOL)
        cells.append(struct.pack(">i", len(packed)) + packed)
    return b"".join(cells)


def test_cells_are_packed_as_the_driver_packs_them() -> None:
    packer = RowPacker(FULL.columns)

    for sample in generate(FULL, 20):
        assert packer.pack(sample) == as_driver_packs(sample)


def test_the_entries_of_a_map_are_packed_by_key_whatever_their_order() -> None:
    packer = RowPacker(("labels", "timestamp"))
    timestamp = "2026-01-01T00:00:00.000Z"

    one = packer.pack({"timestamp": timestamp, "labels": {"a": "1", "b": "2"}})
    other = packer.pack({"timestamp": timestamp, "labels": {"b": "2", "a": "1"}})

    assert one == other


@given(st.permutations([b"row %d" % number for number in range(8)]))
def test_the_checksum_is_the_same_in_any_order(rows: list[bytes]) -> None:
    found, expected = Contents(), Contents()
    for row in rows:
        found.add(row)
    for row in sorted(rows):
        expected.add(row)

    assert found == expected


def test_one_changed_value_changes_the_checksum() -> None:
    samples = list(generate(FULL, 5))
    expected = summarize(samples, FULL.columns)

    samples[3]["load_1m"] += 0.01

    found = summarize(samples, FULL.columns)
    assert found.rows == expected.rows
    assert found.checksum != expected.checksum


def test_a_row_twice_in_the_place_of_another_changes_the_checksum() -> None:
    samples = list(generate(FULL, 5))

    found = summarize([*samples[:4], samples[0]], FULL.columns)

    assert "holds 5 rows with checksum" in describe_difference(summarize(samples, FULL.columns), found)


def test_equal_contents_have_no_difference_to_describe() -> None:
    samples = list(generate(FULL, 5))

    assert not describe_difference(
        summarize(samples, FULL.columns), summarize(reversed(samples), FULL.columns)
    )


def test_the_rows_of_a_page_are_told_apart() -> None:
    first = struct.pack(">i", 2) + b"ab" + struct.pack(">i", -1)
    second = struct.pack(">i", 0) + struct.pack(">i", 1) + b"c"

    hashes = hash_page(struct.pack(">i", 2) + first + second, columns=2)

    assert hashes == [hash_row(first), hash_row(second)]
