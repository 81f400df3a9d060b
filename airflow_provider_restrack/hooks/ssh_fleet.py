"""Logins to many hosts from Airflow's ordinary ``ssh`` connection, which is looked up once for all of
them.
"""

from __future__ import annotations

import binascii
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, BaseHook

from airflow_provider_restrack import clock

if TYPE_CHECKING:
    from collections.abc import Mapping

    import paramiko
    from airflow.providers.common.compat.sdk import Connection
    from airflow.providers.ssh.hooks.ssh import SSHHook

    from airflow_provider_restrack.collect.known_hosts import HostKeyCheck, KnownHosts
    from airflow_provider_restrack.collect.ssh import SshPolicy

_DEFAULT_KNOWN_HOSTS = "~/.ssh/known_hosts"
_SSH_CONFIG = "~/.ssh/config"
# The ssh provider's hook wants a host to read its settings for; what it finds for this one is not used.
_NO_HOST = "restrack-fleet.invalid"
_TEST_TIMEOUT_S = 10.0
_MAX_PORT = 65535


class SSHFleetHook(BaseHook):
    """Turn an ``ssh`` connection into a login policy for any number of hosts.

    The connection's user, password, port and extras mean what they mean to the ssh provider's ``SSHHook``,
    which reads them: ``key_file``, ``private_key``, ``private_key_passphrase``, ``host_key``,
    ``no_host_key_check``, ``allow_host_key_change``, ``compress``, ``ciphers``, ``disabled_algorithms``,
    ``look_for_keys``. Its host is only used to test the connection, and its time limits are those of the
    operator.

    Host keys are checked, against ``~/.ssh/known_hosts`` or the file that the extra ``known_hosts`` names.
    The extra ``host_key`` stands for every host that the file lacks. ProxyCommand and IdentityFile of
    ``~/.ssh/config`` are taken for each host.

    .. warning::
        ``no_host_key_check`` accepts any key of a host that the file lacks, and with
        ``allow_host_key_change`` any key of any host: whoever stands in between then receives the login.

    :param ssh_conn_id: id of the connection.
    """

    conn_name_attr = "ssh_conn_id"
    default_conn_name = "ssh_default"
    conn_type = "ssh"
    hook_name = "SSH (Restrack)"

    def __init__(self, ssh_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.ssh_conn_id = ssh_conn_id

    def policy(self) -> SshPolicy:
        """Return how to log in to the hosts of this connection; keys and known hosts are read once.

        :raises ValueError: if an extra, a key or a file of the connection cannot be read; it names both.
        """
        return self._policy

    def test_connection(self) -> tuple[bool, str]:
        """Log in to the connection's own host."""
        from airflow_provider_restrack.collect.frames import AgentRun
        from airflow_provider_restrack.collect.inventory import parse_hosts
        from airflow_provider_restrack.collect.sample import CollectError
        from airflow_provider_restrack.collect.ssh import SshSession

        try:
            policy = self.policy()
            if not self._connection.host:
                return (
                    False,
                    f"connection {self.ssh_conn_id!r} names no host to log in to; its settings are readable",
                )
            (target,) = parse_hosts([self._connection.host])
            session = SshSession(target, policy, AgentRun(b""), _TEST_TIMEOUT_S)
            try:
                session.log_in(clock.monotonic() + _TEST_TIMEOUT_S)
            finally:
                session.close()
        except (AirflowException, CollectError, ValueError) as error:
            return False, str(error)
        return True, f"logged in to {session.where}, host key checked: {policy.host_key_check}"

    @cached_property
    def _connection(self) -> Connection:
        return self.get_connection(self.ssh_conn_id)

    @cached_property
    def _policy(self) -> SshPolicy:
        from airflow_provider_restrack.collect.known_hosts import HostKey
        from airflow_provider_restrack.collect.ssh import SshPolicy
        from airflow_provider_restrack.collect.ssh_config import read_ssh_config

        parsed = self._parse()
        extras = self._connection.extra_dejson
        passphrase = _text(extras, "private_key_passphrase") or _text(extras, "passphrase")
        password = parsed.password.strip() if parsed.password else None
        check = _choose_check(parsed)
        if check != "known":
            self.log.warning("connection %r: host keys are not checked in full: %s", self.ssh_conn_id, check)
        key = parsed.host_key
        return SshPolicy(
            conn_id=self.ssh_conn_id,
            username=str(parsed.username),
            known_hosts=self._read_known_hosts(extras, ignored=parsed.allow_host_key_change),
            port=parsed.port or 22,
            password=password,
            pkey=parsed.pkey or self._load_key_file(parsed, extras, passphrase or password),
            passphrase=passphrase,
            host_key=None if key is None else HostKey(key.get_name(), key.get_base64()),
            host_key_check=check,
            compress=parsed.compress,
            ciphers=tuple(parsed.ciphers or ()),
            disabled_algorithms=parsed.disabled_algorithms,
            look_for_keys=parsed.look_for_keys,
            ssh_config=read_ssh_config(Path(_SSH_CONFIG).expanduser()),
        )

    def _parse(self) -> SSHHook:
        """Let the ssh provider read the connection, without a second lookup."""
        import paramiko
        from airflow.providers.ssh.hooks.ssh import SSHHook

        connection = self._connection

        class _ParsedConnection(SSHHook):
            @classmethod
            def get_connection(cls, conn_id: str) -> Connection:  # noqa: ARG003 - it is the one already read
                return connection

        # The system's resolver takes a larger number and connects to another port.
        if connection.port is not None and not 1 <= connection.port <= _MAX_PORT:
            raise ValueError(
                f"connection {self.ssh_conn_id!r}: port {connection.port}: give 1 to {_MAX_PORT}"
            )
        try:
            return _ParsedConnection(ssh_conn_id=self.ssh_conn_id, remote_host=connection.host or _NO_HOST)
        except (binascii.Error, paramiko.SSHException) as error:
            raise ValueError(
                f"connection {self.ssh_conn_id!r}: extra `host_key` is no public key ({error}): write type"
                " and key as `ssh-keyscan` prints them"
            ) from error
        except (AirflowException, ValueError, TypeError) as error:
            raise ValueError(f"connection {self.ssh_conn_id!r}: {error}") from error

    def _load_key_file(
        self, parsed: SSHHook, extras: Mapping[str, Any], passphrase: str | None
    ) -> paramiko.PKey | None:
        """Read the key file once: an encrypted key takes its time, and a fleet would pay it for every
        host.
        """
        name = _text(extras, "key_file")
        if name is None:
            return None
        path = Path(name).expanduser()
        certificate = path.with_name(f"{path.name}-cert.pub")
        try:
            key = parsed._pkey_from_private_key(path.read_text(), passphrase=passphrase)  # noqa: SLF001
            if certificate.is_file():
                key.load_certificate(str(certificate))
        except (AirflowException, OSError, ValueError) as error:
            raise ValueError(
                f"connection {self.ssh_conn_id!r}: extra `key_file` {name!r} cannot be read here: {error}"
            ) from error
        return key

    def _read_known_hosts(self, extras: Mapping[str, Any], *, ignored: bool) -> KnownHosts:
        from airflow_provider_restrack.collect.known_hosts import KnownHosts

        name = _text(extras, "known_hosts")
        path = Path(name or _DEFAULT_KNOWN_HOSTS).expanduser()
        if ignored or (name is None and not path.exists()):
            return KnownHosts.parse("", str(path))
        try:
            return KnownHosts.parse(path.read_text(errors="replace"), str(path))
        except OSError as error:
            raise ValueError(
                f"connection {self.ssh_conn_id!r}: extra `known_hosts` {name!r} cannot be read here: {error}"
            ) from error


def _choose_check(parsed: SSHHook) -> HostKeyCheck:
    """Translate the ssh provider's two switches."""
    if parsed.no_host_key_check:
        return "accept_any" if parsed.allow_host_key_change else "accept_new"
    return "accept_any" if parsed.allow_host_key_change and parsed.host_key is None else "known"


def _text(extras: Mapping[str, Any], name: str) -> str | None:
    value = extras.get(name)
    return str(value) if value else None
