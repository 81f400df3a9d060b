from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from airflow_provider_restrack.load.dead_letters import DeadLetterPolicy, build_headers
from airflow_provider_restrack.load.decode import Decoder, plan_fields
from airflow_provider_restrack.load.encode import RowEncoder
from airflow_provider_restrack.load.errors import ConfigurationError, RejectError
from airflow_provider_restrack.load.sources import Given, check_type, parse_source, read_metadata
from airflow_provider_restrack.load.table import plan_table
from tests.unit.load.fakes import TARGET, FakeMessage, UnreadableHeaders, columns_of, prepare

LETTERS = DeadLetterPolicy("dead", "g")
TYPES = {
    "k": "text", "key": "text", "raw": "blob", "topic": "text", "part": "int", "at": "bigint",
    "came": "timestamp",
    "day": "date", "trace": "uuid", "source": "text", "tags": "list<int>", "since": "timestamp", "of": "date",
}  # fmt: skip
COLUMNS: dict[str, Any] = {
    "key": "__key", "raw": "__key", "topic": "__topic", "part": "__partition", "at": "__offset",
    "came": "__timestamp", "day": "__timestamp", "trace": "header.trace", "source": {"value": "rack 7"},
    "tags": {"value": ["1", 2]}, "since": {"field": "ts", "unit": "s"}, "of": {"day_of": "ts"},
}  # fmt: skip


def stored(message: FakeMessage, mapping: dict[str, Any] = COLUMNS) -> dict[str, Any]:
    columns = columns_of(TYPES, ["k"])
    plan = plan_table(TARGET, columns, mapping, timestamp_field="ts")
    fields = plan_fields([plan], "ts")
    decoder, prepared = Decoder(fields), prepare(columns)
    values = decoder.decode(message.value())
    decoder.add_computed(values, message)
    row = RowEncoder(plan, prepared, fields, decoder.position).encode(values, 1, None, message)
    pairs = zip(prepared.column_metadata[:-1], row.statement.values, strict=False)
    return {
        column.name: column.type.deserialize(value, 5) for column, value in pairs if isinstance(value, bytes)
    }


def test_metadata_constants_and_epoch_times_fill_columns() -> None:
    trace = "8bcd7e34-0f3c-4c4e-9a5e-0a3b1d9c1b2a"
    message = FakeMessage(
        b'{"k": "a", "ts": 1767322800.5}', 7, 3, extra=[("trace", b"x"), ("trace", trace.encode())]
    )

    row = {name: str(value) for name, value in stored(message).items()}

    assert row == {
        "k": "a", "key": "key", "raw": "b'key'", "topic": "t", "part": "3", "at": "7", "trace": trace,
        "came": "2023-11-14 22:13:20", "day": "2023-11-14", "source": "rack 7", "tags": "[1, 2]",
        "since": "2026-01-02 03:00:00.500000", "of": "2026-01-02",
    }  # fmt: skip


def test_what_a_record_lacks_is_absent_and_what_does_not_fit_is_rejected() -> None:
    bare = FakeMessage(b'{"k": "a"}', named=None, moment=(0, -1))

    assert stored(bare).keys() == {"k", "topic", "part", "at", "source", "tags"}
    with pytest.raises(RejectError, match="__key is no UTF-8 text"):
        stored(FakeMessage(b'{"k": "a"}', named=b"\xff"))
    with pytest.raises(RejectError, match=r"header\.trace: Invalid UUID"):
        stored(FakeMessage(b'{"k": "a"}', extra=[("trace", b"x")]))
    with pytest.raises(RejectError, match=r"out of range - at `\$\.ts`"):
        stored(FakeMessage(b'{"k": "a", "ts": 1e30}'))


def test_a_record_whose_headers_cannot_be_read_is_rejected_where_a_column_takes_one() -> None:
    message = UnreadableHeaders(b'{"k": "a"}')

    with pytest.raises(RejectError, match=r"header\.trace: the name of a header is no UTF-8 text.*0xff"):
        stored(message)
    assert "__restrack.headers.unreadable" in dict(build_headers(message, RejectError("no"), LETTERS))
    assert stored(UnreadableHeaders(b'{"k": "b"}'), {"topic": "__topic"})["topic"] == "t"


@pytest.mark.parametrize(
    ("unit", "number"),
    [
        ("s", "1767322800"),
        ("ms", "1767322800000"),
        ("us", '"1767322800000000"'),
        ("ns", "1767322800000000999"),
    ],
)
def test_epoch_times_have_units(unit: str, number: str) -> None:
    message = FakeMessage(b'{"k": "a", "ts": ' + number.encode() + b"}")

    row = stored(message, {"since": {"field": "ts", "unit": unit}})

    assert str(row["since"]) == "2026-01-02 03:00:00"


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize(
    "number", ["1e22", "1e1000000", "-1e1000000", '"1e1000000"', '"1e999999999999999999"', "0e1000000"]
)
def test_an_epoch_time_however_large_is_a_reject(unit: str, number: str) -> None:
    message = FakeMessage(b'{"k": "a", "ts": ' + number.encode() + b"}")

    with pytest.raises(RejectError, match=r"out of range - at `\$\.ts`"):
        stored(message, {"since": {"field": "ts", "unit": unit}})


