from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from services import ServiceError, install

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

JAVA_17 = """echo 'openjdk version "17.0.15" 2025-04-15' >&2"""
JAVA_21 = """echo 'openjdk version "21.0.2" 2024-01-16' >&2"""
# Records its call, and writes a jar where dependency:copy-dependencies would.
MAVEN = """
echo "$@" >> "$CALLS"
for argument; do case "$argument" in -DoutputDirectory=*) out="${argument#*=}";; esac; done
: > "$out/server.jar"
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """A maker of shell scripts that are all the programs there are."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(install, "_JVM_HOME", tmp_path / "jvm")
    monkeypatch.setattr(install, "_SSHD_PLACES", ())

    def make(name: str, script: str) -> None:
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return make


@pytest.fixture
def not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def count_calls(tmp_path: Path) -> int:
    calls = tmp_path / "calls"
    return len(calls.read_text().splitlines()) if calls.exists() else 0


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_412"', 8),
        ('Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version "21" 2023-09-19', 21),
        ("Error: could not find libjava.so", None),
    ],
)
def test_the_version_of_java_is_read_from_what_it_prints(text: str, version: int | None) -> None:
    assert install.parse_java_version(text) == version


def test_a_java_of_the_wrong_version_on_the_path_is_passed_over(
    program: Callable[[str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program("java", JAVA_21)
    home = tmp_path / "jvm" / "java-17-openjdk-amd64"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "java").write_text(f"#!/bin/sh\n{JAVA_17}\n")
    (home / "bin" / "java").chmod(0o755)

    assert install.require_java() == str(home / "bin" / "java")


@pytest.mark.usefixtures("not_root")
def test_without_a_fitting_java_the_error_says_which_and_how(program: Callable[[str, str], None]) -> None:
    program("java", JAVA_21)
    command = "sudo apt-get update && sudo apt-get install -y --no-install-recommends openjdk-17-jdk-headless"

    with pytest.raises(ServiceError, match=f"Cassandra 5.0 11 or 17; run: {command}"):
        install.require_java()


@pytest.mark.usefixtures("not_root", "program")
def test_without_sshd_the_error_gives_the_command() -> None:
    command = "sudo apt-get update && sudo apt-get install -y --no-install-recommends openssh-server"

    with pytest.raises(ServiceError, match=f"sshd is not found.*; run: {command}"):
        install.require_sshd()


@pytest.mark.usefixtures("root")
def test_root_gets_the_package_installed_after_the_lists_are_refreshed(
    program: Callable[[str, str], None], tmp_path: Path
) -> None:
    sshd = tmp_path / "bin" / "sshd"
    program("apt-get", f'echo "$@" >> "$CALLS"; : > {sshd}; /bin/chmod 755 {sshd}')

    assert install.require_sshd() == str(sshd)
    assert (tmp_path / "calls").read_text() == "update\ninstall -y --no-install-recommends openssh-server\n"


@pytest.mark.usefixtures("root")
def test_a_failed_installation_shows_what_apt_said(program: Callable[[str, str], None]) -> None:
    program("apt-get", "echo 'E: Unable to locate package' >&2; exit 100")

    with pytest.raises(ServiceError, match=r"run: sudo apt-get update[^\n]*\nE: Unable to locate package"):
        install.require_maven()


@pytest.fixture
def maven(program: Callable[[str, str], None]) -> None:
    program("java", JAVA_17)
    program("mvn", MAVEN)


@pytest.mark.usefixtures("maven")
def test_jars_are_downloaded_once(tmp_path: Path) -> None:
    first = install.require_jars("kafka", "4.3.1", tmp_path / "jars")
    second = install.require_jars("kafka", "4.3.1", tmp_path / "jars")

    assert first == second == tmp_path / "jars" / "kafka-4.3.1"
    assert (first / "server.jar").exists()
    assert count_calls(tmp_path) == 1


@pytest.mark.usefixtures("maven")
def test_another_version_has_a_directory_of_its_own(tmp_path: Path) -> None:
    jars = {install.require_jars("kafka", version, tmp_path / "jars") for version in ("4.3.1", "4.4.0")}

    assert len(jars) == count_calls(tmp_path) == 2
    assert "-Dserver.version=4.4.0" in (tmp_path / "calls").read_text()


@pytest.mark.usefixtures("maven")
@pytest.mark.parametrize("leftover", ["kafka-4.3.1", "kafka-4.3.1.partial"])
def test_what_an_interrupted_download_left_is_thrown_away(tmp_path: Path, leftover: str) -> None:
    (tmp_path / "jars" / leftover).mkdir(parents=True)
    (tmp_path / "jars" / leftover / "half.jar").touch()
    found = install.require_jars("kafka", "4.3.1", tmp_path / "jars")

    assert [path.name for path in found.glob("*.jar")] == ["server.jar"]
    assert not (tmp_path / "jars" / "kafka-4.3.1.partial").exists()


@pytest.mark.usefixtures("maven")
def test_a_changed_pom_is_downloaded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "POMS", tmp_path)
    for text in ("<project/>", "<project>changed</project>"):
        (tmp_path / "kafka-pom.xml").write_text(text)
        install.require_jars("kafka", "4.3.1", tmp_path / "jars")

    assert count_calls(tmp_path) == 2


def test_a_failed_download_is_not_taken_for_complete(
    program: Callable[[str, str], None], tmp_path: Path
) -> None:
    program("java", JAVA_17)
    program("mvn", "echo 'Could not transfer artifact'; exit 1")
    with pytest.raises(ServiceError, match=r"kafka-4\.3\.1 failed.*\nCould not transfer artifact"):
        install.require_jars("kafka", "4.3.1", tmp_path / "jars")

    program("mvn", MAVEN)
    assert (install.require_jars("kafka", "4.3.1", tmp_path / "jars") / "server.jar").exists()
