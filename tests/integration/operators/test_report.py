"""The report over a real Cassandra: samples, rollups, forecasts, then what the page tells; and its post."""

from __future__ import annotations

import email
import json
import socketserver
import threading
from datetime import UTC, datetime, timedelta
from email import policy as email_policy
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_restrack.operators.forecast import ForecastOperator
from airflow_provider_restrack.operators.provision import ProvisionOperator
from airflow_provider_restrack.operators.report import CapacityReportOperator
from airflow_provider_restrack.operators.rollup import RollupOperator
from demo.history import FLEET, make_sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.cassandra, pytest.mark.slow]

TODAY = datetime.now(tz=UTC).replace(hour=0, minute=0, second=0, microsecond=0)
DAYS = 35
CONTEXT: Any = {"data_interval_end": TODAY}


@pytest.fixture(scope="module")
def keyspace(cassandra_session: Any, cassandra_address: tuple[str, int]) -> Iterator[str]:
    """A keyspace with two hosts' samples of five weeks, every three hours, rolled up and forecast."""
    host, port = cassandra_address
    connection = {"conn_type": "cassandra", "host": host, "port": port}
    name = "test_report"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_CASSANDRA_DEFAULT", json.dumps(connection))
        cassandra_session.execute(f"DROP KEYSPACE IF EXISTS {name}")
        ProvisionOperator(task_id="provision", topics=[], keyspace=name, replication=1).execute({})
        fill(cassandra_session, name)
        RollupOperator(
            task_id="rollup", keyspace=name, lookback=f"{DAYS + 1}d", raw_ttl=0, tiers=["1h", "1d"]
        ).execute({})
        ForecastOperator(task_id="forecast", keyspace=name).execute(CONTEXT)
        yield name
    cassandra_session.execute(f"DROP KEYSPACE {name}")


def fill(session: Any, keyspace: str) -> None:
    from cassandra.concurrent import execute_concurrent_with_args

    insert = session.prepare(f"INSERT INTO {keyspace}.system_metrics JSON ? DEFAULT UNSET")
    latest = session.prepare(f"INSERT INTO {keyspace}.latest_metrics JSON ? DEFAULT UNSET")
    growing = next(host for host in FLEET if host.name == "gen-batch-1")
    steady = next(host for host in FLEET if host.name == "gen-old-1")
    rows = []
    for host, end in ((growing, TODAY), (steady, TODAY - timedelta(days=3))):
        moment = TODAY - timedelta(days=DAYS)
        while moment < end:
            sample = make_sample(host, moment)
            # As full as the day before the end leaves two weeks, whatever the date is.
            left = (TODAY - moment) / timedelta(days=1)
            sample["filesystem_usage"] = {"/": 40.0, host.mount: 86 - left if host is growing else 55.0}
            rows.append({**sample, "day": f"{moment:%Y-%m-%d}"})
            moment += timedelta(hours=3)
        newest = {name: value for name, value in rows[-1].items() if name != "day"}
        if host is growing:
            newest["timestamp"] = datetime.now(tz=UTC).isoformat()
        session.execute(latest, (json.dumps(newest),))
    down = {"host": "dark", "timestamp": TODAY.isoformat(), "up": False, "outcome": "timeout"}
    session.execute(latest, (json.dumps(down),))
    execute_concurrent_with_args(session, insert, [(json.dumps(row),) for row in rows], concurrency=50)


def report(keyspace: str, path: Path, **arguments: Any) -> dict[str, Any]:
    operator = CapacityReportOperator(task_id="report", path=str(path), keyspace=keyspace, **arguments)
    return operator.execute(CONTEXT)


