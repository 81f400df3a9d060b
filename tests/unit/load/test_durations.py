from __future__ import annotations

import pytest

from airflow_provider_restrack.load.durations import to_duration


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("P1Y2M3DT4H5M6.5S", (14, 3, 14_706_500_000_000)),
        ("P2W", (0, 14, 0)),
        ("-PT1S", (0, 0, -1_000_000_000)),
        ("1y2mo1w3d4h5m6s7ms8us9ns", (14, 10, 14_706_007_008_009)),
        ("-1mo", (-1, 0, 0)),
        ("5m", (0, 0, 300_000_000_000)),
    ],
)
def test_durations_have_two_forms(text: str, parts: tuple[int, int, int]) -> None:
    made = to_duration(text)

    assert (made.months, made.days, made.nanoseconds) == parts


@pytest.mark.parametrize("text", ["", "-", "P", "PT", "P1DT", "1", "1x", "P99999999999D", "PT9999999999999S"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        to_duration(text)
