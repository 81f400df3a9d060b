"""Which host keys are accepted, by the file that OpenSSH writes."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from airflow_provider_restrack.collect.known_hosts import (
    HostKey,
    HostKeyCheck,
    KnownHosts,
    Match,
    explain_refusal,
    host_key_name,
    order_key_types,
)

if TYPE_CHECKING:
    from pathlib import Path

OURS = HostKey("ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5AAAAIA==")
OTHER = HostKey("ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5AAAAIB==")
FILE = f"""
# comment
db-01,10.0.0.5 {OURS.kind} {OURS.data} a comment
[db-01]:2222 {OTHER.kind} {OTHER.data}
*.corp,!bad.corp,[*.corp]:2222 {OURS.kind} {OURS.data}
@revoked * {OTHER.kind} REVOKED
@cert-authority *.corp {OURS.kind} AUTHORITY
broken
"""


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("db-01", [OURS]),
        ("DB-01", [OURS]),
        ("10.0.0.5", [OURS]),
        ("[db-01]:2222", [OTHER]),
        ("web.corp", [OURS]),
        ("[web.corp]:2222", [OURS]),
        ("bad.corp", []),
        ("db-02", []),
    ],
)
def test_lines_are_matched_by_name_port_and_pattern(name: str, keys: list[HostKey]) -> None:
    match = KnownHosts.parse(FILE, "file").match(name)

    assert list(match.keys) == keys
    assert match.revoked == (HostKey(OTHER.kind, "REVOKED"),)


def test_hashed_names_of_openssh_are_matched(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    kind, data = key.with_suffix(".pub").read_text().split()[:2]
    path.write_text(f"db-01 {kind} {data}\n[db-01]:2222 {kind} {data}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(path)], check=True, capture_output=True)
    text = path.read_text()
    assert "db-01" not in text

    known = KnownHosts.parse(text, str(path))

    assert known.match("db-01").keys == (HostKey(kind, data),)
    assert known.match("[db-01]:2222").keys == (HostKey(kind, data),)
    assert known.match("db-02").keys == ()


def test_a_fingerprint_is_that_of_ssh_keygen(tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    shown = subprocess.run(["ssh-keygen", "-l", "-f", str(key)], check=True, capture_output=True, text=True)
    kind, data = key.with_suffix(".pub").read_text().split()[:2]

    assert HostKey(kind, data).fingerprint == shown.stdout.split()[1]


@pytest.mark.parametrize(
    ("match", "check", "refused"),
    [
        pytest.param(Match("f", (OURS,)), "known", None, id="known"),
        pytest.param(Match("f", (OTHER, OURS)), "known", None, id="one-of-several"),
        pytest.param(Match("f"), "known", "is not in f", id="unknown"),
        pytest.param(Match("f"), "accept_new", None, id="new-accepted"),
        pytest.param(Match("f", (OTHER,)), "accept_new", "has changed", id="changed-though-new-is-accepted"),
        pytest.param(Match("f", (OTHER,)), "known", "has changed", id="changed"),
        pytest.param(Match("f", (OURS,), (OURS,)), "known", "revoked", id="revoked"),
        pytest.param(Match("f", (), (OURS,)), "accept_new", "revoked", id="revoked-though-new-is-accepted"),
        pytest.param(Match("f", (OTHER,)), "accept_any", None, id="any-accepted"),
    ],
)
def test_a_key_is_judged_by_what_is_known(match: Match, check: HostKeyCheck, refused: str | None) -> None:
    refusal = explain_refusal(OURS, match, check, "db-01", 22)

    if refused is None:
        assert refusal is None
    else:
        assert refusal is not None
        assert refused in refusal


def test_the_port_stands_in_a_name_unless_it_is_22() -> None:
    assert (host_key_name("h", 22), host_key_name("h", 2222)) == ("h", "[h]:2222")


def test_known_key_types_are_asked_for_first() -> None:
    supported = ["ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"]

    assert order_key_types(supported, Match("f", (HostKey("ssh-rsa", ""),))) == [
        "rsa-sha2-512",
        "rsa-sha2-256",
        "ssh-rsa",
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
    ]
    assert order_key_types(supported, Match("f")) == supported
