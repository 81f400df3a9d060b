"""What the agent's shell script printed of a host without Python, read as the agent reads /proc and /sys."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.collect import agent, fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_STATVFS = re.compile(r"statvfs (\d+) (\d+) (\d+) (\d+) (\d+) (\d+) (/.*)")
_SECONDS = re.compile(r"\d+\.?\d*")
# POSIX's form of df, of blocks and of inodes alike: total, used, available, share, mount point.
_DF = re.compile(r".*?\s(\d+)\s+(-?\d+)\s+(-?\d+)\s+(?:\d+%|-)\s+(/.*)")
# As in the agent: gone by now, or not for this user to see.
_NOT_OURS = frozenset({"No such file or directory", "Permission denied"})


class Transcript(agent.Procfs):
    """A snapshot's source: the files and names that the script printed."""

    collector = "sh"

    def __init__(self, patterns: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(patterns=patterns)
        self.files: dict[str, str] = {}
        self.units: list[str] = []
        self.probes: dict[str, list[str]] = {}
        self._children: dict[str, dict[str, None]] = defaultdict(dict)  # in order

    def text(self, path: str) -> str:
        """Return the text of a file."""
        if path not in self.files:
            raise FileNotFoundError(2, "No such file or directory", "/" + path)
        self._texts[path] = self.files[path]
        return str(super().text(path))

    def names(self, path: str) -> list[str]:
        """Return the names in a directory."""
        return list(self._children.get(path, ()))

    def add_names(self, paths: Iterable[str]) -> None:
        """Take paths of files and directories; where the shell found nothing, its pattern stands for it."""
        for path in paths:
            folder, _, name = path.strip("/").rpartition("/")
            if name and "*" not in path:
                self._children[folder][name] = None

    def clock(self) -> float | None:
        """Return the seconds since the host booted."""
        words = self.files.get("proc/uptime", "").split()
        return float(words[0]) if words and _SECONDS.fullmatch(words[0]) else None

    def unit(self, name: str) -> int:
        """Return a unit that the host's kernel counts in."""
        ticks, *page_size = self.units
        value = ticks if name == "SC_CLK_TCK" else "".join(page_size[:1])
        if value.endswith("*1024"):
            return int(value.removesuffix("*1024")) * 1024
        if not value.isdigit():
            raise ValueError(f"the host does not tell its {name}")
        return int(value)

    def ask(self, mountpoints: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """Return what statvfs would say of each mount point, by ``stat -f``, or by ``df`` where it lacks."""
        found = self._spread(_read_statvfs(self.probes))
        said = [line for lines in self.probes.values() for line in lines]
        for point in (point for point in mountpoints if point not in found):
            named = re.compile(rf"(?:^|[\s'\"]){re.escape(point)}(?=['\":])")
            reason = next((line.rpartition(": ")[2] for line in said if named.search(line)), None)
            if reason is None:
                limit = f"{agent.FILESYSTEMS_S:g}"
                self.problems.append(f"disk: {point} gives no answer in {limit} s")
            elif reason not in _NOT_OURS:
                self.problems.append(f"disk: {point}: {reason}")
        return {point: found[point] for point in mountpoints if point in found}

    def _spread(self, found: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """Return the answers with those of other mount points of the same filesystem: it was asked once."""
        devices = {point: device for device, point, _ in agent.parse_mounts(self.text("proc/self/mounts"))}
        of_device = {devices[point]: found[point] for point in found if point in devices}
        names = {device for device in of_device if device.startswith("/") or ":" in device}
        others = {point: of_device[device] for point, device in devices.items() if device in names}
        return {**others, **found}


def read_transcript(raw: bytes, sentinel: str) -> dict[str, Any]:
    """Return the sample of what the script printed between its first line and its last.

    Its ``counters`` are those of the second snapshot, for rates over the time between two runs.

    :raises ValueError: if there are no two snapshots in it.
    """
    snapshots = _read_snapshots(raw.decode("utf-8", "surrogateescape"), sentinel)
    if len(snapshots) != 2:
        raise ValueError(f"there are {len(snapshots)} snapshots in it, not 2")
    first, last = snapshots
    first.units = last.units
    sample, counters = agent.measure(first, last, 0)
    return {**sample, "counters": fields.clean(counters)}


def _read_snapshots(text: str, sentinel: str) -> list[Transcript]:
    patterns: list[tuple[str, str]] = []
    snapshots: list[Transcript] = []
    for block in f"\n{text}".split(f"\n{sentinel}:")[1:]:
        head, _, body = block.partition("\n")
        kind, _, rest = head.partition(" ")
        if kind == "arguments":
            patterns = _read_patterns(body.split("\n"))
        elif kind == "snapshot":
            snapshots.append(Transcript(patterns))
        elif snapshots:
            _take_block(snapshots[-1], kind, rest, body)
    for snapshot in snapshots:
        snapshot.add_names(list(snapshot.files))
    return snapshots


def _take_block(snapshot: Transcript, kind: str, rest: str, body: str) -> None:
    if kind == "file":
        snapshot.files[rest] = body
    elif kind == "lost" and snapshot.files:
        snapshot.files.popitem()  # the one before: it could not be read to its end
    elif kind == "names":
        snapshot.add_names(body.split("\n"))
    elif kind == "units":
        snapshot.units = rest.split()
    elif kind == "probe":
        snapshot.probes[rest] = body.split("\n")


def _read_patterns(words: Sequence[str]) -> list[tuple[str, str]]:
    pairs = zip(words[::2], words[1::2], strict=False)
    return [(flag[2:], value) for flag, value in pairs if flag in {"--include", "--exclude"}]


def _read_statvfs(probes: Mapping[str, Sequence[str]]) -> dict[str, tuple[int, ...]]:
    """Return (block size, blocks, free, free to users, inodes, free inodes) of each mount point."""
    found: dict[str, tuple[int, ...]] = {}
    inodes: dict[str, tuple[int, int]] = {}
    for probe, lines in probes.items():
        for line in lines:
            if match := _STATVFS.fullmatch(line):
                found[match[7]] = tuple(int(number) for number in match.groups()[:6])
            elif match := _DF.fullmatch(line):
                total, used, available = (int(number) for number in match.groups()[:3])
                if probe == "df -P -i":
                    inodes[match[4]] = (total, total - used)
                else:
                    found[match[4]] = (1024, total, total - used, available, 0, 0)
    return {point: numbers[:4] + inodes.get(point, numbers[4:]) for point, numbers in found.items()}
