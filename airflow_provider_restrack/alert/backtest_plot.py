"""A backtest as a picture: the metric of the worst instances, the thresholds, and when alerts were open."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.alert.backtest_panels import count_places, split_at_gaps
from airflow_provider_restrack.alert.backtest_tables import describe_rule
from airflow_provider_restrack.alert.durations import format_duration
from airflow_provider_restrack.alert.evaluate import from_ms
from airflow_provider_restrack.alert.evidence import find_unit, format_value
from airflow_provider_restrack.alert.rules import SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from airflow_provider_restrack.alert.backtest import Report
    from airflow_provider_restrack.alert.backtest_panels import Panel
    from airflow_provider_restrack.alert.episodes import Episode
    from airflow_provider_restrack.alert.rules import AlertRule, Severity

# Okabe and Ito's colours (https://jfly.uni-koeln.de/color/), that everyone can tell apart; in grey the
# hatching does.
LINE_COLOUR = "#0072B2"
COLOURS: dict[str, str] = {
    "info": "#56B4E9", "warning": "#E69F00", "critical": "#D55E00", "no data": "#7F7F7F"
}  # fmt: skip
HATCHES: dict[str, str] = {"info": "..", "warning": "//", "critical": "xx", "no data": "--"}
_PANEL_INCHES = (11.0, 2.3)
_HEAD_INCHES = 1.6
_LEFT, _RIGHT = 0.08, 0.885
_DPI = 120
# Labels nearer than this part of a panel's height would cover each other.
_LABEL_STEP = 0.085
_BYTE_STEP = 1024.0


class PlotUnavailableError(RuntimeError):
    """Matplotlib is not installed."""


def load_matplotlib() -> Any:
    """Return matplotlib.

    :raises PlotUnavailableError: if it is not installed; the message names the extra that brings it.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise PlotUnavailableError(
            "A plot needs matplotlib, which is not installed: "
            "pip install 'airflow-provider-restrack[capacity]'"
        ) from error
    return mpl


def draw(report: Report, panels: Sequence[Panel], path: Path) -> None:
    """Draw the panels below each other on one axis of time, and write the picture.

    :param path: its suffix says the format: ``.png``, ``.svg`` or ``.pdf``.
    :raises PlotUnavailableError: as :func:`load_matplotlib`.
    :raises OSError: if the file cannot be written.
    :raises ValueError: if the suffix is no format of a picture.
    """
    load_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = _PANEL_INCHES
    inches = max(len(panels), 1) * height + _HEAD_INCHES
    figure = Figure(figsize=(width, inches), dpi=_DPI)
    FigureCanvasAgg(figure)
    figure.subplots_adjust(
        left=_LEFT,
        right=_RIGHT,
        top=1 - (_HEAD_INCHES - 0.45) / inches,
        bottom=0.55 / inches,
        hspace=0.32,
    )
    _title(figure, report, panels, inches)
    grid = figure.subplots(max(len(panels), 1), 1, sharex=True, squeeze=False)[:, 0]
    for axes, panel in zip(grid, panels, strict=False):
        _Drawing(axes, panel, report).draw()
    _label_time(grid[-1], report)
    _legend(figure, panels, inches)
    figure.savefig(path, dpi=_DPI)


def _title(figure: Any, report: Report, panels: Sequence[Panel], inches: float) -> None:
    rules = [one.rule.name for one in report.rules]
    names = ", ".join(rules[:3]) + (" …" if len(rules) > 3 else "")
    alerts = sum(one.tally.alerts for one in report.rules)
    known = count_places(report)
    shown = f"the {len(panels)} worst of {known} with an alert" if len(panels) < known else ""
    if not known:
        shown = "no alert; instances that other thresholds would find" if panels else "no alert"
    what = f"Backtest of {names}"
    if len(rules) == 1:
        what += f": {describe_rule(report.rules[0].rule)}"
    figure.text(_LEFT, 1 - 0.22 / inches, what, fontsize=12, fontweight="bold", va="center")
    span = f"{report.since:%Y-%m-%d %H:%M} to {report.until:%Y-%m-%d %H:%M} UTC"
    facts = (span, format_duration(report.seconds), f"{len(report.hosts)} hosts", f"{alerts} alerts", shown)
    text = " · ".join(one for one in facts if one)
    figure.text(_LEFT, 1 - 0.45 / inches, text, fontsize=9, color="#444444", va="center")


