"""Draws what a report tells: as SVG to stand in its page, and as PNG to be sent or shown elsewhere.

Drawn with matplotlib's figures alone, without pyplot: there is no window, and nothing stays behind. Colours
are those of Okabe and Ito, which differ for people with any kind of colour vision (M. Okabe, K. Ito, "Color
Universal Design", 2008), and cividis; what a colour tells, a form or a word tells as well.
"""

from __future__ import annotations

import io
import math
import re
from datetime import UTC, date, datetime, timedelta
from html import escape
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from airflow_provider_restrack.capacity.report import (
    HOURS,
    describe_change,
    describe_day,
    describe_outlook,
    describe_value,
    find_users,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes

    from airflow_provider_restrack.capacity.forecast import Forecast
    from airflow_provider_restrack.capacity.report import HourlyUse, Outlook, Users
    from airflow_provider_restrack.capacity.rightsize import SizeAdvice, SizePolicy

BLUE, ORANGE, BLACK, GREY, PALE = "#0072B2", "#D55E00", "#222222", "#666666", "#E3E3E3"
COLOURS = "cividis"
PNG_DPI = 110
# A picture with more rows is read by nobody.
MAX_PICTURED = 6
MAX_ROWS = 40
_STYLE: Any = {  # Any: matplotlib's own type is a list of all its settings
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "text.parse_math": False,  # a mount's name may hold two "$": it is no formula
    "svg.fonttype": "none",  # text stays text: it is found, read aloud and printed sharp
}
_TICK_STEPS = (7, 14, 28, 56, 112, 364)
_FORMS = {"too large": "<", "too small": ">", "fits": "o"}
_RESOURCES = {"cpu": "CPU", "memory": "memory"}


def forecast_svg(outlook: Outlook, label: str) -> str:
    """Return the drawing of a forecast as an ``<svg>`` element that takes the width it is given.

    :param label: what a screen reader says of it.
    """
    style: Any = {**_STYLE, "svg.hashsalt": label}
    with mpl.rc_context(style):
        figure = Figure(figsize=(3.8, 2.1), layout="constrained")
        _draw_forecast(figure.subplots(), outlook)
        target = io.StringIO()
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None, "Format": None})
    return _embed(target.getvalue(), label)


def forecasts_png(outlooks: Sequence[Outlook], as_of: datetime) -> bytes:
    """Return the most urgent forecasts in one picture."""
    shown = outlooks[:MAX_PICTURED]
    columns = 2 if len(shown) > 1 else 1
    rows = max(1, -(-len(shown) // columns))

    def draw(figure: Figure) -> None:
        figure.suptitle(f"What fills first, as of {describe_day(as_of)}", x=0.01, ha="left", weight="bold")
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for one, place in zip(shown, axes, strict=False):
            _draw_forecast(place, one)
            place.set_title(_title(one.forecast), loc="left", fontsize=9, color=BLACK)
        for place in axes[len(shown) :]:
            place.axis("off")
        if not shown:
            axes[0].text(0, 0.5, "No series fills or is at its limit.", color=GREY)
        figure.supxlabel(
            "dots: days · line: trend · band: from early to late · dashed: limit", fontsize=8, color=GREY
        )

    return _png((4.6 * columns, 0.7 + 2.4 * rows), draw)


def hourly_png(hourly: HourlyUse) -> bytes:
    """Return the heat map of CPU use by host and hour."""
    hosts = list(hourly.hosts[:MAX_ROWS])

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        _title_left(axes, f"Mean CPU use by hour of the day (UTC), in %{_cut_note(len(hourly.hosts))}")
        axes.set_xticks(range(0, HOURS, 3), [f"{hour:02}:00" for hour in range(0, HOURS, 3)])
        axes.set_yticks(range(len(hosts)), hosts)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel(f"{describe_day(hourly.since)} to {describe_day(hourly.until)}", color=GREY)
        if not hosts:
            return
        usage = hourly.usage[: len(hosts)]
        axes.imshow(usage, cmap=COLOURS, vmin=0, vmax=100, aspect="auto")
        for row, column in np.ndindex(usage.shape):
            value = float(usage[row, column])
            text, colour = ("–", GREY) if math.isnan(value) else (f"{value:.0f}", text_colour(value))
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)

    return _png((9.2, 1.0 + 0.26 * max(1, len(hosts))), draw)


def users_png(advice: Sequence[SizeAdvice], policy: SizePolicy, top: int) -> bytes:
    """Return the top and bottom users of CPU and memory, with the size that would fit."""
    found = [find_users(advice, resource, top) for resource in ("cpu", "memory")]
    most = max(1, *(len(users.most) + len(users.least) for users in found))

    def draw(figure: Figure) -> None:
        figure.suptitle(
            f"Top and bottom users: p95 of the quietest to the busiest of {policy.days} days",
            x=0.01, ha="left", weight="bold",
        )  # fmt: skip
        for axes, users in zip(figure.subplots(1, 2), found, strict=True):
            _draw_users(axes, users, policy, most)

    return _png((9.2, 1.4 + 0.3 * most), draw)


def cell_colour(value: float) -> str:
    """Return the colour of a percentage in a heat map, as ``#rrggbb``."""
    return "#" + "".join(f"{round(part * 255):02x}" for part in _colour(value))


def text_colour(value: float) -> str:
    """Return black or white, whichever is read better on the colour of a percentage.

    By the relative luminance of WCAG 2.2: above 0.179 black has the larger contrast; either has 4.5 or more.
    """
    linear = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in _colour(value))
    luminance = sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return "#000000" if luminance > 0.179 else "#ffffff"


