"""The contenders are given the same, and a difference between them fails the benchmark."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.rollup.__main__ import check, measure
from benchmarks.rollup.works import CONTENDERS, make_days


@pytest.mark.parametrize("absent", [0.0, 0.2])
def test_all_contenders_give_the_same(absent: float) -> None:
    ((times, values),) = make_days(1, absent=absent)
    found = {name: make(times[:1000], values[:4, :1000]) for name, make in CONTENDERS.items()}
    check(found)
    found["polars"][3600][5, 2, 0] += 1e-3
    with pytest.raises(ValueError, match="polars and restrack differ over buckets of 3600 s"):
        check(found)


def test_figures_name_every_contender() -> None:
    figures = measure(1, 0.0, 1)
    assert set(figures) == set(CONTENDERS)
    assert all(np.isfinite(list(one.values())).all() for one in figures.values())
