from __future__ import annotations

import pytest

from benchmarks.loader import __main__ as main
from benchmarks.loader import contenders


def test_no_contender_is_always_measured_after_the_same_one() -> None:
    names = ["restrack", "go-batch", "go-conc"]

    assert [main.reorder(names, turn) for turn in range(4)] == [
        ["restrack", "go-batch", "go-conc"],
        ["restrack", "go-conc", "go-batch"],
        ["go-conc", "restrack", "go-batch"],
        ["go-conc", "go-batch", "restrack"],
    ]


def test_without_go_the_other_contenders_can_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    chosen = main.choose_contenders(main.parse_arguments(["--contenders", "restrack", "provider"]))

    assert list(chosen) == ["restrack", "provider"]


def test_a_missing_go_is_told_with_what_to_leave_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    with pytest.raises(contenders.ContenderError, match="install Go, or leave out"):
        main.choose_contenders(main.parse_arguments([]))


@pytest.mark.parametrize("argument", [("--runs", "0"), ("--scale", "0"), ("--scale", "nan")])
def test_nothing_is_not_measured(argument: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.parse_arguments(argument)

    assert "--runs and --scale must be positive" in capsys.readouterr().err


def test_our_go_loader_may_not_be_slower_than_the_shared_one(capsys: pytest.CaptureFixture[str]) -> None:
    rates = {"go-batch": 95.0, "shared-batch": 100.0, "go-conc": 80.0, "shared-conc": 100.0}
    figures = {"seed": {name: {"rows_per_second": rate} for name, rate in rates.items()}}

    assert main.show_peers(figures) == 1
    assert capsys.readouterr().out.splitlines() == [
        "seed: go-batch is 0.95 × shared-batch",
        "seed: go-conc is 0.80 × shared-conc",
    ]
