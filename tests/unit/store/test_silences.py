from __future__ import annotations

import uuid
from typing import Any

import pytest

from airflow_provider_restrack.store import silences
from airflow_provider_restrack.store.silences import SilenceRow, write_silence

HOUR_MS = 3_600_000


class FakeStatements:
    written: list[Any]

    def __init__(self, *_: Any) -> None:
        FakeStatements.written = []

    def prepare_insert(self, *_: Any) -> None: ...

    def write(self, _: Any, rows: list[Any]) -> None:
        FakeStatements.written += rows


@pytest.mark.parametrize(
    ("now_ms", "ttl_s"),
    [(0, 2 * 3600 + 86400), (HOUR_MS, 3600 + 86400), (9 * HOUR_MS, 86400)],
    ids=["before", "within", "after"],
)
def test_a_silence_is_kept_until_a_day_after_its_end(
    monkeypatch: pytest.MonkeyPatch, now_ms: int, ttl_s: int
) -> None:
    monkeypatch.setattr(silences, "Statements", FakeStatements)
    row = SilenceRow("*", uuid.UUID(int=1), 0, 2 * HOUR_MS, "*", "*", "*", "", "")

    write_silence(None, "metrics", row, now_ms)

    assert FakeStatements.written == [(*row, ttl_s)]
