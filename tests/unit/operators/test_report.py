"""The operator over a report of generated history: what it writes, returns and links to."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_restrack.operators.report import (
    CapacityReportLink,
    CapacityReportOperator,
    find_url,
    write_whole,
)
from docs.report_pictures import AS_OF, build_report

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from airflow_provider_restrack.capacity.policy import ReportPolicy
    from airflow_provider_restrack.capacity.report import Report

CONTEXT: Any = {"data_interval_end": AS_OF}
NAMES = ["capacity.html", "capacity_forecasts.png", "capacity_cpu_by_hour.png", "capacity_users.png"]


class Reporting(CapacityReportOperator):
    def _gather(self, policy: ReportPolicy, as_of: datetime) -> Report:
        return replace(build_report(as_of), title=policy.title, within_days=policy.within_days)


def make(path: Path, **arguments: Any) -> Reporting:
    return Reporting(task_id="report", path=str(path), **arguments)


def test_the_page_and_its_pictures_are_written_and_told(tmp_path: Path) -> None:
    operator = make(tmp_path / "new" / "folder", title="Ours")

    result = operator.execute(CONTEXT)

    assert json.loads(json.dumps(result)) == result
    assert result["files"] == [str(tmp_path / "new" / "folder" / name) for name in NAMES]
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == sorted(NAMES)
    assert "<h1>Ours</h1>" in (tmp_path / "new" / "folder" / NAMES[0]).read_text()
    assert all((tmp_path / "new" / "folder" / name).read_bytes()[:4] == b"\x89PNG" for name in NAMES[1:])
    assert (result["as_of"], result["hosts"], result["near"]) == ("2026-11-24T00:00:00.000Z", 8, 4)
    assert result["silent"] == ["gen-old-1"]
    assert {(one["host"], one["resource"]) for one in result["resizes"]} >= {
        ("gen-batch-1", "cpu"),
        ("gen-ci-1", "memory"),
    }


def test_a_run_that_is_done_again_replaces_its_files(tmp_path: Path) -> None:
    operator = make(tmp_path)
    first = operator.execute(CONTEXT)
    (tmp_path / NAMES[0]).write_text("old")

    assert operator.execute(CONTEXT) == first
    assert "old" not in (tmp_path / NAMES[0]).read_text()[:10]


def test_the_link_leads_to_the_page_once_it_is_written(tmp_path: Path) -> None:
    operator = make(tmp_path, url_prefix="https://reports.example.com/week/")
    link = CapacityReportLink()

    assert link.get_link(operator, ti_key=None) == ""
    result = operator.execute(CONTEXT)

    assert link.get_link(operator, ti_key=None) == "https://reports.example.com/week/capacity.html"
    assert result["url"] == link.get_link(operator, ti_key=None)
    assert isinstance(CapacityReportOperator.operator_extra_links[0], CapacityReportLink)


def test_without_a_prefix_the_address_is_the_files_own(tmp_path: Path) -> None:
    assert find_url(tmp_path / "a b" / "capacity.html", None) == f"file://{tmp_path}/a%20b/capacity.html"
    assert find_url(tmp_path / "capacity.html", "") == f"file://{tmp_path}/capacity.html"


def test_a_file_is_old_or_new_and_never_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "page"
    path.write_text("old")
    (tmp_path / ".page.partial").mkdir()

    with pytest.raises(OSError, match="partial"):
        write_whole(path, b"new")

    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"metrics": ["nothing"]}, "'nothing'"),
        ({"within_days": 0}, "within_days"),
        ({"plots": -1}, "plots"),
        ({"top": 0}, "top"),
        ({"hourly_days": 0}, "hourly_days"),
        ({"size": {"low": 90}}, "low < target"),
        ({"size": {"lowest": 10}}, "size: .*lowest"),
        ({"size": {"days": 0}}, "days must be 1"),
        ({"size": {"min_coverage": 0}}, "min_coverage must be"),
        ({"keyspace": "No Keyspace"}, "keyspace"),
    ],
)
def test_a_mistake_is_told_when_the_dag_is_parsed(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        CapacityReportOperator(task_id="report", path="reports", **arguments)


def test_a_template_is_checked_later() -> None:
    operator = CapacityReportOperator(task_id="report", path="{{ ds }}", metrics="{{ var.json.metrics }}")

    assert operator.metrics == "{{ var.json.metrics }}"
