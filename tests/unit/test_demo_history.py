"""The generated history: the same whenever it is made, whole, and never without something to see."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_restrack.store.schema import FIELD_BY_NAME
from demo.history import FLEET, SILENT_DAYS, make_sample, make_samples

UNTIL = datetime(2026, 11, 24, 9, 7, tzinfo=UTC)


def test_samples_are_those_of_the_days_before_on_a_grid_of_time() -> None:
    found = list(make_samples(UNTIL, days=6))

    times = [datetime.fromisoformat(one["timestamp"]) for one in found if one["host"] == "gen-db-1"]
    assert (times[0], times[-1], len(times)) == (
        datetime(2026, 11, 18, 9, 15, tzinfo=UTC),
        datetime(2026, 11, 24, 9, 0, tzinfo=UTC),
        6 * 96,
    )
    silent = [datetime.fromisoformat(one["timestamp"]) for one in found if one["host"] == FLEET[-1].name]
    assert UNTIL - max(silent) > timedelta(days=SILENT_DAYS)
    assert len({(one["host"], one["timestamp"]) for one in found}) == len(found)


def test_a_later_run_makes_the_same_of_the_days_that_both_have() -> None:
    first = {one["id"]: one for one in make_samples(UNTIL, days=5)}
    later = {one["id"]: one for one in make_samples(UNTIL + timedelta(days=1), days=5)}

    common = first.keys() & later.keys()
    assert len(common) > 2000
    assert all(first[name] == later[name] for name in common)


def test_fields_are_those_of_a_sample() -> None:
    assert make_sample(FLEET[0], UNTIL).keys() <= FIELD_BY_NAME.keys()


@pytest.mark.parametrize("month", range(1, 13))
def test_on_any_day_some_filesystem_is_more_than_half_full(month: int) -> None:
    moment = datetime(2027, month, 15, 12, tzinfo=UTC)

    fullest = max(make_sample(host, moment)["filesystem_usage"][host.mount] for host in FLEET)

    assert 50 < fullest < 100