def _colour(value: float) -> tuple[float, float, float]:
    red, green, blue, _ = mpl.colormaps[COLOURS](min(max(value, 0.0), 100.0) / 100)
    return red, green, blue


def _draw_forecast(axes: Axes, outlook: Outlook) -> None:
    forecast = outlook.forecast
    today = _number(forecast.as_of)
    days = np.array([day.toordinal() + 0.5 for day in outlook.days])
    values = np.asarray(outlook.values, dtype=np.float64)
    right = _right_edge(forecast, today, days)
    axes.plot(days, values, ".", color=BLUE, markersize=4, zorder=3)
    _draw_trend(axes, forecast, today, right)
    axes.axhline(forecast.limit, color=BLACK, linestyle=(0, (5, 3)), linewidth=1.2)
    axes.axvline(today, color=GREY, linestyle=":", linewidth=1)
    left = float(days[0]) if days.size else today - 30
    _set_range(axes, forecast, values)
    axes.set_xlim(left - 1, right)
    _label(
        axes, (left, forecast.limit), f"limit {describe_value(outlook.unit, forecast.limit)}", BLACK, "left"
    )
    bottom = axes.get_ylim()[0]
    _label(axes, (today, bottom), f"as of {forecast.as_of.day} {forecast.as_of:%b}", GREY, "right", lift=3)
    ticks = _choose_ticks(left, right)
    axes.set_xticks(ticks, [_tick(day) for day in ticks])
    axes.locator_params(axis="y", nbins=4)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: describe_value(outlook.unit, y)))


def _right_edge(forecast: Forecast, today: float, days: Any) -> float:
    """Return the last day drawn: the late date if that leaves the history at least a third."""
    span = today - float(days[0]) if len(days) else 30.0
    wanted = forecast.days_late or (forecast.days_likely or 0.0) * 1.5
    return today + min(max(wanted * 1.1, 0.2 * span), 2 * span)


def _draw_trend(axes: Axes, forecast: Forecast, today: float, right: float) -> None:
    """Draw the line through the fit and on to its date, and the band between the early and the late one."""
    likely = forecast.days_likely
    if likely is None or forecast.slope is None:
        return
    room = forecast.slope * likely
    level = forecast.limit - room
    share = min(1.0, (right - today) / likely) if likely else 1.0
    days = [today - forecast.span_days, today, today + share * likely]
    heights = [level - forecast.slope * forecast.span_days, level, level + share * room]
    ahead = np.linspace(0.0, min(forecast.days_late or right - today, right - today), 80)
    low, high = (_rise(room, until, ahead) for until in (forecast.days_late, forecast.days_early))
    if forecast.days_late is None:
        low = (forecast.slope_low or 0.0) * ahead
    band: Any = {"facecolor": ORANGE, "alpha": 0.25, "edgecolor": ORANGE, "linewidth": 0.8}
    axes.fill_between(today + ahead, level + low, level + high, **band)
    for part in (slice(0, 2), slice(1, 3)):
        axes.plot(days[part], heights[part], color=ORANGE, linewidth=1.6)
    _draw_date(axes, forecast.limit, today + likely, right)


def _draw_date(axes: Axes, limit: float, crossing: float, right: float) -> None:
    """Mark the day of the limit; one that lies beyond the edge is told there, with its year."""
    if crossing <= right:
        axes.plot([crossing], [limit], "o", color=ORANGE, markersize=6, clip_on=False)
        _label(axes, (crossing, limit), _tick(crossing), ORANGE, "center", lift=6)
    else:
        text = f"{describe_day(date.fromordinal(int(crossing)))} →"
        _label(axes, (right, limit), text, ORANGE, "right", lift=6)


