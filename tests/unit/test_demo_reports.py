"""The demo's reports over HTTP, and what it says of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from demo.reports import served
from demo.show import describe_report

if TYPE_CHECKING:
    from pathlib import Path


def test_a_folder_is_served_inside_the_block_and_no_longer(tmp_path: Path) -> None:
    with served(tmp_path / "reports", "127.0.0.1", 0) as url:
        (tmp_path / "reports" / "page.html").write_text("<p>here</p>")
        assert httpx.get(f"{url}/page.html").text == "<p>here</p>"
        assert httpx.get(f"{url}/../secret").status_code == 404

    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/page.html")


def test_a_report_is_told_in_some_lines() -> None:
    near = {"host": "db-1", "device": "/var", "metric": "filesystem_usage", "current": 91.234}
    result: dict[str, Any] = {
        "hosts": 9,
        "forecasts": [
            {**near, "full_likely": "2026-12-06", "verdict": "filling"},
            {**near, "device": None, "full_likely": None, "verdict": "already over"},
        ],
        "resizes": [{}, {}],
        "silent": [],
        "files": ["/reports/capacity.html"],
    }

    text = describe_report(result, "http://127.0.0.1:8083/capacity.html")

    assert "  db-1 /var: filesystem_usage 91.2 %, full about 2026-12-06\n" in text
    assert "  db-1: filesystem_usage 91.2 %, already over\n" in text
    assert "sizes to change: 2; without data: none" in text
    assert "http://127.0.0.1:8083/capacity.html" in text
