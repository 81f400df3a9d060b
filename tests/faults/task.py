"""A loader in a process of its own, as a task of Airflow is, that can be killed and frozen."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[2]
_END_LIMIT_S = 110.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended: its result if it succeeded, and what it logged."""

    code: int
    result: dict[str, Any] | None
    log: str

    @property
    def done(self) -> bool:
        """Whether it succeeded and left nothing behind that was there when it looked."""
        return self.result is not None and self.result["lag_after"] == 0


class Task:
    """A running loader, or whatever else a module does.

    :param arguments: of the module.
    :param log: takes what it logs.
    """

    def __init__(
        self, arguments: Mapping[str, Any], log: Path, module: str = "tests.faults.run_loader"
    ) -> None:
        self._log, self._progress = log, log.with_suffix(".stored")
        told = {**arguments, "progress": str(self._progress)}
        command = [sys.executable, "-m", module, json.dumps(told)]
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=stream, cwd=ROOT, start_new_session=True
            )

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def stored(self) -> int:
        """How many samples it has stored, as far as it has told."""
        told = self._progress.read_bytes() if self._progress.exists() else b""
        return int(told or 0)

    def runs_for(self, seconds: float) -> bool:
        """Let it run, and tell whether it still does after so long."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    def kill(self) -> bool:
        """End it at once, and tell whether it ran: no Python of it runs any more."""
        self._process.kill()
        return self.finish().code == -signal.SIGKILL

    def suspend(self) -> None:
        """Freeze it."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def finish(self, timeout_s: float = _END_LIMIT_S) -> Outcome:
        """Wait for its end.

        :raises AssertionError: with its log, if it hangs; it is killed then.
        """
        try:
            output, _ = self._process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise AssertionError(f"the loader hangs for {timeout_s:g} s\n{self._tail()}") from None
        lines = output.splitlines()
        result = json.loads(lines[-1]) if self._process.returncode == 0 else None
        return Outcome(self._process.returncode, result, self._tail())

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-4000:]
