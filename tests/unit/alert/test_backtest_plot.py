from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_restrack.alert import backtest_plot
from airflow_provider_restrack.alert.backtest_panels import read_panels
from airflow_provider_restrack.alert.backtest_plot import PlotUnavailableError, draw, load_matplotlib, spread
from tests.unit.alert.backtest_fakes import RULE, build_report
from tests.unit.alert.fleet_fakes import rows_of

if TYPE_CHECKING:
    from pathlib import Path


def draw_svg(path: Path, *rules: dict[str, Any], rows: Any = None, **options: Any) -> str:
    """Draw with texts as texts, so that they can be looked for."""
    mpl = load_matplotlib()
    report, reader = build_report(*rules, rows=rows, **options)
    with mpl.rc_context({"svg.fonttype": "none"}):
        draw(report, read_panels(report, reader), path)
    return path.read_text()


def test_a_picture_has_title_thresholds_units_and_alerts(tmp_path: Path) -> None:
    svg = draw_svg(tmp_path / "plot.svg")

    for text in (
        "Backtest of cpu: cpu_usage &gt; 80 % (warning), 90 % (critical) for 10 min",
        "2026-05-04 12:00 to 2026-05-04 16:59 UTC · 4 h 59 min · 4 hosts · 2 alerts",
        "db-1: cpu",
        "1 alert: 50 min critical",
        "1 alert: 1 h 29 min warning",
        "no alert",
        "warning &gt; 80 %",
        "critical &gt; 90 %",
        "clear 75 %",
        "100 %",
        "time (UTC)",
        "alert: critical",
    ):
        assert text in svg
    assert "alert: info" not in svg


def test_a_png_is_written(tmp_path: Path) -> None:
    report, reader = build_report()
    path = tmp_path / "plot.png"

    draw(report, read_panels(report, reader), path)

    assert path.read_bytes().startswith(b"\x89PNG")


def test_missing_samples_have_a_shade_of_their_own(tmp_path: Path) -> None:
    svg = draw_svg(tmp_path / "plot.svg", RULE | {"no_data": "alert", "no_data_for": "20m"})

    assert "alert: no data" in svg


def test_bytes_are_round_in_their_unit(tmp_path: Path) -> None:
    rule = {"name": "mem", "metric": "memory_available", "op": "<", "threshold": 2 * 2**30}
    rows = {"a": rows_of([n * 2**24 for n in range(300)], "memory_available")}

    svg = draw_svg(tmp_path / "plot.svg", rule, rows=rows)

    assert ">2 GiB<" in svg
    assert "warning &lt; 2 GiB" in svg


def test_a_rule_that_is_true_or_false_can_be_drawn(tmp_path: Path) -> None:
    rule = {"name": "down", "metric": "up", "op": "==", "threshold": False, "severity": "critical"}
    rows = {"a": rows_of([*[True] * 100, *[False] * 100], "up")}

    assert "critical == false" in draw_svg(tmp_path / "plot.svg", rule, rows=rows)


def test_no_instance_to_show_is_a_picture_that_says_so(tmp_path: Path) -> None:
    svg = draw_svg(tmp_path / "plot.svg", rows={"a": rows_of([1.0] * 100)})

    assert "0 alerts · no alert" in svg


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([], []),
        ([0.1, 0.5], [0.1, 0.5]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.5, 0.52, 0.9], [0.46, 0.56, 0.9]),
        ([0.5, 0.5, 0.5], [0.4, 0.5, 0.6]),
        ([0.2, 0.5, 0.5, 0.59], [0.2, 0.43, 0.53, 0.63]),
    ],
)
def test_labels_are_moved_apart_as_little_as_may_be(places: list[float], expected: list[float]) -> None:
    found = spread(places, 0.1)

    assert found == pytest.approx(expected)
    assert all(later - earlier > 0.0999 for earlier, later in pairwise(found))


def test_every_severity_has_a_colour_and_a_hatch() -> None:
    assert set(backtest_plot.COLOURS) == set(backtest_plot.HATCHES) == {*backtest_plot.SEVERITIES, "no data"}
    assert len(set(backtest_plot.COLOURS.values())) == len(set(backtest_plot.HATCHES.values())) == 4


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(PlotUnavailableError, match=r"pip install 'airflow-provider-restrack\[capacity\]'"):
        load_matplotlib()


def test_importing_imports_no_matplotlib() -> None:
    code = (
        "import sys, airflow_provider_restrack.alert.backtest_command; sys.exit('matplotlib' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
