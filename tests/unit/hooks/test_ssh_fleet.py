"""One ssh connection turned into a login policy, whatever stands in its extras."""

from __future__ import annotations

import json
import logging
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_restrack.collect.known_hosts import HostKey
from airflow_provider_restrack.hooks.ssh_fleet import SSHFleetHook

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_restrack.collect.ssh import SshPolicy

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the worker's user an empty home, so that this machine's own keys play no part."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    return tmp_path


@pytest.fixture
def read_policy(monkeypatch: pytest.MonkeyPatch) -> Callable[..., SshPolicy]:
    """Return a function that reads the policy of a connection with the given fields and extras."""

    def read(extra: dict[str, Any] | None = None, **fields: Any) -> SshPolicy:
        connection = {"conn_type": "ssh", "login": "ops", **fields, "extra": extra or {}}
        monkeypatch.setenv("AIRFLOW_CONN_SSH_TEST", json.dumps(connection))
        return SSHFleetHook("ssh_test").policy()

    return read


def make_key(path: Path, passphrase: str = "", kind: str = "ed25519") -> Path:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", str(path), "-C", "test"], check=True
    )
    return path


def test_a_plain_connection_checks_host_keys_of_the_users_file(
    read_policy: Callable[..., SshPolicy], home: Path
) -> None:
    (home / ".ssh" / "known_hosts").write_text(f"db-01 {HOST_KEY}\n")

    policy = read_policy(password=" secret\n", port=2222)

    assert (policy.username, policy.password, policy.port) == ("ops", "secret", 2222)
    assert (policy.host_key_check, policy.look_for_keys, policy.compress) == ("known", True, True)
    assert policy.match("db-01", 22).keys == (HostKey(*HOST_KEY.split()),)
    assert policy.known_hosts.source == str(home / ".ssh" / "known_hosts")


def test_without_a_known_hosts_file_no_host_is_known(read_policy: Callable[..., SshPolicy]) -> None:
    policy = read_policy()

    assert (policy.port, policy.host_key_check) == (22, "known")
    assert policy.match("db-01", 22).keys == ()


