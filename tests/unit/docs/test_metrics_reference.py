from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_restrack.store.schema import FIELDS, TABLES
from docs.metrics_reference import DEFINITIONS, build_page, main

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_committed_page_is_current() -> None:
    assert main(["--check"]) == 0


def test_page_has_one_row_for_every_field_with_its_type_unit_and_meaning() -> None:
    rows = [line[2:-2].split(" | ") for line in build_page().splitlines() if line.startswith("| `")]
    expected = [
        [f"`{field.name}`", f"`{field.type}`", field.unit, "yes" * field.is_metric, field.meaning]
        for field in FIELDS
    ]
    assert rows[: len(FIELDS)] == expected


def test_every_field_that_is_measured_has_one_definition() -> None:
    defined = [name for names, _, _ in DEFINITIONS for name in names.split()]

    assert sorted(defined) == sorted(field.name for field in FIELDS if field.group != "identity")


def test_page_tells_each_table_s_key_and_how_long_rows_live() -> None:
    lines = [line for line in build_page().splitlines() if line.startswith("| `metrics.")]
    assert len(lines) == len(TABLES)
    assert "| `((host, day), timestamp), ordered by timestamp DESC` | 14 days |" in lines[0]
    assert "| `(host)` | 14 days |" in lines[1]


def test_check_fails_with_the_command_until_the_page_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "metrics.md"
    assert main(["--check"], page) == 1
    page.write_text("old")
    assert main(["--check"], page) == 1
    assert "metrics.md is out of date: run `python -m docs.metrics_reference`" in capsys.readouterr().err
    assert page.read_text() == "old"
    assert main([], page) == 0
    assert main(["--check"], page) == 0
