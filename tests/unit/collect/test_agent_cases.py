"""The agent on recorded machines: each folder of ``agent_cases`` is one, and says what the sample must hold.

A case holds the files that differ from those of ``plain``, in ``0`` and ``1`` for the two snapshots.
``without`` names what of ``plain`` this machine lacks, ``expected.json`` the fields that the case is about;
``patterns`` what is included and excluded, one a line.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_restrack.collect import agent
from airflow_provider_restrack.store.schema import FIELDS
from tests.unit.collect import recorded

if TYPE_CHECKING:
    from collections.abc import Sequence

CASES = Path(__file__).parent / "agent_cases"
METRIC_GROUPS = frozenset(
    ("cpu", "memory", "disk", "disk_io", "network", "processes", "pressure", "container", "counters")
)
METRICS = frozenset(field.name for field in FIELDS if field.group in METRIC_GROUPS)


def assemble(case: Path, folder: Path) -> Path:
    """Lay a case's files over those of the plain machine."""
    shutil.copytree(CASES / "plain", folder, symlinks=True)
    without = case / "without"
    for name in without.read_text().splitlines() if without.exists() else ():
        for number in ("0", "1"):
            path = folder / number / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return Path(shutil.copytree(case, folder, symlinks=True, dirs_exist_ok=True))


def patterns_of(folder: Path) -> list[tuple[str, str]]:
    """Return the patterns of a case, such as ``exclude mounts=/mnt/*``."""
    path = folder / "patterns"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [(verb, pattern) for verb, _, pattern in (line.partition(" ") for line in lines)]


def replay(folder: Path, patterns: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
    """Return the agent's sample of recorded snapshots, as JSON brings it."""
    sample = recorded.replay(agent, str(folder), patterns)
    return dict(json.loads(json.dumps(sample, allow_nan=False)))


@pytest.mark.parametrize("name", sorted(path.name for path in CASES.iterdir()))
def test_a_recorded_machine_gives_the_expected_fields(name: str, tmp_path: Path) -> None:
    expected = json.loads((CASES / name / "expected.json").read_text(encoding="utf-8"))
    folder = assemble(CASES / name, tmp_path / "machine")

    sample = replay(folder, patterns_of(folder))

    assert {key: sample.get(key, "no such field") for key in expected} == expected
    assert set(sample) >= METRICS
    assert (sample["outcome"] == "partial") == (sample["error"] is not None)


def test_the_plain_case_expects_every_field() -> None:
    expected = json.loads((CASES / "plain" / "expected.json").read_text(encoding="utf-8"))

    assert set(expected) >= METRICS


def test_a_file_that_is_cut_off_within_a_line_gives_no_wrong_value_but_null(
    tmp_path: Path,
) -> None:
    folder = assemble(CASES / "plain", tmp_path / "machine")
    whole_sample = replay(folder)
    files = [path for path in sorted((folder / "1").rglob("*")) if path.is_file() and path.stat().st_size > 2]
    wrong = []
    for path in (file for file in files if file.name not in ("time", "statvfs.json")):
        whole = path.read_bytes()
        cuts = range(1, len(whole) - 1, max(1, len(whole) // 9))
        for length in (cut for cut in cuts if whole[cut - 1 : cut] != b"\n"):
            path.write_bytes(whole[:length])
            sample = replay(folder)
            differing = {key for key in METRICS if sample[key] not in (whole_sample[key], None)}
            wrong += [(path.name, length, differing)] if differing else []
        path.write_bytes(whole)

    assert len(files) >= 15
    assert wrong == []
