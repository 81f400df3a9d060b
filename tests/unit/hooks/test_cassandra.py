from __future__ import annotations

import json
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_restrack.hooks.cassandra import CassandraSessionHook
from airflow_provider_restrack.store.session import CassandraPolicy, CassandraUnreachableError, TlsPolicy

SECRET = "correct horse"


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(**fields: Any) -> CassandraSessionHook:
        monkeypatch.setenv("AIRFLOW_CONN_CASS", json.dumps({"conn_type": "cassandra", **fields}))
        return CassandraSessionHook("cass")

    return make


def test_empty_connection_means_the_local_server_and_local_quorum(connect: Any) -> None:
    assert connect().policy() == CassandraPolicy(origin="connection cass")


def test_fields_of_the_connection_become_the_policy(connect: Any) -> None:
    hook = connect(
        host="db1.example, db2.example,[fd00::1]",
        port=9142,
        login="app",
        password=SECRET,
        schema="metrics",
        extra={"local_dc": "dc1", "consistency": "LOCAL_ONE", "request_timeout": 2.5, "connect_timeout": 1},
    )
    assert hook.policy() == CassandraPolicy(
        contact_points=("db1.example", "db2.example", "fd00::1"),
        port=9142,
        username="app",
        password=SECRET,
        keyspace="metrics",
        local_dc="dc1",
        consistency="LOCAL_ONE",
        request_timeout_s=2.5,
        connect_timeout_s=1,
        origin="connection cass",
    )


