"""The page of a report in a real browser: wide and narrow, on paper, and for every kind of eyes."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_restrack.capacity.page import render_page
from docs.report_pictures import build_report
from tests.browser import browser

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.browser import Page

WIDTHS = [
    pytest.param(360, True, id="phone"),
    pytest.param(820, True, id="tablet"),
    pytest.param(1280, False, id="desktop"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("page") / "capacity.html"
    path.write_text(render_page(build_report()), encoding="utf-8")
    return path.as_uri()


@pytest.mark.parametrize(("width", "mobile"), WIDTHS)
def test_a_browser_shows_it_without_errors_requests_or_overflow(
    page: Page, address: str, width: int, mobile: bool
) -> None:
    page.open(address, width=width, mobile=mobile)

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.requests == [address]
    assert page.complaints == []
    assert page.evaluate("document.querySelectorAll('script').length") == 0
    drawn = page.evaluate(
        "[...document.querySelectorAll('figure svg')].map(one => one.getBoundingClientRect().width)"
    )
    assert len(drawn) == 6
    assert all(250 <= one <= width for one in drawn)


def test_the_browser_would_tell_of_an_error_a_request_and_an_overflow(page: Page, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<div style='width:3000px'>x</div><script>nothing()</script><img src='http://127.0.0.1:9/x.png'>"
    )

    page.open(bad.as_uri(), width=360)

    assert page.evaluate("document.documentElement.scrollWidth") > 360
    assert any("nothing is not defined" in one for one in page.complaints)
    assert page.requests[1:] == ["http://127.0.0.1:9/x.png"]


def test_it_prints_on_pages_of_a4_with_nothing_cut_at_the_side(page: Page, address: str) -> None:
    page.open(address, width=720)  # A4 less its margins, in CSS pixels
    page.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert page.evaluate("document.documentElement.scrollWidth") <= 720
        wide = page.evaluate(
            "[...document.querySelectorAll('.wide')].filter(one => one.scrollWidth > one.clientWidth).length"
        )
        assert wide == 0
    finally:
        page.call("Emulation.setEmulatedMedia", media="")


def test_text_in_heat_cells_is_read_by_everyone(page: Page, address: str) -> None:
    page.open(address, width=1280)

    cells: list[list[str]] = json.loads(
        page.evaluate(
            "JSON.stringify([...document.querySelectorAll('.heat td')].map(cell => ["
            "getComputedStyle(cell).backgroundColor, getComputedStyle(cell).color]))"
        )
    )

    assert len(cells) == 8 * 24
    assert min(contrast(*cell) for cell in cells) >= 4.5


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours (WCAG 2.2, 1.4.3)."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts: list[Any] = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
