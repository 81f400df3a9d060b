"""The peak is that of the contender's own process."""

from __future__ import annotations

import pytest

from benchmarks.rollup.memory import measure_peak, read_peak


def test_the_peak_is_read_in_megabytes() -> None:
    assert read_peak("Name:\tx\nVmPeak:\t  999999 kB\nVmHWM:\t  204800 kB\n") == 200.0
    with pytest.raises(ValueError, match="VmHWM"):
        read_peak("Name:\tx\n")


def test_a_contender_runs_in_a_process_of_its_own() -> None:
    peak = measure_peak("restrack", absent=0.2, hosts=1)

    # The host-day alone is 40 × 8,640 doubles.
    assert 40 * 8640 * 8 / 2**20 < peak < 1000