@pytest.mark.parametrize(
    "args",
    [
        pytest.param({"local_dc": "dc2"}, id="dc-aware"),
        pytest.param(
            {"child_load_balancing_policy_args": {"local_dc": "dc2"}}, id="token-aware-over-dc-aware"
        ),
    ],
)
def test_data_centre_is_read_where_the_provider_s_hook_has_it(connect: Any, args: dict[str, Any]) -> None:
    assert connect(extra={"load_balancing_policy_args": args}).policy().local_dc == "dc2"
    own = connect(extra={"load_balancing_policy_args": args, "local_dc": "dc1"})
    assert own.policy().local_dc == "dc1"


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        pytest.param({"ssl": True}, TlsPolicy(), id="ssl-true"),
        pytest.param({"ssl": {}}, TlsPolicy(), id="ssl-without-settings"),
        pytest.param({"ssl": False}, None, id="ssl-false"),
        pytest.param({"ssl_options": {"ca_certs": "/ca"}}, TlsPolicy(ca_certs="/ca"), id="provider's"),
        pytest.param(
            {"ssl": {"certfile": "/c", "keyfile": "/k", "server_hostname": "x", "check_hostname": False}},
            TlsPolicy(certfile="/c", keyfile="/k", server_hostname="x", check_hostname=False),
            id="own",
        ),
        pytest.param(
            {"ssl_options": {"cert_reqs": "CERT_NONE"}}, TlsPolicy(verify_certificate=False), id="cert-none"
        ),
        pytest.param(
            {"ssl_options": {"cert_reqs": 0}}, TlsPolicy(verify_certificate=False), id="cert-none-number"
        ),
        pytest.param(
            {"ssl_options": {"cert_reqs": 2, "ssl_version": 2}}, TlsPolicy(), id="cert-required-number"
        ),
    ],
)
def test_tls_comes_from_either_extra_and_checks_by_default(connect: Any, extra: Any, expected: Any) -> None:
    assert connect(extra=extra).policy().tls == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param({"extra": {"consistency": "ALLL"}}, "consistency 'ALLL' is unknown", id="consistency"),
        pytest.param(
            {"extra": {"consistency": 3}}, "extra consistency must be a string", id="consistency-type"
        ),
        pytest.param(
            {"extra": {"request_timeout": "10"}}, "extra request_timeout must be a number", id="text"
        ),
        pytest.param(
            {"extra": {"connect_timeout": True}}, "extra connect_timeout must be a number", id="truth-value"
        ),
        pytest.param({"extra": {"connect_timeout": 0}}, "connect_timeout must be more than 0", id="zero"),
        pytest.param({"extra": {"local_dc": ["a"]}}, "extra local_dc must be the name", id="local-dc"),
        pytest.param(
            {"extra": {"protocol_version": "5"}}, "extra protocol_version must be a whole", id="protocol"
        ),
        pytest.param({"extra": {"ssl": "yes"}}, "extra ssl must be true, false or an object", id="ssl"),
        pytest.param(
            {"extra": {"ssl": {"check_hostnames": False}}},
            "ssl: unknown keys check_hostnames: use",
            id="ssl-key",
        ),
        pytest.param(
            {"extra": {"ssl_options": {"check_hostname": "no"}}},
            "ssl_options: extra check_hostname must be true or false",
            id="ssl-type",
        ),
        pytest.param(
            {"extra": {"ssl_options": {"cert_reqs": 7}}}, "cert_reqs must be CERT_REQUIRED", id="cert-reqs"
        ),
        pytest.param(
            {"extra": {"ssl": {"ca_certs": "a"}, "ssl_options": {"ca_certs": "b"}}},
            "keep one",
            id="ssl-twice",
        ),
        pytest.param(
            {"extra": {"load_balancing_policy_args": {"local_dc": 5}}},
            "load_balancing_policy_args: extra local_dc must be",
            id="nested-local-dc",
        ),
        pytest.param(
            {"extra": {"load_balancing_policy_args": {"child_load_balancing_policy_args": "dc1"}}},
            "extra child_load_balancing_policy_args must be an object",
            id="child-args",
        ),
        pytest.param({"extra": '{"ssl": true'}, "the extra field is no valid JSON", id="broken-json"),
        pytest.param({"extra": '["ssl"]'}, "the extra field must be a JSON object, it is a list", id="list"),
        pytest.param({"host": "db1:9042"}, "'db1:9042' holds a port", id="port-in-host"),
    ],
)
def test_wrong_setting_is_refused_with_connection_and_key(connect: Any, fields: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^connection cass.*{message}"):
        connect(**fields).policy()


def test_key_s_password_of_a_wrong_type_stays_out_of_the_error(connect: Any) -> None:
    with pytest.raises(ValueError, match=r"extra keyfile_password must be a string$"):
        connect(extra={"ssl": {"certfile": "/c", "keyfile_password": 48151623}}).policy()


@pytest.mark.parametrize("key", ["ssl", "ssl_options"])
@pytest.mark.parametrize(
    ("value", "kind"), [('{"keyfile_password": "s3cret"}', "str"), ([{"keyfile_password": "s3cret"}], "list")]
)
def test_a_password_in_tls_settings_of_a_wrong_type_stays_out_of_the_error(
    connect: Any, key: str, value: Any, kind: str
) -> None:
    with pytest.raises(ValueError, match=f"extra {key} must be .*an object, it is of type {kind}$"):
        connect(extra={key: value}).policy()


def test_extra_without_effect_is_reported(connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Airflow sends a hook's log to different places by its configuration: record it at the source.
    warnings: list[str] = []
    log = SimpleNamespace(warning=lambda text, *args: warnings.append(text % args))
    monkeypatch.setattr(CassandraSessionHook, "log", log)
    connect(extra={"consistancy": "ONE", "local_dc": "dc1"}).policy()
    assert warnings == ["connection cass: extras that have no effect here: consistancy"]


def test_unreachable_server_is_named_by_the_connection_test_and_by_the_session(connect: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    hook = connect(host="127.0.0.1", port=port, password=SECRET, login="app", extra={"connect_timeout": 1})
    ok, message = hook.test_connection()
    assert not ok
    assert message.startswith(f"Cassandra at 127.0.0.1 port {port} (connection cass) cannot be reached")
    assert SECRET not in message
    with pytest.raises(CassandraUnreachableError, match="connection cass"), hook.session():
        pytest.fail("no server is there")


def test_connection_test_reports_a_wrong_extra(connect: Any) -> None:
    assert connect(extra={"consistency": "X"}).test_connection()[0] is False


def test_bare_connection_object_is_refused(connect: Any) -> None:
    with pytest.raises(NotImplementedError, match="session"):
        connect().get_conn()
