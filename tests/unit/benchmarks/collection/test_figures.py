from __future__ import annotations

from typing import Any

import pytest

from benchmarks.collection.figures import list_agent_verdicts, list_verdicts, summarize_runs
from benchmarks.collection.task import Usage
from benchmarks.collection.works import WORKS, Work, contenders_of


def figures_of(**changes: Any) -> dict[str, Any]:
    ours = {"wall_seconds": 5.0, "cpu_ms_per_host": 4.0, "peak_mb": 140.0}
    return {
        "100": {"restrack": ours | changes, "ansible": {"wall_seconds": 60.0}},
        "1000": {"restrack": ours | changes},
        "500-100ms": {"restrack": ours | {"wall_seconds": 70.0}},
    }


def test_a_contenders_figures_are_medians_for_each_host_and_its_highest_memory() -> None:
    runs = [Usage(10, seconds, seconds / 10, peak) for seconds, peak in ((3.0, 5), (1.0, 9), (2.0, 7))]

    assert summarize_runs(runs) == {"wall_seconds": 2.0, "cpu_ms_per_host": 20.0, "peak_mb": 9}


def test_each_aim_that_was_measured_has_its_verdict() -> None:
    verdicts = list_verdicts(figures_of())

    assert [verdict.endswith(", met") for verdict in verdicts] == [True] * 4
    assert "12.0 × (aim: 10 ×)" in verdicts[3]
    assert list_verdicts({}) == []


@pytest.mark.parametrize(
    ("changes", "missed"),
    [({"cpu_ms_per_host": 5.1}, 0), ({"peak_mb": 151.0}, 1), ({"wall_seconds": 6.1}, 3)],
)
def test_an_aim_that_is_missed_is_told(changes: dict[str, float], missed: int) -> None:
    verdicts = list_verdicts(figures_of(**changes))

    assert [number for number, verdict in enumerate(verdicts) if verdict.endswith("not met")] == [missed]


def test_what_is_implied_is_the_rounds_of_the_concurrency_each_with_its_round_trips() -> None:
    assert Work("w", 33, 100, 16).implied_seconds == pytest.approx(3 * (0.9 + 1.0))


def test_slow_contenders_are_left_out_of_large_works() -> None:
    names = ["restrack", "ansible", "one-task-per-host"]

    assert contenders_of(WORKS["10"], names) == names
    assert contenders_of(WORKS["500"], names) == ["restrack"]


@pytest.mark.parametrize(("cpu", "verdict"), [(29.9, ", met"), (30.1, ", not met")])
def test_the_agent_that_needs_nothing_is_held_against_its_aim(cpu: float, verdict: str) -> None:
    first, second = list_agent_verdicts({"procfs": {"cpu_ms_on_host": cpu}, "sh": {"cpu_ms_on_host": 70.0}})

    assert first.endswith(verdict)
    assert second.endswith("sh: 70.0")
