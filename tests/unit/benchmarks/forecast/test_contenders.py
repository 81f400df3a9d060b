"""Each peer's formula against numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.forecast.contenders import (
    CONTENDERS,
    Answer,
    ask_netdata,
    ask_node_mixin,
    ask_restrack,
    ask_zabbix,
    predict_linear,
    timeleft,
)
from benchmarks.forecast.series import KINDS, PER_DAY, Series, _roll_up, make_series


def ramp(start: float, a_day: float, days: int = 50) -> Series:
    x = np.arange(days * PER_DAY) / PER_DAY
    values = start + a_day * x
    return Series("ramp", x, values, None, tuple(_roll_up(values)))


def test_predict_linear_of_a_line_is_the_line() -> None:
    assert predict_linear(np.array([0.0, 1, 2]), np.array([5.0, 7, 9]), 4.0) == pytest.approx((2, 13))


@pytest.mark.parametrize("name", CONTENDERS)
def test_all_agree_on_a_clean_line(name: str) -> None:
    ask, _ = CONTENDERS[name]

    found = ask(ramp(40, 1), 49.0).days

    # Netdata takes the fall since 50 minutes ago for that of an hour.
    assert found == pytest.approx(11 * 60 / 50 if name == "netdata" else 11, abs=0.6)


@pytest.mark.parametrize("name", CONTENDERS)
def test_nobody_dates_a_disk_that_empties(name: str) -> None:
    ask, _ = CONTENDERS[name]

    assert ask(ramp(80, -0.5), 50.0) == Answer(None, alarm=False)


def test_the_rules_fire_below_their_own_thresholds_only() -> None:
    fast, slow = ramp(0, 1.97), ramp(48, 1)

    assert ask_node_mixin(fast, 50.0).alarm  # 98.5 %, 1.97 a day: full within a day
    assert not ask_node_mixin(slow, 50.0).alarm  # 98 %, 1 a day: in two days
    assert ask_zabbix(fast, 50.0).alarm
    assert not ask_netdata(fast, 50.0).alarm  # in 18 h; it warns below 8
    assert ask_restrack(slow, 50.0).alarm


def test_timeleft_of_a_line_that_has_met_the_threshold_is_no_time() -> None:
    assert timeleft(ramp(60, 1), 50.0, 1.0) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_series_and_the_truth_of_its_kind(kind: str) -> None:
    one, again = make_series(kind, 5), make_series(kind, 5)

    assert np.array_equal(one.values, again.values, equal_nan=True)
    assert (one.full_day is not None) == any(word in kind for word in ("growth", "growing", "extended"))
    assert np.nanmax(one.values) < 100
