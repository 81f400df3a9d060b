"""This machine: the agent as a subprocess of the worker, so that a Celery worker collects itself without
SSH.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

from airflow_provider_restrack import clock
from airflow_provider_restrack.collect.frames import AgentRun, FrameScanner, explain_silence, new_sentinel
from airflow_provider_restrack.collect.inventory import Target
from airflow_provider_restrack.collect.sample import CollectError, Reading

if TYPE_CHECKING:
    from collections.abc import Mapping

_CHUNK = 64 * 1024
_STDERR_HEAD = 2048


def local_target(labels: Mapping[str, str]) -> Target:
    """Return the machine that this process runs on, under the name that it gives itself."""
    name = socket.gethostname()
    return Target(host=name, address=name, labels=dict(labels))


class LocalSession:
    """Runs the agent with this worker's own interpreter, in a process group that ``abort`` can end as a
    whole.
    """

    def __init__(self, run: AgentRun, python: str = sys.executable) -> None:
        self._run = run
        self._python = python
        self._process: subprocess.Popen[bytes] | None = None
        self._aborted = False

    def collect(self, deadline: float) -> Reading:
        """Run the agent once.

        :param deadline: monotonic time by which it is done.
        :raises CollectError: with the outcome of the row.
        """
        sentinel = new_sentinel()
        arguments = self._run.arguments(sentinel, deadline - clock.monotonic(), self._python)
        try:
            process = self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and script
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise CollectError("no_python", f"cannot start {self._python!r}: {error}") from error
        with process:
            try:
                return self._talk(process, FrameScanner(sentinel), deadline)
            finally:
                self._kill(process)

    def abort(self) -> None:
        """End the agent at once; whoever waits for it gets an error."""
        self._aborted = True
        if self._process is not None:
            self._kill(self._process)

    def close(self) -> None:
        """Nothing is kept between samples."""

    def _talk(self, process: subprocess.Popen[bytes], scanner: FrameScanner, deadline: float) -> Reading:
        if self._aborted:
            raise CollectError("timeout", "given up before the agent was started")
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(self._run.source)
            process.stdin.close()
        sent_at = clock.utc_now()
        stderr = _read_frames(process, scanner, deadline)
        if scanner.sample is None and not scanner.finish(clock.utc_now()):
            raise explain_silence(scanner, self._wait(process, deadline), stderr, self._python)
        reading = scanner.reading(sent_at, round_trip_s=0.0)
        # Both clocks are the same one: what could be measured is the time that the interpreter takes to
        # start.
        return Reading(reading.payload, reading.received_at, clock_skew=0.0)

    def _wait(self, process: subprocess.Popen[bytes], deadline: float) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(timeout=max(0.1, deadline - clock.monotonic()))
        return None

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        # Once it was waited for, its id can be another's.
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)


def _read_frames(process: subprocess.Popen[bytes], scanner: FrameScanner, deadline: float) -> bytes:
    """Read until the sample is complete or output ends; return the start of stderr."""
    assert process.stdout is not None
    assert process.stderr is not None
    stderr = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stderr, selectors.EVENT_READ)
        while selector.get_map():
            left = deadline - clock.monotonic()
            if left <= 0:
                raise CollectError("timeout", "the agent did not answer in time: raise host_timeout")
            for key, _ in selector.select(left):
                chunk = os.read(key.fd, _CHUNK)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stderr:
                    scanner.count(chunk)
                    stderr += chunk[: _STDERR_HEAD - len(stderr)]
                elif scanner.feed(chunk, clock.utc_now()):
                    return stderr
    return stderr