@pytest.mark.parametrize(("number", "found"), [("1e-1000000", "1970-01-01"), ("-1e-1000000", "1969-12-31")])
def test_an_epoch_time_however_small_is_rounded_down(number: str, found: str) -> None:
    message = FakeMessage(b'{"k": "a", "ts": ' + number.encode() + b"}")

    row = stored(message, {"since": {"field": "ts", "unit": "s"}})

    assert str(row["since"]).startswith(found)


@pytest.mark.parametrize(
    "given",
    [
        7, "", {}, {"field": ""}, {"field": "a", "unit": "m"}, {"value": None}, {"day_of": "a", "x": 1}, [],
        {"first_of": []}, {"first_of": "ab"}, {"first_of": ["a"], "unit": "s"}, {"uuid5_of": []},
        {"uuid5_of": ["a"], "name": "b"},
    ],
)  # fmt: skip
def test_a_source_of_another_form_is_refused(given: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"fills 'c' with .*: it must be a field's name, None, __key"
    ):
        parse_source("c", given)


def test_names_of_fields_are_taken_as_such() -> None:
    assert parse_source("c", "a.b") == parse_source("c", {"field": "a.b"}) == Given(field="a.b")
    assert parse_source("c", {"field": "__key"}) == Given(field="__key")
    with pytest.raises(ConfigurationError, match="'c' with a value that is no JSON"):
        parse_source("c", {"value": float("nan")})


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        ("boolean", "__key", "type boolean, with __key"),
        ("double", "__offset", "type double, with __offset: that fills columns of type ascii, bigint"),
        ("int", {"day_of": "ts"}, "with day_of: that fills columns of type date"),
        ("bigint", {"field": "ts", "unit": "s"}, "with a field with unit 's'"),
    ],
)
def test_a_source_that_never_fits_the_columns_type_is_refused(kind: str, given: Any, words: str) -> None:
    source = parse_source("c", given)

    assert source is not None
    with pytest.raises(ConfigurationError, match=words):
        check_type("c", kind, source)


def test_a_constant_that_does_not_fit_and_two_units_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="fills 'part': Expected `int`"):
        stored(FakeMessage(b"{}"), {"part": {"value": "x"}})
    with pytest.raises(ConfigurationError, match="'ts' the units 'ms' and 's'"):
        stored(
            FakeMessage(b"{}"), {"since": {"field": "ts", "unit": "s"}, "came": {"field": "ts", "unit": "ms"}}
        )


def test_a_header_may_be_text_or_missing() -> None:
    assert read_metadata("header.a", FakeMessage(None, extra=[("a", "x")]), as_bytes=False) == "x"  # type: ignore[list-item]
    assert read_metadata("header.b", FakeMessage(None), as_bytes=True) is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("header.", r"field 'header\.' has an empty key before or after a dot"),
        ({"field": "a..b"}, "has an empty key"),
        ({"day_of": ".a"}, "has an empty key"),
        ({"first_of": ["a", "b."]}, "has an empty key"),
        ({"first_of": ["a", None]}, "with first_of None: it takes fields"),
        ({"first_of": [{"first_of": ["a"]}]}, "it takes fields, metadata and constants"),
        ({"first_of": ["a", 7]}, "with 7: it must be"),
        ({"uuid5_of": ["a", {"value": 1}]}, "it takes names of fields and metadata"),
        ({"uuid5_of": ["a"], "namespace": "x"}, "namespace 'x', which is no UUID"),
    ],
)
def test_a_part_that_cannot_be_is_refused_by_its_name(given: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=f"columns= fills 'c'.*{words}"):
        parse_source("c", given)


def test_dotted_names_lead_into_objects() -> None:
    mapping = {
        "source": "meta.rack.name", "tags": "meta.tags", "part": "meta.n", "since": "meta.at",
        "of": {"day_of": "meta.at"}, "at": {"value": 1},
    }  # fmt: skip
    message = FakeMessage(
        b'{"k": "a", "meta": {"rack": {"name": 7}, "tags": [1], "n": "5", "at": "2026-01-02T03:00:00Z"}}'
    )

    row = {name: str(value) for name, value in stored(message, mapping).items()}

    assert row == {
        "k": "a", "source": "7", "tags": "[1]", "part": "5", "since": "2026-01-02 03:00:00",
        "of": "2026-01-02", "at": "1",
    }  # fmt: skip
    assert stored(FakeMessage(b'{"k": "a", "meta": null}'), mapping).keys() == {"k", "at"}
    with pytest.raises(RejectError, match=r"got `str` - at `\$\.meta\.n`"):
        stored(FakeMessage(b'{"k": "a", "meta": {"n": "x"}}'), mapping)
    with pytest.raises(RejectError, match=r"Expected `object`, got `str` - at `\$\.meta\.rack`"):
        stored(FakeMessage(b'{"k": "a", "meta": {"rack": "7"}}'), mapping)


