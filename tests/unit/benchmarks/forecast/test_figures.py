from __future__ import annotations

from benchmarks.forecast.figures import judge, list_verdicts, summarize
from benchmarks.forecast.series import make_series


def test_a_disk_that_fills_is_announced_and_dated() -> None:
    found = judge("restrack", [make_series("growth", 3)])

    assert found["announced_percent"] == 100
    assert found["error_percent_at_30_days"] < 20


def test_a_disk_that_does_not_fill_has_no_error_but_false_alarms() -> None:
    assert judge("restrack", [make_series("stable", 3)]) == {"series": 1, "false_alarm_percent": 0}


def test_kinds_are_summed_and_aims_told() -> None:
    works = {
        "a": {"restrack": {"series": 2.0, "false_alarm_percent": 50.0}},
        "b": {"restrack": {"series": 2.0, "announced_percent": 100.0, "error_percent_at_30_days": 9.0}},
        "c": {"restrack": {"series": 4.0, "false_alarm_percent": 0.0}},
    }

    total = summarize(works)
    false, announced, error = list_verdicts(total)

    assert total["restrack"]["series"] == 8
    assert false == "false alarms: 25.0 % (aim: ≤ 0 %), MISSED"
    assert announced.endswith("100.0 % (aim: ≥ 100 %)")
    assert error == "median error at 30 days: 9.0 % (aim: ≤ 15 %)"
