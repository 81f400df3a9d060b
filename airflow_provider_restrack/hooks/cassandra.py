"""Cassandra from Airflow's ordinary ``cassandra`` connection: execution profiles, timeouts, checked TLS.

The Cassandra provider's own hook builds the driver's legacy cluster: round robin over all data centres, no
request timeout, no check of the server's name. This one reads the same connection, and fields of its own
from the extras.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseHook

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_provider_restrack.store.session import CassandraPolicy, TlsPolicy

_KNOWN_EXTRAS = frozenset(
    {
        "connect_timeout",
        "consistency",
        "cql_version",
        "load_balancing_policy",
        "load_balancing_policy_args",
        "local_dc",
        "protocol_version",
        "request_timeout",
        "ssl",
        "ssl_options",
    }
)
_SECRETS = frozenset({"keyfile_password"})
_WITH_SECRETS = frozenset({"ssl", "ssl_options"})  # of another type, they may hold one as text
_TLS_TEXTS = ("ca_certs", "certfile", "keyfile", "keyfile_password", "server_hostname", "ciphers")
# ``ssl_version`` is for the provider's hook: client and server agree on the newest version by themselves.
_TLS_KEYS = frozenset({*_TLS_TEXTS, "check_hostname", "cert_reqs", "ssl_version"})
_CERT_REQS = {
    0: False, 1: True, 2: True, "CERT_NONE": False, "CERT_OPTIONAL": True, "CERT_REQUIRED": True,
}  # fmt: skip


class CassandraSessionHook(BaseHook):
    """Open sessions to the cluster of an ordinary ``cassandra`` connection.

    Host: contact points, separated by commas; port: 9042 if empty; login and password; schema: the default
    keyspace. Extras, all optional:

    - ``local_dc``: the data centre that queries go to. Left out: that of the contact points.
    - ``consistency``: of reads and writes, ``LOCAL_QUORUM`` if left out.
    - ``request_timeout``, ``connect_timeout``: seconds, 10 and 5 if left out.
    - ``ssl``: ``true``, or an object with ``ca_certs``, ``certfile``, ``keyfile``, ``keyfile_password``,
      ``check_hostname``, ``cert_reqs``, ``server_hostname``, ``ciphers``. The server's certificate and name
      are checked unless ``cert_reqs`` is ``CERT_NONE`` or ``check_hostname`` is ``false``.
    - ``ssl_options``, ``load_balancing_policy_args.local_dc`` and ``protocol_version``, as the Cassandra
      provider's own hook reads them.

    :param cassandra_conn_id: id of the connection.
    """

    conn_name_attr = "cassandra_conn_id"
    default_conn_name = "cassandra_default"
    conn_type = "cassandra"
    hook_name = "Cassandra (Restrack)"

    def __init__(self, cassandra_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.cassandra_conn_id = cassandra_conn_id

    def policy(self) -> CassandraPolicy:
        """Return the connection's settings.

        :raises ValueError: if a field or an extra has a wrong type or value; it names the connection and
            the key.
        """
        from airflow_provider_restrack.store.session import CassandraPolicy

        conn = self.get_connection(self.cassandra_conn_id)
        extras = _read_extras(conn, f"connection {self.cassandra_conn_id}")
        if unknown := sorted(extras.values.keys() - _KNOWN_EXTRAS):
            self.log.warning("%s: extras that have no effect here: %s", extras.origin, ", ".join(unknown))
        settings: dict[str, Any] = {
            "contact_points": _split_hosts(conn.host),
            "port": conn.port,
            "username": conn.login or None,
            "password": conn.password,
            "keyspace": conn.schema or None,
            "local_dc": _find_local_dc(extras),
            "consistency": extras.get("consistency", str, "a string such as LOCAL_QUORUM"),
            "request_timeout_s": extras.get("request_timeout", (int, float), "a number of seconds"),
            "connect_timeout_s": extras.get("connect_timeout", (int, float), "a number of seconds"),
            "protocol_version": extras.get("protocol_version", int, "a whole number such as 5"),
            "tls": _parse_tls(extras),
        }
        try:
            given = {name: value for name, value in settings.items() if value is not None}
            return CassandraPolicy(**given, origin=extras.origin)
        except ValueError as error:
            raise ValueError(f"{extras.origin}: {error}") from error

    @contextmanager
    def session(self, consistency: str | None = None) -> Iterator[Any]:
        """Yield a connected session of the driver, and shut its cluster down however the block ends.

        :param consistency: in place of the connection's.
        :raises CassandraError: if the cluster cannot be used; the message says why and what to change.
        """
        from airflow_provider_restrack.store.session import open_session

        policy = self.policy()
        with open_session(replace(policy, consistency=consistency) if consistency else policy) as session:
            yield session

    def get_conn(self) -> Any:
        """Refuse: a session without an owner leaks its cluster's threads.

        :raises NotImplementedError: always.
        """
        raise NotImplementedError("use `with CassandraSessionHook(...).session() as session:`")

    def test_connection(self) -> tuple[bool, str]:
        """Connect and ask for the server's version; return the verdict and the words for a person."""
        from airflow_provider_restrack.store.session import (
            DRIVER_ERRORS,
            CassandraError,
            find_local_dc,
            open_session,
        )

        try:
            policy = self.policy()
            with open_session(policy) as session:
                version = session.execute("SELECT release_version FROM system.local").one()[0]
                data_centre = find_local_dc(session, policy)
        except (CassandraError, *DRIVER_ERRORS, ValueError) as error:
            return False, str(error)
        return True, f"Cassandra {version} at {policy.address}, data centre {data_centre}"


