"""Patterns as DAG authors write them."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_restrack.collect.patterns import parse_patterns


def test_patterns_become_pairs_that_name_their_kind() -> None:
    pairs = parse_patterns({"mounts": ["/", "/data*"]}, {"interfaces": "docker[0-9]"})

    assert pairs == (
        ("include", "mounts=/"),
        ("include", "mounts=/data*"),
        ("exclude", "interfaces=docker[0-9]"),
    )


def test_without_patterns_there_are_no_pairs() -> None:
    assert parse_patterns(None, {}) == ()


@pytest.mark.parametrize(
    ("exclude", "said"),
    [
        (["/mnt/*"], "exclude is .* give a mapping"),
        ({"disks": "sda"}, "exclude has the key 'disks': there are mounts, devices, interfaces"),
        ({"mounts": 5}, r"exclude\['mounts'\] is 5: give a pattern"),
        ({"mounts": [None]}, r"exclude\['mounts'\] has None"),
        ({"mounts": ""}, "has ''"),
        ({"mounts": "/a\n/b"}, "has '/a"),
        ({"mounts": r"/a\*"}, "no backslash"),
        ({"mounts": "/[^a]"}, r"\[!abc\]"),
    ],
)
def test_what_is_wrong_is_named(exclude: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_patterns(None, exclude)
