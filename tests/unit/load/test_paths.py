from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_restrack.load.errors import ConfigurationError, RejectError
from airflow_provider_restrack.load.paths import Flattener, split_name


def find(record: Any, *names: str) -> Any:
    return json.loads(
        Flattener({name: split_name(name) for name in names}).flatten(json.dumps(record).encode())
    )


def test_names_are_split_at_dots_that_are_not_escaped() -> None:
    assert split_name("a") == ("a",)
    assert split_name(r"a.b\.c.d") == ("a", "b.c", "d")
    assert split_name(r"a\b.c") == (r"a\b", "c")
    for name in ("", ".", "a.", ".a", "a..b"):
        with pytest.raises(ConfigurationError, match="has an empty key"):
            split_name(name)


@pytest.mark.parametrize(
    ("record", "found"),
    [
        ({"a": {"b": {"c": 1}}}, 1),
        ({"a": {"b.c": 2, "b": {"c": 1}}}, 2),
        ({"a.b.c": 3, "a": {"b.c": 2}}, 3),
        ({"a.b.c": None, "a": {"b.c": None, "b": {"c": 1}}}, 1),
        ({"a.b.c": 3, "a": "text"}, 3),
        ({"a.b": {"c": 1}}, None),
        ({"a": None}, None),
        ({}, None),
    ],
)
def test_the_whole_name_comes_before_its_parts(record: Any, found: Any) -> None:
    assert find(record, "a.b.c").get("a.b.c") == found


def test_a_dot_of_a_key_can_be_escaped() -> None:
    record = {"a.b": {"c": 1}, "a": {"b": {"c": 2}}, "c.d": 3, "c": {"d": 4}}

    assert find(record, r"a\.b.c", "a.b.c", r"c\.d", "c.d") == {
        r"a\.b.c": 1, "a.b.c": 2, r"c\.d": 3, "c.d": 3,
    }  # fmt: skip
    assert find({"c": {"d": 4}}, r"c\.d", "c.d") == {"c.d": 4}


def test_values_are_as_they_are_written_and_the_last_of_a_key_counts() -> None:
    flattener = Flattener({"a.b": ("a", "b")})

    assert flattener.flatten(b'{"a": {"b": 0}, "a" : {"b" : 1.50e400 } }') == b'{"a.b":1.50e400}'
    assert flattener.keys == ["a.b", "a"]


@pytest.mark.parametrize(
    ("record", "place"), [([], r"\$"), ({"a": 1}, r"\$\.a"), ({"a": {"b": [1]}}, r"\$\.a\.b")]
)
def test_something_else_than_an_object_is_rejected(record: Any, place: str) -> None:
    with pytest.raises(RejectError, match=f"Expected `object`.* - at `{place}`"):
        find(record, "a.b.c")


def test_what_is_no_json_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="truncated"):
        Flattener({"a.b": ("a", "b")}).flatten(b'{"a": ')
