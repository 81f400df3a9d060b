from __future__ import annotations

import datetime as dt
import ipaddress
import logging
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from cassandra import AuthenticationFailed, ConsistencyLevel, InvalidRequest, OperationTimedOut
from cassandra.cluster import EXEC_PROFILE_DEFAULT, NoHostAvailable
from cassandra.connection import ConnectionException
from cassandra.policies import DCAwareRoundRobinPolicy, TokenAwarePolicy
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from airflow_provider_restrack.store import session as module
from airflow_provider_restrack.store.session import (
    CassandraAuthError,
    CassandraConfigError,
    CassandraPolicy,
    CassandraTlsError,
    CassandraUnreachableError,
    TlsPolicy,
    build_cluster,
    build_ssl_context,
    explain_failure,
    find_local_dc,
    open_session,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "correct horse"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"contact_points": ()}, "no contact point", id="no-contact-point"),
        pytest.param({"contact_points": ("a:9043",)}, "'a:9043' holds a port", id="port-in-host"),
        pytest.param({"port": 0}, "port 0 is not between", id="port"),
        pytest.param(
            {"consistency": "QUORAM"}, "'QUORAM' is unknown: use one of .*LOCAL_QUORUM", id="consistency"
        ),
        pytest.param({"request_timeout_s": 0}, "request_timeout must be more than 0", id="request-timeout"),
        pytest.param(
            {"connect_timeout_s": -1.0}, "connect_timeout must be more than 0", id="connect-timeout"
        ),
    ],
)
def test_policy_refuses_a_setting_that_cannot_work(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CassandraPolicy(**settings)


def test_secrets_stay_out_of_a_policy_s_repr() -> None:
    policy = CassandraPolicy(username="app", password=SECRET, tls=TlsPolicy(keyfile_password=SECRET))
    assert "app" in repr(policy)
    assert SECRET not in repr(policy)


@contextmanager
def _cluster(policy: CassandraPolicy) -> Iterator[Any]:
    cluster = build_cluster(policy)
    try:
        yield cluster
    finally:
        cluster.shutdown()


def test_cluster_queries_through_one_token_aware_profile_of_the_local_data_centre() -> None:
    policy = CassandraPolicy(
        local_dc="dc1", consistency="LOCAL_ONE", request_timeout_s=7, connect_timeout_s=3
    )
    with _cluster(policy) as cluster:
        profile = cluster.profile_manager.profiles[EXEC_PROFILE_DEFAULT]
        assert isinstance(profile.load_balancing_policy, TokenAwarePolicy)
        child = profile.load_balancing_policy._child_policy
        assert isinstance(child, DCAwareRoundRobinPolicy)
        assert child.local_dc == "dc1"
        assert profile.consistency_level == ConsistencyLevel.LOCAL_ONE
        assert profile.request_timeout == 7
        assert (cluster.connect_timeout, cluster.control_connection_timeout) == (3, 3)
        assert cluster.ssl_context is None
        assert cluster.auth_provider is None


def test_protocol_starts_at_five_and_may_step_down_unless_it_is_set() -> None:
    with _cluster(CassandraPolicy()) as negotiated, _cluster(CassandraPolicy(protocol_version=4)) as fixed:
        assert (negotiated.protocol_version, negotiated._protocol_version_explicit) == (5, False)
        assert (fixed.protocol_version, fixed._protocol_version_explicit) == (4, True)


def test_login_and_password_go_to_the_plain_text_authenticator() -> None:
    with _cluster(CassandraPolicy(username="app", password=SECRET)) as cluster:
        assert (cluster.auth_provider.username, cluster.auth_provider.password) == ("app", SECRET)


def test_unresolvable_contact_points_are_named_and_the_rest_is_used(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(
        CassandraUnreachableError, match=r"resolved: nowhere\.invalid: .*Correct the host field"
    ):
        build_cluster(CassandraPolicy(contact_points=("nowhere.invalid",)))
    with (
        caplog.at_level(logging.WARNING),
        _cluster(CassandraPolicy(contact_points=("nowhere.invalid", "127.0.0.1"))) as cluster,
    ):
        assert [point.address for point in cluster.endpoints_resolved] == ["127.0.0.1"]
    assert "nowhere.invalid" in caplog.text


def test_every_node_is_checked_under_its_own_name() -> None:
    points = ("localhost", "127.0.0.2")
    with _cluster(CassandraPolicy(contact_points=points, tls=TlsPolicy())) as cluster:
        names = {point.address: point.ssl_options["server_hostname"] for point in cluster.endpoints_resolved}
        assert names["127.0.0.1"] == "localhost"
        assert names["127.0.0.2"] == "127.0.0.2"
        learnt = [_learn(cluster, address) for address in ("127.0.0.1", "127.0.0.3")]
        assert [point.ssl_options["server_hostname"] for point in learnt] == ["localhost", "127.0.0.3"]


def test_one_server_hostname_serves_all_nodes_when_given() -> None:
    tls = TlsPolicy(server_hostname="cassandra.example")
    with _cluster(CassandraPolicy(contact_points=("127.0.0.1",), tls=tls)) as cluster:
        points = [*cluster.endpoints_resolved, _learn(cluster, "127.0.0.3")]
        assert {point.ssl_options["server_hostname"] for point in points} == {"cassandra.example"}


def test_without_tls_no_endpoint_asks_for_it() -> None:
    with _cluster(CassandraPolicy()) as cluster:
        points = [*cluster.endpoints_resolved, _learn(cluster, "127.0.0.3")]
        assert [point.ssl_options for point in points] == [None, None]


def _learn(cluster: Any, address: str) -> Any:
    return cluster.endpoint_factory.create(
        {"rpc_address": address, "native_address": address, "native_port": 9042}
    )


def test_certificate_and_name_are_checked_by_default() -> None:
    context = build_ssl_context(TlsPolicy())
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_checks_are_left_out_only_when_told() -> None:
    nameless = build_ssl_context(TlsPolicy(check_hostname=False))
    blind = build_ssl_context(TlsPolicy(verify_certificate=False))
    assert (nameless.verify_mode, nameless.check_hostname) == (ssl.CERT_REQUIRED, False)
    assert (blind.verify_mode, blind.check_hostname) == (ssl.CERT_NONE, False)


def test_tls_file_that_is_missing_is_named_with_its_connection() -> None:
    with pytest.raises(
        CassandraTlsError, match=r"connection prod: .*ca_certs=/nowhere/ca\.pem.*No such file"
    ):
        build_ssl_context(TlsPolicy(ca_certs="/nowhere/ca.pem"), "connection prod")


def test_encrypted_key_without_password_fails_instead_of_asking(tmp_path: Path) -> None:
    pki = Pki(tmp_path, "localhost", password=SECRET.encode())
    tls = TlsPolicy(certfile=str(pki.cert), keyfile=str(pki.key))
    with pytest.raises(CassandraTlsError, match="give keyfile_password"):
        build_ssl_context(tls)
    with_password = TlsPolicy(certfile=str(pki.cert), keyfile=str(pki.key), keyfile_password=SECRET)
    assert build_ssl_context(with_password).check_hostname


def test_handshake_fails_when_the_certificate_carries_another_name(tmp_path: Path) -> None:
    with TlsServer(Pki(tmp_path, "localhost")) as server:
        with pytest.raises(CassandraTlsError, match=r"certificate is not valid for '127\.0\.0\.1'"):
            server.open("127.0.0.1")
        assert server.handshakes == []


def test_handshake_fails_when_the_authority_is_unknown(tmp_path: Path) -> None:
    with TlsServer(Pki(tmp_path, "localhost")) as server:
        with pytest.raises(CassandraTlsError, match=r"CERTIFICATE_VERIFY_FAILED.*Check ca_certs"):
            server.open("localhost", ca_certs=None)
        assert server.handshakes == []


@pytest.mark.parametrize(
    ("point", "settings"),
    [
        pytest.param("localhost", {}, id="contact-point-by-name"),
        pytest.param("127.0.0.1", {"server_hostname": "localhost"}, id="server-hostname"),
        pytest.param("127.0.0.1", {"check_hostname": False}, id="name-not-checked"),
    ],
)
def test_handshake_passes_when_the_name_fits(tmp_path: Path, point: str, settings: dict[str, Any]) -> None:
    with TlsServer(Pki(tmp_path, "localhost")) as server:
        # The server ends the connection after the handshake: it speaks TLS and no CQL.
        with pytest.raises(CassandraUnreachableError):
            server.open(point, **settings)
        assert server.handshakes == ["TLSv1.3"]


def test_server_that_never_answers_fails_within_the_connect_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        policy = CassandraPolicy(
            port=silent.getsockname()[1], connect_timeout_s=0.3, origin="connection prod"
        )
        start = time.monotonic()
        with pytest.raises(
            CassandraUnreachableError, match=f"127.0.0.1 port {policy.port} .connection prod. cannot be"
        ):
            _open(policy)
        assert time.monotonic() - start < 3


def test_refused_connection_names_address_and_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(
        CassandraUnreachableError, match=r"Connection refused\. Check that the server is up, host and"
    ):
        _open(CassandraPolicy(port=port))


def test_refused_password_is_an_authentication_error_without_the_password() -> None:
    cause = AuthenticationFailed('Bad credentials: "Provided username app and/or password are incorrect"')
    found = explain_failure(
        NoHostAvailable("none", {"a": cause}), CassandraPolicy(username="app", password=SECRET)
    )
    assert isinstance(found, CassandraAuthError)
    assert "refuses login 'app'" in str(found)
    assert SECRET not in str(found)


def test_server_that_asks_for_a_login_says_so() -> None:
    cause = AuthenticationFailed("Remote end requires authentication")
    found = explain_failure(NoHostAvailable("none", {"a": cause}), CassandraPolicy())
    assert isinstance(found, CassandraAuthError)
    assert "refuses no login" in str(found)


class FakeCluster:
    """A cluster of given nodes, that records its end."""

    def __init__(
        self, nodes: dict[str, str | None], contacts: tuple[str, ...], failure: BaseException | None = None
    ):
        hosts = [SimpleNamespace(endpoint=name, datacenter=dc) for name, dc in nodes.items()]
        self.metadata = SimpleNamespace(all_hosts=lambda: hosts)
        self.endpoints_resolved = contacts
        self.failure = failure
        self.keyspace_failure: Exception = InvalidRequest("no such keyspace")
        self.shutdowns = 0

    def connect(self) -> Any:
        if self.failure:
            raise self.failure
        return SimpleNamespace(cluster=self, set_keyspace=self.set_keyspace)

    def set_keyspace(self, keyspace: str) -> None:
        raise self.keyspace_failure

    def shutdown(self) -> None:
        self.shutdowns += 1


def test_cluster_is_shut_down_when_connecting_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster({}, (), failure=KeyboardInterrupt())
    monkeypatch.setattr(module, "build_cluster", lambda policy: cluster)
    with pytest.raises(KeyboardInterrupt):
        _open(CassandraPolicy())
    assert cluster.shutdowns == 1


def test_cluster_is_shut_down_when_the_block_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster({"a": "dc1"}, ("a",))
    monkeypatch.setattr(module, "build_cluster", lambda policy: cluster)
    with pytest.raises(SystemExit), open_session(CassandraPolicy()):
        raise SystemExit
    assert cluster.shutdowns == 1


@pytest.mark.parametrize(
    ("nodes", "contacts", "expected"),
    [
        pytest.param({"a": "dc1"}, ("a",), "dc1", id="one-node"),
        pytest.param({"a": "dc1", "b": "dc2"}, ("b",), "dc2", id="contact-points-in-one-of-two"),
        pytest.param({"a": "dc1"}, ("elsewhere",), "dc1", id="contact-point-under-another-address"),
    ],
)
def test_local_data_centre_is_that_of_the_contact_points(
    nodes: dict[str, str | None], contacts: tuple[str, ...], expected: str
) -> None:
    session = SimpleNamespace(cluster=FakeCluster(nodes, contacts))
    assert find_local_dc(session, CassandraPolicy()) == expected


def test_contact_points_in_two_data_centres_need_a_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster({"a": "dc1", "b": "dc2"}, ("a", "b"))
    monkeypatch.setattr(module, "build_cluster", lambda policy: cluster)
    with pytest.raises(CassandraConfigError, match=r"several data centres \(dc1, dc2\).*local_dc"):
        _open(CassandraPolicy())
    assert cluster.shutdowns == 1


@pytest.mark.parametrize(
    "failure",
    [OperationTimedOut(), NoHostAvailable("All nodes", {}), ConnectionException("Failed to set keyspace")],
)
def test_node_that_goes_away_after_connecting_is_named_and_the_cluster_shut_down(
    failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = FakeCluster({"a": "dc1"}, ("a",))
    cluster.keyspace_failure = failure
    monkeypatch.setattr(module, "build_cluster", lambda policy: cluster)
    with pytest.raises(CassandraUnreachableError, match=r"Cassandra at .* \(connection prod\)"):
        _open(CassandraPolicy(keyspace="metrics", origin="connection prod"))
    assert cluster.shutdowns == 1


def test_unknown_data_centre_is_told_apart_from_a_server_that_is_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The driver connects, then finds no node it may use, and reports the cluster as down.
    cluster = FakeCluster({"a": "dc1"}, ("a",), failure=NoHostAvailable("Unable to connect", ["a"]))
    monkeypatch.setattr(module, "build_cluster", lambda policy: cluster)
    with pytest.raises(
        CassandraConfigError, match=r"'dc9' of connection prod is no data centre .* which has: dc1"
    ):
        _open(CassandraPolicy(local_dc="dc9", origin="connection prod"))


def _open(policy: CassandraPolicy) -> None:
    with open_session(policy):
        pytest.fail("no server is there")


class Pki:
    """An authority and a server's certificate for one DNS name, as files."""

    def __init__(self, folder: Path, name: str, password: bytes | None = None) -> None:
        self.ca, self.cert, self.key = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
        authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        root = _certificate("Test CA", "Test CA", authority, authority, ca=True)
        leaf = _certificate(name, "Test CA", key, authority, ca=False)
        self.ca.write_bytes(root.public_bytes(serialization.Encoding.PEM))
        self.cert.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
        encryption = (
            serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        )
        form = serialization.PrivateFormat.PKCS8
        self.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, encryption))


def _certificate(subject: str, issuer: str, key: Any, signer: Any, *, ca: bool) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if not ca:
        names = [x509.DNSName(subject), x509.IPAddress(ipaddress.ip_address("127.0.0.9"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer, hashes.SHA256())


class TlsServer:
    """A real TLS server that records finished handshakes and then hangs up."""

    def __init__(self, pki: Pki) -> None:
        self.pki = pki
        self.handshakes: list[str | None] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pki.cert, pki.key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> TlsServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def open(self, point: str, **settings: Any) -> None:
        tls = TlsPolicy(**{"ca_certs": str(self.pki.ca), **settings})
        port = self._listener.getsockname()[1]
        _open(CassandraPolicy(contact_points=(point,), port=port, tls=tls, connect_timeout_s=1))

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # the listener is closed
            with connection:
                try:
                    with self._context.wrap_socket(connection, server_side=True) as wrapped:
                        wrapped.recv(1)  # the client's first byte tells that it accepts the certificate
                        self.handshakes.append(wrapped.version())
                except OSError:
                    continue
