from __future__ import annotations

import json
import logging
import warnings
from typing import Any

import pytest
from cassandra.cluster import NoHostAvailable

from airflow_provider_restrack.hooks.cassandra import CassandraSessionHook
from airflow_provider_restrack.store.session import (
    CassandraConfigError,
    CassandraPolicy,
    CassandraTlsError,
    TlsPolicy,
    find_local_dc,
    open_session,
)

pytestmark = pytest.mark.cassandra


def _policy(address: tuple[str, int], **settings: Any) -> CassandraPolicy:
    return CassandraPolicy(contact_points=(address[0],), port=address[1], **settings)


def test_session_opens_without_a_warning_and_learns_its_data_centre(
    cassandra_address: tuple[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    policy = _policy(cassandra_address)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with caplog.at_level(logging.WARNING), open_session(policy) as session:
            assert find_local_dc(session, policy) == "datacenter1"
            assert session.execute("SELECT key FROM system.local").one().key == "local"
            cluster = session.cluster
    assert [record.message for record in caplog.records if record.name.startswith("cassandra")] == []
    assert cluster.is_shutdown


def test_interrupt_in_the_block_shuts_the_cluster_down(cassandra_address: tuple[str, int]) -> None:
    with pytest.raises(KeyboardInterrupt), open_session(_policy(cassandra_address)) as session:
        raise KeyboardInterrupt
    assert session.cluster.is_shutdown


def test_older_protocol_can_be_set(cassandra_address: tuple[str, int]) -> None:
    with open_session(_policy(cassandra_address, protocol_version=4)) as session:
        assert session.cluster.protocol_version == 4


def test_unknown_data_centre_is_named_with_those_there_are(cassandra_address: tuple[str, int]) -> None:
    with (
        pytest.raises(CassandraConfigError, match=r"local_dc 'dc9' .* which has: datacenter1"),
        open_session(_policy(cassandra_address, local_dc="dc9")),
    ):
        pytest.fail("there is no such data centre")


def test_keyspace_is_the_default_of_unqualified_names(
    cassandra_address: tuple[str, int], keyspace: str
) -> None:
    with open_session(_policy(cassandra_address, keyspace=keyspace)) as session:
        session.execute("CREATE TABLE here (id int PRIMARY KEY)")
        assert list(session.execute(f"SELECT id FROM {keyspace}.here")) == []


def test_missing_keyspace_names_the_schema_field_and_the_operator_that_makes_it(
    cassandra_address: tuple[str, int],
) -> None:
    policy = _policy(cassandra_address, keyspace="nowhere", origin="connection cass")
    with (
        pytest.raises(
            CassandraConfigError, match=r"Keyspace nowhere \(schema of connection cass\).*ProvisionOp"
        ),
        open_session(policy),
    ):
        pytest.fail("there is no such keyspace")


def test_tls_to_a_server_without_it_says_that_the_handshake_fails(cassandra_address: tuple[str, int]) -> None:
    with (
        pytest.raises(CassandraTlsError, match="WRONG_VERSION_NUMBER"),
        open_session(_policy(cassandra_address, tls=TlsPolicy())),
    ):
        pytest.fail("the server speaks no TLS")


def test_connection_test_reports_version_and_data_centre(
    cassandra_address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, port = cassandra_address
    monkeypatch.setenv(
        "AIRFLOW_CONN_CASS", json.dumps({"conn_type": "cassandra", "host": host, "port": port})
    )
    ok, message = CassandraSessionHook("cass").test_connection()
    assert ok
    assert message.startswith("Cassandra 5.")
    assert message.endswith(f" at {host} port {port}, data centre datacenter1")


def test_hook_s_session_takes_another_consistency(
    cassandra_address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, port = cassandra_address
    monkeypatch.setenv(
        "AIRFLOW_CONN_CASS", json.dumps({"conn_type": "cassandra", "host": host, "port": port})
    )
    # One node cannot answer at THREE: that it fails shows that the consistency arrives.
    with (
        CassandraSessionHook("cass").session(consistency="THREE") as session,
        pytest.raises(NoHostAvailable, match="level THREE"),
    ):
        session.execute("SELECT * FROM system_distributed.repair_history LIMIT 1")
