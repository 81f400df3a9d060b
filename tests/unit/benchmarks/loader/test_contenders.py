from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_provider_restrack.store.schema import FIELDS
from benchmarks.loader import contenders
from benchmarks.loader.clients import Task, Usage
from benchmarks.loader.works import SEED_COLUMNS, WORKS

TASK = Task("127.0.0.1:1", 2, "seed-10", "run_1", SEED_COLUMNS, 10, "group-1")


def test_the_contenders_are_ours_and_four_peers() -> None:
    assert list(contenders.list_contenders(Path("loader"))) == [
        "restrack",
        "go-batch",
        "go-conc",
        "provider",
        "execute-concurrent",
    ]


def test_slow_contenders_are_given_a_part_of_the_rows() -> None:
    known = contenders.list_contenders(Path("loader"))

    assert known["restrack"].rows_of(500_000, 1.0) == 500_000
    assert known["provider"].rows_of(500_000, 1.0) == 3_000
    assert known["provider"].rows_of(500_000, 0.1) == 300
    assert known["provider"].rows_of(100, 1.0) == 100


def test_go_writes_all_columns_of_full_samples_only() -> None:
    command = contenders.go_command(Path("loader"), "batch")

    assert "-wide" not in command(TASK)
    assert "-wide" in command(replace(TASK, columns=WORKS["full"].columns))


def test_a_python_contender_gets_its_task_whole() -> None:
    *start, text = contenders.python_command("restrack")(TASK)

    assert start == [sys.executable, "-m", "benchmarks.loader.clients", "restrack"]
    assert Task(**{**json.loads(text), "columns": SEED_COLUMNS}) == TASK


def test_the_last_line_is_what_a_contender_reports() -> None:
    output = 'a log line\n{"rows": 10, "seconds": 0.5, "cpu_seconds": 0.25, "peak_mb": 70.5}\n'

    assert contenders.parse_usage("restrack", output) == Usage(10, 0.5, 0.25, 70.5)


def test_the_shared_go_loader_reports_cpu_by_row() -> None:
    output = '{"rows": 10, "seconds": 0.5, "rows_per_second": 20, "cpu_us_per_row": 100}'

    assert contenders.parse_usage("shared-batch", output) == Usage(10, 0.5, pytest.approx(0.001), 0.0)


@pytest.mark.parametrize("output", ["", "done", "[]", '{"rows": 10}'])
def test_a_contender_without_a_report_is_an_error(output: str) -> None:
    with pytest.raises(contenders.ContenderError, match="provider does not report what it took"):
        contenders.parse_usage("provider", output)


def test_a_contender_that_fails_is_told_with_its_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such table')"]

    with pytest.raises(contenders.ContenderError, match=r"restrack failed with status 1:\nno such table"):
        contenders.run_contender("restrack", command, tmp_path)


def test_the_go_loader_knows_every_column_by_its_name() -> None:
    source = (contenders.GO_SOURCE / "sample.go").read_text()
    key = {"host", "day", "timestamp"}

    fields = re.findall(r'`json:"(\w+)"`', source)
    columns = re.findall(r'^\t\{"(\w+)", func', source, re.MULTILINE)

    assert sorted(fields) == sorted({field.name for field in FIELDS} - {"day"})
    assert sorted(columns) == sorted({field.name for field in FIELDS} - key)
