"""The acceptance of a fleet: one task, 200 hosts on loopback, of which 16 are not well in four ways."""

from __future__ import annotations

import json
import math
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import services
from airflow_provider_restrack.collect.fleet import GRACE_S
from airflow_provider_restrack.operators.remote_metrics import RemoteMetricsOperator
from services.loopback import LoopbackFleet, list_addresses

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.ssh, pytest.mark.slow, pytest.mark.timeout(300)]

HOSTS, DOWN, OTHER_KEY, MUTE, NO_PYTHON = 200, 10, 3, 2, 1
ADDRESSES = list_addresses(HOSTS)
WITH_SSHD = ADDRESSES[: HOSTS - DOWN - MUTE - NO_PYTHON]
BARE = ADDRESSES[len(WITH_SSHD) : len(WITH_SSHD) + NO_PYTHON]
SILENT = ADDRESSES[len(WITH_SSHD) + NO_PYTHON : HOSTS - DOWN]
GONE = ADDRESSES[HOSTS - DOWN :]
CHANGED = WITH_SSHD[5:200:60][:OTHER_KEY]
# All of them share the processors of this machine, which may be busy with more.
CONCURRENCY, HOST_TIMEOUT_S, CONNECT_TIMEOUT_S = 24, 60.0, 30.0


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Start the fleet; return the connection that logs in to it, and its port."""
    directory = tmp_path_factory.mktemp("fleet")
    (port,) = services.find_free_ports(1)
    well = LoopbackFleet(directory, WITH_SSHD, port)
    bare_shell = ["ForceCommand echo 'sh: 1: exec: python3: not found' >&2; exit 127"]
    bare = LoopbackFleet(directory, BARE, port, name="bare", extra_config=bare_shell)
    with ExitStack() as stack:
        for each in (well, bare):
            stack.callback(each.stop)
            each.start()
        for address in SILENT:
            stack.enter_context(socket.create_server((address, port), backlog=16))
        yield {"port": port, "connection": connection_of(directory, well, bare)}


def connection_of(directory: Path, well: LoopbackFleet, bare: LoopbackFleet) -> dict[str, Any]:
    other = " ".join((well.client_key.with_suffix(".pub")).read_text().split()[:2])
    lines = [
        f"[{address}]:{well.port} {other}" if (address := line[1:].partition("]")[0]) in CHANGED else line
        for line in (well.known_hosts() + bare.known_hosts()).splitlines()
    ]
    known_hosts = directory / "known_hosts_of_all"
    known_hosts.write_text("\n".join(lines) + "\n")
    extra = {"key_file": str(well.client_key), "known_hosts": str(known_hosts), "look_for_keys": "false"}
    return {"conn_type": "ssh", "login": well.user, "port": well.port, "extra": extra}


def test_a_fleet_of_200_hosts_gives_200_rows_and_each_ill_host_its_outcome(
    fleet: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SSH_DEFAULT", json.dumps(fleet["connection"]))
    operator = RemoteMetricsOperator(
        task_id="collect",
        hosts=ADDRESSES,
        window=0.2,
        concurrency=CONCURRENCY,
        host_timeout=HOST_TIMEOUT_S,
        connect_timeout=CONNECT_TIMEOUT_S,
        python=str(Path(sys.base_prefix, "bin", "python3")),
    )
    started = time.monotonic()

    rows = operator.execute({})

    seconds = time.monotonic() - started
    outcomes = {row["host"]: row["outcome"] for row in rows}
    assert len(rows) == len(outcomes) == HOSTS
    expected = {
        **dict.fromkeys(ADDRESSES, "ok"),
        **dict.fromkeys(GONE, "unreachable"),
        **dict.fromkeys(CHANGED, "hostkey_mismatch"),
        **dict.fromkeys(SILENT, "timeout"),
        **dict.fromkeys(BARE, "no_python"),
    }
    assert {host: outcome for host, outcome in outcomes.items() if outcome != expected[host]} == {}
    assert sum(outcome != "ok" for outcome in outcomes.values()) == 16
    assert seconds <= math.ceil(HOSTS / CONCURRENCY) * (HOST_TIMEOUT_S + GRACE_S)