def test_the_connection_is_looked_up_once(
    read_policy: Callable[..., SshPolicy], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_policy()
    lookups = []
    real = BaseHook.get_connection

    def count(_cls: type, conn_id: str) -> Any:
        lookups.append(conn_id)
        return real(conn_id)

    monkeypatch.setattr(BaseHook, "get_connection", classmethod(count))
    hook = SSHFleetHook("ssh_test")

    assert hook.policy() is hook.policy()
    assert lookups == ["ssh_test"]


def test_all_extras_of_the_ssh_provider_are_taken(
    read_policy: Callable[..., SshPolicy], tmp_path: Path
) -> None:
    known_hosts = tmp_path / "keys"
    known_hosts.write_text(f"[db-01]:2222 {HOST_KEY}\n")

    policy = read_policy(
        {
            "compress": "false",
            "look_for_keys": "false",
            "ciphers": ["aes256-ctr"],
            "disabled_algorithms": {"kex": ["x"]},
            "known_hosts": str(known_hosts),
            "host_key": HOST_KEY,
        }
    )

    assert (policy.compress, policy.look_for_keys) == (False, False)
    assert (policy.ciphers, policy.disabled_algorithms) == (("aes256-ctr",), {"kex": ["x"]})
    assert policy.match("db-01", 2222).source == str(known_hosts)
    assert policy.host_key == HostKey(*HOST_KEY.split())


@pytest.mark.parametrize(
    ("extra", "check"),
    [
        ({}, "known"),
        ({"no_host_key_check": "true"}, "accept_new"),
        ({"no_host_key_check": True, "allow_host_key_change": True}, "accept_any"),
        ({"allow_host_key_change": "true"}, "accept_any"),
        ({"allow_host_key_change": "true", "host_key": HOST_KEY}, "known"),
        ({"no_host_key_check": "false"}, "known"),
    ],
)
def test_the_two_switches_choose_how_host_keys_are_checked(
    read_policy: Callable[..., SshPolicy],
    extra: dict[str, Any],
    check: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert read_policy(extra).host_key_check == check


@pytest.mark.parametrize(("kind", "passphrase"), [("ed25519", ""), ("ecdsa", "hush"), ("rsa", "")])
def test_a_key_file_is_read_once_into_the_policy(
    read_policy: Callable[..., SshPolicy], tmp_path: Path, kind: str, passphrase: str
) -> None:
    key = make_key(tmp_path / "key", passphrase, kind)

    policy = read_policy({"key_file": "~/key", "private_key_passphrase": passphrase})

    assert policy.pkey is not None
    assert policy.pkey.get_base64() == key.with_suffix(".pub").read_text().split()[1]


def test_the_password_opens_a_key_file_that_has_no_passphrase_of_its_own(
    read_policy: Callable[..., SshPolicy], tmp_path: Path
) -> None:
    key = make_key(tmp_path / "key", "hush")

    policy = read_policy({"key_file": str(key)}, password="hush")

    assert policy.pkey is not None


def test_a_private_key_in_the_extras_is_read(read_policy: Callable[..., SshPolicy], tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")

    policy = read_policy({"private_key": key.read_text()})

    assert policy.pkey is not None
    assert "PRIVATE" not in repr(policy)


def test_the_client_configuration_is_read_for_each_host(
    read_policy: Callable[..., SshPolicy], home: Path
) -> None:
    (home / ".ssh" / "config").write_text("Host db-*\n  ProxyCommand ssh -W %h:%p bastion\n")

    policy = read_policy()

    assert policy.ssh_config is not None
    assert policy.ssh_config.options("db-07").proxy_command == "ssh -W %h:%p bastion"
    assert policy.ssh_config.options("web").bastion is None


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        pytest.param({"key_file": "/no/such/key"}, "key_file", id="key-file-missing"),
        pytest.param({"private_key": "one line"}, "BEGIN and END", id="private-key-no-key"),
        pytest.param({"known_hosts": "/no/such/file"}, "known_hosts", id="known-hosts-missing"),
        pytest.param({"host_key": "ssh-dss AAAA"}, "DSA", id="host-key-dss"),
        pytest.param({"host_key": "ssh-ed25519 !!!"}, "`host_key`", id="host-key-no-key"),
        pytest.param({"host_key": "AAA"}, "`host_key`", id="host-key-no-base64"),
        pytest.param({"host_key": HOST_KEY, "no_host_key_check": True}, "host key", id="contradiction"),
        pytest.param({"conn_timeout": "soon"}, "soon", id="no-number"),
    ],
)
def test_what_cannot_be_read_names_the_connection(
    read_policy: Callable[..., SshPolicy], extra: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        read_policy(extra)

    assert "'ssh_test'" in str(caught.value)


def test_a_key_file_with_the_wrong_passphrase_is_named_and_the_passphrase_is_not(
    read_policy: Callable[..., SshPolicy], tmp_path: Path
) -> None:
    key = make_key(tmp_path / "key", "hush")

    with pytest.raises(ValueError, match="key_file") as caught:
        read_policy({"key_file": str(key), "private_key_passphrase": "guess"})

    assert "guess" not in str(caught.value)


def test_a_connection_without_a_host_cannot_be_tested(
    read_policy: Callable[..., SshPolicy],
) -> None:
    read_policy()

    assert SSHFleetHook("ssh_test").test_connection() == (
        False,
        "connection 'ssh_test' names no host to log in to; its settings are readable",
    )


def test_a_connection_that_cannot_be_read_is_not_said_to_be_readable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    extra = {"private_key": "one line"}
    monkeypatch.setenv("AIRFLOW_CONN_SSH_TEST", json.dumps({"conn_type": "ssh", "extra": extra}))

    worked, message = SSHFleetHook("ssh_test").test_connection()

    assert not worked
    assert "BEGIN and END" in message


def test_a_port_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SSH_TEST", json.dumps({"conn_type": "ssh", "port": 99999}))

    with pytest.raises(ValueError, match="connection 'ssh_test': port 99999"):
        SSHFleetHook("ssh_test").policy()


def test_testing_a_connection_that_is_not_defined_says_so() -> None:
    worked, message = SSHFleetHook("no_such_connection").test_connection()

    assert not worked
    assert "no_such_connection" in message
