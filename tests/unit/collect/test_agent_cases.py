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


def whole(case: str, patterns: Sequence[tuple[str, str]], folder: Path) -> dict[str, Any]:
    """Return the sample of a case by these patterns."""
    return replay(assemble(CASES / case, folder), patterns)


@pytest.mark.parametrize(
    ("case", "kind", "total", "of_each"),
    [
        ("device_names", "devices", "disk_io_write", "device_write"),
        ("device_names", "devices", "disk_io_read", "device_read"),
        ("bond_and_vlan", "interfaces", "network_io_recv", "interface_recv"),
        ("bond_and_vlan_without_sys", "interfaces", "network_io_recv", "interface_recv"),
        ("hyper_v_card", "interfaces", "network_io_recv", "interface_recv"),
        ("carried_interfaces", "interfaces", "network_io_recv", "interface_recv"),
    ],
)
def test_where_all_is_included_the_total_is_still_that_of_the_default(
    case: str, kind: str, total: str, of_each: str, tmp_path: Path
) -> None:
    default = whole(case, [], tmp_path / "default")

    everything = whole(case, [("include", f"{kind}=*")], tmp_path / "all")

    assert len(everything[of_each]) > len(default[of_each])
    assert everything[of_each].items() >= default[of_each].items()
    assert everything[total] == default[total]
    assert sum(everything[of_each].values()) > default[total]


@pytest.mark.parametrize(
    ("case", "patterns", "of_each", "total"),
    [
        pytest.param(
            "device_names",
            ["include devices=md127", "include devices=dm-0"],
            {"md127": "once", "dm-0": "twice"},
            "device_read disk_io_read",
            id="a-volume-on-a-raid",
        ),
        pytest.param(
            "device_names",
            ["include devices=sda1", "include devices=sdb", "include devices=md127"],
            {"sda1": "once", "sdb": "once", "md127": "twice"},
            "device_read disk_io_read",
            id="a-raid-on-a-partition",
        ),
        pytest.param(
            "device_names",
            ["include devices=loop0"],
            {"loop0": "once"},
            "device_read disk_io_read",
            id="loop",
        ),
        pytest.param(
            "device_names",
            ["exclude devices=sd?", "exclude devices=cciss/*", "exclude devices=[mx]*"],
            {"nvme0n1": "once"},
            "device_read disk_io_read",
            id="excluded-disks",
        ),
        pytest.param(
            "bond_and_vlan",
            ["include interfaces=eth[01]", "include interfaces=bond0.42"],
            {"eth0": "once", "eth1": "once", "bond0.42": "twice"},
            "interface_recv network_io_recv",
            id="members-and-a-vlan-without-their-bond",
        ),
        pytest.param(
            "bond_and_vlan",
            ["include interfaces=bond0", "include interfaces=vlan7", "include interfaces=eth0"],
            {"bond0": "once", "vlan7": "twice", "eth0": "twice"},
            "interface_recv network_io_recv",
            id="a-bond-with-a-vlan-and-a-member",
        ),
        pytest.param(
            "bond_and_vlan",
            ["include interfaces=vlan7"],
            {"vlan7": "once"},
            "interface_recv network_io_recv",
            id="a-vlan-alone",
        ),
    ],
)
def test_a_total_counts_each_byte_once_whatever_is_kept(
    case: str, patterns: list[str], of_each: dict[str, str], total: str, tmp_path: Path
) -> None:
    pairs = [(verb, pattern) for verb, _, pattern in (line.partition(" ") for line in patterns)]

    sample = whole(case, pairs, tmp_path / "machine")

    values, whole_value = (sample[name] for name in total.split())
    assert set(values) == set(of_each)
    assert whole_value == pytest.approx(sum(values[name] for name in values if of_each[name] == "once"))


@pytest.mark.parametrize(
    ("patterns", "mounts"),
    [
        (["exclude mounts=/srv/*"], {"/", "/mnt/My Files", "/mnt/back\\slash", "/mnt/s3/a", "/mnt/s3/b"}),
        (["include mounts=/srv/bind/*"], {"/", "/srv/bind/of/my files"}),
        (["include mounts=/mnt/s3/?", "exclude mounts=*b"], {"/", "/mnt/s3/a"}),
        (["include mounts=/mnt/s3/?", "exclude mounts=/"], {"/mnt/s3/a", "/mnt/s3/b"}),
    ],
)
def test_mounts_are_kept_by_pattern_and_the_root_unless_it_is_excluded(
    patterns: list[str], mounts: set[str]
) -> None:
    table = agent.parse_mounts((CASES / "mounts/1/proc/self/mounts").read_text(encoding="utf-8"))
    pairs = [(verb, pattern) for verb, _, pattern in (line.partition(" ") for line in patterns)]

    picked = set(agent.pick_mounts(table, pairs))

    assert picked - {"/data/été", "/odd"} == mounts
