from __future__ import annotations

from typing import Any

import pytest
from cassandra.query import UNSET_VALUE

from airflow_provider_restrack.load.decode import Decoder, plan_fields
from airflow_provider_restrack.load.encode import CELL_BYTES, RowEncoder, build_insert
from airflow_provider_restrack.load.errors import RejectError
from airflow_provider_restrack.load.pack import PackedEncoder, arrange
from airflow_provider_restrack.load.table import TableTarget, plan_table
from airflow_provider_restrack.load.wire import PackedTable
from tests.unit.load.fakes import columns_of, prepare

TYPES = {"host": "text", "day": "date", "timestamp": "timestamp", "load": "double", "note": "text"}


def encoder_of(mode: Any = "merge", *, with_ttl: bool = False, **key: Any) -> tuple[Decoder, RowEncoder]:
    columns = columns_of(TYPES, **(key or {"partition": ["host", "day"], "clustering": ["timestamp"]}))
    plan = plan_table(TableTarget("ks", "t", mode), columns, {}, timestamp_field="timestamp")
    fields = plan_fields([plan], "timestamp")
    decoder = Decoder(fields)
    return decoder, RowEncoder(plan, prepare(columns, with_ttl=with_ttl), fields, decoder.position)


def encode(raw: bytes, mode: Any = "merge", ttl: int | None = None, **key: Any) -> Any:
    decoder, encoder = encoder_of(mode, with_ttl=ttl is not None, **key)
    return encoder.encode(decoder.decode(raw), 77, ttl, "the record")


SAMPLE = b'{"host": "a", "timestamp": "1970-01-02T00:00:00Z", "load": 1.0}'


def test_the_insert_names_every_column_and_its_own_write_time() -> None:
    _, encoder = encoder_of()

    assert build_insert(encoder.plan, with_ttl=False) == (
        'INSERT INTO ks.t ("host", "day", "timestamp", "load", "note") VALUES (?, ?, ?, ?, ?)'
        " USING TIMESTAMP ?"
    )
    assert build_insert(encoder.plan, with_ttl=True).endswith("USING TIMESTAMP ? AND TTL ?")


def test_in_replace_mode_the_insert_deletes_the_columns_that_are_left_out() -> None:
    columns = columns_of(TYPES | {'A"b': "text"}, ["host"])
    plan = plan_table(
        TableTarget("ks", "t", "replace"), columns, {"note": None, 'A"b': None}, timestamp_field="timestamp"
    )

    assert build_insert(arrange(plan), with_ttl=False) == (
        'INSERT INTO ks.t ("host", "day", "load", "timestamp", "note", "A""b")'
        " VALUES (?, ?, ?, ?, null, null) USING TIMESTAMP ?"
    )


def test_names_that_need_quotes_have_them() -> None:
    plan = plan_table(
        TableTarget("ks", "t", "merge"), columns_of({'A"b': "text"}, ['A"b']), {}, timestamp_field="timestamp"
    )

    assert build_insert(plan, with_ttl=False).startswith('INSERT INTO ks.t ("A""b")')


def test_a_merged_row_leaves_absent_fields_unset() -> None:
    row = encode(SAMPLE)

    assert row.statement.values == [
        b"a", (2**31 + 1).to_bytes(4, "big"), (86_400_000).to_bytes(8, "big"), b"\x3f\xf0" + bytes(6),
        UNSET_VALUE, (77).to_bytes(8, "big"),
    ]  # fmt: skip


def test_a_replacing_row_deletes_absent_fields() -> None:
    assert encode(SAMPLE, "replace").statement.values[4] is None


def test_a_row_knows_its_keys_its_size_and_its_record() -> None:
    row = encode(SAMPLE)

    assert row.partition_key == (b"a", (2**31 + 1).to_bytes(4, "big"))
    assert row.primary_key == (*row.partition_key, (86_400_000).to_bytes(8, "big"))
    assert row.size == 1 + 4 + 8 + 8 + 8 + 5 * CELL_BYTES
    assert (row.write_us, row.record) == (77, "the record")


def test_a_null_is_a_tombstone_and_counts_for_the_size_as_do_columns_left_out() -> None:
    columns = columns_of(TYPES | {"other": "text"}, ["host", "day"], ["timestamp"])
    target = TableTarget("ks", "t", "replace")
    plan = arrange(plan_table(target, columns, {"other": None}, timestamp_field="timestamp"))
    fields = plan_fields([plan], "timestamp")
    decoder = Decoder(fields)
    prepared = prepare([source.column for source in plan.sources])
    encoders = [
        RowEncoder(plan, prepared, fields, decoder.position),
        PackedEncoder(plan, PackedTable(prepared), fields, decoder.position),
    ]

    sizes = [encoder.encode(decoder.decode(SAMPLE), 77, None, None).size for encoder in encoders]

    assert sizes == [1 + 4 + 8 + 8 + 8 + 7 * CELL_BYTES] * 2


def test_the_time_to_live_is_bound_last() -> None:
    assert encode(SAMPLE, ttl=60).statement.values[-1] == (60).to_bytes(4, "big")


@pytest.mark.parametrize(
    ("raw", "key", "reason"),
    [
        pytest.param(b'{"host": ""}', {"partition": ["host"]}, "'host' is empty", id="empty"),
        pytest.param(b'{"host": "%s"}' % (b"x" * 65536), {"partition": ["host"]}, "65536", id="too-long"),
        pytest.param(
            b'{"host": "%s", "note": "%s"}' % (b"x" * 40000, b"y" * 40000),
            {"partition": ["host", "note"]}, "longer than the 65535 bytes", id="together-too-long",
        ),
        pytest.param(b'{"host": "a"}', {"partition": ["host", "day"]}, "'day' of ks.t has no", id="no-day"),
    ],
)  # fmt: skip
def test_keys_that_cassandra_cannot_have_are_rejected(raw: bytes, key: dict[str, Any], reason: str) -> None:
    with pytest.raises(RejectError, match=reason):
        encode(raw, **key)


def test_what_the_driver_cannot_bind_is_rejected() -> None:
    decoder, encoder = encoder_of()
    values = decoder.decode(SAMPLE)
    values[decoder.position["load"]] = "no number"

    with pytest.raises(RejectError, match=r"cannot be bound for ks\.t"):
        encoder.encode(values, 77, None, None)
