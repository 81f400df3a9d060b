from __future__ import annotations

import json
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_restrack.load import topics
from airflow_provider_restrack.load.errors import ConfigurationError, KafkaUnavailableError
from airflow_provider_restrack.operators.provision import ProvisionOperator
from airflow_provider_restrack.store.alert_tables import ALERT_TABLES
from airflow_provider_restrack.store.forecasts import FORECASTS
from airflow_provider_restrack.store.provision import (
    KeyspaceSpec,
    ProvisionError,
    apply_plan,
    plan_store,
    read_state,
)
from airflow_provider_restrack.store.schema import LATEST_METRICS, SYSTEM_METRICS, TABLES
from airflow_provider_restrack.store.session import CassandraUnreachableError
from airflow_provider_restrack.store.tiers import ROLLUP_TABLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.cassandra, pytest.mark.kafka]
TABLE_NAMES = [table.name for table in (*TABLES, *ROLLUP_TABLES, FORECASTS, *ALERT_TABLES)]


@pytest.fixture
def connections(
    cassandra_address: tuple[str, int], kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, port = cassandra_address
    # The keyspace of the connection does not exist yet on a first run: that must not stop the operator.
    cassandra = {"conn_type": "cassandra", "host": host, "port": port, "schema": "not_yet_there"}
    kafka = {"conn_type": "kafka", "extra": {"bootstrap.servers": kafka_bootstrap, "group.id": "ignored"}}
    monkeypatch.setenv("AIRFLOW_CONN_CASSANDRA_DEFAULT", json.dumps(cassandra))
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_DEFAULT", json.dumps(kafka))


@pytest.fixture
def names(
    unique: Callable[[str], str], cassandra_session: Any, kafka_admin: Any, connections: None
) -> Iterator[tuple[str, str]]:
    keyspace, topic = unique("prov"), unique("prov")
    yield keyspace, topic
    cassandra_session.execute(f"DROP KEYSPACE IF EXISTS {keyspace}")
    if topic in kafka_admin.list_topics(timeout=10).topics:
        kafka_admin.delete_topics([topic])[topic].result(30)


def _run(names: tuple[str, str], **arguments: Any) -> dict[str, list[str]]:
    keyspace, topic = names
    settings = {"topics": {topic: {"partitions": 2, "retention": "1d"}}, "replication": 1, **arguments}
    return ProvisionOperator(task_id="provision", keyspace=keyspace, **settings).execute({})


def _everything(keyspace: str) -> list[str]:
    tables = [f"table {keyspace}.{name}" for name in TABLE_NAMES]
    return [f"keyspace {keyspace}", f"type {keyspace}.aggregate", *tables]


def _shape(session: Any, keyspace: str) -> Any:
    return read_state(session, keyspace, timeout_s=10)


def test_all_is_created_from_nothing_and_unchanged_the_second_time(
    names: tuple[str, str], kafka_admin: Any, cassandra_session: Any
) -> None:
    keyspace, topic = names
    everything = [f"topic {topic}", *_everything(keyspace)]
    assert _run(names) == {"created": everything, "unchanged": []}
    assert _run(names) == {"created": [], "unchanged": everything}
    assert len(kafka_admin.list_topics(timeout=10).topics[topic].partitions) == 2
    found = _shape(cassandra_session, keyspace)
    assert found.replication == {
        "class": "org.apache.cassandra.locator.NetworkTopologyStrategy",
        "datacenter1": "1",
    }
    assert set(found.tables) == set(TABLE_NAMES)


def test_differing_shapes_of_both_engines_are_all_listed_and_nothing_is_changed(
    names: tuple[str, str], cassandra_session: Any, kafka_admin: Any
) -> None:
    keyspace, topic = names
    _run(names, tables=["system_metrics"])
    table = f"{keyspace}.{SYSTEM_METRICS.name}"
    cassandra_session.execute(f"ALTER KEYSPACE {keyspace} WITH durable_writes = false")
    cassandra_session.execute(f"ALTER TABLE {table} DROP load_1m")
    cassandra_session.execute(f"ALTER TABLE {table} ADD rack text")
    cassandra_session.execute(f"ALTER TABLE {table} WITH default_time_to_live = 60")
    before = _shape(cassandra_session, keyspace)
    with pytest.raises(AirflowFailException) as caught:
        _run(names, topics={topic: {"partitions": 3, "retention": "2d"}, f"{topic}_new": {}})
    lines = str(caught.value).splitlines()
    assert lines[0] == "5 differences between what is wanted and what exists; nothing was changed:"
    assert [line.split(": wanted")[0] for line in lines[1:]] == [
        f"- topic {topic}, partitions",
        f"- topic {topic}, retention.ms",
        f"- keyspace {keyspace}, durable_writes",
        f"- table {table}, default_time_to_live",
        f"- table {table}, columns",
    ]
    assert _shape(cassandra_session, keyspace) == before
    assert LATEST_METRICS.name not in before.tables
    assert f"{topic}_new" not in kafka_admin.list_topics(timeout=10).topics


def test_every_remedy_for_the_store_mends_its_difference(
    names: tuple[str, str], cassandra_session: Any
) -> None:
    keyspace, _ = names
    _run(names)
    table = f"{keyspace}.{SYSTEM_METRICS.name}"
    cassandra_session.execute(f"ALTER KEYSPACE {keyspace} WITH durable_writes = false")
    cassandra_session.execute(f"ALTER TABLE {table} DROP load_1m")
    cassandra_session.execute(f"ALTER TABLE {table} WITH gc_grace_seconds = 1")
    cassandra_session.execute(
        f"ALTER TABLE {table} WITH compaction = {{'class': 'SizeTieredCompactionStrategy'}}"
    )
    spec = KeyspaceSpec(keyspace, {"datacenter1": 1})
    differences = plan_store(spec, TABLES, _shape(cassandra_session, keyspace)).differences
    assert len(differences) == 4
    for difference in differences:
        cassandra_session.execute(difference.remedy.partition("un: ")[2].rstrip(";"))
    assert plan_store(spec, TABLES, _shape(cassandra_session, keyspace)).differences == ()


def test_table_of_an_older_version_gets_its_missing_columns_when_asked(
    names: tuple[str, str], cassandra_session: Any
) -> None:
    keyspace, _ = names
    _run(names)
    cassandra_session.execute(f"ALTER TABLE {keyspace}.system_metrics DROP (load_1m, labels)")
    result = _run(names, add_missing_columns=True)
    assert result["created"] == [f"columns of {keyspace}.system_metrics: labels, load_1m"]
    assert _run(names)["created"] == []


def test_more_copies_than_nodes_or_brokers_are_refused_before_anything_is_made(
    names: tuple[str, str], cassandra_session: Any, kafka_admin: Any
) -> None:
    keyspace, topic = names
    with pytest.raises(ConfigurationError, match=f"topic {topic} asks for 3 copies, and 1 broker is up"):
        _run(names, replication=3)
    with pytest.raises(ProvisionError, match="3 copies in data centre datacenter1, which has 1 node "):
        _run(names, replication=3, topics={topic: {"replication": 1}})
    with pytest.raises(ProvisionError, match="1 copies in data centre dc9, which has 0 nodes"):
        _run(names, replication={"datacenter1": 1, "dc9": 1}, topics={topic: {"replication": 1}})
    assert _shape(cassandra_session, keyspace).replication is None
    assert topic not in kafka_admin.list_topics(timeout=10).topics


def test_without_topics_kafka_is_not_asked(names: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_KAFKA_DEFAULT")
    assert _run(names, topics=[])["created"] == _everything(names[0])


def test_setting_that_the_broker_refuses_is_found_before_anything_is_made(
    names: tuple[str, str], cassandra_session: Any
) -> None:
    keyspace, topic = names
    with pytest.raises(KafkaUnavailableError, match=f"refuses to create topic {topic}: .*no.such.setting"):
        _run(names, topics={topic: {"config": {"no.such.setting": "1"}}})
    assert _shape(cassandra_session, keyspace).replication is None


def test_two_runs_at_once_both_succeed(names: tuple[str, str], cassandra_session: Any) -> None:
    keyspace, _ = names
    start, outcomes = threading.Barrier(2), []

    def run() -> None:
        start.wait()
        try:
            outcomes.append(_run(names))
        except Exception as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [set(outcome) for outcome in outcomes] == [{"created", "unchanged"}] * 2, outcomes
    assert set(_shape(cassandra_session, keyspace).tables) == set(TABLE_NAMES)
    assert _run(names)["created"] == []


def test_run_that_failed_half_way_is_completed_by_the_next(
    names: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keyspace, topic = names
    with monkeypatch.context() as broken:
        broken.setattr(topics, "create_topics", _refuse)
        with pytest.raises(KafkaUnavailableError):
            _run(names)
    everything = _everything(keyspace)
    assert _run(names) == {"created": [f"topic {topic}"], "unchanged": everything}


def _refuse(*_: Any, **__: Any) -> None:
    raise KafkaUnavailableError("no broker")


def test_ttl_of_new_tables_is_the_argument_s(names: tuple[str, str], cassandra_session: Any) -> None:
    keyspace, _ = names
    _run(names, ttl="2d")
    found = _shape(cassandra_session, keyspace)
    lives = {name: table.options["default_time_to_live"] // 86400 for name, table in found.tables.items()}
    assert lives == dict(zip(TABLE_NAMES, (2, 2, 90, 730, 1825, 35, 0, 400, 400, 0), strict=True))
    assert _run(names, ttl="2d")["created"] == []


@pytest.mark.parametrize("engine", ["kafka", "cassandra"])
def test_server_that_is_down_fails_in_bounded_time_and_is_named(
    names: tuple[str, str], monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    connection = {
        "kafka": {"conn_type": "kafka", "extra": {"bootstrap.servers": f"127.0.0.1:{port}"}},
        "cassandra": {
            "conn_type": "cassandra",
            "host": "127.0.0.1",
            "port": port,
            "extra": {"connect_timeout": 1},
        },
    }[engine]
    monkeypatch.setenv(f"AIRFLOW_CONN_{engine.upper()}_DEFAULT", json.dumps(connection))
    expected = {"kafka": KafkaUnavailableError, "cassandra": CassandraUnreachableError}[engine]
    with pytest.raises(expected, match=rf"127\.0\.0\.1.*{port}.*connection {engine}_default"):
        _run(names, timeout=2)


@pytest.mark.parametrize(
    "dropped", [pytest.param("", id="create"), pytest.param("load_1m", id="add-a-column")]
)
def test_plan_that_another_run_has_applied_meanwhile_does_no_harm(
    names: tuple[str, str], cassandra_session: Any, dropped: str
) -> None:
    keyspace, _ = names
    spec = KeyspaceSpec(keyspace, {"datacenter1": 1})
    if dropped:
        _run(names)
        cassandra_session.execute(f"ALTER TABLE {keyspace}.system_metrics DROP {dropped}")
    plan = plan_store(spec, TABLES, _shape(cassandra_session, keyspace), add_missing_columns=True)
    assert plan.steps
    for _ in range(2):
        apply_plan(cassandra_session, plan, timeout_s=30)
    assert plan_store(spec, TABLES, _shape(cassandra_session, keyspace)).steps == ()
