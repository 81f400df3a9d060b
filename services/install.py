"""What the servers need from elsewhere: Java, Maven and sshd from packages, jars from Maven Central."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from services.errors import ServiceError
from services.server import locked

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("services")

JAVA_VERSION = 17
JAVA_PACKAGE = "openjdk-17-jdk-headless"
MAVEN_PACKAGE = "maven"
SSHD_PACKAGE = "openssh-server"
POMS = Path(__file__).resolve().parent
_JVM_HOME = Path("/usr/lib/jvm")
_SSHD_PLACES = ("/usr/sbin", "/usr/local/sbin", "/sbin")
_MAVEN_LIMIT_S = 900


def require_java() -> str:
    """Return the path of a Java 17, installed if need be.

    :raises ServiceError: with the command to run, if there is none and it cannot be installed.
    """
    found = find_java()
    if found is None:
        install_package(
            JAVA_PACKAGE,
            f"no Java {JAVA_VERSION} is found: Kafka 4 needs 17 or newer, Cassandra 5.0 11 or 17",
        )
        found = find_java()
    if found is None:
        raise ServiceError(
            f"{JAVA_PACKAGE} is installed, yet no Java {JAVA_VERSION} is found: set JAVA_HOME to it"
        )
    return found


def find_java() -> str | None:
    """Return the first Java 17 of ``JAVA_HOME``, the path and Debian's place for others, or None."""
    for candidate in _java_candidates():
        if read_java_version(candidate) == JAVA_VERSION:
            return candidate
    return None


def _java_candidates() -> Iterator[str]:
    if java_home := os.environ.get("JAVA_HOME"):
        yield str(Path(java_home) / "bin" / "java")
    if on_path := shutil.which("java"):
        yield on_path
    yield from sorted(str(home / "bin" / "java") for home in _JVM_HOME.glob(f"*{JAVA_VERSION}*"))


def read_java_version(java: str) -> int | None:
    """Return the major version of a Java, or None if it does not run."""
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return None
    return parse_java_version(done.stderr)


def parse_java_version(text: str) -> int | None:
    """Return the major version from what ``java -version`` prints; Java 8 calls itself 1.8."""
    found = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(found.group(1)) if found else None


def require_sshd() -> str:
    """Return the absolute path of sshd, installed if need be.

    :raises ServiceError: with the command to run, if there is none and it cannot be installed.
    """
    return _require_program("sshd", SSHD_PACKAGE, "sshd is not found: it stands for the hosts of the fleet")


def require_maven() -> str:
    """Return the path of Maven, installed if need be; only a download of jars needs it.

    :raises ServiceError: with the command to run, if there is none and it cannot be installed.
    """
    return _require_program("mvn", MAVEN_PACKAGE, "Maven is not found: it downloads Kafka and Cassandra")


def require_busybox() -> str:
    """Return the path of busybox, installed if need be.

    :raises ServiceError: with the command to run, if there is none and it cannot be installed.
    """
    return _require_program("busybox", "busybox", "busybox is not found: it stands for hosts without Python")


def require_iostat() -> str:
    """Return the path of iostat, installed if need be.

    :raises ServiceError: with the command to run, if there is none and it cannot be installed.
    """
    return _require_program(
        "iostat", "sysstat", "iostat is not found: the disks' figures are checked with it"
    )


def require_promtool() -> str:
    """Return the path of promtool, installed if need be.

    :raises ServiceError: with the command to run, if that is not possible.
    """
    return _require_program(
        "promtool", "prometheus", "promtool is not found: rules and formulas are compared with Prometheus"
    )


def require_chromium() -> str:
    """Return the path of Chromium, installed if need be.

    :raises ServiceError: with the command to run, if there is none and it cannot be installed.
    """
    return _require_program("chromium", "chromium", "Chromium is not found: reports are looked at with it")


def _require_program(program: str, package: str, reason: str) -> str:
    # The directories of system programs are not on an ordinary user's path in Debian.
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SSHD_PLACES))
    found = shutil.which(program, path=path)
    if found is None:
        install_package(package, reason)
        found = shutil.which(program, path=path)
    if found is None:
        raise ServiceError(f"{package} is installed, yet {program} is not on the path")
    return found


def install_package(package: str, reason: str) -> None:
    """Install a Debian package if we are root.

    :raises ServiceError: with the command to run, if we are not, there is no apt-get, or it fails.
    """
    install = ["apt-get", "install", "-y", "--no-install-recommends", package]
    remedy = f"run: sudo apt-get update && sudo {' '.join(install)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ServiceError(f"{reason}; {remedy}")
    log.info("%s; installing the package %s", reason, package)
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update"], install):
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        # A list that cannot be refreshed matters only if the package is then not found.
        if done.returncode != 0 and command is install:
            last = "\n".join((done.stderr or done.stdout).splitlines()[-5:])
            raise ServiceError(f"{reason}; its installation failed, {remedy}\n{last}")


def require_jars(server: str, version: str, jars: Path) -> Path:
    """Return the directory of a server's jars, downloaded from Maven Central if need be.

    The download goes into a directory of its own that is renamed at the end and marked complete last:
    whatever an interruption leaves behind is thrown away and fetched anew, as it is if the pom changes.

    :param server: ``kafka`` or ``cassandra``: the name of the pom.
    :param jars: the directory that all instances share.
    :raises ServiceError: with the end of Maven's output, if it fails.
    """
    pom = POMS / f"{server}-pom.xml"
    target = jars / f"{server}-{version}"
    wanted = hashlib.sha256(pom.read_bytes()).hexdigest()
    if is_complete(target, wanted):
        return target
    with locked(jars / f"{server}.lock", f"another process downloads {server}"):
        if not is_complete(target, wanted):
            _download(pom, target, wanted, version)
    return target


def is_complete(target: Path, wanted: str) -> bool:
    """Tell whether a directory of jars was downloaded to its end from the pom with this digest."""
    try:
        return (target / "complete").read_text() == wanted
    except FileNotFoundError:
        return False


def _download(pom: Path, target: Path, digest: str, version: str) -> None:
    partial = target.with_name(target.name + ".partial")
    for leftover in (partial, target):
        shutil.rmtree(leftover, ignore_errors=True)
    log.info("downloading the jars of %s into %s (about a minute, once)", target.name, target)
    # Maven writes a target directory beside the pom unless it works on a copy.
    partial.mkdir(parents=True)
    copy = shutil.copy(pom, partial / "pom.xml")
    command = [require_maven(), "-q", "-B", "-f", str(copy), f"-Dserver.version={version}"]
    command += ["dependency:copy-dependencies", f"-DoutputDirectory={partial}"]
    env = {**os.environ, "JAVA_HOME": str(Path(require_java()).resolve().parent.parent)}
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=_MAVEN_LIMIT_S, check=False
    )
    if done.returncode != 0 or not any(partial.glob("*.jar")):
        last = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise ServiceError(f"the download of {target.name} failed (is Maven Central reachable?)\n{last}")
    partial.rename(target)
    (target / "complete").write_text(digest)
    log.info("%s: %d jars", target.name, len(list(target.glob("*.jar"))))
