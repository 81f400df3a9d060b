"""The one door to Cassandra, so that timeouts, TLS, shutdown and errors are the same everywhere.

A cluster object must never cross a fork: its sockets and its event loop belong to the process that made it.
Open the session where it is used (in ``execute``), never in a constructor or at module level.
"""

from __future__ import annotations

import logging
import socket
import ssl
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cassandra import (
    AuthenticationFailed,
    ConsistencyLevel,
    DriverException,
    InvalidRequest,
    ProtocolVersion,
    Unauthorized,
)
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.connection import ConnectionException, DefaultEndPoint, DefaultEndPointFactory
from cassandra.policies import DCAwareRoundRobinPolicy, TokenAwarePolicy
from cassandra.protocol import ErrorMessage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

log = logging.getLogger(__name__)

DEFAULT_PORT = 9042
DEFAULT_CONSISTENCY = "LOCAL_QUORUM"
# The driver starts at DSE's own protocol and logs a warning for each step down; open-source servers start
# here.
FIRST_PROTOCOL_VERSION = ProtocolVersion.V5
CONSISTENCIES: tuple[str, ...] = tuple(ConsistencyLevel.name_to_value)
# All that a request can fail with: the driver's errors have four roots.
DRIVER_ERRORS = (DriverException, NoHostAvailable, ErrorMessage, ConnectionException)
_TLS_SIGNS = ("[SSL", "CERTIFICATE", "TLSV1", "HANDSHAKE")


class CassandraError(RuntimeError):
    """Base of what goes wrong between us and Cassandra."""


class CassandraUnreachableError(CassandraError):
    """No contact point answers as a Cassandra node."""


class CassandraAuthError(CassandraError):
    """The server refuses login or password, or asks for one that is not set."""


class CassandraTlsError(CassandraError):
    """The TLS handshake fails, or a certificate file cannot be used."""


class CassandraConfigError(CassandraError):
    """The server answers, but a setting of the policy does not fit it: data centre or keyspace."""


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """How to check the server, and how to show who we are.

    By default the certificate must be signed by a known authority (the system's, or ``ca_certs``) and carry
    the name under which the node is reached: the contact point as written, and for nodes learnt from the
    cluster their address. ``server_hostname`` is for certificates that all carry one common name.
    """

    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    keyfile_password: str | None = field(default=None, repr=False)
    verify_certificate: bool = True
    check_hostname: bool = True
    server_hostname: str | None = None
    ciphers: str | None = None


@dataclass(frozen=True, slots=True)
class CassandraPolicy:
    """What the user chose: where Cassandra is, who we are, and how long to wait.

    ``local_dc`` left out: the data centre of the contact points, which then must all be in one.
    ``keyspace`` is only the session's default for unqualified names. ``connect_timeout_s`` bounds one
    connection attempt and each query about the cluster itself: with no node up, opening fails after that
    time for each address of the contact points. ``protocol_version`` left out: 5, and lower where the
    server is older. ``origin`` names in messages where the settings come from.
    """

    contact_points: tuple[str, ...] = ("127.0.0.1",)
    port: int = DEFAULT_PORT
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    local_dc: str | None = None
    keyspace: str | None = None
    consistency: str = DEFAULT_CONSISTENCY
    request_timeout_s: float = 10.0
    connect_timeout_s: float = 5.0
    protocol_version: int | None = None
    tls: TlsPolicy | None = None
    origin: str = "the Cassandra policy"

    def __post_init__(self) -> None:
        if not self.contact_points:
            raise ValueError("no contact point: name at least one host")
        for point in self.contact_points:
            if point.count(":") == 1:
                raise ValueError(f"contact point {point!r} holds a port: write the port in its own field")
        if not 0 < self.port < 65536:
            raise ValueError(f"port {self.port} is not between 1 and 65535")
        if self.consistency not in CONSISTENCIES:
            raise ValueError(
                f"consistency {self.consistency!r} is unknown: use one of {', '.join(CONSISTENCIES)}"
            )
        for name in ("request_timeout_s", "connect_timeout_s"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"{name.removesuffix('_s')} must be more than 0 seconds, it is {getattr(self, name)}"
                )

    @property
    def address(self) -> str:
        """The contact points and the port, for messages."""
        return f"{', '.join(self.contact_points)} port {self.port}"


