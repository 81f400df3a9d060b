"""What is taken from ~/.ssh/config, and the commands that lead through bastions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_restrack.collect.ssh_config import HostOptions, build_proxy_argv, read_ssh_config

if TYPE_CHECKING:
    from pathlib import Path


def options_of(path: Path, text: str, address: str = "db-1") -> HostOptions:
    path.write_text(text)
    config = read_ssh_config(path)
    assert config is not None
    return config.options(address)


def test_without_a_client_configuration_there_is_none(tmp_path: Path) -> None:
    assert read_ssh_config(tmp_path / "config") is None


def test_a_client_configuration_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_bytes(b"\xff\xfe")

    with pytest.raises(ValueError, match="cannot be read"):
        read_ssh_config(config)


def test_a_command_has_the_port_and_user_of_the_operator_and_not_those_of_the_file(tmp_path: Path) -> None:
    text = "Host db-*\n  Port 99\n  User other\n  HostName 10.0.0.7\n  ProxyCommand relay %h %p %r 100%% %n\n"

    argv = build_proxy_argv(options_of(tmp_path / "config", text), 2222, "ops")

    assert argv == ["relay", "10.0.0.7", "2222", "ops", "100%", "10.0.0.7"]


@pytest.mark.parametrize(
    ("jump", "argv"),
    [
        ("bastion", ["-W", "[db-1]:22", "--", "ssh://bastion"]),
        ("me@bastion:2200", ["-W", "[db-1]:22", "--", "ssh://me@bastion:2200"]),
        ("ssh://me@bastion:2200", ["-W", "[db-1]:22", "--", "ssh://me@bastion:2200"]),
        ("outer,me@inner", ["-W", "[db-1]:22", "-J", "outer", "--", "ssh://me@inner"]),
    ],
)
def test_a_jump_becomes_the_command_that_openssh_makes_of_it(
    tmp_path: Path, jump: str, argv: list[str]
) -> None:
    options = options_of(tmp_path / "config", f"Host *\n  ProxyJump {jump}\n")

    assert build_proxy_argv(options, 22, "ops") == ["ssh", "-o", "BatchMode=yes", *argv]
    assert options.bastion == jump


@pytest.mark.parametrize("word", ["ProxyCommand none", "ProxyJump none"])
def test_none_turns_a_proxy_off(tmp_path: Path, word: str) -> None:
    options = options_of(tmp_path / "config", f"Host db-1\n  {word}\n")

    assert options.bastion is None
    assert build_proxy_argv(options, 22, "ops") is None


def test_hosts_of_one_pattern_share_their_bastion(tmp_path: Path) -> None:
    text = "Host db-*\n  ProxyCommand ssh -W %h:%p bastion\n"

    first, second = (options_of(tmp_path / "config", text, name) for name in ("db-1", "db-2"))

    assert first.bastion == second.bastion == "ssh -W %h:%p bastion"


@pytest.mark.parametrize("command", ["relay %x", "relay 'open"])
def test_a_command_that_cannot_be_read_is_refused(tmp_path: Path, command: str) -> None:
    options = options_of(tmp_path / "config", f"Host *\n  ProxyCommand {command}\n")

    with pytest.raises(ValueError, match=r"token %x|No closing quotation"):
        build_proxy_argv(options, 22, "ops")


def test_what_looks_like_shell_stays_one_word(tmp_path: Path) -> None:
    options = options_of(tmp_path / "config", 'Host *\n  ProxyCommand relay "%h; touch x"\n')

    assert build_proxy_argv(options, 22, "ops") == ["relay", "db-1; touch x"]


def test_the_first_key_of_a_host_is_taken(tmp_path: Path) -> None:
    text = "Host *\n  IdentityFile /keys/a\n  IdentityFile /keys/b\n"

    assert options_of(tmp_path / "config", text).identity_file == "/keys/a"
    assert options_of(tmp_path / "config", "Host other\n").identity_file is None


def test_a_command_with_a_secret_stays_out_of_the_repr(tmp_path: Path) -> None:
    options = options_of(tmp_path / "config", "Host *\n  ProxyCommand relay --token sesame %h\n")

    assert "sesame" in str(options.bastion)
    assert "sesame" not in repr(options)