def _legend(figure: Any, panels: Sequence[Panel], inches: float) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    told = {
        _name_shade(one, part.severity)
        for panel in panels
        for one in panel.episodes
        for part in one.stretches
    }
    handles: list[Any] = [Line2D([], [], color=LINE_COLOUR, linewidth=1.1, label="compared value")]
    handles += [
        Patch(facecolor=_fade(name), edgecolor=COLOURS[name], hatch=HATCHES[name], label=f"alert: {name}")
        for name in (*SEVERITIES, "no data")
        if name in told
    ]
    figure.legend(
        handles=handles,
        loc="center left",
        bbox_to_anchor=(_LEFT, 1 - 0.69 / inches),
        ncols=len(handles),
        fontsize=8,
        frameon=False,
        borderpad=0,
        borderaxespad=0,
        handlelength=1.8,
        columnspacing=1.2,
    )


def _label_time(axes: Any, report: Report) -> None:
    from matplotlib import dates

    untyped: Any = dates  # the classes have no annotations
    locator = untyped.AutoDateLocator(minticks=4, maxticks=10)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(untyped.ConciseDateFormatter(locator))
    axes.set_xlim(report.since, report.until)
    axes.xaxis.get_offset_text().set_fontsize(8)
    axes.set_xlabel("time (UTC)", fontsize=9)


def _name_shade(episode: Episode, severity: Severity) -> str:
    return severity if episode.key.condition == "threshold" else "no data"


def _fade(name: str, alpha: float = 0.28) -> tuple[float, float, float, float]:
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(COLOURS[name])
    return red, green, blue, alpha


class _Drawing:
    """One panel on its axes."""

    def __init__(self, axes: Any, panel: Panel, report: Report) -> None:
        self._axes, self._panel, self._report = axes, panel, report

    def draw(self) -> None:
        self._draw_alerts()
        self._draw_values()
        self._scale()
        self._draw_thresholds()
        self._title()

    def _draw_alerts(self) -> None:
        for episode in self._panel.episodes:
            for part in episode.stretches:
                name = _name_shade(episode, part.severity)
                self._axes.axvspan(
                    from_ms(part.start_ms),
                    from_ms(part.end_ms),
                    facecolor=_fade(name),
                    edgecolor=(*_fade(name)[:3], 0.75),
                    hatch=HATCHES[name],
                    linewidth=0.6,
                    zorder=0.5,
                )

    def _draw_values(self) -> None:
        times, values, alone = split_at_gaps(self._panel)
        moments = [from_ms(time) for time in times]
        self._axes.plot(moments, values, color=LINE_COLOUR, linewidth=1.1, zorder=3)
        self._axes.plot(
            [moments[n] for n in alone],
            [values[n] for n in alone],
            ".",
            color=LINE_COLOUR,
            markersize=3,
            zorder=3,
        )
        if not values:
            self._axes.text(
                0.5,
                0.5,
                "no samples",
                transform=self._axes.transAxes,
                ha="center",
                va="center",
                color="#666666",
            )

    def _draw_thresholds(self) -> None:
        rule = self._panel.rule
        labels: dict[float, list[str]] = {}
        for level in rule.levels:
            limit, clear = float(level.threshold), float(level.clear_threshold)
            self._line(limit, COLOURS[level.severity], 1.3, (5, 2))
            labels.setdefault(limit, []).append(f"{level.severity} {rule.op} {format_value(rule, limit)}")
            if clear != limit:
                self._line(clear, COLOURS[level.severity], 1.0, (1, 2))
                labels.setdefault(clear, []).append(f"clear {format_value(rule, clear)}")
        self._label({height: ", ".join(texts) for height, texts in labels.items()})

    def _line(self, height: float, colour: str, width: float, dashes: tuple[int, int]) -> None:
        self._axes.axhline(height, color=colour, linewidth=width, linestyle=(0, dashes), zorder=2)

    def _label(self, labels: Mapping[float, str]) -> None:
        """Write each line's label beside it, as far from the next as its letters need."""
        low, high = self._axes.get_ylim()
        heights = sorted(labels)
        places = spread([(height - low) / (high - low) for height in heights], _LABEL_STEP)
        for height, place in zip(heights, places, strict=True):
            self._axes.annotate(
                labels[height],
                xy=(1, height),
                xycoords=("axes fraction", "data"),
                xytext=(1.012, place),
                textcoords="axes fraction",
                fontsize=7,
                va="center",
                color="#222222",
                annotation_clip=False,
                arrowprops={
                    "arrowstyle": "-",
                    "color": "#999999",
                    "linewidth": 0.6,
                    "shrinkA": 0,
                    "shrinkB": 0,
                },
            )

    def _title(self) -> None:
        panel = self._panel
        where = " ".join(part for part in (panel.key.host, panel.key.device) if part)
        self._axes.set_title(
            f"{where}: {panel.rule.name}", fontsize=9.5, loc="left", fontweight="bold", pad=4
        )
        self._axes.set_title(_summarise(panel), fontsize=8.5, loc="right", color="#444444", pad=4)

    def _scale(self) -> None:
        from matplotlib.ticker import FuncFormatter

        axes, rule = self._axes, self._panel.rule
        limits = [float(level.threshold) for level in rule.levels]
        low, high = _find_range(rule, [*self._panel.values, *limits])
        axes.set_ylim(low, high)
        axes.set_yticks(_find_ticks(rule, low, high))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _position: format_value(rule, value)))
        axes.set_ylabel(f"{rule.aggregate} of\n{rule.metric}" if rule.aggregate else rule.metric, fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(axis="x", color="#DDDDDD", linewidth=0.6, zorder=0)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)