class _Extras:
    """A connection's extras, read with their types checked."""

    def __init__(self, values: Mapping[str, Any], origin: str) -> None:
        self.values = values
        self.origin = origin

    def get(self, key: str, kind: type | tuple[type, ...], what: str) -> Any:
        """Return an extra, None if left out; refuse one of another type (a truth value is no number)."""
        value = self.values.get(key)
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if value is None or (isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds)):
            return value
        shown = f"of type {type(value).__name__}" if key in _WITH_SECRETS else repr(value)
        found = "" if key in _SECRETS else f", it is {shown}"
        raise ValueError(f"{self.origin}: extra {key} must be {what}{found}")


def _read_extras(conn: Any, origin: str) -> _Extras:
    """Return a connection's extras; refuse what is no JSON object.

    Airflow takes such extras for none at all, and login and password would go out without TLS.
    """
    try:
        values = json.loads(conn.extra) if conn.extra else {}
    except json.JSONDecodeError as error:
        raise ValueError(f"{origin}: the extra field is no valid JSON ({error}): correct it") from None
    if not isinstance(values, dict):
        kind = type(values).__name__
        raise ValueError(f"{origin}: the extra field must be a JSON object, it is a {kind}")  # noqa: TRY004 - one class for all bad values
    return _Extras(conn.extra_dejson, origin)  # which also masks what is secret in the logs


def _split_hosts(host: str | None) -> tuple[str, ...] | None:
    points = tuple(part.strip().strip("[]") for part in (host or "").split(",") if part.strip())
    return points or None


def _find_local_dc(extras: _Extras) -> str | None:
    own: str | None = extras.get("local_dc", str, "the name of a data centre")
    if own:
        return own
    args = extras.get("load_balancing_policy_args", dict, "an object") or {}
    inner = _Extras(args, f"{extras.origin}, load_balancing_policy_args")
    nested = inner.get("child_load_balancing_policy_args", dict, "an object") or {}
    inner.values = {**nested, **args}
    found: str | None = inner.get("local_dc", str, "the name of a data centre")
    return found or None


def _parse_tls(extras: _Extras) -> TlsPolicy | None:
    from airflow_provider_restrack.store.session import TlsPolicy

    own = extras.get("ssl", (bool, dict), "true, false or an object")
    provider = extras.get("ssl_options", dict, "an object")
    if own and provider:
        raise ValueError(f"{extras.origin}: extras ssl and ssl_options say the same thing twice: keep one")
    if own == {}:
        own = True  # an object without settings asks for TLS as it is by default
    key = "ssl" if own else "ssl_options"
    options = own or provider
    if not options:
        return None
    given = _Extras({} if options is True else options, f"{extras.origin}, {key}")
    if unknown := sorted(given.values.keys() - _TLS_KEYS):
        raise ValueError(
            f"{given.origin}: unknown keys {', '.join(unknown)}: use {', '.join(sorted(_TLS_KEYS))}"
        )
    check = given.get("check_hostname", bool, "true or false")
    texts = {name: given.get(name, str, "a string") for name in _TLS_TEXTS}
    return TlsPolicy(
        **texts,
        verify_certificate=_parse_cert_reqs(given),
        check_hostname=True if check is None else check,
    )


def _parse_cert_reqs(given: _Extras) -> bool:
    what = "CERT_REQUIRED, CERT_OPTIONAL, CERT_NONE or their numbers 2, 1, 0"
    value = given.get("cert_reqs", (int, str), what)
    if value is None:
        return True
    if value not in _CERT_REQS:
        raise ValueError(f"{given.origin}: extra cert_reqs must be {what}, it is {value!r}")
    return _CERT_REQS[value]
