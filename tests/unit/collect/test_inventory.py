"""Hosts as authors write them, and what is refused at once."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from airflow_provider_restrack.collect.inventory import Target, chunk_hosts, parse_hosts, parse_labels

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        pytest.param("db-01", Target("db-01", "db-01"), id="name"),
        pytest.param("ops@db-01:2222", Target("db-01", "db-01", 2222, "ops"), id="user-and-port"),
        pytest.param("a@corp@db-01", None, id="user-with-at"),
        pytest.param("10.0.0.7", Target("10.0.0.7", "10.0.0.7"), id="v4"),
        pytest.param("::1", Target("::1", "::1"), id="bare-v6"),
        pytest.param("ops@fe80::1%eth0", Target("fe80::1%eth0", "fe80::1%eth0", None, "ops"), id="v6-zone"),
        pytest.param("[2001:db8::1]:22", Target("2001:db8::1", "2001:db8::1", 22), id="bracketed-v6"),
        pytest.param("[2001:db8::1]", Target("2001:db8::1", "2001:db8::1"), id="bracketed-v6-without-port"),
        pytest.param({"host": "db"}, Target("db", "db"), id="dict-with-name"),
        pytest.param({"host": "ops@db:23"}, Target("db", "db", 23, "ops"), id="dict-with-login-as-name"),
        pytest.param(
            {
                "host": "db",
                "address": "10.0.0.5",
                "port": "2201",
                "username": "ops",
                "labels": {"rack": 7},
                "ssh_conn_id": "ssh_db",
            },
            Target("db", "10.0.0.5", 2201, "ops", {"rack": "7"}, "ssh_db"),
            id="dict-with-all",
        ),
        pytest.param(
            {"host": "db", "address": "ops@h:1", "port": 2}, Target("db", "h", 2, "ops"), id="key-wins"
        ),
    ],
)
def test_each_form_of_a_host_is_read(entry: object, expected: Target | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="username 'a@corp'"):
            parse_hosts([entry])
    else:
        assert parse_hosts([entry]) == (expected,)


@pytest.mark.parametrize(
    "hosts",
    [
        pytest.param(["a", "b"], id="list"),
        pytest.param(("a", "b"), id="tuple"),
        pytest.param([["a"], ["b"]], id="lists-of-a-mapped-task"),
        pytest.param("[['a'], ['b']]", id="text-of-lists-of-a-mapped-task"),
        pytest.param("a, b", id="commas"),
        pytest.param("a\nb,\n", id="lines"),
        pytest.param('["a", "b"]', id="json"),
        pytest.param("['a', 'b']", id="python-list-of-a-template"),
        pytest.param("[{'host': 'a'}, 'b']", id="python-dicts-of-a-template"),
        pytest.param((name for name in "ab"), id="iterable"),
    ],
)
def test_each_form_of_a_list_is_read(hosts: object) -> None:
    assert [target.host for target in parse_hosts(hosts)] == ["a", "b"]


def test_text_that_opens_like_a_list_can_be_an_address() -> None:
    assert parse_hosts("[::1]:22, ops@[::2]:23") == (
        Target("::1", "::1", 22),
        Target("::2", "::2", 23, "ops"),
    )


def test_one_dict_is_one_host() -> None:
    assert [target.host for target in parse_hosts({"host": "a"})] == ["a"]


def test_labels_of_a_host_win_over_those_of_all() -> None:
    hosts = ["a", {"host": "b", "labels": {"env": "test"}}]

    targets = parse_hosts(hosts, labels={"env": "prod", "rack": 7})

    assert targets[0].labels == {"env": "prod", "rack": "7"}
    assert targets[1].labels == {"env": "test", "rack": "7"}


@pytest.mark.parametrize(
    ("hosts", "message"),
    [
        pytest.param([], "hosts is empty", id="no-host"),
        pytest.param("", "hosts is empty", id="no-text"),
        pytest.param(" , ", "hosts is empty", id="only-commas"),
        pytest.param("[]", "hosts is empty", id="empty-json"),
        pytest.param("None", "rendered to 'None'", id="template-of-nothing"),
        pytest.param(7, "not int", id="number"),
        pytest.param(b"a", "not bytes", id="bytes"),
        pytest.param([7], "host 7: a host is text or a dict", id="number-as-host"),
        pytest.param([""], "host ''", id="empty-name"),
        pytest.param(["a b"], "'a b' is no host name", id="blank"),
        pytest.param(["-oProxyCommand=x"], "is no host name", id="option"),
        pytest.param(["-x@a"], "username '-x'", id="option-as-user"),
        pytest.param(["a:0"], "port '0'", id="port-zero"),
        pytest.param(["a:65536"], "port '65536'", id="port-too-high"),
        pytest.param(["a:ssh"], "port 'ssh'", id="port-name"),
        pytest.param(["a:"], "port ''", id="port-empty"),
        pytest.param(["1:2:3"], "no IPv6 address", id="half-v6"),
        pytest.param(["[a]:22"], "no IPv6 address", id="bracketed-name"),
        pytest.param([{"address": "a"}], "lacks `host`", id="no-name"),
        pytest.param([{"host": "a", "user": "x"}], "unknown key 'user'", id="unknown-key"),
        pytest.param([{"host": "a", "port": True}], "port True", id="truth-as-port"),
        pytest.param(
            [{"host": "a", "labels": ["x"]}], "labels of host 'a' must be a mapping", id="labels-list"
        ),
        pytest.param([{"host": "a", "labels": {"x": None}}], "'x': None is no label", id="label-none"),
        pytest.param([{"host": "a", "ssh_conn_id": ""}], "ssh_conn_id ''", id="no-connection-id"),
        pytest.param([{"host": " a", "address": "b"}], "' a' is no host name", id="blank-at-the-end"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(hosts: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_hosts(hosts)


@pytest.mark.parametrize(
    "host", [{"host": "a", "password": "hunter2"}, "ops:hunter2@a", {"host": "a", "address": "ops:hunter2@b"}]
)
def test_a_password_among_the_hosts_is_refused_and_not_repeated(host: object) -> None:
    with pytest.raises(ValueError, match=r"host '[ab]'") as caught:
        parse_hosts([host])

    assert "hunter2" not in str(caught.value)


def test_a_host_given_twice_is_named_with_both_addresses() -> None:
    with pytest.raises(
        ValueError, match=r"'127.0.0.1' is given twice \(127.0.0.1 port 1 and 127.0.0.1 port 2\)"
    ):
        parse_hosts(["127.0.0.1:1", "127.0.0.1:2"])


def test_labels_can_be_the_text_of_a_template() -> None:
    assert parse_labels('{"rack": "7"}', "labels") == {"rack": "7"}


def test_labels_that_are_no_mapping_are_refused() -> None:
    with pytest.raises(ValueError, match="labels must be a mapping"):
        parse_labels("rack=7", "labels")


@pytest.mark.parametrize("prefix", ["file:", "file://", "  file:"])
def test_a_file_of_hosts_is_read(tmp_path: Path, prefix: str) -> None:
    path = tmp_path / "hosts.ini"
    path.write_text("[web]\nweb[1:2] ansible_user=ops\n")

    targets = parse_hosts(f"{prefix}{path}", labels={"site": "north"})

    labels = {"site": "north", "web": "true"}
    assert targets == (
        Target("web1", "web1", None, "ops", labels),
        Target("web2", "web2", None, "ops", labels),
    )


def test_chunks_hold_all_hosts_in_order_and_none_is_larger_than_asked() -> None:
    hosts = ["a", "ops@b:2222", {"host": "c", "address": "10.0.0.1", "labels": {"x": "1"}}, "::1", "e"]

    chunks = chunk_hosts(hosts, 2)

    assert [len(chunk) for chunk in chunks] == [2, 2, 1]
    assert json.loads(json.dumps(chunks)) == chunks
    assert sum((parse_hosts(chunk) for chunk in chunks), ()) == parse_hosts(hosts)


def test_a_host_in_two_chunks_is_refused() -> None:
    with pytest.raises(ValueError, match="'a' is given twice"):
        chunk_hosts(["a", "b", "a"], 2)


def test_a_chunk_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="size is 0"):
        chunk_hosts(["a"], 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("12", "a number or a truth value", id="number"),
        pytest.param("-1.5e3", "a number or a truth value", id="float"),
        pytest.param("True", "a number or a truth value", id="truth"),
        pytest.param('["web-1", "secret"', "Expecting ',' delimiter, line 1, column 19", id="cut-list"),
        pytest.param('{"host": secret}', "Expecting value, line 1, column 10", id="no-json"),
        pytest.param("(secret", "begins with '('", id="cut-tuple"),
    ],
)
def test_text_of_a_variable_that_is_no_list_is_refused_and_not_repeated(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        parse_hosts(text)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["10.0.0.1", "[::1]:22, [::2]:22", "10.0.0.1,10.0.0.2", "1and1.example"])
def test_addresses_are_no_such_text(text: str) -> None:
    assert [target.address for target in parse_hosts(text)]
