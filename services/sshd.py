"""Several sshd on loopback, each with its own port and host key: a fleet of hosts on one machine.

All of them log into this very machine as the user who started them: their samples show one machine.
"""

from __future__ import annotations

import getpass
import os
import re
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from services import install
from services.errors import ServiceError
from services.layout import ADDRESS
from services.server import Server, locked

if TYPE_CHECKING:
    from collections.abc import Sequence

_RUN_DIRECTORY = Path("/run/sshd")
_SHADOW = Path("/etc/shadow")
_MAX_LOG_BYTES = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SshdHost:
    """One host of the fleet.

    :param name: as the inventory calls it.
    :param extra_config: lines of ``sshd_config`` that win over the generated ones, such as a ``ForceCommand``
        that plays a host without Python or with a noisy shell. No ``Match``: it would swallow what follows.
    """

    name: str
    port: int
    extra_config: Sequence[str] = ()
    address: str = ADDRESS


@dataclass(frozen=True, slots=True)
class SshdPaths:
    """The files of one sshd; the client's key pair is the fleet's."""

    directory: Path
    client_key: Path

    @property
    def host_key(self) -> Path:
        """The private host key."""
        return self.directory / "host_key"


@dataclass(frozen=True, slots=True)
class SshdFacts:
    """What the machine decides: sshd's version, the user it logs in, and whether that account is locked."""

    version: tuple[int, int]
    user: str
    is_root: bool
    is_locked: bool


def build_config(host: SshdHost, paths: SshdPaths, facts: SshdFacts) -> str:
    """Return the text of ``sshd_config``: the extra lines first, for sshd keeps a keyword's first value."""
    lines = [
        *host.extra_config,
        f"ListenAddress {host.address}",
        f"Port {host.port}",
        f"HostKey {_quote(paths.host_key)}",
        f"AuthorizedKeysFile {_quote(paths.client_key.with_suffix('.pub'))}",
        f"PidFile {_quote(paths.directory / 'sshd.pid')}",
        f"AllowUsers {facts.user}",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        # Without PAM sshd refuses an account whose password is locked, key or not.
        f"UsePAM {'yes' if facts.is_locked else 'no'}",
        # The keys lie in the repository, whose directories may be writable for a group.
        "StrictModes no",
        # One worker collects many hosts at once, all of them here.
        "MaxStartups 200",
        "MaxSessions 100",
        "LogLevel VERBOSE",
        "UseDNS no",
        "PrintMotd no",
        "Subsystem sftp internal-sftp",
    ]
    if facts.is_root:
        lines.append("PermitRootLogin prohibit-password")
    if facts.version >= (9, 8):
        lines.append("PerSourcePenalties no")
    return "".join(f"{line}\n" for line in lines)


def _quote(path: Path) -> str:
    return '"{}"'.format(str(path).replace("%", "%%"))


def build_known_hosts(hosts: Sequence[tuple[SshdHost, str]]) -> str:
    """Return the text of ``known_hosts``, from hosts and their public keys: by address and by name."""
    lines = []
    for host, public_key in hosts:
        key = " ".join(public_key.split()[:2])
        lines.append(
            f"[{host.address}]:{host.port},[localhost]:{host.port},[{host.name}]:{host.port} {key}\n"
        )
    return "".join(lines)


def parse_version(text: str) -> tuple[int, int]:
    """Return the version of OpenSSH from its banner; (0, 0) if it is not told."""
    found = re.search(r"OpenSSH_(\d+)\.(\d+)", text)
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)


def read_facts(sshd: str) -> SshdFacts:
    """Ask sshd and the system for what decides its configuration."""
    # Versions before 9.2 do not know -V, and print their version while they say so.
    shown = subprocess.run([sshd, "-V"], capture_output=True, text=True, timeout=30, check=False)
    user, is_root = getpass.getuser(), os.geteuid() == 0
    is_locked = is_root and _SHADOW.exists() and is_account_locked(_SHADOW.read_text(), user)
    return SshdFacts(parse_version(shown.stdout + shown.stderr), user, is_root, is_locked)


def is_account_locked(shadow: str, user: str) -> bool:
    """Tell from the text of ``/etc/shadow`` whether sshd holds an account to be locked."""
    return any(line.startswith(f"{user}:!") for line in shadow.splitlines())


