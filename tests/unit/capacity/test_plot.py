"""Drawings: what is in them, and that they can be drawn whatever the forecast is."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pytest

from airflow_provider_restrack.capacity import plot
from airflow_provider_restrack.capacity.rightsize import SizePolicy
from docs.report_pictures import build_report

if TYPE_CHECKING:
    from airflow_provider_restrack.capacity.report import Outlook, Report

LABEL = "disk <of> web & db"


@pytest.fixture(scope="module")
def report() -> Report:
    return build_report()


@pytest.fixture
def outlook(report: Report) -> Outlook:
    return report.outlooks[0]


def change(outlook: Outlook, **changes: Any) -> Outlook:
    return replace(outlook, forecast=replace(outlook.forecast, **changes))


def read_size(picture: bytes) -> tuple[int, int]:
    """The width and height in a PNG's header."""
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    return int.from_bytes(picture[16:20], "big"), int.from_bytes(picture[20:24], "big")


def test_a_drawing_is_an_element_with_a_name_and_text_that_is_text(outlook: Outlook) -> None:
    drawn = plot.forecast_svg(outlook, LABEL)

    assert drawn.startswith('<svg role="img"')
    assert "<title>disk &lt;of&gt; web &amp; db</title>" in drawn
    assert ">limit 100 %<" in drawn
    assert ">as of 24 Nov<" in drawn
    assert ">6 Dec<" in drawn
    assert "<metadata" not in drawn


def test_drawings_share_no_id_and_refer_to_what_is_there(report: Report) -> None:
    drawings = [plot.forecast_svg(one, f"drawing {number}") for number, one in enumerate(report.outlooks[:3])]
    ids = [found for drawn in drawings for found in re.findall(r' id="([^"]*)"', drawn)]

    assert len(set(ids)) == len(ids)
    for drawn in drawings:
        for target in re.findall(r'(?:href="#|url\(#)([\w.-]+)', drawn):
            assert f'id="{target}"' in drawn


def test_the_line_and_the_band_lead_to_their_dates(outlook: Outlook) -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    plot._draw_forecast(axes, outlook)

    forecast = outlook.forecast
    today = forecast.as_of.toordinal()
    ahead = next(line for line in axes.lines if line.get_xdata()[0] == today and len(line.get_xdata()) == 2)
    assert ahead.get_xdata()[1] == pytest.approx(today + forecast.days_likely)
    assert ahead.get_ydata()[1] == pytest.approx(100.0)
    (band,) = axes.collections
    points = band.get_paths()[0].vertices
    full = points[np.isclose(points[:, 1], 100.0), 0] - today
    assert full.min() == pytest.approx(forecast.days_early, abs=0.5)
    assert points[:, 0].max() - today == pytest.approx(forecast.days_late)


def test_the_trend_lies_on_the_days_that_it_was_fitted_to(report: Report) -> None:
    for one in report.outlooks:
        forecast = one.forecast
        assert forecast.since is not None
        level = forecast.limit - forecast.slope * forecast.days_likely
        fit = [
            (value, level + forecast.slope * (day.toordinal() + 0.5 - forecast.as_of.toordinal()))
            for day, value in zip(one.days, one.values, strict=True)
            if day >= forecast.since
        ]
        assert np.median([abs(value - line) for value, line in fit]) < 2.0


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"verdict": "already over", "days_likely": None}, id="over"),
        pytest.param({"days_late": None}, id="no late date"),
        pytest.param({"days_early": 0.0, "days_likely": 0.0, "days_late": 0.0}, id="today"),
        pytest.param({"days_early": 200.0, "days_likely": 400.0, "days_late": None}, id="far off"),
        pytest.param({"limit": 60.0, "verdict": "already over", "days_likely": None}, id="above the limit"),
    ],
)
def test_every_kind_of_forecast_is_drawn(outlook: Outlook, changes: dict[str, Any]) -> None:
    assert "<svg" in plot.forecast_svg(change(outlook, **changes), LABEL)


def test_what_is_off_the_edge_is_told_with_its_year(outlook: Outlook) -> None:
    far = change(outlook, days_early=200.0, days_likely=400.0, days_late=None)

    assert "29 Dec 2027 →" in plot.forecast_svg(far, LABEL)


def test_a_series_whose_days_are_gone_is_drawn_without_them(outlook: Outlook) -> None:
    assert "limit 100 %" in plot.forecast_svg(replace(outlook, days=[], values=[]), LABEL)


def test_names_that_look_like_formulas_are_drawn_as_they_are(report: Report) -> None:
    device, host = "/a$x_$", "db$_{$"
    outlook = change(report.outlooks[0], device=device, host=host)
    hourly = replace(report.hourly, hosts=[host, *report.hourly.hosts[1:]])
    advice = [replace(one, host=host) for one in report.advice]

    assert plot.forecasts_png([outlook], report.as_of)
    assert plot.hourly_png(hourly)
    assert plot.users_png(advice, SizePolicy(), 10)
    assert "<svg" in plot.forecast_svg(outlook, f"{host} {device}")


def test_no_text_of_a_drawing_is_read_as_a_formula(outlook: Outlook, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.text import Text

    drawn: list[bool] = []
    draw = Text.draw

    def record(text: Text, *arguments: Any) -> None:
        drawn.append(text.get_parse_math())
        draw(text, *arguments)

    monkeypatch.setattr(Text, "draw", record)
    plot.forecasts_png([outlook], outlook.forecast.as_of)

    assert drawn
    assert not any(drawn)


def test_pictures_are_small_and_the_same_each_time(report: Report) -> None:
    made = [
        [
            plot.forecasts_png(report.outlooks, report.as_of),
            plot.hourly_png(report.hourly),
            plot.users_png(report.advice, SizePolicy(), 10),
        ]
        for _ in range(2)
    ]

    assert made[0] == made[1]
    assert all(len(picture) < 200_000 for picture in made[0])
    assert all(min(read_size(picture)) > 300 for picture in made[0])


def test_pictures_of_nothing_say_so_and_do_not_fail(report: Report) -> None:
    hourly = replace(report.hourly, hosts=[], usage=np.zeros((0, 24)))

    for picture in (
        plot.forecasts_png([], report.as_of),
        plot.hourly_png(hourly),
        plot.users_png([], SizePolicy(), 10),
    ):
        assert read_size(picture)[0] > 300


def test_a_fleet_of_hundreds_stays_a_picture(report: Report) -> None:
    hosts = [f"host-{number}" for number in range(300)]
    many = replace(report.hourly, hosts=hosts, usage=np.full((300, 24), 50.0))

    assert read_size(plot.hourly_png(many))[1] < 2000


def test_colours_of_numbers_grow_lighter(report: Report) -> None:
    light = [int(plot.cell_colour(value)[1:3], 16) for value in (0, 25, 50, 75, 100)]

    assert light == sorted(light)
    assert (plot.text_colour(0), plot.text_colour(100)) == ("#ffffff", "#000000")
    assert plot.cell_colour(-5) == plot.cell_colour(0)


def test_drawing_leaves_no_setting_behind(outlook: Outlook) -> None:
    before = dict(mpl.rcParams)

    plot.forecast_svg(outlook, LABEL)

    assert dict(mpl.rcParams) == before
