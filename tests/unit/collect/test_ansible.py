"""Inventories as Ansible users have them; the precedences are those of Ansible's own documentation."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from airflow_provider_restrack.collect.ansible import expand_range, list_hosts, parse_ini, parse_tree

INI = """
# a comment
; another
lonely ansible_host=10.0.0.1

[web]
web[01:03].example.com
front ansible_host=10.0.0.9 ansible_user='ops team'   # the first one
front:2222

[db]
db-[a:c] ansible_port=2200
replica

[db:vars]
ansible_user=dba
ansible_port=22

[prod:children]
web
db

[prod:vars]
ansible_user=deploy
unused = "x"
motd=it's fine
"""

YAML = """
all:
  vars: {ansible_user: everyone}
  hosts:
    lonely:
  children:
    prod:
      vars: {ansible_user: deploy}
      children:
        web:
          hosts:
            web[1:2]:
            front: {ansible_host: 10.0.0.9, ansible_port: 2222}
        db:
          vars: {ansible_user: dba}
          hosts:
            db: {ansible_user: root}
    spare:
"""


def hosts_of(entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {entry.pop("host"): entry for entry in entries}


def test_an_ini_inventory_gives_hosts_with_their_groups_and_variables() -> None:
    found = hosts_of(list_hosts(parse_ini(INI, "hosts"), "hosts"))

    web, db = {"prod": "true", "web": "true"}, {"prod": "true", "db": "true"}
    assert found == {
        "lonely": {"address": "10.0.0.1"},
        "web01.example.com": {"username": "deploy", "labels": web},
        "web02.example.com": {"username": "deploy", "labels": web},
        "web03.example.com": {"username": "deploy", "labels": web},
        "front": {"address": "10.0.0.9", "username": "ops team", "port": "2222", "labels": web},
        "db-a": {"username": "dba", "port": "2200", "labels": db},
        "db-b": {"username": "dba", "port": "2200", "labels": db},
        "db-c": {"username": "dba", "port": "2200", "labels": db},
        "replica": {"username": "dba", "port": "22", "labels": db},
    }


def test_a_yaml_inventory_gives_the_same_and_inner_variables_win() -> None:
    found = hosts_of(list_hosts(parse_tree(yaml.safe_load(YAML), "hosts.yaml"), "hosts.yaml"))

    web, db = {"prod": "true", "web": "true"}, {"prod": "true", "db": "true"}
    assert found == {
        "lonely": {"username": "everyone"},
        "web1": {"username": "deploy", "labels": web},
        "web2": {"username": "deploy", "labels": web},
        "front": {"address": "10.0.0.9", "username": "deploy", "port": 2222, "labels": web},
        "db": {"username": "root", "labels": db},
    }


def test_what_ansible_inventory_prints_is_read() -> None:
    printed = {
        "_meta": {"hostvars": {"a": {"ansible_host": "10.0.0.1"}, "b": {"ansible_user": "ops"}}},
        "all": {"children": ["ungrouped", "web"]},
        "web": {"hosts": ["a", "b"]},
        "short": ["b"],
    }

    found = hosts_of(list_hosts(parse_tree(printed, "x.json"), "x.json"))

    assert found == {
        "a": {"address": "10.0.0.1", "labels": {"web": "true"}},
        "b": {"username": "ops", "labels": {"web": "true", "short": "true"}},
    }


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("web", ["web"]),
        ("web[1:3]", ["web1", "web2", "web3"]),
        ("web[01:10:4].x", ["web01.x", "web05.x", "web09.x"]),
        ("web[098:101]", ["web098", "web099", "web100", "web101"]),
        ("db-[a:c]", ["db-a", "db-b", "db-c"]),
        ("r[1:2]n[a:b]", ["r1na", "r1nb", "r2na", "r2nb"]),
        ("[2001:db8::1]", ["[2001:db8::1]"]),
    ],
)
def test_ranges_are_counted(pattern: str, names: list[str]) -> None:
    assert expand_range(pattern) == names


@pytest.mark.parametrize(
    "pattern", ["web[3:1]", "web[a:10]", "web[1:9:0]", "web[1:200000]", "w[1:999]x[1:999]"]
)
def test_a_range_that_cannot_be_counted_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"range|over 100000"):
        expand_range(pattern)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[web]\nweb1 ansible_host", "hosts, line 2: what follows a host is name=value"),
        ("[web:vars]\nansible_user", "hosts, line 2: a variable is name=value"),
        ("[web:hosts2]\nx", "hosts, line 2: a section is"),
        ("web1 'open", "hosts, line 1: No closing quotation"),
        ("web[9:1]", "hosts, line 1: .* cannot be counted"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_ini(text, "hosts")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"all": "web1"}, "group 'all' is no mapping"),
        ({"all": {"hosts": "web1"}}, "hosts of group 'all' are no mapping"),
        ({"all": {"hosts": {"web1": ["x"]}}}, "host 'web1': its variables"),
        ({"plugin": "aws_ec2"}, "ansible-inventory --list"),
    ],
)
def test_a_tree_that_is_no_inventory_is_refused(data: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_tree(data, "hosts.yaml")


def test_groups_that_contain_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="contains itself"):
        list_hosts(parse_ini("[a:children]\nb\n[b:children]\na\n", "hosts"), "hosts")


def test_a_template_is_refused_with_what_helps() -> None:
    with pytest.raises(ValueError, match=r"host 'a': ansible_host holds a template.*--list"):
        list_hosts(parse_ini("a ansible_host='{{ addr }}'", "hosts"), "hosts")


def test_a_group_that_is_only_named_as_a_child_is_a_group() -> None:
    found = list_hosts(parse_ini("[a]\nx\n[b:children]\na\nempty\n", "hosts"), "hosts")

    assert found == [{"host": "x", "labels": {"b": "true", "a": "true"}}]
