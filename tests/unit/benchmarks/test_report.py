from __future__ import annotations

from benchmarks import report

FIGURES = {"seed": {"ours": {"rows_per_second": 30.0}, "peer": {"rows_per_second": 20.0}}}


def test_a_table_has_each_contenders_ratio_to_the_baseline() -> None:
    ours, peer = report.show(FIGURES, baseline="peer", figure="rows_per_second").splitlines()[2:]

    assert ours.split() == ["seed", "ours", "30.00", "1.50"]
    assert peer.split() == ["seed", "peer", "20.00", "1.00"]


def test_a_table_without_the_baseline_has_no_ratios() -> None:
    ours = report.show(FIGURES, baseline="absent", figure="rows_per_second").splitlines()[2]

    assert ours.split() == ["seed", "ours", "30.00"]
