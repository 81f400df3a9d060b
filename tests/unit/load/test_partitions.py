from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_restrack.load.errors import ConfigurationError
from airflow_provider_restrack.load.offsets import Partition
from airflow_provider_restrack.load.partitions import (
    check_topics_named,
    choose_partitions,
    numbers_of,
    parse_partitions,
)

FOUND = [Partition("a", 0), Partition("a", 1), Partition("b", 0)]


@pytest.mark.parametrize(
    ("value", "choice"),
    [
        (None, None),
        ("", None),
        (" None ", None),
        ([0, 3], (0, 3)),
        ((2,), (2,)),
        (0, (0,)),
        ("[0, 3]", (0, 3)),
        ("0,3", (0, 3)),
        ("7", (7,)),
        (["0", "3"], (0, 3)),
        ({"a": [1], "b": 0}, {"a": (1,), "b": (0,)}),
        ('{"a": [1]}', {"a": (1,)}),
    ],
)
def test_a_choice_is_read_however_it_is_written(value: Any, choice: Any) -> None:
    assert parse_partitions(value) == choice


@pytest.mark.parametrize(
    "value", [[], {}, [-1], [1.0], [True], True, "first", "[0", ["x"], {"a": []}, {1.5}, [None], 2.0, b"0"]
)
def test_anything_else_is_refused_with_an_example(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"partitions is .*such as \[0, 3\]"):
        parse_partitions(value)


@pytest.mark.parametrize("value", [[0, 3, 0], {"a": [1, 1]}, ["1", 1]])
def test_a_partition_that_is_named_twice_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="twice"):
        parse_partitions(value)


def test_numbers_count_for_every_topic() -> None:
    assert choose_partitions((0,), FOUND) == [Partition("a", 0), Partition("b", 0)]
    assert choose_partitions({"a": (1,), "b": (0,)}, FOUND) == [Partition("a", 1), Partition("b", 0)]
    assert list(numbers_of({"a": (1,)}, "a")) == [1]


def test_a_partition_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"names b\[1\], which does not exist: b has 1, from 0 on"):
        choose_partitions((0, 1), FOUND)


def test_a_mapping_names_the_topics_that_are_read() -> None:
    check_topics_named({"a": (0,)}, ["a"])
    check_topics_named((0,), ["a"])
    for topics in (["a", "b"], ["b"]):
        with pytest.raises(ConfigurationError, match=r"partitions names the topics \['a'\]"):
            check_topics_named({"a": (0,)}, topics)
