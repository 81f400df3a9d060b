"""The page of a report: what it says, and how it is built."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import numpy as np
import pytest

from airflow_provider_restrack.capacity.page import render_page
from airflow_provider_restrack.capacity.report import HourlyUse, SilentHost
from docs.report_pictures import build_report

if TYPE_CHECKING:
    from airflow_provider_restrack.capacity.report import Report

VOID = {"meta", "br", "path", "use", "link", "img"}


@pytest.fixture(scope="module")
def report() -> Report:
    return build_report()


@pytest.fixture(scope="module")
def text(report: Report) -> str:
    return render_page(report)


class Outline(HTMLParser):
    """Headings, tables without a caption, ids, and tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.levels: list[int] = []
        self.ids: list[str] = []
        self.bare_tables = self.bare_drawings = 0
        self.targets: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.levels += [int(tag[1])] if re.fullmatch("h[1-6]", tag) else []
        self.ids += [found["id"] or ""] if "id" in found else []
        self.targets += [(found["href"] or "")[1:]] if (found.get("href") or "").startswith("#") else []
        self.bare_tables += tag == "table"
        self.bare_tables -= tag == "caption"
        self.bare_drawings += tag == "svg"
        self.bare_drawings -= tag == "title" and "svg" in self._open
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag


def test_every_part_of_the_report_is_told(text: str, report: Report) -> None:
    for forecast in report.ranked:
        assert forecast.host in text
    assert text.count("<svg") == len(report.outlooks) == 6
    assert "gen-old-1" in text
    assert "no sample for 4 days" in text
    assert "32 CPUs → " in text


def test_headings_tables_and_pictures_are_named_and_no_id_is_twice(text: str) -> None:
    outline = Outline(text)

    assert outline.levels[0] == 1
    assert outline.levels.count(1) == 1
    assert all(
        later - earlier <= 1 for earlier, later in zip(outline.levels, outline.levels[1:], strict=False)
    )
    assert (outline.bare_tables, outline.bare_drawings) == (0, 0)
    assert sorted(set(outline.ids)) == sorted(outline.ids)
    assert set(outline.targets) <= set(outline.ids)


def test_the_same_report_gives_the_same_bytes(text: str, report: Report) -> None:
    assert render_page(report) == text


def test_names_from_hosts_are_text_and_never_markup(report: Report) -> None:
    evil = "<script>alert(1)</script>&\"'"
    forecast = replace(report.outlooks[0].forecast, host=evil, device=evil)
    changed = replace(
        report,
        title=evil,
        ranked=[forecast],
        outlooks=[replace(report.outlooks[0], forecast=forecast)],
        silent=[SilentHost(evil, None, evil)],
        advice=[replace(report.advice[0], host=evil)],
        hourly=replace(report.hourly, hosts=[evil, *report.hourly.hosts[1:]]),
    )

    text = render_page(changed)

    assert "<script" not in text
    Outline(text)


def test_a_fleet_without_any_data_has_a_page(report: Report) -> None:
    hourly = HourlyUse([], np.zeros((0, 24)), report.hourly.since, report.hourly.until)
    empty = replace(report, hosts=0, ranked=[], outlooks=[], verdicts={}, hourly=hourly, advice=[], silent=[])

    text = render_page(empty)

    for words in ("no forecast is stored", "Nothing fills", "No CPU use is stored", "None: every host has"):
        assert words in text