def test_the_report_tells_what_is_in_the_store(keyspace: str, tmp_path: Path) -> None:
    result = report(keyspace, tmp_path)

    assert json.loads(json.dumps(result)) == result
    (near,) = [one for one in result["forecasts"] if one["metric"] == "filesystem_usage"]
    assert (near["host"], near["device"]) == ("gen-batch-1", "/scratch")
    assert near["days_likely"] == pytest.approx(14, abs=1)
    assert result["silent"] == ["dark", "gen-old-1"]
    resizes = {(one["host"], one["resource"]): one["verdict"] for one in result["resizes"]}
    assert resizes["gen-batch-1", "cpu"] == "too small"
    assert resizes["gen-old-1", "cpu"] == "too large"
    page = (tmp_path / "capacity.html").read_text()
    assert "gen-batch-1 /scratch: filesystem_usage" in page
    assert "timeout" in page
    assert page.count("<svg") >= 1


def test_the_heat_map_holds_the_means_of_the_hours(keyspace: str, tmp_path: Path) -> None:
    import re

    report(keyspace, tmp_path, hourly_days=7)

    batch = next(host for host in FLEET if host.name == "gen-batch-1")
    days = [TODAY - timedelta(days=n + 1) for n in range(7)]
    expected = [
        round(sum(make_sample(batch, day + timedelta(hours=hour))["cpu_usage"] for day in days) / 7)
        for hour in range(0, 24, 3)
    ]
    page = (tmp_path / "capacity.html").read_text()
    row = page[page.index('<th scope="row">gen-batch-1</th>') :].partition("</tr>")[0]
    cells = re.findall(r'<td style="[^"]*">([^<]*)</td>', row)
    assert [int(cell) for cell in cells[::3]] == pytest.approx(expected, abs=1)
    assert set(cells[1::3]) == {"–"}


def test_hosts_that_are_named_are_told_of_and_no_others(keyspace: str, tmp_path: Path) -> None:
    result = report(keyspace, tmp_path, hosts=["gen-old-1", "never-seen"])

    assert (result["hosts"], result["near"]) == (2, 0)
    assert result["silent"] == ["gen-old-1", "never-seen"]
    assert "gen-batch-1" not in (tmp_path / "capacity.html").read_text()


def test_forecasts_that_are_too_old_are_counted_and_not_told(keyspace: str, tmp_path: Path) -> None:
    operator = CapacityReportOperator(task_id="report", path=str(tmp_path), keyspace=keyspace)

    result = operator.execute({"data_interval_end": TODAY + timedelta(days=9)})

    assert (result["near"], result["verdicts"]) == (0, {})
    assert "more are too old to be told" in (tmp_path / "capacity.html").read_text()


class MailHandler(socketserver.StreamRequestHandler):
    """Just enough of SMTP (RFC 5321) to take one letter."""

    def handle(self) -> None:
        self.say("220 test")
        while line := self.rfile.readline():
            word = line.strip().upper().split(b" ")[0].decode()
            if word == "DATA":
                self.say("354 go on")
                letter = b"".join(iter(self.rfile.readline, b".\r\n"))
                self.server.letters.append(letter.replace(b"\r\n..", b"\r\n."))  # type: ignore[attr-defined]
            self.say("221 bye" if word == "QUIT" else "250 ok")

    def say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """The letters that a mail server on loopback was given, by Airflow's connection smtp_default."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), MailHandler) as server:
        server.letters = []  # type: ignore[attr-defined]
        connection = {
            "conn_type": "smtp",
            "host": "127.0.0.1",
            "port": server.server_address[1],
            "extra": {"disable_ssl": True, "disable_tls": True},
        }
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.letters  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


def test_airflows_email_operator_attaches_the_files(
    keyspace: str, tmp_path: Path, mailbox: list[bytes], unique: Callable[[str], str]
) -> None:
    from airflow.providers.smtp.operators.smtp import EmailOperator

    result = report(keyspace, tmp_path)

    EmailOperator(
        task_id=unique("mail"), to="ops@example.com", from_email="airflow@example.com", subject="Capacity",
        html_content="The report is attached.", files=result["files"],
    ).execute({})  # fmt: skip

    letter = email.message_from_bytes(mailbox[0], policy=email_policy.default)
    attached = {part.get_filename(): part.get_payload(decode=True) for part in letter.iter_attachments()}
    assert attached == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
