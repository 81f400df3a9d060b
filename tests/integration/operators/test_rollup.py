"""RollupOperator over a real Cassandra, by Airflow's ordinary connection."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_restrack.operators.provision import ProvisionOperator
from airflow_provider_restrack.operators.rollup import RollupOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.cassandra
NOW = datetime.now(tz=UTC).replace(minute=0, second=0, microsecond=0)
HOUR = timedelta(hours=1)


@pytest.fixture
def keyspace(
    unique: Callable[[str], str],
    cassandra_session: Any,
    cassandra_address: tuple[str, int],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """A keyspace as ProvisionOperator makes it, with two hosts' samples of the last hours."""
    host, port = cassandra_address
    connection = {"conn_type": "cassandra", "host": host, "port": port}
    monkeypatch.setenv("AIRFLOW_CONN_CASSANDRA_DEFAULT", json.dumps(connection))
    name = unique("rollup")
    ProvisionOperator(task_id="provision", topics=[], keyspace=name, replication=1).execute({})
    for number in range(30):
        moment = NOW - 6 * HOUR + number * timedelta(minutes=10)
        for server in ("web", "db"):
            values = (server, moment.date(), moment, float(number))
            cassandra_session.execute(
                f"INSERT INTO {name}.system_metrics (host, day, timestamp, cpu_usage) "
                "VALUES (%s, %s, %s, %s)",
                values,
            )
            cassandra_session.execute(f"INSERT INTO {name}.latest_metrics (host) VALUES (%s)", (server,))
    yield name
    cassandra_session.execute(f"DROP KEYSPACE {name}")


def run(keyspace: str, since: datetime, until: datetime, **arguments: Any) -> dict[str, Any]:
    operator = RollupOperator(task_id="rollup", keyspace=keyspace, **arguments)
    return operator.execute({"data_interval_start": since, "data_interval_end": until})


def hours_of(session: Any, keyspace: str) -> dict[tuple[str, datetime], int]:
    rows = session.execute(f"SELECT host, timestamp, cpu_usage FROM {keyspace}.system_metrics_1h")
    return {(row.host, row.timestamp.replace(tzinfo=UTC)): row.cpu_usage.count for row in rows}


def test_all_hosts_of_the_interval_are_rolled_up(keyspace: str, cassandra_session: Any) -> None:
    since = NOW - 6 * HOUR

    result = run(keyspace, since, NOW - HOUR, lookback=0)

    expected = {(host, since + number * HOUR): 6 for host in ("web", "db") for number in range(5)}
    assert hours_of(cassandra_session, keyspace) == expected
    assert (result["hosts"], result["buckets"]["1h"]) == (2, 10)
    assert json.loads(json.dumps(result)) == result


def test_a_chunk_of_hosts_is_rolled_up_alone(keyspace: str, cassandra_session: Any) -> None:
    run(keyspace, NOW - 6 * HOUR, NOW - HOUR, hosts=["db"], tiers="1h", lookback=0)

    assert {host for host, _ in hours_of(cassandra_session, keyspace)} == {"db"}
    assert list(cassandra_session.execute(f"SELECT host FROM {keyspace}.system_metrics_5m")) == []


def test_hourly_runs_with_their_lookback_leave_no_hole(keyspace: str, cassandra_session: Any) -> None:
    for number in range(6):
        moment = NOW - (5 - number) * HOUR
        run(keyspace, moment, moment)

    assert len(hours_of(cassandra_session, keyspace)) == 10