def _find_range(rule: AlertRule, shown: Sequence[float]) -> tuple[float, float]:
    low, high = min(shown), max(shown)
    if find_unit(rule) == "%" and low >= 0 and high <= 100:
        return 0.0, 104.0
    margin = 0.08 * ((high - low) or abs(high) or 1.0)
    return low - margin, high + margin


def _find_ticks(rule: AlertRule, low: float, high: float) -> list[float]:
    """Return round values within a range; bytes are round in the unit that they are told in."""
    from matplotlib.ticker import MaxNLocator

    step = 1.0
    if find_unit(rule).startswith("bytes"):
        while max(abs(low), abs(high)) / step >= _BYTE_STEP:
            step *= _BYTE_STEP
    ticks = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(low / step, high / step)
    return [tick * step for tick in ticks if low <= tick * step <= high]


def spread(places: Sequence[float], step: float) -> list[float]:
    """Return ascending places moved apart to at least ``step``, each as little as may be."""
    groups: list[list[float]] = []  # sum of where their first would stand, and how many stand together
    for place in places:
        groups.append([place, 1.0])
        while len(groups) > 1 and _first(groups[-1]) < _first(groups[-2]) + groups[-2][1] * step:
            total, count = groups.pop()
            before = groups[-1]
            before[0] += total - count * before[1] * step
            before[1] += count
    return [_first(group) + n * step for group in groups for n in range(int(group[1]))]


def _first(group: Sequence[float]) -> float:
    return group[0] / group[1]


def _summarise(panel: Panel) -> str:
    if not panel.episodes:
        return "no alert"
    seconds: Counter[str] = Counter()
    for episode in panel.episodes:
        for part in episode.stretches:
            seconds[_name_shade(episode, part.severity)] += round((part.end_ms - part.start_ms) / 1000)
    count = f"{len(panel.episodes)} alert{'s' if len(panel.episodes) > 1 else ''}"
    flaps = f" ({panel.flaps} flap{'s' if panel.flaps > 1 else ''})" if panel.flaps else ""
    times = [f"{format_duration(seconds[name])} {name}" for name in COLOURS if name in seconds]
    return f"{count}{flaps}: {', '.join(times)}"
