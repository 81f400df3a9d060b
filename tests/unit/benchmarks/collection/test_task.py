from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.collection.task import Meter, Task

if TYPE_CHECKING:
    from pathlib import Path


def test_a_task_is_read_as_it_was_written(tmp_path: Path) -> None:
    task = Task(("127.1.0.1", "127.1.0.2"), 22, "u", "key", "known", "python3", 8, str(tmp_path))

    task.write(tmp_path / "task.json")

    assert Task.read(tmp_path / "task.json") == task


def test_a_meter_counts_what_was_used_since_it_was_made() -> None:
    usage = Meter().stop(3)

    assert usage.hosts == 3
    assert 0 <= usage.cpu_seconds < 10
    assert usage.peak_mb > 1
