from __future__ import annotations

import pytest

from airflow_provider_restrack.load.coerce import object_rewrite, rewrite_of
from airflow_provider_restrack.load.cql_types import parse_cql_type


@pytest.mark.parametrize(
    ("kind", "raw", "expected"),
    [
        ("int", '"12"', "12"),
        ("int", '"x"', '"x"'),
        ("int", '"\\u0031"', "1"),
        ("double", "true", "true"),
        ("text", "-1.50e3", '"-1.50e3"'),
        ("text", "null", "null"),
        ("list<int>", '[ "1" , 2, null]', "[1,2,null]"),
        ("list<int>", '"1"', '"1"'),
        ("map<text, frozen<map<text, int>>>", '{"a": {"b": "1", "c": null}, "d": null}', '{"a":{"b":1}}'),
        ("map<text, boolean>", "[]", "[]"),
    ],
)
def test_json_is_rewritten_for_a_type(kind: str, raw: str, expected: str) -> None:
    rewrite = rewrite_of(parse_cql_type(kind))

    assert rewrite is not None
    assert rewrite(raw.encode()).decode() == expected


@pytest.mark.parametrize("kind", ["boolean", "timestamp", "date", "uuid", "blob", "inet", "time", "decimal"])
def test_other_types_take_no_other_json(kind: str) -> None:
    assert rewrite_of(parse_cql_type(kind)) is None


def test_a_record_keeps_the_fields_that_are_taken() -> None:
    rewrite = object_rewrite({"a": rewrite_of(parse_cql_type("int")), "b c": None, "c": None})

    assert rewrite(b' {"a": "1", "x": 3, "b c": [2]}') == b'{"a":1,"b c":[2]}'
    assert rewrite(b"[1]") == b"[1]"
