"""The agent's output on the wire: how it is asked for, found among what a login shell prints, and timed."""

from __future__ import annotations

import json
import secrets
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.collect.sample import CollectError, Reading, excerpt

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
_AGENT_PATH = Path(__file__).with_name("agent.py")


@dataclass(frozen=True, slots=True)
class AgentRun:
    """How the agent is run: its source, the interpreter's name on the host, and the window of rates (s)."""

    source: bytes
    window_s: float = 1.0
    python: str = "python3"

    def arguments(self, sentinel: str, limit_s: float) -> list[str]:
        """Return the interpreter's arguments; after ``limit_s`` the agent ends itself, whatever became of
        us.
        """
        window, limit = f"{self.window_s:g}", f"{max(limit_s, 1.0):.1f}"
        return ["-B", "-", "--window", window, "--sentinel", sentinel, "--limit", limit]

    def command(self, sentinel: str, limit_s: float) -> str:
        """Return the command for a login shell: ``exec`` leaves no shell behind that waits for the agent."""
        return "exec " + " ".join(
            shlex.quote(part) for part in [self.python, *self.arguments(sentinel, limit_s)]
        )


@cache
def read_agent_source() -> bytes:
    """Return the source of the agent that is sent to hosts."""
    return _AGENT_PATH.read_bytes()


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
        for line in lines.split(b"\n") if self._sentinel in lines else ():
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
        start = line.find(self._sample)
        if start >= 0:
            self.sample = _read_json(line[start + len(self._sample) :], "sample")
            self.received_at = now
            return
        start = line.find(self._hello)
        if start >= 0 and self.hello is None:
            host_time = _finite(_read_json(line[start + len(self._hello) :], "hello").get("time"))
            self.hello = None if host_time is None else (host_time, now)


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
    scanner: FrameScanner, exit_status: int | None, stderr: bytes, python: str
) -> CollectError:
    """Decide what it means that the command ended without a sample.

    :param exit_status: of the command; None or negative if it is not known, as when a signal ended it.
    """
    said = excerpt(stderr) or excerpt(scanner.head)
    if scanner.hello is None and _lacks_python(exit_status, stderr, python):
        return CollectError(
            "no_python",
            f"the host has no {python!r} that runs (exit status {exit_status}: {said!r}): install Python 3.6"
            " or newer there, or name its interpreter with the operator's argument `python`",
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
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise CollectError("parse_error", f"garbled {what} frame ({error}): {excerpt(raw)!r}") from error
    if not isinstance(value, dict):
        raise CollectError("parse_error", f"garbled {what} frame (no object): {excerpt(raw)!r}")
    return value


def _finite(value: Any) -> float | None:
    """Return a plausible time in epoch seconds, or None: a host may send anything."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        return None
    return float(value)
