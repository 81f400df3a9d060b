from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from services import sshd

HOST = sshd.SshdHost("web-1", 2201)
PATHS = sshd.SshdPaths(Path("/data/my 100%/web-1"), Path("/data/my 100%/client_key"))
FACTS = sshd.SshdFacts(version=(9, 2), user="ada", is_root=False, is_locked=False)


def read_config(host: sshd.SshdHost = HOST, facts: sshd.SshdFacts = FACTS) -> dict[str, str]:
    """Read a configuration as sshd does: the first value of a keyword wins."""
    keys: dict[str, str] = {}
    for line in sshd.build_config(host, PATHS, facts).splitlines():
        keyword, value = line.split(" ", 1)
        keys.setdefault(keyword, value)
    return keys


def test_a_host_listens_on_loopback_and_lets_in_its_user_by_key_only() -> None:
    keys = read_config()

    assert (keys["ListenAddress"], keys["Port"], keys["AllowUsers"]) == ("127.0.0.1", "2201", "ada")
    assert keys["PasswordAuthentication"] == keys["KbdInteractiveAuthentication"] == "no"


def test_paths_with_spaces_and_signs_of_sshd_are_quoted() -> None:
    keys = read_config()

    assert keys["AuthorizedKeysFile"] == '"/data/my 100%%/client_key.pub"'
    assert keys["HostKey"] == '"/data/my 100%%/web-1/host_key"'


def test_extra_lines_win_over_the_generated_ones() -> None:
    host = sshd.SshdHost("odd", 2209, ["ForceCommand echo noise", "MaxStartups 1"])
    keys = read_config(host)

    assert keys["ForceCommand"] == "echo noise"
    assert keys["MaxStartups"] == "1"


@pytest.mark.parametrize(
    ("facts", "keyword", "value"),
    [
        pytest.param({"version": (9, 7)}, "PerSourcePenalties", None, id="9.7-knows-no-penalties"),
        pytest.param({"version": (9, 8)}, "PerSourcePenalties", "no", id="9.8-knows-penalties"),
        pytest.param({"version": (10, 0)}, "PerSourcePenalties", "no", id="10.0-is-newer-than-9.8"),
        pytest.param({"is_root": True}, "PermitRootLogin", "prohibit-password", id="root"),
        pytest.param({"is_root": False}, "PermitRootLogin", None, id="not-root"),
        pytest.param({"is_locked": True}, "UsePAM", "yes", id="a-locked-account-needs-pam"),
        pytest.param({"is_locked": False}, "UsePAM", "no", id="no-pam"),
    ],
)
def test_the_machine_decides_some_lines(facts: dict[str, object], keyword: str, value: str | None) -> None:
    assert read_config(facts=dataclasses.replace(FACTS, **facts)).get(keyword) == value  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("OpenSSH_9.2p1 Debian-2+deb12u10, OpenSSL 3.0.19 27 Jan 2026", (9, 2)),
        ("unknown option -- V\nOpenSSH_8.4p1 Debian-5\nusage: sshd", (8, 4)),
        ("OpenSSH_10.0p2, OpenSSL 3.5", (10, 0)),
        ("dropbear", (0, 0)),
    ],
)
def test_the_version_is_read_from_what_sshd_prints(text: str, version: tuple[int, int]) -> None:
    assert sshd.parse_version(text) == version


@pytest.mark.parametrize(
    ("shadow", "is_locked"), [("ada:!:1::", True), ("ada:*:1::", False), ("ad:!:1", False)]
)
def test_an_account_with_an_exclamation_mark_is_locked(shadow: str, is_locked: bool) -> None:
    assert sshd.is_account_locked(f"bob:!:1::\n{shadow}\n", "ada") is is_locked


def test_known_hosts_has_each_key_by_address_and_by_name() -> None:
    text = sshd.build_known_hosts([(HOST, "ssh-ed25519 AAAA1 web-1\n")])

    assert text == "[127.0.0.1]:2201,[localhost]:2201,[web-1]:2201 ssh-ed25519 AAAA1\n"
