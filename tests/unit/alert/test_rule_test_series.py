from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_restrack.alert.rule_test_series import (
    LateSamples,
    RuleTestError,
    build_samples,
    check_keys,
    expand,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(minute: float) -> datetime:
    return START + timedelta(minutes=minute)


def build(*series: dict[str, Any], **test: Any) -> LateSamples:
    return build_samples({"series": series} | test, START)


def read(samples: LateSamples, *columns: str) -> list[dict[str, Any]]:
    return samples.fetch(["h"], START, samples.end, columns)["h"]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("95", [95]),
        ("95x2", [95, 95, 95]),
        ("1+2x3", [1, 3, 5, 7]),
        ("1-2x2", [1, -1, -3]),
        ("_ 5 _x2", [None, 5, None, None]),
        ("-1.5e1x1", [-15, -15]),
        ("", []),
    ],
)
def test_promtools_notation(text, values) -> None:
    assert expand(text) == values


@pytest.mark.parametrize("text", ["x3", "95x", "n", "95y2", "1+x2", "95x9999999"])
def test_what_is_no_notation_is_told(text) -> None:
    with pytest.raises(RuleTestError, match="x"):
        expand(text)


def test_series_of_one_host_share_rows_and_a_second_value_is_a_second_row() -> None:
    one, two = {"host": "h", "values": "1 2"}, {"host": "h", "metric": "up", "values": "1 _"}

    assert read(build(one, two), "cpu_usage", "up") == [
        {"timestamp": at(0), "cpu_usage": 1, "up": 1},
        {"timestamp": at(1), "cpu_usage": 2},
    ]
    assert [row["cpu_usage"] for row in read(build(one, one), "cpu_usage")] == [1, 2, 1, 2]


def test_devices_share_a_map() -> None:
    disks = [{"host": "h", "metric": "inode_usage", "device": name, "values": "7"} for name in ("/", "/var")]

    assert read(build(*disks), "inode_usage") == [{"timestamp": at(0), "inode_usage": {"/": 7, "/var": 7}}]


def test_an_offset_moves_a_series_and_the_end() -> None:
    samples = build({"host": "h", "values": "1x2", "offset": "30s"}, interval="2m")

    assert [row["timestamp"] for row in read(samples)] == [at(0.5), at(2.5), at(4.5)]
    assert samples.end == at(4.5)


def test_what_comes_late_is_not_seen_before() -> None:
    samples = build({"host": "h", "values": "1 2"}, {"host": "late", "values": "3", "arrives": "9m"})
    samples.now = at(8)
    assert samples.hosts() == ["h"]
    assert samples.fetch(["late"], START, at(60), ["cpu_usage"]) == {"late": []}

    samples.now = at(9)
    assert samples.hosts() == ["h", "late"]


def test_the_order_can_be_reversed() -> None:
    rows = read(build({"host": "h", "values": "1 2 3"}, order="reversed"), "cpu_usage")

    assert [row["cpu_usage"] for row in rows] == [3, 2, 1]


def test_labels_belong_to_rows() -> None:
    assert read(build({"host": "h", "labels": {"role": "db"}, "values": "1"}), "labels") == [
        {"timestamp": at(0), "labels": {"role": "db"}}
    ]


def test_an_unknown_key_is_told_with_those_that_are_known() -> None:
    with pytest.raises(RuleTestError, match="here: 'b' is not known; allowed: a"):
        check_keys({"b": 1}, ("a",), "here")
