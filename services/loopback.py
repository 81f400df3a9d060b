"""Hundreds of hosts on loopback: addresses of their own, sixteen of them on each sshd.

Linux answers on all of 127/8. An sshd listens on at most sixteen addresses (OpenSSH's MAX_LISTEN_SOCKS).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.sshd import SshdFleet, SshdHost

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_ADDRESSES_EACH = 16
_PER_NET = 250
MAX_HOSTS = 60_000


def list_addresses(count: int) -> list[str]:
    """Return so many loopback addresses, from 127.1.0.1 on."""
    if not 0 < count <= MAX_HOSTS:
        raise ValueError(f"{count} hosts: give 1 to {MAX_HOSTS}")
    return [f"127.1.{number // _PER_NET}.{number % _PER_NET + 1}" for number in range(count)]


def plan_hosts(
    addresses: Sequence[str], port: int, *, name: str = "loop", extra_config: Sequence[str] = ()
) -> list[SshdHost]:
    """Return the sshd that serve the addresses on one port."""
    chunks = [
        addresses[start : start + _ADDRESSES_EACH] for start in range(0, len(addresses), _ADDRESSES_EACH)
    ]
    return [
        SshdHost(
            f"{name}-{number}",
            port,
            (*extra_config, *(f"ListenAddress {address}" for address in chunk[1:])),
            address=chunk[0],
        )
        for number, chunk in enumerate(chunks)
    ]


class LoopbackFleet:
    """Hosts that all answer on one port, each on its own address."""

    def __init__(
        self,
        directory: Path,
        addresses: Sequence[str],
        port: int,
        *,
        name: str = "loop",
        extra_config: Sequence[str] = (),
    ) -> None:
        self.addresses, self.port = tuple(addresses), port
        self._fleet = SshdFleet(directory, plan_hosts(addresses, port, name=name, extra_config=extra_config))
        self.client_key = self._fleet.client_key
        self.user = self._fleet.user

    def start(self) -> None:
        """Start every sshd and wait until all answer."""
        self._fleet.start()

    def stop(self) -> None:
        """End every sshd and its sessions."""
        self._fleet.stop()

    def known_hosts(self) -> str:
        """Return the text of a ``known_hosts`` with each address."""
        lines = []
        for number, address in enumerate(self.addresses):
            kind, key = self._fleet.hosts[number // _ADDRESSES_EACH].public_key.split()[:2]
            name = address if self.port == 22 else f"[{address}]:{self.port}"
            lines.append(f"{name} {kind} {key}\n")
        return "".join(lines)
