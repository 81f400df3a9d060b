"""What the shell script prints, read on values, and the script over recorded machines, beside the agent."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_restrack.collect import agent, tiers
from airflow_provider_restrack.collect.transcript import Transcript, read_transcript
from tests.unit.collect import recorded
from tests.unit.collect.test_agent_cases import CASES, METRICS, assemble, patterns_of

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = "".join(
    line[2:]
    for line in tiers.read_agent_source().decode("ascii").splitlines(keepends=True)
    if line.startswith("#|")
)
MOUNTS = "/dev/sda1 / ext4 rw 0 0\n/dev/sdb1 /mnt/my\\040data ext4 rw 0 0\nnas:/a /mnt/nas nfs rw 0 0\n"


def transcript_of(*probes: tuple[str, str]) -> dict[str, Any]:
    """Return the sample of a machine with nothing but three mounts."""
    blocks = ["snapshot\n", "snapshot\n", f"file proc/self/mounts\n{MOUNTS}", "units 100 4096\n"]
    blocks += [f"probe {name}\n{body}" for name, body in probes]
    return read_transcript("".join(f"S:{block}\n" for block in blocks).encode(), "S")


STATVFS = "statvfs 1024 100 60 50 10 5 {}\n"


def test_filesystems_are_read_from_stat() -> None:
    body = STATVFS.format("/") + "\n\n" + STATVFS.format("/mnt/my data") + STATVFS.format("/mnt/nas")

    sample = transcript_of(("stat -f -c", body))

    assert sample["filesystem_usage"] == dict.fromkeys(("/", "/mnt/my data", "/mnt/nas"), 44.444)
    assert (sample["disk_total"], sample["disk_used"], sample["disk_free"]) == (102400, 40960, 51200)
    assert sample["inode_usage"]["/"] == 50.0


def test_filesystems_are_read_from_both_forms_of_df_where_stat_knows_no_filesystems() -> None:
    head = "Filesystem 1024-blocks Used Available Capacity Mounted on\n"
    blocks = f"{head}/dev/sda1 100 40 50 45% /\n{head}my disk 100 0 100 0% /mnt/my data\n"
    inodes = (
        "Filesystem Inodes IUsed IFree IUse% Mounted on\n/dev/sda1 10 5 5 50% /\nnas:/a 0 0 0 - /mnt/nas\n"
    )

    sample = transcript_of(("df -P -k", blocks), ("df -P -i", inodes))

    assert sample["filesystem_usage"] == {"/": 44.444, "/mnt/my data": 0.0}
    assert sample["filesystem_free"] == {"/": 51200, "/mnt/my data": 102400}
    assert sample["inode_usage"] == {"/": 50.0}


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        pytest.param("", "disk: /mnt/nas gives no answer in 2 s", id="nothing"),
        pytest.param(
            "stat: cannot read file system information for '/mnt/nas': Stale file handle",
            "disk: /mnt/nas: Stale file handle",
            id="stat",
        ),
        pytest.param("df: /mnt/nas: Input/output error", "disk: /mnt/nas: Input/output error", id="df"),
        pytest.param("stat: can't read '/mnt/nas': Permission denied", None, id="not-for-this-user"),
        pytest.param("stat: '/mnt/nas': No such file or directory", None, id="unmounted-by-now"),
        pytest.param(
            "df: /mnt/nas/b: Permission denied", "disk: /mnt/nas gives no answer in 2 s", id="other"
        ),
    ],
)
def test_a_filesystem_without_an_answer_is_named_with_the_reason(said: str, problem: str | None) -> None:
    body = STATVFS.format("/") + STATVFS.format("/mnt/my data") + said

    sample = transcript_of(("stat -f -c", body))

    problems = [part for part in sample["error"].split("; ") if part.startswith("disk: ")]
    assert problems == ([problem] if problem else [])
    assert set(sample["filesystem_usage"]) == {"/", "/mnt/my data"}


@pytest.mark.parametrize(
    ("units", "pages"),
    [("100 4096", 4096), ("100 64*1024", 65536), ("100 ", None), ("", None)],
)
def test_the_units_are_those_that_the_host_tells(units: str, pages: int | None) -> None:
    source = Transcript()
    source.units = units.split() or [""]

    if pages is None:
        with pytest.raises(ValueError, match="SC_PAGE_SIZE"):
            source.unit("SC_PAGE_SIZE")
    else:
        assert (source.unit("SC_CLK_TCK"), source.unit("SC_PAGE_SIZE")) == (100, pages)


def test_a_file_that_could_not_be_read_to_its_end_is_none() -> None:
    blocks = "S:snapshot\nS:file proc/pressure/io\nsome avg\nS:lost\nS:snapshot\n"

    assert read_transcript(blocks.encode(), "S")["pressure_io"] is None


def test_output_without_two_snapshots_is_refused() -> None:
    with pytest.raises(ValueError, match="1 snapshots"):
        read_transcript(b"S:snapshot\n", "S")


def print_snapshot(folder: Path, tools: Path) -> str:
    """Run the script once over a recorded tree, as if it were the root, and return its second snapshot."""
    statvfs = json.loads((folder / "statvfs.json").read_text()) if (folder / "statvfs.json").exists() else {}
    answers = [
        f'{shlex.quote(point)}) echo statvfs {" ".join(map(str, numbers))} "$point" ;;\n'
        for point, numbers in statvfs.items()
    ]
    otherwise = "*) echo \"stat: '$point': No such file or directory\"; exit 1 ;;\n"
    (folder / "statvfs.sh").write_text(f"case $point in\n{''.join(answers)}{otherwise}esac\n")
    script = SCRIPT
    for absolute, below in (
        (' /sys/', f' "{folder}"/sys/'),
        (' /proc/net', f' "{folder}"/proc/net'),
        (' /proc/[', f' "{folder}"/proc/['),
        ('</proc/self', f'<"{folder}"/proc/self'),
        ('[ -r /proc/self', f'[ -r "{folder}"/proc/self'),
        ('"/$file"', f'"{folder}/$file"'),
        ('"${path#/}"', f'"${{path#{folder}/}}"'),
        ('show "${bond#/}"', f'show "${{bond#{folder}/}}"'),
    ):  # fmt: skip
        assert absolute in script
        script = script.replace(absolute, below)
    done = subprocess.run(
        ["sh", "-c", 'eval "$(cat)"', "restrack", "--sentinel", "S", "--window", "0"],
        input=script,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=30,
        env={"PATH": f"{tools}:/usr/bin:/bin:/usr/sbin", "FOLDER": str(folder)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    text = done.stdout.replace(f"{folder}/", "/")
    return text[text.rindex("S:snapshot") :]


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A ``stat`` and a ``getconf`` of the recorded machines."""
    folder = tmp_path / "tools"
    folder.mkdir()
    answer = '#!/bin/sh\nfor point; do :; done\n. "$FOLDER/statvfs.sh"\n'
    units = "#!/bin/sh\ncase $1 in CLK_TCK) echo 100 ;; *) echo 4096 ;; esac\n"
    for name, text in (("stat", answer), ("getconf", units)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.parametrize("name", sorted(path.name for path in CASES.iterdir() if path.name != "no_time"))
def test_the_script_and_the_agent_give_the_same_sample_of_a_recorded_machine(
    name: str, tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = assemble(CASES / name, tmp_path / "machine")
    for number in ("0", "1"):  # the script has no other clock than the host's own
        time, uptime = folder / number / "time", folder / number / "proc/uptime"
        if time.exists() and uptime.exists():
            uptime.write_text(f"{time.read_text().strip()} 0.00\n")
    monkeypatch.chdir(folder)  # short paths, for errors are cut
    of_agent = json.loads(json.dumps(recorded.replay(agent, "", patterns_of(folder))))

    text = "".join(print_snapshot(folder / number, tools) for number in ("0", "1"))
    words = "\n".join(word for verb, pattern in patterns_of(folder) for word in (f"--{verb}", pattern))
    of_script = read_transcript(f"S:arguments\n{words}\n{text}".encode("utf-8", "surrogateescape"), "S")

    same = METRICS | {"boot_id", "outcome", "error"}
    for sample in (of_agent, of_script):  # the agent is told two roots, the script none
        sample["error"] = set(re.sub(" [01]/", " /", sample["error"] or "").split("; "))
    differing = {key: (of_agent[key], of_script[key]) for key in same if of_agent[key] != of_script[key]}
    assert differing == {}
    shutil.rmtree(folder)


def test_a_host_of_many_connections_prints_only_what_is_counted(tmp_path: Path, tools: Path) -> None:
    folder = assemble(CASES / "plain", tmp_path / "machine") / "1"
    tcp = folder / "proc/net/tcp"
    head, *lines = tcp.read_text().splitlines(keepends=True)
    before = sum(" 01 " in line for line in lines)
    waiting, established = (
        f"  99: 0100007F:9C40 0200007F:0050 {state} 00000000:00000000 00:00000000 00000000 0 0 7{' ' * 56}\n"
        for state in ("06", "01")
    )
    tcp.write_text(head + "".join(lines) + waiting * 50_000 + established * 3)

    text = print_snapshot(folder, tools)

    assert len(text) < 64 * 1024
    assert text.count(" 01 \n") >= before + 3
    sample = read_transcript(f"\n{text}\n{text}".encode(), "S")
    assert sample["tcp_connections"] == before + 3 + tcp6_of(folder)


def tcp6_of(folder: Path) -> int:
    return (folder / "proc/net/tcp6").read_text().count(" 01 ")


def test_many_names_are_taken_in_no_more_than_a_moment() -> None:
    source = Transcript()
    started = time.perf_counter()

    source.add_names([f"/proc/{number}" for number in range(60_000)] * 2)

    assert source.names("proc") == [str(number) for number in range(60_000)]
    assert time.perf_counter() - started < 5  # in the square of their number it would be a minute