class SshdServer(Server):
    """One sshd: one host of the fleet."""

    ready_limit_s = 20.0

    def __init__(self, host: SshdHost, fleet_directory: Path) -> None:
        super().__init__(host.name, fleet_directory / host.name, (host.port,), f"sshd {host.name}")
        self.host = host
        self.paths = SshdPaths(self.directory, fleet_directory / "client_key")
        self.known_hosts = fleet_directory / "known_hosts"
        self.user = getpass.getuser()

    @property
    def address(self) -> str:
        """The address it listens on."""
        return self.host.address

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self.host.port

    @property
    def client_key(self) -> Path:
        """The private key that logs in."""
        return self.paths.client_key

    @property
    def public_key(self) -> str:
        """The public host key, as ``known_hosts`` has it."""
        return self.paths.host_key.with_suffix(".pub").read_text().strip()

    @property
    def endpoint(self) -> str:
        """Where clients connect, as ``address:port``."""
        return f"{self.address}:{self.port}"

    @property
    def log_file(self) -> Path:
        """The log that tells why it does not run, or why a login failed."""
        return self.directory / "sshd.log"

    def create_keys(self) -> None:
        """Make its host key and the fleet's client key, unless they are there; under the fleet's lock."""
        self.directory.mkdir(parents=True, exist_ok=True)
        _create_key(self.client_key, "restrack-client")
        _create_key(self.paths.host_key, self.host.name)

    def configure(self) -> None:
        """Write its keys and configuration, and have sshd check them."""
        sshd = install.require_sshd()
        if os.geteuid() == 0:
            # Debian's service makes it, and we are not that service.
            _RUN_DIRECTORY.mkdir(mode=0o755, exist_ok=True)
        config = self.directory / "sshd_config"
        config.write_text(build_config(self.host, self.paths, read_facts(sshd)))
        if self.log_file.exists() and self.log_file.stat().st_size > _MAX_LOG_BYTES:
            self.log_file.replace(self.log_file.with_suffix(".log.1"))
        done = subprocess.run(
            [sshd, "-t", "-f", str(config)], capture_output=True, text=True, timeout=30, check=False
        )
        if done.returncode != 0:
            raise ServiceError(f"{self.label}: sshd refuses {config}\n{done.stderr.strip()}")

    def command(self) -> list[str]:
        """Return the command that runs it in the foreground."""
        config = str(self.directory / "sshd_config")
        return [install.require_sshd(), "-D", "-f", config, "-E", str(self.log_file)]

    def probe(self, timeout_s: float) -> bool:
        """Tell whether it sends its banner."""
        try:
            with socket.create_connection((self.address, self.port), timeout_s) as connection:
                connection.settimeout(timeout_s)
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False


def _create_key(path: Path, comment: str) -> None:
    if path.exists() and path.with_suffix(".pub").exists():
        return
    path.unlink(missing_ok=True)
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise ServiceError(f"no key can be made at {path}: {(done.stderr or done.stdout).strip()}")


class SshdFleet:
    """All hosts of an instance; what is asked of it is asked of each."""

    def __init__(self, directory: Path, hosts: Sequence[SshdHost]) -> None:
        self.directory = directory
        self.hosts = tuple(SshdServer(host, directory) for host in hosts)
        self.client_key = directory / "client_key"
        self.known_hosts = directory / "known_hosts"
        self.user = getpass.getuser()

    @property
    def running(self) -> bool:
        """Whether every host runs."""
        return all(server.running for server in self.hosts)

    def start(self) -> tuple[SshdServer, ...]:
        """Start the hosts that do not run, and return those that this call started."""
        self.write_known_hosts()
        return tuple(server for server in self.hosts if server.start())

    def wait_ready(self, timeout_s: float | None = None) -> None:
        """Wait until every host sends its banner."""
        for server in self.hosts:
            server.wait_ready(timeout_s)

    def stop(self) -> tuple[SshdServer, ...]:
        """Stop every host that runs, its open sessions too, and return those."""
        return tuple(server for server in self.hosts if server.stop())

    def kill(self) -> tuple[SshdServer, ...]:
        """Kill every host that runs, its open sessions too, and return those."""
        return tuple(server for server in self.hosts if server.kill())

    def write_known_hosts(self) -> None:
        """Write the host keys of the fleet, in one step: a client may be reading them."""
        install.require_sshd()
        with locked(self.directory / "lock", f"another process makes the keys in {self.directory}"):
            for server in self.hosts:
                server.create_keys()
            text = build_known_hosts([(server.host, server.public_key) for server in self.hosts])
            partial = self.known_hosts.with_suffix(".partial")
            partial.write_text(text)
            partial.replace(self.known_hosts)
