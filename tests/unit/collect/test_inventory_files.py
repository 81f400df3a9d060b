"""Files of hosts by their suffix, and what is said of those that cannot be read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from airflow_provider_restrack.collect.inventory_files import read_hosts_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hosts.json", '["a", {"host": "b", "port": 2222}]'),
        ("hosts.yaml", "- a\n- {host: b, port: 2222}\n"),
        ("hosts.yml", "# hosts\n- a\n- host: b\n  port: 2222\n"),
    ],
)
def test_a_list_is_taken_as_it_is(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)

    assert read_hosts_file(path) == ["a", {"host": "b", "port": 2222}]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hosts", "[web]\na ansible_port=22\n"),
        ("hosts.ini", "[web]\na ansible_port=22\n"),
        ("hosts.yaml", "web: {hosts: {a: {ansible_port: '22'}}}"),
        ("hosts.json", json.dumps({"web": {"hosts": ["a"], "vars": {"ansible_port": "22"}}})),
    ],
)
def test_an_ansible_inventory_is_known_by_its_form(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)

    assert read_hosts_file(path) == [{"host": "a", "port": "22", "labels": {"web": "true"}}]


def test_secrets_of_ansibles_vault_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_text(
        "all:\n  vars:\n    ansible_password: !vault |\n      $ANSIBLE_VAULT;1.1;AES256\n      6162\n"
        "  hosts: {a: {ansible_user: !unsafe ops}}\n"
    )

    assert read_hosts_file(path) == [{"host": "a", "username": "ops"}]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("hosts.json", "[", "cannot be parsed"),
        ("hosts.json", "7", "neither a list of hosts nor an Ansible inventory"),
        ("hosts.yaml", "a: [", "line 1"),
        ("hosts.yaml", "!!python/object/apply:os.system [id]", "could not determine a constructor"),
        ("hosts.yaml", "", "neither a list"),
        ("hosts.ini", "a b", "what follows a host"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(text)

    with pytest.raises(ValueError, match=said) as caught:
        read_hosts_file(path)

    assert str(path) in str(caught.value)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.yaml cannot be read on this worker"):
        read_hosts_file(tmp_path / "none.yaml")


def test_a_password_in_a_broken_file_is_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_text("all: {vars: {ansible_password: hunter2, x: [}}")

    with pytest.raises(ValueError, match="line 1") as caught:
        read_hosts_file(path)

    assert "hunter2" not in str(caught.value)