@contextmanager
def open_session(policy: CassandraPolicy) -> Iterator[Any]:
    """Connect, yield the driver's session, and shut its cluster down however the block ends.

    Queries use one execution profile: token-aware over the local data centre, the policy's consistency and
    timeout. What the block raises passes through unchanged.

    :raises CassandraUnreachableError: if no contact point answers, within ``connect_timeout_s`` for each of
        their addresses.
    :raises CassandraAuthError: if login and password are refused.
    :raises CassandraTlsError: if certificates do not fit.
    :raises CassandraConfigError: if the data centre or the keyspace does not exist.
    """
    cluster = build_cluster(policy)
    try:
        yield _connect(cluster, policy)
    finally:
        # Also on BaseException: Airflow's task timeout is one, and a cluster left open keeps its threads.
        cluster.shutdown()


def build_cluster(policy: CassandraPolicy) -> Any:
    """Return a cluster that is not yet connected; the caller shuts it down."""
    endpoints, names = _resolve(policy)
    profile = ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(local_dc=policy.local_dc)),
        consistency_level=ConsistencyLevel.name_to_value[policy.consistency],
        request_timeout=policy.request_timeout_s,
    )
    settings: dict[str, Any] = {
        "contact_points": endpoints,
        "port": policy.port,
        "execution_profiles": {EXEC_PROFILE_DEFAULT: profile},
        "endpoint_factory": _EndPointFactory(policy.port, names),
        "connect_timeout": policy.connect_timeout_s,
        "control_connection_timeout": policy.connect_timeout_s,
        "idle_heartbeat_interval": 30,
        "monitor_reporting_enabled": False,
    }
    if policy.username is not None:
        settings["auth_provider"] = PlainTextAuthProvider(policy.username, policy.password or "")
    if policy.tls is not None:
        settings["ssl_context"] = build_ssl_context(policy.tls, policy.origin)
    if policy.protocol_version is not None:
        return Cluster(**settings, protocol_version=policy.protocol_version)
    cluster = Cluster(**settings)
    # Set on the object, not by the argument: the argument would forbid the step down to older servers.
    cluster.protocol_version = FIRST_PROTOCOL_VERSION
    return cluster


def build_ssl_context(tls: TlsPolicy, origin: str = "the TLS policy") -> ssl.SSLContext:
    """Return the context of a client that checks the server's certificate and name unless told not to.

    :raises CassandraTlsError: if a file is missing, unreadable, no certificate or key, or is encrypted
        without password.
    """

    def refuse_prompt() -> str:
        # Without this OpenSSL asks on the terminal, and a task waits for ever.
        raise ValueError("the key is encrypted: give keyfile_password")

    try:
        context = ssl.create_default_context(cafile=tls.ca_certs)
        if tls.certfile:
            password = tls.keyfile_password or refuse_prompt
            context.load_cert_chain(tls.certfile, tls.keyfile, password=password)
        if tls.ciphers:
            context.set_ciphers(tls.ciphers)
    except (OSError, ValueError) as error:
        files = f"ca_certs={tls.ca_certs}, certfile={tls.certfile}, keyfile={tls.keyfile}"
        raise CassandraTlsError(f"{origin}: the TLS files cannot be used ({files}): {error}") from error
    # The order matters: without a checked certificate there is no name to check, and ssl refuses the
    # combination.
    context.check_hostname = tls.check_hostname and tls.verify_certificate
    context.verify_mode = ssl.CERT_REQUIRED if tls.verify_certificate else ssl.CERT_NONE
    return context


def find_local_dc(session: Any, policy: CassandraPolicy) -> str:
    """Return the data centre that the session's queries go to: the policy's, or that of the contact points.

    :raises CassandraConfigError: if it is left out and the contact points are in several.
    """
    return _check_data_centre(session.cluster, policy)


class _EndPoint(DefaultEndPoint):  # type: ignore[misc] # the driver is untyped
    """A node's address together with the name that its certificate must carry.

    The driver resolves names to addresses first and then checks the certificate against the address, so that
    certificates with DNS names would fail; a single ``ssl_options["server_hostname"]`` cannot serve several
    nodes.
    """

    def __init__(self, address: str, port: int, server_hostname: str) -> None:
        super().__init__(address, port)
        self.server_hostname = server_hostname

    @property
    def ssl_options(self) -> dict[str, str]:
        return {"server_hostname": self.server_hostname}


class _EndPointFactory(DefaultEndPointFactory):  # type: ignore[misc] # the driver is untyped
    """Make the endpoints of nodes learnt from the cluster; one that is a contact point keeps its name."""

    def __init__(self, port: int, names: Mapping[str, str] | None) -> None:
        super().__init__(port=port)
        self._names = names

    def create(self, row: Mapping[str, Any]) -> Any:
        found = super().create(row)
        if self._names is None:
            return found
        name = self._names.get(found.address, self._names.get("*", found.address))
        return _EndPoint(found.address, found.port, name)


