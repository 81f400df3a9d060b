from __future__ import annotations

from typing import Any

import msgspec
import pytest

from airflow_provider_restrack.load.octets import as_text, takes_bytes


class Nested(msgspec.Struct):
    name: str
    blobs: dict[str, bytes] | None


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (bytes, True),
        (str, False),
        (list[str], False),
        (dict[str, list[bytes]], True),
        (Nested, True),
        (list[Nested] | None, True),
        (float | None, False),
    ],
)
def test_a_type_takes_bytes_where_any_part_of_it_does(kind: Any, expected: bool) -> None:
    assert takes_bytes(kind) is expected


def test_bytes_become_text_wherever_they_are_nested() -> None:
    values = {"a": b"h\xc3\xa9", "b": [bytearray(b"x"), 1], "c": {b"k": (memoryview(b"v"), None)}, "d": 1.5}

    assert as_text(values, ()) == {"a": "h\u00e9", "b": ["x", 1], "c": {"k": ["v", None]}, "d": 1.5}


def test_what_a_column_takes_as_bytes_stays() -> None:
    values = {"a": b"\xff", "b": {"c": b"\xff", "d": b"d"}}

    assert as_text(values, {"a", "b.c"}) == {"a": b"\xff", "b": {"c": b"\xff", "d": "d"}}


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(UnicodeDecodeError):
        as_text({"a": {"b": [b"\xff"]}}, ())
