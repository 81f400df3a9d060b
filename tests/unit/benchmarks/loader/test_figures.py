from __future__ import annotations

import pytest

from benchmarks.loader.clients import Usage
from benchmarks.loader.figures import AIMS, BASELINES, Aim, summarize_runs
from benchmarks.loader.works import WORKS

FASTER = Aim("seed", "rows_per_second", "go-batch", "at least", 1.0, must=0.8)
LIGHTER = Aim("seed", "cpu_us_per_row", "go-batch", "at most", 0.5)


def figures(ours: float, theirs: float) -> dict[str, dict[str, dict[str, float]]]:
    return {
        "seed": {
            "restrack": {"rows_per_second": ours, "cpu_us_per_row": ours},
            "go-batch": {"rows_per_second": theirs, "cpu_us_per_row": theirs},
        }
    }


def test_figures_are_the_medians_of_the_runs_and_the_highest_memory() -> None:
    runs = [Usage(100, 1.0, 0.001, 40.0), Usage(100, 2.0, 0.002, 60.0), Usage(100, 4.0, 0.004, 50.0)]

    assert summarize_runs(runs) == {
        "rows_per_second": 50.0,
        "cpu_us_per_row": pytest.approx(20.0),
        "peak_mb": 60.0,
        "rows": 100,
        "runs": 3,
        "spread_percent": 150.0,
    }


@pytest.mark.parametrize(
    ("aim", "ours", "words", "fails"),
    [
        pytest.param(FASTER, 110.0, "1.10 ×, met", False, id="met"),
        pytest.param(FASTER, 90.0, "0.90 ×, not met", False, id="missed, but as it must be"),
        pytest.param(FASTER, 70.0, "0.70 ×, not met (and not what it must be)", True, id="failed"),
        pytest.param(LIGHTER, 40.0, "0.40 ×, met", False, id="less is better"),
        pytest.param(LIGHTER, 60.0, "0.60 ×, not met", False, id="too much, without a must"),
    ],
)
def test_an_aim_says_whether_it_is_met(aim: Aim, ours: float, words: str, fails: bool) -> None:
    measured = figures(ours, 100.0)

    assert aim.verdict(measured).endswith(words)
    assert aim.fails(measured) is fails


@pytest.mark.parametrize(
    "missing",
    [
        pytest.param({"seed": {"restrack": {"rows_per_second": 1.0}}}, id="no peer"),
        pytest.param({"seed": {"go-batch": {"rows_per_second": 1.0}}}, id="not ours"),
        pytest.param({}, id="no such work"),
    ],
)
def test_what_was_not_measured_neither_meets_nor_fails(
    missing: dict[str, dict[str, dict[str, float]]],
) -> None:
    assert FASTER.verdict(missing).endswith("not measured")
    assert not FASTER.fails(missing)


def test_aims_and_ratios_are_of_works_that_there_are() -> None:
    assert {aim.work for aim in AIMS} == set(BASELINES) == set(WORKS)
