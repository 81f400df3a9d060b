from __future__ import annotations

import sys
from typing import Any

import pytest

from airflow_provider_restrack.load.errors import ConfigurationError
from airflow_provider_restrack.load.formats.avro import FramedAvro
from airflow_provider_restrack.load.formats.influx import InfluxFormat
from airflow_provider_restrack.load.formats.registry import FormatChoice, open_format, parse_format
from airflow_provider_restrack.load.formats.telegraf import TelegrafFormat
from airflow_provider_restrack.load.policy import LoadPolicy


def opened(value: Any, **config: Any) -> Any:
    return open_format(LoadPolicy(topics=["t"], tables=["ks.t"], format=value), config)


def function(value: bytes, record: Any) -> dict[str, Any]:
    return {"value": value.decode()}


@pytest.mark.parametrize(
    ("value", "choice"),
    [
        ("json", FormatChoice("json")),
        (" influx ", FormatChoice("influx")),
        ({"name": "influx", "precision": "s"}, FormatChoice("influx", {"precision": "s"})),
        ('{"name": "influx", "precision": "s"}', FormatChoice("influx", {"precision": "s"})),
        ("my.module.parse", FormatChoice("my.module.parse")),
        ({"name": "my.module.parse"}, FormatChoice("my.module.parse")),
        (function, FormatChoice(f"{__name__}.function", {}, function)),
        (FormatChoice("influx"), FormatChoice("influx")),
    ],
)
def test_the_argument_is_read_in_all_its_forms(value: Any, choice: FormatChoice) -> None:
    assert parse_format(value) == choice


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "xml",
        "Json",
        3,
        ["influx"],
        {},
        {"precision": "s"},
        {"name": 1},
        "{",
        "[]",
        ".a",
        "a.",
        "a..b",
        "a.1",
    ],
)
def test_what_is_no_format_is_refused(value: Any) -> None:
    with pytest.raises(
        ConfigurationError, match="give one of json, telegraf, influx, avro, a mapping such as"
    ):
        parse_format(value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"name": "influx", "unit": "s"}, "format 'influx' has no option unit: it takes precision"),
        ({"name": "json", "schema": "x"}, "format 'json' has no option schema: it takes none"),
        ({"name": "my.parse", "a": 1}, r"format 'my\.parse' has no option a: it takes none"),
        ({"name": "influx", "precision": "m"}, "precision of format 'influx' is 'm'"),
        (
            {"name": "telegraf", "json_timestamp_units": "1m"},
            "json_timestamp_units of format 'telegraf' is '1m'",
        ),
    ],
)
def test_an_option_that_cannot_work_is_refused_before_anything_is_opened(value: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        LoadPolicy(topics=["t"], tables=["ks.t"], format=value).check()


def test_each_name_opens_its_format_with_its_options() -> None:
    assert opened("json") is None
    assert opened("telegraf") == TelegrafFormat()
    assert opened({"name": "telegraf", "json_timestamp_units": "1ms"}) == TelegrafFormat(1_000_000)
    assert opened({"name": "influx", "precision": "s"}) == InfluxFormat(1_000_000_000)
    assert isinstance(opened("avro", **{"schema.registry.url": "http://127.0.0.1:1"}), FramedAvro)


def test_a_function_is_taken_as_it_is_or_imported_by_its_path() -> None:
    assert opened(function).parse(b"a", None) == [{"value": "a"}]
    assert opened("json.loads").name == "json.loads"
    with pytest.raises(
        ConfigurationError, match=r"'no_such\.module' cannot be imported: ModuleNotFoundError"
    ):
        opened("no_such.module")


def test_reading_the_argument_imports_nothing_of_the_users() -> None:
    parse_format("antigravity.geohash")

    assert "antigravity" not in sys.modules


def test_a_function_has_the_same_words_in_every_process() -> None:
    class Reader:
        def __call__(self, value: bytes, record: Any) -> None: ...

    assert " at 0x" not in repr(parse_format(function)) + repr(parse_format(Reader()))
    assert parse_format(Reader()).name.endswith("Reader")
