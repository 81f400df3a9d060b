"""A trial of the collection benchmark on real sshd, near and far."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from benchmarks.collection.__main__ import main

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.ssh, pytest.mark.slow]


def test_a_trial_measures_every_contender_that_needs_nothing_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.report.OUTPUT", tmp_path)

    status = main(["--runs", "1", "--works", "1", "10", "--contenders", "restrack", "ssh"])

    assert status == 0, capsys.readouterr().err
    figures = json.loads((tmp_path / "collection.json").read_text())
    agent = figures.pop("agent")
    assert sorted(agent) == ["procfs", "psutil", "sh"]
    assert all(one["cpu_ms_on_host"] > 0 for one in agent.values())
    assert {work: sorted(contenders) for work, contenders in figures.items()} == {
        "1": ["restrack", "ssh"],
        "10": ["restrack", "ssh"],
    }
    assert all(one["cpu_ms_per_host"] > 0 for work in figures.values() for one in work.values())
