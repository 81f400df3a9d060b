"""The agent's parts on values: what it counts, and what fails without taking the rest with it."""

from __future__ import annotations

import json
import math
import threading
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import psutil
import pytest

from airflow_provider_restrack.collect import agent, fields
from airflow_provider_restrack.store.schema import FIELDS
from tests.unit.collect.recorded import recorded

METRIC_GROUPS = frozenset(
    ("cpu", "memory", "disk", "disk_io", "network", "processes", "pressure", "container", "counters")
)
METRICS = frozenset(field.name for field in FIELDS if field.group in METRIC_GROUPS)
OUTCOME = frozenset(("boot_id", "uptime", "window_seconds", "outcome", "error", "collector"))
PLAIN = Path(__file__).parent / "agent_cases" / "plain"
Recorded: Any = recorded(agent)

SystemTimes = namedtuple("SystemTimes", "user nice system idle")  # as psutil has them on macOS
Counters = namedtuple("Counters", "read_bytes write_bytes")
Partition = namedtuple("Partition", "device mountpoint fstype")
Memory = namedtuple("Memory", "total available")
Swap = namedtuple("Swap", "total used")
Traffic = namedtuple("Traffic", "bytes_sent bytes_recv errin errout dropin dropout")


class Surprise(BaseException):
    """What an extension module can raise: no Exception."""


class MacPsutil:
    """psutil on a system without /proc: no iowait, no busy time, and everything grows."""

    def __init__(self) -> None:
        self.ticks = 0

    def cpu_times(self, *, percpu: bool = False) -> Any:
        self.ticks += 0 if percpu else 1
        n = self.ticks
        times = SystemTimes(user=10.0 + n, nice=0.0, system=5.0 + n, idle=80.0 + 2 * n)
        return [times, times] if percpu else times

    def disk_io_counters(self, *, perdisk: bool, nowrap: bool) -> dict[str, Counters]:
        assert (perdisk, nowrap) == (True, False)
        return {"disk0": Counters(read_bytes=1000 * self.ticks, write_bytes=0)}

    def net_io_counters(self, *, pernic: bool, nowrap: bool) -> dict[str, Traffic]:
        assert (pernic, nowrap) == (True, False)
        return {name: Traffic(500 * self.ticks, 0, 0, 0, 0, 0) for name in ("en0", "lo0", "utun3", "bridge0")}

    def virtual_memory(self) -> Memory:
        return Memory(total=1000, available=400)

    def swap_memory(self) -> Swap:
        return Swap(total=0, used=0)

    def boot_time(self) -> float:
        return time.time() - 100

    def pids(self) -> list[int]:
        return [0, 1, 55]

    def disk_partitions(self, *, all: bool) -> list[Partition]:  # noqa: A002 - psutil's name
        assert all
        return [Partition("/dev/disk1s1", "/", "apfs"), Partition("devfs", "/dev", "devfs")]


