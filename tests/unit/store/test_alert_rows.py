from __future__ import annotations

import uuid
from datetime import UTC, datetime

from airflow_provider_restrack.store.alert_rows import (
    INSTANCE_COLUMNS,
    TRANSITION_COLUMNS,
    InstanceRow,
    TransitionRow,
)

ID = uuid.UUID(int=7)


def driver_time(*parts: int) -> datetime:
    """Return a time as the driver does: in UTC, and naive."""
    return datetime(*parts, tzinfo=UTC).replace(tzinfo=None)  # type: ignore[arg-type,misc]


def test_columns_are_in_the_order_of_the_fields() -> None:
    def names(fields: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(field.removesuffix("_ms") for field in fields)

    assert names(InstanceRow._fields) == INSTANCE_COLUMNS
    assert names(TransitionRow._fields) == TRANSITION_COLUMNS


def test_instance_is_read_with_its_times_in_ms_and_nothing_told_as_none_told() -> None:
    since, at = driver_time(1970, 1, 1, 0, 0, 1, 234000), driver_time(1970, 1, 2)
    row = ("cpu", "a", "", "threshold", True, ID, "warning", since, at, None, 97.5, "", False, None)

    found = InstanceRow.read(row)

    assert found == (*row[:7], 1234, 86_400_000, *row[9:13], {})
    assert found.key == ("cpu", "a", "", "threshold")


def test_transition_is_read_with_its_times_in_ms() -> None:
    row = (
        "cpu",
        "a",
        "/",
        "no_data",
        driver_time(1970, 1, 2),
        "fired",
        ID,
        "info",
        driver_time(1969, 12, 31),
    )

    found = TransitionRow.read((*row, 1.0, None, ""))

    assert (found.at_ms, found.since_ms, found.peak) == (86_400_000, -86_400_000, None)
    assert found.key == ("cpu", "a", "/", "no_data")
