"""Only what is final at parse time counts as literal."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from airflow_provider_restrack.templates import is_literal


@pytest.mark.parametrize(
    "value",
    [
        None,
        "web-1",
        0,
        1.5,
        True,
        timedelta(minutes=10),
        {"start": datetime(2026, 5, 1, tzinfo=UTC), "end": date(2026, 5, 2)},
        [],
        ["web-1", {"host": "db-1", "port": 22}],
        ({"name": "cpu", "threshold": 90},),
    ],
)
def test_plain_values_at_any_depth_are_literal(value: object) -> None:
    assert is_literal(value)


@pytest.mark.parametrize(
    "value",
    [
        "{{ var.value.hosts }}",
        "{% if a %}b{% endif %}",
        ["web-1", "{{ params.host }}"],
        {"host": {"labels": ["{{ ds }}"]}},
        {"{{ params.key }}": 1},
        object(),  # as the output of another task is
        [object()],
    ],
)
def test_templates_and_foreign_objects_at_any_depth_are_not(value: object) -> None:
    assert not is_literal(value)
