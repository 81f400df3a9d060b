"""This machine, sampled by really running interpreters."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from airflow_provider_restrack.collect.frames import AgentRun, read_agent_source
from airflow_provider_restrack.collect.local import LocalSession, local_target
from airflow_provider_restrack.collect.sample import CollectError, Reading

if TYPE_CHECKING:
    from pathlib import Path

FRAMES = (
    b"import sys; s = sys.argv[4]\n"
    b"print('noise')\n"
    b"print(s + ':hello {\"time\": 1}')\n"
    b'print(s + \':sample {"outcome": "ok", "cpu_usage": 5, "host_time": 2}\', flush=True)\n'
)


def collect(source: bytes, limit_s: float = 10.0) -> Reading:
    return LocalSession(AgentRun(source, 0.1)).collect(time.monotonic() + limit_s)


def test_the_real_agent_samples_this_machine() -> None:
    reading = collect(read_agent_source())

    assert reading.payload["outcome"] in {"ok", "partial"}
    assert reading.payload["memory_total"] > 0
    assert reading.clock_skew == 0.0


def test_the_sample_is_taken_without_waiting_for_the_agent_to_end() -> None:
    started = time.monotonic()

    reading = collect(FRAMES + b"import time; time.sleep(30)\n")

    assert reading.payload == {"outcome": "ok", "cpu_usage": 5}
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("source", "outcome", "said"),
    [
        pytest.param(b"raise SystemExit('on fire')", "parse_error", "on fire", id="fails"),
        pytest.param(b"print('nothing to see')", "parse_error", "nothing to see", id="prints-something-else"),
        pytest.param(b"while True: print('x' * 65536)", "parse_error", "cut off", id="prints-without-end"),
        pytest.param(
            b"import sys\nwhile True: sys.stderr.write('x' * 65536)", "parse_error", "cut off", id="on-stderr"
        ),
        pytest.param(b"import os; os.close(1); os.close(2); os._exit(4)", "parse_error", "4", id="ends"),
    ],
)
def test_an_agent_that_gives_no_sample_says_why(source: bytes, outcome: str, said: str) -> None:
    with pytest.raises(CollectError, match=said) as caught:
        collect(source)

    assert caught.value.outcome == outcome


def test_an_agent_that_closes_its_output_and_goes_on_is_cut_off() -> None:
    with pytest.raises(CollectError, match="no sample in the output") as caught:
        collect(b"import os, time; os.close(1); os.close(2); time.sleep(60)", limit_s=1.0)

    assert caught.value.outcome == "parse_error"


def test_an_agent_that_hangs_is_killed_at_the_deadline(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    source = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)".encode()

    with pytest.raises(CollectError) as caught:
        collect(source, limit_s=2.0)

    assert caught.value.outcome == "timeout"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_abort_ends_an_agent_at_work() -> None:
    session = LocalSession(AgentRun(b"import time; print('begun', flush=True); time.sleep(60)"))
    threading.Timer(0.3, session.abort).start()
    started = time.monotonic()

    with pytest.raises(CollectError):
        session.collect(time.monotonic() + 30)

    assert time.monotonic() - started < 5


def test_a_session_given_up_before_it_begins_runs_nothing() -> None:
    session = LocalSession(AgentRun(FRAMES))
    session.abort()

    with pytest.raises(CollectError, match="given up"):
        session.collect(time.monotonic() + 5)


def test_an_interpreter_that_is_missing_is_named() -> None:
    with pytest.raises(CollectError, match="/no/such/python") as caught:
        LocalSession(AgentRun(FRAMES), python="/no/such/python").collect(time.monotonic() + 5)

    assert caught.value.outcome == "no_python"


def test_the_local_host_has_the_name_of_the_machine() -> None:
    target = local_target({"queue": "gpu"})

    assert (target.host, target.labels) == (socket.gethostname(), {"queue": "gpu"})
