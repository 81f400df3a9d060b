from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_restrack.alert.rule_values import (
    PERCENTILES,
    abridge,
    hint,
    is_texts,
    read_count,
    read_duration,
    read_number,
    read_positive_duration,
    read_share,
    read_summary,
)


@pytest.mark.parametrize(
    ("read", "value", "expected"),
    [
        (read_number, "1.5", 1.5),
        (read_number, True, None),
        (read_number, "nan", None),
        (read_share, 0, 0.0),
        (read_count, 1, 1),
        (read_duration, "0s", 0.0),
        (read_positive_duration, "1m", 60.0),
        (read_summary, "{host}: {current:.1f}", "{host}: {current:.1f}"),
    ],
)
def test_good_values(read: Any, value: Any, expected: Any) -> None:
    assert read(value) == expected


@pytest.mark.parametrize(
    ("read", "value", "told"),
    [
        (read_share, 1.1, "from 0 to 1"),
        (read_count, 0, "at least 1"),
        (read_duration, "101d", "longer than 100 days"),
        (read_positive_duration, 0, "longer than 0"),
        (read_summary, "{hots}", "did you mean 'host'"),
        (read_summary, "{", "no valid template"),
    ],
)
def test_bad_values_say_what_is_allowed(read: Any, value: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read(value)


def test_texts_hints_and_lists() -> None:
    assert is_texts(["a"])
    assert not is_texts([])
    assert not is_texts(["a", ""])
    assert hint("mean", ("avg",)) == ": did you mean 'avg'?"
    assert not hint("zzz", ("avg",))
    assert abridge(("avg", *PERCENTILES)) == "avg, p50 to p99"
