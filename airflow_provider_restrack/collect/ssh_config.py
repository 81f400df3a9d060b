"""What the worker's OpenSSH client configuration says of a host: the bastion before it, and its key."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import paramiko

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_TOKEN = re.compile(r"%(.)")


@dataclass(frozen=True, slots=True)
class HostOptions:
    """What the configuration says of one host.

    :ivar proxy_command: as it is written, with what it holds of passwords and tokens: not to be shown.
    """

    hostname: str
    proxy_command: str | None = field(default=None, repr=False)
    proxy_jump: str | None = None
    identity_file: str | None = None

    @property
    def bastion(self) -> str | None:
        """What logins to the host pass through: the same text is the same bastion; not to be shown either."""
        return self.proxy_command or self.proxy_jump


class _RawProxyConfig(paramiko.SSHConfig):
    # Paramiko would fill in the port and user of the file, and the operator's are others.
    TOKENS_BY_CONFIG_KEY: ClassVar[dict[str, list[str]]] = {  # type: ignore[misc] # a plain attribute there
        key: tokens
        for key, tokens in paramiko.SSHConfig.TOKENS_BY_CONFIG_KEY.items()
        if key not in {"proxycommand", "proxyjump"}
    }


class SshConfig:
    """A parsed ``~/.ssh/config``."""

    def __init__(self, parsed: paramiko.SSHConfig) -> None:
        self._parsed = parsed

    def options(self, address: str) -> HostOptions:
        """Return what the file says of an address; the word ``none`` turns a proxy off, as in OpenSSH."""
        found: dict[str, Any] = dict(self._parsed.lookup(address))
        command, jump = (_unless_none(found.get(key)) for key in ("proxycommand", "proxyjump"))
        identity_files = found.get("identityfile") or [None]
        return HostOptions(
            hostname=found.get("hostname", address),
            proxy_command=command,
            proxy_jump=None if command else jump,
            identity_file=identity_files[0],
        )


def read_ssh_config(path: Path) -> SshConfig | None:
    """Read the OpenSSH client configuration, if there is one.

    :raises ValueError: if it cannot be read.
    """
    if not path.is_file():
        return None
    try:
        return SshConfig(_RawProxyConfig.from_path(str(path)))
    except (OSError, UnicodeError, paramiko.SSHException) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def build_proxy_argv(options: HostOptions, port: int, username: str) -> list[str] | None:
    """Return the command whose stdin and stdout are the connection to a host; None if it is reached directly.

    ``%h``, ``%p`` and ``%r`` of a ProxyCommand are the host's name and the port and user that the operator
    logs in with. A ProxyJump becomes the ``ssh -W`` that OpenSSH makes of it. There is no shell: what looks
    like one in the file is passed on as it is.

    :raises ValueError: if the command cannot be split, or has a token that is not known.
    """
    tokens = {"h": options.hostname, "n": options.hostname, "p": str(port), "r": username, "%": "%"}
    if options.proxy_command:
        return [_fill_tokens(part, tokens) for part in shlex.split(options.proxy_command)]
    if options.proxy_jump:
        return _build_jump_argv(_fill_tokens(options.proxy_jump, tokens), options.hostname, port)
    return None


def _build_jump_argv(jumps: str, hostname: str, port: int) -> list[str]:
    *before, last = [jump.strip() for jump in jumps.split(",")]
    through = ["-J", ",".join(before)] if before else []
    # Nobody answers a question for a password; ssh:// lets OpenSSH itself split user, host and port.
    destination = last if last.startswith("ssh://") else f"ssh://{last}"
    return ["ssh", "-o", "BatchMode=yes", "-W", f"[{hostname}]:{port}", *through, "--", destination]


def _fill_tokens(text: str, tokens: Mapping[str, str]) -> str:
    def fill(match: re.Match[str]) -> str:
        if match[1] not in tokens:
            raise ValueError(f"the token %{match[1]} is not known: there are %h, %n, %p, %r and %%")
        return tokens[match[1]]

    return _TOKEN.sub(fill, text)


def _unless_none(value: str | None) -> str | None:
    return None if value is None or value.strip().lower() == "none" else value.strip()