def _rise(room: float, days: float | None, ahead: Any) -> Any:
    """Return how much is added after ``ahead`` days when ``room`` is used up in ``days``; no more than it."""
    if not days:
        return np.where(ahead > 0, room, 0.0)
    return np.minimum(room, room / days * ahead)


def _set_range(axes: Axes, forecast: Forecast, values: Any) -> None:
    """Leave room above the limit for its labels, and start at a round value below the lowest day."""
    lowest = float(values.min()) if values.size else 0.0
    highest = max(forecast.limit, float(values.max()) if values.size else 0.0)
    bottom = max(0.0, lowest - 0.15 * (highest - lowest))
    axes.set_ylim(bottom, highest + 0.16 * (highest - bottom))


def _draw_users(axes: Axes, users: Users, policy: SizePolicy, most: int) -> None:
    shown = [*users.most, *users.least]
    _title_left(axes, f"{_RESOURCES[users.resource]}, in % of the size")
    axes.set_xlim(0, 100)
    axes.set_ylim(most - 0.4, -0.9)
    for share, text in ((policy.low, "too large"), (policy.high, "too small")):
        axes.axvline(share, color=GREY, linestyle=":", linewidth=1)
        side, place = ("right", share - 1) if share == policy.low else ("left", share + 1)
        axes.text(place, -0.55, text, ha=side, fontsize=7, color=GREY)
    for row, one in enumerate(shown):
        low, high = one.p95_low or 0.0, one.p95_high or 0.0
        colour = BLUE if one.fitting is None else ORANGE
        axes.plot([low, high], [row, row], color=colour, linewidth=3, alpha=0.5, solid_capstyle="butt")
        axes.plot([high], [row], _FORMS.get(one.verdict, "o"), color=colour, markersize=6)
        axes.text(102, row, describe_change(one), va="center", fontsize=8, color=BLACK, clip_on=False)
    if users.between:
        axes.axhline(len(users.most) - 0.5, color=PALE, linewidth=1)
    axes.set_yticks(range(len(shown)), [one.host for one in shown])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _title(forecast: Forecast) -> str:
    where = f"{forecast.host} {forecast.device}" if forecast.device else forecast.host
    return f"{where}: {forecast.metric}\n{describe_outlook(forecast)}"


def _title_left(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=10, weight="bold", color=BLACK)


def _cut_note(count: int) -> str:
    return f": the busiest {MAX_ROWS} of {count} hosts" if count > MAX_ROWS else ""


def _number(moment: datetime) -> float:
    """Return a moment as a day number with its part of the day."""
    plain = moment.astimezone(UTC)
    start = datetime(plain.year, plain.month, plain.day, tzinfo=UTC)
    return plain.toordinal() + (plain - start) / timedelta(days=1)


def _choose_ticks(left: float, right: float) -> list[int]:
    """Return at most five days, whole weeks apart."""
    step = next((days for days in _TICK_STEPS if (right - left) / days <= 5), _TICK_STEPS[-1])
    return list(range(math.ceil(left / step) * step, int(right) + 1, step))


def _tick(day: float) -> str:
    found = date.fromordinal(int(day))
    return f"{found.day} {found:%b}"


def _label(
    axes: Axes, at: tuple[float, float], text: str, colour: str, side: str, *, lift: float = 4
) -> None:
    axes.annotate(
        text, at, xytext=(-3 if side == "right" else 0, lift), textcoords="offset points", ha=side,
        fontsize=8, color=colour, annotation_clip=False,
    )  # fmt: skip


def _png(size: tuple[float, float], draw: Callable[[Figure], None]) -> bytes:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size, dpi=PNG_DPI, layout="constrained")
        draw(figure)
        target = io.BytesIO()
        figure.savefig(target, format="png", metadata={"Software": None})
    return target.getvalue()


def _embed(text: str, label: str) -> str:
    """Return matplotlib's document as an element of a page: no prologue, size and spare ids."""
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL)
    used = set(re.findall(r"#([\w.-]+)", body))
    body = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", body)
    head = re.sub(r' (?:width|height)="[^"]*pt"', "", body[: body.index(">") + 1])
    head = head.replace("<svg", '<svg role="img"', 1)
    return f"{head}<title>{escape(label)}</title>{body[body.index('>') + 1 :].strip()}"
