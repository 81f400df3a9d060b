from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.load.errors import ConfigurationError, RejectError
from airflow_provider_restrack.load.formats.telegraf import TelegrafFormat, parse_units
from tests.unit.load.fakes import FakeMessage

METRIC = {
    "fields": {"field_1": 30, "load": 0.5},
    "name": "docker",
    "tags": {"host": "raynor"},
    "timestamp": 1458229140,
}
KAFKA = FakeMessage(b"", moment=(1, 1_700_000_000_000))


def parse(value: Any, **options: Any) -> list[dict[str, Any]]:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return TelegrafFormat.of(options).parse(raw, KAFKA)


def test_a_metric_is_a_row_whose_time_is_in_seconds() -> None:
    [row] = parse(METRIC)

    assert (row["name"], row["host"], row["field_1"], row["load"]) == ("docker", "raynor", 30, 0.5)
    assert row["timestamp"] == 1_458_229_140_000


def test_a_batch_is_a_row_for_each_metric() -> None:
    rows = parse({"metrics": [METRIC, METRIC | {"name": "cpu"}]})

    assert [row["name"] for row in rows] == ["docker", "cpu"]
    assert parse({"metrics": []}) == []


def test_the_unit_of_the_time_is_an_option() -> None:
    [row] = parse(METRIC | {"timestamp": 1458229140123}, json_timestamp_units="1ms")

    assert row["timestamp"] == 1_458_229_140_123


def test_a_time_as_text_is_left_to_the_column_and_a_missing_one_is_kafkas() -> None:
    [row] = parse(METRIC | {"timestamp": "2016-03-17T15:39:00Z"})
    assert row["timestamp"] == "2016-03-17T15:39:00Z"
    [row] = parse({"name": "a", "fields": {}})
    assert (row["timestamp"], row["tags"]) == (1_700_000_000_000, {})


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"", "truncated"),
        (b'{"name": "a"', "truncated"),
        (b"[]", "object"),
        (b'\xff{"name"', "malformed"),
        ({"name": "a"}, "`fields`"),
        ({"fields": {}}, "`name`"),
        ({"metrics": [METRIC, {"name": 5}]}, r"\$\.metrics\[1\]\.name"),
        ({"metrics": None}, r"\$\.metrics"),
        (METRIC | {"tags": {"host": 5}}, r"\$\.tags\[\.\.\.\]"),
        (METRIC | {"timestamp": 1.5}, r"\$\.timestamp"),
        (b'{"name": "a", "fields": {"x": NaN}}', "malformed"),
        (b'{"name": "a", "fields": ' + b'{"x":' * 100_000, "nested too deeply"),
    ],
)
def test_anything_else_is_rejected_with_its_place(value: Any, words: str) -> None:
    with pytest.raises(RejectError, match=f"^telegraf: .*{words}"):
        parse(value)


def test_a_time_that_no_calendar_has_is_rejected() -> None:
    with pytest.raises(RejectError, match=r"^telegraf: "):
        parse(METRIC | {"timestamp": 10**18 + 1}, json_timestamp_units="1us")


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1ns", 1),
        ("1us", 1000),
        ("1µs", 1000),
        ("1ms", 10**6),
        ("10ms", 10**7),
        ("50ms", 10**7),
        ("1s", 10**9),
    ],
)
def test_units_are_cut_to_powers_of_ten(text: str, nanoseconds: int) -> None:
    assert parse_units(text) == nanoseconds


@pytest.mark.parametrize("value", [None, 1, "", "s", "0s", "1", "1h", "-1s", "1.5s"])
def test_what_is_no_unit_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="give what Telegraf's own configuration has"):
        parse_units(value)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
_metric = st.fixed_dictionaries(
    {}, optional={"name": _json, "fields": _json, "tags": _json, "timestamp": _json}
)


@given(
    st.binary()
    | (_metric | st.fixed_dictionaries({"metrics": st.lists(_metric)})).map(
        lambda one: json.dumps(one).encode()
    )
)
def test_whatever_comes_is_rows_or_rejected(raw: bytes) -> None:
    try:
        rows = TelegrafFormat().parse(raw, KAFKA)
    except RejectError:
        return
    assert all(isinstance(row["name"], str) for row in rows)
