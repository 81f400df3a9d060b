"""Known host keys: a file parsed once and matched for many hosts, and the decision whether a key is accepted.

Paramiko's own reader compares each line with all before it and reads the file for every client; a fleet needs
neither.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

SSH_PORT = 22

HostKeyCheck = Literal["known", "accept_new", "accept_any"]
"""``known``: only keys of the file; ``accept_new``: any key of a host that the file lacks; ``accept_any``:
all."""


@dataclass(frozen=True, slots=True)
class HostKey:
    """A public key as ``known_hosts`` and the wire have it: type and base64 text."""

    kind: str
    data: str

    @property
    def fingerprint(self) -> str:
        """The form that ``ssh`` and ``ssh-keygen -l`` print."""
        try:
            digest = hashlib.sha256(base64.b64decode(self.data)).digest()
        except binascii.Error:
            return "(unreadable)"
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class _Line:
    patterns: tuple[str, ...]
    key: HostKey
    revoked: bool


@dataclass(frozen=True, slots=True)
class Match:
    """The keys that one host may have, those revoked for it, and the file or connection that says so."""

    source: str
    keys: tuple[HostKey, ...] = ()
    revoked: tuple[HostKey, ...] = ()
    remedy: str = ""


@dataclass(slots=True)
class KnownHosts:
    """The lines of a ``known_hosts`` file, by name where they are plain; hashed names and patterns are tried
    in turn.
    """

    source: str
    _plain: dict[str, list[_Line]] = field(default_factory=dict, repr=False)
    _others: list[_Line] = field(default_factory=list, repr=False)

    @classmethod
    def parse(cls, text: str, source: str) -> KnownHosts:
        """Read the text of a file; lines that are no host key are passed over, as ``ssh`` does.

        Certificate authorities are passed over too: Paramiko verifies no host certificates.

        :param source: the file's path, for messages.
        """
        known = cls(source)
        for line in text.splitlines():
            parsed = _parse_line(line)
            if parsed is not None:
                known._add(parsed)
        return known

    def match(self, name: str) -> Match:
        """Return what the file says of a host named as ``known_hosts`` does (see ``host_key_name``)."""
        lines = [*self._plain.get(name.lower(), ()), *(line for line in self._others if _matches(line, name))]
        return Match(
            source=self.source,
            keys=tuple(line.key for line in lines if not line.revoked),
            revoked=tuple(line.key for line in lines if line.revoked),
        )

    def _add(self, line: _Line) -> None:
        if any(pattern.startswith(("|", "!")) or set("*?") & set(pattern) for pattern in line.patterns):
            self._others.append(line)
            return
        for pattern in line.patterns:
            self._plain.setdefault(pattern.lower(), []).append(line)


def host_key_name(address: str, port: int) -> str:
    """Return the name under which ``known_hosts`` keeps a host: the port stands in it unless it is 22."""
    return address if port == SSH_PORT else f"[{address}]:{port}"


def explain_refusal(
    offered: HostKey, match: Match, check: HostKeyCheck, address: str, port: int
) -> str | None:
    """Decide on the key that a host offers: return why it is refused and what to do, or None if it is
    accepted.
    """
    name = host_key_name(address, port)
    what = f"host key of {name} ({offered.kind} {offered.fingerprint})"
    if check == "accept_any" or (offered in match.keys and offered not in match.revoked):
        return None
    if offered in match.revoked:
        return f"{what} is marked as revoked in {match.source}"
    scan = f"ssh-keyscan {'' if port == SSH_PORT else f'-p {port} '}{address} >> {match.source}"
    if not match.keys:
        if check == "accept_new":
            return None
        return (
            f"{what} is not in {match.source}: compare the fingerprint on the host, then add it with `{scan}`"
        )
    known = ", ".join(f"{key.kind} {key.fingerprint}" for key in match.keys)
    remedy = (
        match.remedy
        or f"remove the old key with `ssh-keygen -R '{name}' -f {match.source}` and add it with `{scan}`"
    )
    return (
        f"{what} has changed: {match.source} has {known}. Someone may stand in between; if the host was"
        f" installed anew, {remedy}"
    )


def order_key_types(supported: Iterable[str], match: Match) -> list[str]:
    """Return the key types to ask the server for, those that the file has first.

    Without this a server with several keys offers one that the file lacks, and that looks like a changed key.
    """
    kinds = {key.kind for key in match.keys}
    wanted = {f"rsa-sha2-{bits}" for bits in (512, 256)} | kinds if "ssh-rsa" in kinds else kinds
    return sorted(supported, key=lambda kind: kind not in wanted)


def _parse_line(line: str) -> _Line | None:
    fields = line.split()
    if not fields or fields[0].startswith("#"):
        return None
    marker = fields.pop(0) if fields[0].startswith("@") else ""
    if len(fields) < 3 or marker not in {"", "@revoked"}:
        return None
    return _Line(tuple(fields[0].split(",")), HostKey(fields[1], fields[2]), marker == "@revoked")


def _matches(line: _Line, name: str) -> bool:
    """Whether a line with a hashed name or patterns names a host; a negated pattern that matches excludes
    it.
    """
    lowered = name.lower()
    negated = [pattern[1:] for pattern in line.patterns if pattern.startswith("!")]
    if any(_matches_pattern(pattern, lowered) for pattern in negated):
        return False
    return any(_matches_pattern(pattern, lowered) for pattern in line.patterns if not pattern.startswith("!"))


def _matches_pattern(pattern: str, name: str) -> bool:
    if pattern.startswith("|1|"):
        return _matches_hash(pattern, name)
    # Brackets are part of `[host]:port` here, not a set of characters.
    return fnmatch.fnmatchcase(name, pattern.lower().replace("[", "[[]"))


def _matches_hash(pattern: str, name: str) -> bool:
    salt, _, digest = pattern[3:].partition("|")
    try:
        expected = base64.b64decode(digest)
        actual = hmac.new(base64.b64decode(salt), name.encode(), hashlib.sha1).digest()
    except binascii.Error:
        return False
    return hmac.compare_digest(expected, actual)