def _resolve(policy: CassandraPolicy) -> tuple[list[Any], dict[str, str] | None]:
    """Return the contact points' endpoints and, with TLS, the name to check at each address.

    ``*`` stands for all other addresses.
    """
    tls = policy.tls
    names: dict[str, str] = {}
    failures: list[str] = []
    for point in policy.contact_points:
        try:
            found = socket.getaddrinfo(point, policy.port, socket.AF_UNSPEC, socket.SOCK_STREAM)
        except OSError as error:
            failures.append(f"{point}: {error.strerror or error}")
            continue
        for *_, sockaddr in found:
            names.setdefault(str(sockaddr[0]), (tls and tls.server_hostname) or point)
    if not names:
        raise CassandraUnreachableError(
            f"No contact point of {policy.origin} can be resolved: {'; '.join(failures)}."
            " Correct the host field."
        )
    if failures:
        log.warning(
            "Contact points of %s that cannot be resolved are left out: %s",
            policy.origin,
            "; ".join(failures),
        )
    if tls is None:
        return [DefaultEndPoint(address, policy.port) for address in names], None
    endpoints = [_EndPoint(address, policy.port, name) for address, name in names.items()]
    return endpoints, {**names, "*": tls.server_hostname} if tls.server_hostname else names


def _connect(cluster: Any, policy: CassandraPolicy) -> Any:
    try:
        session = cluster.connect()
    except (*DRIVER_ERRORS, OSError) as error:
        if policy.local_dc and cluster.metadata.all_hosts():
            _check_data_centre(cluster, policy)
        raise explain_failure(error, policy) from error
    _check_data_centre(cluster, policy)
    if policy.keyspace:
        _use_keyspace(session, policy)
    return session


def _use_keyspace(session: Any, policy: CassandraPolicy) -> None:
    try:
        session.set_keyspace(policy.keyspace)
    except (InvalidRequest, Unauthorized) as error:
        raise CassandraConfigError(
            f"Keyspace {policy.keyspace} (schema of {policy.origin}) cannot be used at {policy.address}: "
            f"{error}. Create it with ProvisionOperator, or leave the schema field empty."
        ) from error
    except DRIVER_ERRORS as error:
        raise explain_failure(error, policy) from error


def _check_data_centre(cluster: Any, policy: CassandraPolicy) -> str:
    """Return the local data centre, or refuse one that does not exist or is not clear."""
    hosts = {host.endpoint: host.datacenter for host in cluster.metadata.all_hosts() if host.datacenter}
    known = sorted(set(hosts.values()))
    if policy.local_dc:
        if known and policy.local_dc not in known:
            raise CassandraConfigError(
                f"local_dc {policy.local_dc!r} of {policy.origin} is no data centre of the cluster at "
                f"{policy.address}, which has: {', '.join(known)}"
            )
        return policy.local_dc
    contacted = sorted({hosts[point] for point in cluster.endpoints_resolved if point in hosts}) or known
    if len(contacted) != 1:
        raise CassandraConfigError(
            f"The contact points {policy.address} of {policy.origin} are in several data centres "
            f"({', '.join(contacted)}): say in the extra local_dc which of them queries go to"
        )
    return str(contacted[0])


def explain_failure(error: Exception, policy: CassandraPolicy) -> CassandraError:
    """Return our error for one that the driver raised while connecting, with what to change."""
    reasons = getattr(error, "errors", None)
    causes = list(reasons.values()) if isinstance(reasons, dict) else [error]
    text = "; ".join(dict.fromkeys(_describe(cause) for cause in causes)) or str(error)
    where = f"Cassandra at {policy.address} ({policy.origin})"
    if any(isinstance(cause, AuthenticationFailed) for cause in causes):
        who = f"login {policy.username!r}" if policy.username else "no login"
        return CassandraAuthError(f"{where} refuses {who}: {text}. Correct login and password.")
    if policy.tls is not None and any(sign in text.upper() for sign in _TLS_SIGNS):
        return CassandraTlsError(
            f"TLS with {where} fails: {text}. Check ca_certs, the certificate's names (server_hostname) "
            "and, if the server asks for one, certfile and keyfile."
        )
    return CassandraUnreachableError(
        f"{where} cannot be reached within {policy.connect_timeout_s:g} s: {text}. "
        "Check that the server is up, host and port, and whether it wants TLS (extra ssl)."
    )


def _describe(cause: object) -> str:
    """Return an exception in words: some of the driver's have a class and no text."""
    return str(cause) or type(cause).__name__
