"""Silences in a real Cassandra, set by the operator and read by an evaluation."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_restrack.alert.ledger import read_silences
from airflow_provider_restrack.operators.silence import SilenceOperator
from airflow_provider_restrack.store.alert_statements import AlertStoreError
from airflow_provider_restrack.store.alert_tables import SILENCES
from airflow_provider_restrack.store.schema import build_create_table

pytestmark = pytest.mark.cassandra

CONTEXT: Any = {"ti": SimpleNamespace(dag_id="upgrade", run_id="manual__1", task_id="silence", map_index=-1)}


@pytest.fixture
def table(
    cassandra_session: Any,
    cassandra_address: tuple[str, int],
    keyspace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    host, port = cassandra_address
    value = json.dumps({"conn_type": "cassandra", "host": host, "port": port})
    monkeypatch.setenv("AIRFLOW_CONN_CASSANDRA_DEFAULT", value)
    cassandra_session.execute(build_create_table(SILENCES, keyspace))
    return keyspace


def run(keyspace: str, **arguments: Any) -> dict[str, str]:
    operator = SilenceOperator(task_id="silence", keyspace=keyspace, author="me", **arguments)
    return operator.execute(CONTEXT)


def test_a_silence_is_set_extended_and_ended_and_read_by_its_scope_only(
    cassandra_session: Any, table: str
) -> None:
    first = run(table, scope="night", host="db-*", duration="1h", comment="upgrade")
    assert run(table, scope="night", host="db-*", duration="1h")["id"] == first["id"]
    named = {"scope": "night", "silence_id": first["id"]}

    longer = run(table, action="extend", duration="2h", **named)
    (silence,) = read_silences(cassandra_session, table, "night")
    assert (str(silence.id), silence.host, silence.rule) == (first["id"], "db-*", "*")
    assert longer["ends"] > first["ends"]
    assert read_silences(cassandra_session, table, "day") == ()

    ended = run(table, action="end", **named)
    (silence,) = read_silences(cassandra_session, table, "night")
    assert ended["ends"] < first["ends"]
    assert silence.starts_ms <= silence.ends_ms


def test_a_silence_of_all_scopes_is_read_by_every_scope(cassandra_session: Any, table: str) -> None:
    run(table, duration="1h")
    run(table, scope="night", duration="1h")

    assert len(read_silences(cassandra_session, table, "night")) == 2
    assert len(read_silences(cassandra_session, table, "*")) == 1


def test_a_silence_is_kept_for_a_day_after_its_end(cassandra_session: Any, table: str) -> None:
    run(table, duration="1h")

    (ttl,) = cassandra_session.execute(f"SELECT TTL(comment) FROM {table}.silences").one()

    assert 86400 < ttl <= 86400 + 3600


def test_a_silence_that_is_not_there_is_an_error_that_says_where(table: str) -> None:
    with pytest.raises(ValueError, match=r"no silence 0{8}-.* in scope '\*'"):
        run(table, action="end", silence_id="0" * 32)


def test_a_missing_table_is_named_with_its_remedy(cassandra_session: Any, keyspace: str) -> None:
    with pytest.raises(AlertStoreError, match=r"silences \(scope night\) .*ProvisionOperator"):
        read_silences(cassandra_session, keyspace, "night")
