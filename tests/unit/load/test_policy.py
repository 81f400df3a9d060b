from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_restrack.load.errors import ConfigurationError
from airflow_provider_restrack.load.policy import LoadPolicy, LoadResult

POLICY = LoadPolicy(topics=["t"], tables=["ks.t"])


def test_the_defaults_are_allowed() -> None:
    POLICY.check()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"topics": []}, r"topics is \[\]: give a list"),
        ({"topics": "t"}, "topics is 't': give a list"),
        ({"topics": [""]}, r"topics is \[''\]: give a list"),
        ({"topics": ["t", "t"]}, "twice"),
        ({"group_id": ""}, "group_id"),
        ({"dead_letter_topic": "t"}, "read for ever"),
        ({"max_records": 0}, "max_records is 0"),
        ({"max_seconds": -1}, "max_seconds is -1"),
        ({"max_seconds": float("nan")}, "max_seconds is nan"),
        ({"batch_rows": 0}, "batch_rows is 0"),
        ({"retry_seconds": 0}, "retry_seconds is 0"),
        ({"retry_seconds": -0.5}, "retry_seconds is -0.5"),
        ({"retry_seconds": float("nan")}, "retry_seconds is nan"),
        ({"ttl": 0}, "ttl is 0"),
        ({"dead_letter_limit": 1.5}, r"dead_letter_limit is 1\.5"),
        ({"partitions": []}, r"partitions is \[\]"),
        ({"partitions": {"u": [0]}}, r"partitions names the topics \['u'\]"),
        ({"follow": True}, "follow needs max_seconds"),
        ({"format": "xml"}, "format is 'xml'"),
        ({"ttl": 630_720_001}, "at most 630720000"),
        ({"consistency": "local_quorum"}, "'local_quorum'.*LOCAL_QUORUM"),
    ],
)
def test_arguments_that_cannot_work_are_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        replace(POLICY, **changes).check()


def test_a_result_is_json_and_a_line_of_the_log() -> None:
    result = LoadResult(
        records=10, rows=12, tables={"ks.t": 12}, batches=3, lag_before=10, seconds=2.0, lost=4
    )

    assert json.loads(json.dumps(result.as_dict())) == result.as_dict()
    assert "10 records as 12 rows (ks.t 12) in 3 batches and 2.0 s (5 records/s)" in result.summary()
    assert "lost 4" in result.summary()
    assert result.summary().endswith("lag 10 before, 0 after")
    assert replace(result, lag_after=None).summary().endswith("10 before, unknown after")


def test_the_line_has_the_times_of_writes_if_there_were_any() -> None:
    result = LoadResult(write_p50_ms=4.25, write_p99_ms=31.5)

    assert result.summary().endswith("lag 0 before, 0 after; writes p50 4.25 ms, p99 31.5 ms")
