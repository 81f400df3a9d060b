from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services import __main__ as cli

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Put the data of all instances into a scratch directory: nothing runs there."""
    monkeypatch.setenv("RESTRACK_HOME", str(tmp_path))


def test_status_of_what_does_not_run_is_3_and_lists_every_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--instance", "test"]) == 3

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-2:] for line in lines] == [
        [f"127.0.0.1:{port}", "stopped"] for port in (12201, 12202, 12203, 19092, 19042)
    ]


def test_stop_of_what_does_not_run_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["stop"]) == 0
    assert capsys.readouterr().out == "the instance dev does not run\n"


def test_logs_show_the_last_lines_of_each(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "dev" / "kafka").mkdir(parents=True)
    (tmp_path / "dev" / "kafka" / "kafka.log").write_text("one\ntwo\nthree\n")

    assert cli.main(["logs", "--lines", "2"]) == 0
    assert f"--- {tmp_path}/dev/kafka/kafka.log\ntwo\nthree\n" in capsys.readouterr().out


def test_an_error_is_one_message_and_status_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESTRACK_HOME", "/data/a:b")

    assert cli.main(["start"]) == 1
    assert capsys.readouterr().err.startswith("services: the servers cannot keep their data in /data/a:b")


def test_an_unknown_instance_is_refused_by_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["start", "--instance", "prod"])
    assert "invalid choice: 'prod'" in capsys.readouterr().err