class BsdPsutil(MacPsutil):
    """psutil on a system whose cards and jails are given."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names

    def net_io_counters(self, *, pernic: bool, nowrap: bool) -> dict[str, Traffic]:
        return {name: Traffic(500 * self.ticks, 500, 0, 0, 0, 0) for name in self.names}


class Broken:
    """A psutil of which everything raises."""

    def __getattr__(self, name: str) -> Any:
        raise Surprise(f"no {name} today")


def measure_with(lib: Any, root: str) -> dict[str, Any]:
    return dict(agent.measure(agent.Psutil(root, lib), agent.Psutil(root, lib), 0.01)[0])


@pytest.mark.parametrize(("kind", "lib"), [(agent.Procfs, None), (agent.Psutil, psutil)])
def test_the_agent_has_exactly_the_fields_of_the_schema_with_their_types(kind: Any, lib: Any) -> None:
    sample = agent.measure(kind("/", lib), kind("/", lib), 0.02)[0]

    types = {field.name: field.type for field in FIELDS}
    assert set(sample) == METRICS | OUTCOME
    wrong = {name: value for name, value in sample.items() if not fits(value, types[name])}
    assert wrong == {}
    assert (sample["outcome"], sample["error"]) == ("ok", None)


def fits(value: Any, cql: str) -> bool:
    """Whether a JSON value can stand in a column of this type."""
    if value is None:
        return True
    if cql == "text":
        return isinstance(value, str)
    if cql in ("int", "bigint"):
        return type(value) is int and abs(value) < 2 ** (31 if cql == "int" else 63)
    if cql == "double":
        return type(value) in (int, float) and math.isfinite(value)
    if cql == "list<double>":
        return isinstance(value, list) and all(fits(item, "double") and item is not None for item in value)
    assert cql == "map<text,double>", cql
    return isinstance(value, dict) and all(
        isinstance(key, str) and item is not None and fits(item, "double") for key, item in value.items()
    )


def test_what_a_linux_machine_always_has_is_never_null() -> None:
    sample = agent.measure(agent.Procfs(), agent.Procfs(), 0.05)[0]

    always = [
        "cpu_count",
        "load_1m",
        "memory_total",
        "memory_usage",
        "disk_usage",
        "filesystem_usage",
        "uptime",
    ]
    always += ["process_count", "process_running", "open_files", "tcp_connections", "cpu_total_seconds"]
    assert [name for name in always if sample[name] is None] == []


def test_a_window_of_no_time_gives_shares_and_no_rates() -> None:
    before, after = Recorded(str(PLAIN / "0")).take(fields.COUNTERS), Recorded(str(PLAIN / "1"))
    everything = after.take(fields.COUNTERS + tuple(fields.STATES))
    everything["clock"] = before["clock"]

    built, _ = fields.build(before, everything)

    assert [built[name] for name in ("window_seconds", "network_io_recv", "device_read", "swap_in")] == [
        None
    ] * 4


@pytest.mark.parametrize("section", [*fields.COUNTERS, *fields.STATES])
def test_a_section_that_fails_leaves_its_own_fields_null_and_names_itself(
    section: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_source: object) -> None:
        raise Surprise("broken; in\ntwo lines")

    sources = [str(PLAIN / "0"), str(PLAIN / "1")]
    whole = agent.measure(*map(Recorded, sources), 0)[0]
    monkeypatch.setattr(Recorded, f"_{section}", fail, raising=False)

    sample = agent.measure(*map(Recorded, sources), 0)[0]

    assert (sample["outcome"], sample["error"]) == ("partial", f"{section}: Surprise broken, in two lines")
    gone = {name for name in whole if sample[name] is None and whole[name] is not None}
    assert gone == own_fields(section) - {name for name in whole if whole[name] is None}
    changed = {name for name in whole if sample[name] != whole[name]}
    assert changed == gone | {"outcome", "error"}


def own_fields(section: str) -> set[str]:
    """The fields that a section alone provides."""
    if section in fields.STATES:
        return set(fields.STATES[section].split())
    return set(fields.BUILDERS[fields.COUNTERS.index(section)](None, None, None))


def test_a_filesystem_that_never_answers_is_named_and_delays_the_sample_no_longer_than_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(agent, "FILESYSTEMS_S", 0.2)
    release = threading.Event()

    class Stuck(Recorded):  # type: ignore[misc]
        def _disk(self, mounts: Any = None) -> Any:
            mounts = [("/dev/sda1", "/", "ext4"), ("nas:/a", "/mnt/a", "nfs"), ("nas:/b", "/mnt/b", "nfs")]
            return super()._disk(mounts)

        def statvfs(self, mountpoint: str) -> Any:
            if mountpoint.startswith("/mnt"):
                release.wait(30)
            return super().statvfs("/")

    start = time.monotonic()
    sample = agent.measure(Stuck(str(PLAIN / "0")), Stuck(str(PLAIN / "1")), 0)[0]
    took = time.monotonic() - start
    release.set()
    late = "disk: /mnt/a gives no answer in 0.2 s; disk: /mnt/b gives no answer in 0.2 s"
    assert (sample["outcome"], sample["error"]) == ("partial", late)
    assert sample["filesystem_usage"] == {"/": 55.556}
    assert sample["disk_usage"] == 55.556
    assert 0.2 <= took < 5


def test_a_filesystem_with_an_error_is_named_and_one_not_for_this_user_is_left_out() -> None:
    stale = OSError(116, "Stale file handle", "/mnt/stale")
    errors = {
        "/mnt/stale": stale,
        "/mnt/mine": PermissionError(13, "no"),
        "/mnt/gone": FileNotFoundError(2, "no"),
    }

    class Failing(Recorded):  # type: ignore[misc]
        def statvfs(self, mountpoint: str) -> Any:
            if mountpoint in errors:
                raise errors[mountpoint]
            return super().statvfs(mountpoint)

    source = Failing(str(PLAIN / "1"))
    answers = source._disk([("/dev/sda1", "/", "ext4")] + [(f"nas:{path}", path, "nfs") for path in errors])

    assert answers["filesystem_usage"].keys() == {"/"}
    assert source.problems == ["disk: /mnt/stale: /mnt/stale: Stale file handle"]


def test_a_system_without_proc_gives_what_psutil_knows_and_null_for_the_rest(tmp_path: Path) -> None:
    sample = measure_with(MacPsutil(), str(tmp_path))

    assert (sample["outcome"], sample["error"], sample["collector"]) == ("ok", None, "psutil")
    assert (sample["cpu_usage"], sample["cpu_count"], sample["cpu_core_usage"]) == (50.0, 2, [50.0, 50.0])
    assert (sample["memory_used"], sample["swap_total"], sample["swap_usage"]) == (600, 0, None)
    assert sample["device_read"].keys() == {"disk0"}
    assert sample["interface_sent"].keys() == {"en0"}
    assert sample["filesystem_usage"].keys() == {"/"}
    assert (sample["process_count"], round(sample["uptime"])) == (3, 100)
    unknown = ["cpu_iowait", "cpu_steal", "device_busy", "disk_io_busy", "swap_in", "boot_id", "open_files"]
    unknown += ["process_running", "tcp_connections", "pressure_cpu", "container_cpu_usage"]
    assert [name for name in unknown if sample[name] is not None] == []


@pytest.mark.parametrize(
    ("names", "counted"),
    [
        pytest.param("lo0 em0 em1 lagg0 lagg0.7 vlan7 epair0a bridge0 carp1", "em0 em1", id="freebsd"),
        pytest.param("lo0 em0 em1 trunk0 aggr0 vlan7", "em0 em1", id="openbsd"),
        pytest.param("lo0 en0 bond0 vlan0 bridge0", "en0", id="macos"),
        pytest.param("lo0 epair0b", "epair0b", id="jail"),
        pytest.param("lo0 ppp0", "ppp0", id="modem"),
    ],
)
def test_without_sys_names_tell_which_interfaces_stand_on_others(
    names: str, counted: str, tmp_path: Path
) -> None:
    sample = measure_with(BsdPsutil(*names.split()), str(tmp_path))

    assert list(sample["interface_sent"]) == counted.split()
    assert sample["network_recv_bytes"] == 500 * len(counted.split())


def test_where_psutil_fails_the_files_of_proc_stand_in() -> None:
    sample = measure_with(Broken(), "/")

    assert (sample["outcome"], sample["error"]) == ("ok", None)
    assert sample["memory_total"] == psutil.virtual_memory().total


def test_where_psutil_fails_and_there_is_no_proc_each_section_says_so(tmp_path: Path) -> None:
    sample = measure_with(Broken(), str(tmp_path))

    assert sample["outcome"] == "partial"
    first, second, *_ = sample["error"].split("; ")
    assert first == "cpu: Surprise no cpu_times today"
    assert second == "disk_io: Surprise no disk_io_counters today"
    assert len(sample["error"]) <= 1000


def test_names_that_are_not_utf_8_reach_the_system_as_they_are_and_json_as_text(tmp_path: Path) -> None:
    folder = tmp_path / "proc/self"
    folder.mkdir(parents=True)
    (folder / "mounts").write_bytes(b"/dev/sda1 / ext4 rw 0 0\n/dev/sdb1 /mnt/\xff ext4 rw 0 0\n")
    asked = []

    class Listening(agent.Procfs):  # type: ignore[misc]
        def statvfs(self, mountpoint: str) -> Any:
            asked.append(mountpoint.encode("utf-8", "surrogateescape"))
            return (1024, 100, 50, 50, 0, 0)

    snapshot = Listening(str(tmp_path)).take(["disk"])
    built, _ = fields.build({}, snapshot)

    assert sorted(asked) == [b"/", b"/mnt/\xff"]
    assert built["filesystem_usage"] == {"/": 50.0, "/mnt/�": 50.0}


@pytest.mark.parametrize(
    "value",
    [
        {"a": None, "b": [True, False, 1, -2.5, 1e300, 0.1], "c": {}, "d": []},
        {'quo"te\\ \n': "\u00e9\u2028\U0001f600"},
        1795531906.4589717,
        10**30,
    ],
)
def test_json_is_written_as_the_library_does(value: Any) -> None:
    assert agent.to_json(value) == json.dumps(value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--windows", "1"], "--windows: no option"),
        (["--window"], "--window: no option, or no value"),
        (["1"], "1: no option"),
        (["--window", "soon"], "could not convert"),
        (["--window", "-1"], "--window and --limit are seconds"),
        (["--limit", "nan"], "--window and --limit are seconds"),
        (["--window", "inf"], "--window and --limit are seconds"),
        (["--collector", "top"], "--collector is auto, psutil or procfs"),
    ],
)
def test_wrong_options_end_the_program_with_a_message_and_no_output(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = agent.main(arguments)

    printed = capsys.readouterr()
    assert (status, printed.out) == (2, "")
    assert message in printed.err


def test_the_source_is_plain_ascii_of_at_most_700_lines_so_that_any_locale_reads_it() -> None:
    sources = [Path(module.__file__).read_bytes() for module in (agent, fields)]

    assert all(source.isascii() for source in sources)
    assert max(source.count(b"\n") for source in sources) <= 700