def test_an_object_may_fill_a_column_beside_what_is_inside_it() -> None:
    types = {"k": "text", "whole": "map<text, int>", "one": "text", "other": "int"}
    plan = plan_table(
        TARGET, columns_of(types, ["k"]), {"whole": "m", "one": "m.a", "other": "m.a.b"}, timestamp_field="ts"
    )
    decoder = Decoder(plan_fields([plan], "ts"))

    for make in (decoder.decode, lambda raw: decoder.decode_mapping(json.loads(raw))):
        values = make(b'{"k": "x", "m": {"a": 1}, "m.a.b": 3, "else": []}')
        assert {name: values[at] for name, at in decoder.position.items() if name != "ts"} == {
            "k": "x", "m": {"a": 1}, "m.a": "1", "m.a.b": 3,
        }  # fmt: skip


def test_the_first_source_that_is_not_null_fills_a_column() -> None:
    mapping: dict[str, Any] = {
        "k": {"first_of": ["name", "meta.name", "__key"]},
        "source": {"first_of": ["name", {"value": "none"}]},
        "at": {"first_of": ["n", "__offset"]},
        "since": {"first_of": ["seen", {"field": "ts", "unit": "s"}, "__timestamp"]},
        "of": {"first_of": ["born", {"day_of": "seen"}, "__timestamp"]},
        "day": "born",
    }

    def row(raw: bytes) -> list[str]:
        found = stored(FakeMessage(raw, 7), mapping)
        return [str(found.get(name)) for name in ("k", "source", "at", "since", "of")]

    assert row(b"{}") == ["key", "none", "7", "2023-11-14 22:13:20", "2023-11-14"]
    assert row(b'{"name": null, "meta": {"name": "a"}, "n": 0, "ts": 1767322800}') == [
        "a", "none", "0", "2026-01-02 03:00:00", "2023-11-14",
    ]  # fmt: skip
    assert row(b'{"name": "b", "seen": "2025-01-01T00:00:00Z", "k": "other"}')[1:] == [
        "b", "7", "2025-01-01 00:00:00", "2025-01-01",
    ]  # fmt: skip
    assert row(b'{"born": "2024-01-01"}')[4] == "2024-01-01"
    with pytest.raises(RejectError, match=r"got `bool` - at `\$\.n`"):
        row(b'{"n": true}')
    with pytest.raises(RejectError, match="routing key 'k'"):
        stored(FakeMessage(b"{}"), {"k": {"first_of": ["name", "title"]}})


def test_a_uuid_is_made_of_texts() -> None:
    mapping = {"trace": {"uuid5_of": ["k", "meta.at", "__partition"], "namespace": str(uuid.NAMESPACE_DNS)}}

    def made(raw: bytes) -> Any:
        return stored(FakeMessage(raw, where=3), mapping).get("trace")

    assert made(b'{"k": "a", "meta": {"at": 1.50}}') == uuid.uuid5(uuid.NAMESPACE_DNS, "a 1.50 3")
    assert made(b'{"k": "a", "meta": {}}') is None
    assert stored(FakeMessage(b'{"k": "a", "ts": 5}'), {"trace": {"uuid5_of": ["ts"]}})[
        "trace"
    ] == uuid.uuid5(uuid.NAMESPACE_URL, "5")
    with pytest.raises(RejectError, match="got `bool` - at"):
        made(b'{"k": "a", "meta": {"at": true}}')


def test_derivations_of_types_that_never_fit_are_refused() -> None:
    for given, words in (
        ({"first_of": ["a", "__key"]}, "type boolean, with __key"),
        ({"uuid5_of": ["a"]}, "with uuid5_of: that fills columns of type uuid"),
    ):
        source = parse_source("c", given)
        assert source is not None
        with pytest.raises(ConfigurationError, match=words):
            check_type("c", "boolean", source)
    with pytest.raises(ConfigurationError, match=r"field 'k' fills .* different types"):
        stored(FakeMessage(b"{}"), {"part": {"first_of": ["part", "k"]}})
    with pytest.raises(ConfigurationError, match="fills 'part': Expected `int`"):
        stored(FakeMessage(b"{}"), {"part": {"first_of": ["part", {"value": "x"}]}})
