from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_restrack.store.alert_history import read_history

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"since": NOW, "until": NOW}, "needs a host or a rule"),
        ({"host": "a", "since": NOW, "until": NOW - timedelta(1)}, "lies before since"),
        ({"host": "a", "since": NOW.replace(tzinfo=None), "until": NOW}, "has no time zone"),
    ],
)
def test_a_read_that_makes_no_sense_is_refused_before_it_is_made(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_history(None, "metrics", **arguments)
