"""The agent's output on the wire: how it is asked for, found among what a login shell prints, and timed."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_restrack.collect import tiers
from airflow_provider_restrack.collect.sample import CollectError, Reading, excerpt
from airflow_provider_restrack.collect.transcript import read_transcript

if TYPE_CHECKING:
    from datetime import datetime

# A sample of a large host is some 20 KiB; what is far beyond is no sample, and the worker's memory is not the
# host's.
MAX_OUTPUT_BYTES = 8 * 1024 * 1024
_EXCERPT_BYTES = 2048
# Worker times are cut to the millisecond; bounds that cross by more mean that a clock was set in between.
_CLOCK_TOLERANCE_S = 0.002
# An interpreter that takes seconds to start on a busy host widens the bounds until their middle says nothing.
_MAX_SKEW_ERROR_S = 1.0


@dataclass(frozen=True, slots=True)
class AgentRun:
    """How the agent is run.

    :param source: what it is sent on standard input.
    :param window_s: what rates are averaged over; 0 where only counters are wanted.
    :param python: the interpreter's name on the host; None to look for one.
    :param patterns: pairs such as ``("exclude", "mounts=/mnt/*")``.
    :param counters: whether the sample has its counters beside its fields.
    """

    source: bytes
    window_s: float = 1.0
    python: str | None = None
    collector: tiers.Collector = "auto"
    patterns: tuple[tuple[str, str], ...] = ()
    counters: bool = False

    def arguments(self, sentinel: str, limit_s: float, python: str | None = None) -> list[str]:
        """Return the program and its arguments; after ``limit_s`` the agent ends itself, whatever became of
        us.

        :param python: the interpreter, where it is known better than by this run.
        """
        window, limit = f"{self.window_s:g}", f"{max(limit_s, 1.0):.1f}"
        options = ["--window", window, "--sentinel", sentinel, "--limit", limit]
        options += [word for verb, pattern in self.patterns for word in (f"--{verb}", pattern)]
        options += ["--counters", "yes"] if self.counters else []
        return tiers.build_command(self.collector, python or self.python, options)

    def command(self, sentinel: str, limit_s: float) -> str:
        """Return the command for a login shell."""
        return tiers.quote_command(self.arguments(sentinel, limit_s))


def read_agent_source() -> bytes:
    """Return what is sent to hosts."""
    return tiers.read_agent_source()


def new_sentinel() -> str:
    """Return a mark that nothing else on a host can print: it is drawn anew for each run."""
    return f"restrack-{secrets.token_hex(16)}"


class FrameScanner:
    """Finds the two framed lines in a stream that may carry anything before, between and after them.

    A frame may follow on a line that an rc file left open, so it is looked for anywhere in a line.
    """

    def __init__(self, sentinel: str, limit: int = MAX_OUTPUT_BYTES) -> None:
        self._sentinel = sentinel.encode()
        self._hello = f"{sentinel}:hello ".encode()
        self._sample = f"{sentinel}:sample ".encode()
        self._begin = f"{sentinel}:begin".encode()
        self._end = f"{sentinel}:end ".encode()
        self._transcript: list[bytes] | None = None
        self._limit = limit
        self._partial = bytearray()
        self._total = 0
        self.head = b""
        self.hello: tuple[float, datetime] | None = None
        self.sample: dict[str, Any] | None = None
        self.received_at: datetime | None = None

    def feed(self, chunk: bytes, now: datetime) -> bool:
        """Take output that arrived at ``now``; return whether the sample is complete.

        :raises CollectError: with ``parse_error``, if there is more output than the limit or a frame is
            garbled.
        """
        self.count(chunk)
        self.head += chunk[: _EXCERPT_BYTES - len(self.head)]
        searched = len(self._partial)
        self._partial += chunk
        end = self._partial.rfind(b"\n", searched) + 1
        lines = bytes(self._partial[:end])
        del self._partial[:end]
        # Millions of other lines would hold up the threads of the hosts that are well.
        if self._transcript is not None and self._sentinel not in lines:
            self._transcript.append(lines)
        else:
            for line in lines.splitlines(keepends=True) if self._sentinel in lines else ():
                if self.sample is None:
                    self._take_line(line, now)
        return self.sample is not None

    def finish(self, now: datetime) -> bool:
        """Take what stands without a newline at the end of output as the last line."""
        return self.feed(b"\n", now) if self._partial and self.sample is None else self.sample is not None

    def count(self, chunk: bytes) -> None:
        """Count output that is not looked at, such as stderr, towards the limit.

        :raises CollectError: with ``parse_error``, if there is more than the limit.
        """
        self._total += len(chunk)
        if self._total > self._limit:
            raise CollectError(
                "parse_error",
                f"cut off after {self._limit} bytes of output without a sample: an rc file or a forced"
                f" command prints without end; it begins: {excerpt(self.head)!r}",
            )

    def reading(self, sent_at: datetime, round_trip_s: float) -> Reading:
        """Return the sample that was found.

        :param sent_at: when the agent had been sent whole, or before.
        :param round_trip_s: how long the host took to answer something that needs no interpreter.
        :raises CollectError: with ``parse_error``, if there is none.
        """
        if self.sample is None or self.received_at is None:
            raise CollectError("parse_error", "no sample arrived")
        return Reading(
            payload={name: value for name, value in self.sample.items() if name != "host_time"},
            received_at=self.received_at,
            clock_skew=estimate_clock_skew(
                sent_at, self.hello, _finite(self.sample.get("host_time")), self.received_at, round_trip_s
            ),
        )

    def _take_line(self, line: bytes, now: datetime) -> None:
        if self._transcript is not None:
            self._take_transcript(self._transcript, line, now)
            return
        if self._begin in line:
            self._transcript = []
            return
        start = line.find(self._sample)
        if start >= 0:
            self.sample = _read_json(line[start + len(self._sample) :], "sample")
            self.received_at = now
            return
        start = line.find(self._hello)
        if start >= 0 and self.hello is None:
            host_time = _finite(_read_json(line[start + len(self._hello) :], "hello").get("time"))
            self.hello = None if host_time is None else (host_time, now)

    def _take_transcript(self, transcript: list[bytes], line: bytes, now: datetime) -> None:
        """Take what a shell prints of a host without Python: all lines up to the last one."""
        if not line.startswith(self._end):
            transcript.append(line)
            return
        end = _read_json(line[len(self._end) :], "end")
        try:
            self.sample = read_transcript(b"".join(transcript), self._sentinel.decode())
        except ValueError as error:
            raise CollectError("parse_error", f"garbled output of the host's shell: {error}") from error
        self.sample["host_time"] = end.get("time")
        self.received_at = now


def estimate_clock_skew(
    sent_at: datetime,
    hello: tuple[float, datetime] | None,
    host_time: float | None,
    received_at: datetime,
    round_trip_s: float,
) -> float | None:
    """Return the host's clock minus the worker's in seconds, or None where it cannot be told.

    The host read its clock for the hello after the agent was sent and before the hello arrived, and again
    before the sample arrived. That bounds the skew from both sides. The upper bound is off by the time that
    the interpreter takes to start, the lower one by the way back alone: half a round trip is added for that,
    at most up to the middle. Bounds that leave room for both no skew and one of seconds tell nothing.
    """
    if hello is None:
        return None
    upper = hello[0] - sent_at.timestamp()
    lower = hello[0] - hello[1].timestamp()
    if host_time is not None:
        lower = max(lower, host_time - received_at.timestamp())
    is_contradiction = lower - upper > _CLOCK_TOLERANCE_S
    is_vague = (upper - lower) / 2 > _MAX_SKEW_ERROR_S and lower <= 0 <= upper
    return (
        None if is_contradiction or is_vague else round(min(lower + round_trip_s / 2, (lower + upper) / 2), 3)
    )


def explain_silence(
    scanner: FrameScanner, exit_status: int | None, stderr: bytes, python: str | None
) -> CollectError:
    """Decide what it means that the command ended without a sample.

    :param exit_status: of the command; None or negative if it is not known, as when a signal ended it.
    """
    python = python or tiers.PYTHONS[0]
    said = excerpt(stderr) or excerpt(scanner.head)
    if scanner.hello is None and _lacks_python(exit_status, stderr, python):
        return CollectError(
            "no_python",
            f"the host has no {python!r} that runs (exit status {exit_status}: {said!r}): install Python 3.6"
            " or newer there, or name its interpreter with the operator's argument `python`",
        )
    if exit_status == 2 and b"agent: No module named 'psutil'" in stderr:
        return CollectError(
            "no_python",
            f"{python!r} of the host has no psutil: install it there, or let collector be auto or procfs",
        )
    if scanner.hello is not None and exit_status == 3:
        return CollectError("timeout", "the agent ended itself at its time limit: raise host_timeout")
    ended = (
        "the connection or command was cut" if exit_status is None else f"it ended with status {exit_status}"
    )
    return CollectError(
        "parse_error",
        f"no sample in the output of {python!r}: {ended}; stdout: {excerpt(scanner.head)!r};"
        f" stderr: {excerpt(stderr)!r}",
    )


def _lacks_python(exit_status: int | None, stderr: bytes, python: str) -> bool:
    if exit_status in {126, 127} or b"SyntaxError" in stderr:  # Python 2 gets no further than parsing
        return True
    # csh ends with 1 when a command is missing; only its message tells.
    return python.encode() in stderr and b"not found" in stderr.lower()


def _read_json(raw: bytes, what: str) -> dict[str, Any]:
    try:
        value = _decode(raw)
    except (ValueError, RecursionError) as error:
        raise CollectError("parse_error", f"garbled {what} frame ({error}): {excerpt(raw)!r}") from error
    if not isinstance(value, dict):
        raise CollectError("parse_error", f"garbled {what} frame (no object): {excerpt(raw)!r}")
    return value


def _decode(raw: bytes) -> Any:
    """Return JSON as a value; NaN and infinity too: they are no JSON, but are to spoil one field only."""
    try:
        return msgspec.json.decode(raw)  # which has each name of a field in memory once
    except msgspec.DecodeError:
        return json.loads(raw)


def _finite(value: Any) -> float | None:
    """Return a plausible time in epoch seconds, or None: a host may send anything."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        return None
    return float(value)
