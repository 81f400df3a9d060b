"""The agent's lines among what a shell prints, their time bounds, and what silence means."""

from __future__ import annotations

import shlex
import time
from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_restrack.collect.frames import (
    MAX_OUTPUT_BYTES,
    AgentRun,
    FrameScanner,
    estimate_clock_skew,
    explain_silence,
    new_sentinel,
)
from airflow_provider_restrack.collect.sample import CollectError

SENT = datetime(2026, 1, 1, tzinfo=UTC)
LATER = SENT + timedelta(seconds=1)


def scan(*chunks: bytes, limit: int = 1000) -> FrameScanner:
    scanner = FrameScanner("S", limit)
    for chunk in chunks:
        scanner.feed(chunk, LATER)
    return scanner


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([b'S:hello {"time": 5}\nS:sample {"a": 1}\n'], id="alone"),
        pytest.param([b"motd\n\n", b'S:hello {"time": 5}\n', b'S:sample {"a": 1}\nbye\n'], id="among-noise"),
        pytest.param([b'no newline S:hello {"time": 5}\nS:sample {"a": 1}\n'], id="after-an-open-line"),
        pytest.param(
            [bytes([byte]) for byte in b'x\nS:hello {"time": 5}\nS:sample {"a": 1}\n'], id="by-bytes"
        ),
        pytest.param([b'\xff\x00\nS:hello {"time": 5}\r\nS:sample {"a": 1}\r\n'], id="binary-and-crlf"),
    ],
)
def test_frames_are_found(chunks: list[bytes]) -> None:
    scanner = scan(*chunks)

    assert scanner.hello == (5.0, LATER)
    assert scanner.sample == {"a": 1}


def test_a_sample_is_complete_with_its_newline_or_the_end_of_output() -> None:
    scanner = scan(b'S:sample {"a": 1}')

    assert scanner.sample is None
    assert scanner.finish(LATER)
    assert scanner.sample == {"a": 1}


def test_another_runs_frame_is_noise() -> None:
    assert scan(b'T:sample {"a": 1}\n').sample is None


@pytest.mark.parametrize(
    "line",
    [b"S:sample {", b"S:sample [1]", b"S:sample " + b"[" * 100_000, b"S:sample {\xff}", b"S:hello 5"],
)
def test_a_garbled_frame_is_a_parse_error(line: bytes) -> None:
    with pytest.raises(CollectError, match="garbled") as caught:
        scan(line + b"\n", limit=10**6)

    assert caught.value.outcome == "parse_error"


def test_output_beyond_the_limit_is_cut_off() -> None:
    with pytest.raises(CollectError, match="cut off after 10 bytes") as caught:
        scan(b"12345", b"678901", limit=10)

    assert caught.value.outcome == "parse_error"


def test_a_flood_of_empty_lines_costs_little_time() -> None:
    started = time.process_time()

    with pytest.raises(CollectError, match="cut off"):
        scan(*[b"\n" * 65536] * 200, limit=MAX_OUTPUT_BYTES)

    assert time.process_time() - started < 1


def test_stderr_counts_towards_the_limit() -> None:
    scanner = scan(b"12345", limit=10)

    with pytest.raises(CollectError, match="cut off"):
        scanner.count(b"123456")


def test_the_reading_leaves_the_hosts_clock_out() -> None:
    reading = scan(b'S:hello {"time": 5}\nS:sample {"a": 1, "host_time": 6}\n').reading(SENT, 0.2)

    assert (reading.payload, reading.received_at) == ({"a": 1}, LATER)


@pytest.mark.parametrize(
    ("hello_host", "hello_received", "host_time", "received", "expected"),
    [
        pytest.param(0.1, 0.2, None, 1.2, 0.0, id="equal-clocks"),
        pytest.param(100.1, 0.2, None, 1.2, 100.0, id="host-ahead"),
        pytest.param(-99.9, 0.2, None, 1.2, -100.0, id="host-behind"),
        # The hello was held up for 0.9 s on its way back; the sample was not, which tells.
        pytest.param(0.1, 1.0, 1.05, 1.1, 0.025, id="sample-narrows-the-bounds"),
        pytest.param(0.1, 0.2, 50.0, 1.2, None, id="clock-set-in-between"),
        pytest.param(20.0, 20.1, None, 21.0, None, id="slow-start-tells-nothing"),
        pytest.param(3620.0, 20.1, None, 21.0, 3600.0, id="slow-start-and-an-hour-ahead"),
        pytest.param(0.9, 1.0, None, 2.0, 0.0, id="a-start-of-a-second-is-no-skew"),
        pytest.param(0.02, 0.04, None, 2.0, 0.0, id="a-round-trip-that-was-slower-than-the-hello"),
    ],
)
def test_clock_skew_is_half_a_round_trip_above_its_lower_bound_within_both(
    hello_host: float, hello_received: float, host_time: float | None, received: float, expected: float | None
) -> None:
    start = SENT.timestamp()

    skew = estimate_clock_skew(
        SENT,
        (start + hello_host, SENT + timedelta(seconds=hello_received)),
        None if host_time is None else start + host_time,
        SENT + timedelta(seconds=received),
        round_trip_s=0.2,
    )

    assert skew == expected


def test_without_a_hello_the_skew_is_unknown() -> None:
    assert estimate_clock_skew(SENT, None, SENT.timestamp(), LATER, 0.2) is None


@pytest.mark.parametrize(
    ("output", "status", "stderr", "outcome", "said"),
    [
        pytest.param(b"", 127, b"sh: py: not found", "no_python", "not found", id="127"),
        pytest.param(b"", 126, b"Permission denied", "no_python", "status 126", id="126"),
        pytest.param(b"", 1, b"py: Command not found.", "no_python", "`python`", id="csh"),
        pytest.param(
            b"", 1, b"    name, *values\nSyntaxError: invalid syntax", "no_python", "3.6", id="python-2"
        ),
        pytest.param(b"", 1, b"module x not found", "parse_error", "module x", id="something-else-not-found"),
        pytest.param(
            b"This account is not available.\n", 1, b"", "parse_error", "not available", id="nologin"
        ),
        pytest.param(b'S:hello {"time": 1}\n', 3, b"", "timeout", "host_timeout", id="watchdog"),
        pytest.param(b'S:hello {"time": 1}\n', 127, b"", "parse_error", "status 127", id="python-was-there"),
        pytest.param(b"", None, b"", "parse_error", "cut", id="unknown-status"),
    ],
)
def test_silence_is_explained(
    output: bytes, status: int | None, stderr: bytes, outcome: str, said: str
) -> None:
    error = explain_silence(scan(output), status, stderr, "py")

    assert error.outcome == outcome
    assert said in str(error)


def test_the_command_is_quoted_and_leaves_no_shell_behind() -> None:
    command = AgentRun(b"", 0.5, "my python; rm -rf /").command("S", 12.34)

    assert shlex.split(command) == [
        "exec", "my python; rm -rf /", "-B", "-c", "import sys; exec(sys.stdin.read())",
        "--window", "0.5", "--sentinel", "S", "--limit", "12.3",
    ]  # fmt: skip


def test_every_run_has_its_own_sentinel() -> None:
    sentinels = {new_sentinel() for _ in range(100)}

    assert len(sentinels) == 100
    assert all(shlex.quote(sentinel) == sentinel for sentinel in sentinels)
