"""Hosts as DAG authors write them, turned into targets: every form is parsed here, once, before anything
connects.
"""

from __future__ import annotations

import ast
import ipaddress
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_FILE = "file:"
_V4_DOTS = 3
_DICT_KEYS = frozenset({"host", "address", "port", "username", "labels", "ssh_conn_id"})
# A leading dash would be read as an option by the command of a ProxyCommand.
_ADDRESS = re.compile(r"(?!-)[\w.:%-]{1,255}")
_USERNAME = re.compile(r"(?![-])[^\s@:]{1,255}")
_BRACKETED = re.compile(r"\[(?P<address>[^\[\]]+)\](?::(?P<port>[^:]*))?")


@dataclass(frozen=True, slots=True)
class Target:
    """One host to collect from.

    ``host`` is the name that its samples carry; ``address`` is what is connected to. What is ``None`` comes
    from the SSH connection.
    """

    host: str
    address: str
    port: int | None = None
    username: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    ssh_conn_id: str | None = None


def parse_hosts(hosts: Any, *, labels: Mapping[str, Any] | None = None) -> tuple[Target, ...]:
    """Turn ``hosts`` into targets.

    :param hosts: a list of names, ``user@host:port``, ``[v6]:port``, bare IPv6 addresses or dicts (``host``,
        and optionally ``address``, ``port``, ``username``, ``labels``, ``ssh_conn_id``); or the text of such
        a list as a template renders it: JSON, a Python list, or names separated by commas; or
        ``file:PATH``, a file of hosts or an Ansible inventory (see ``read_hosts_file``).
    :param labels: labels of every host; a host's own labels win.
    :raises ValueError: if there is no host, one is given twice, or one cannot be read; the message names it.
    """
    shared = parse_labels(labels, "labels")
    targets = tuple(_parse_entry(entry, shared) for entry in _list_entries(hosts))
    if not targets:
        raise ValueError("hosts is empty: give at least one host, or leave hosts out to collect this machine")
    _refuse_duplicates(targets)
    return targets


def parse_host_names(value: Any) -> list[str]:
    """Return the names that samples carry, of hosts in any form that :func:`parse_hosts` takes.

    :raises ValueError: as ``parse_hosts``.
    """
    return [target.host for target in parse_hosts(value)]


def is_file(hosts: Any) -> bool:
    """Whether ``hosts`` names a file, which is read where the task runs and not when a DAG file is parsed."""
    return isinstance(hosts, str) and hosts.strip().startswith(_FILE)


def chunk_hosts(hosts: Any, size: int) -> list[list[Any]]:
    """Split ``hosts``, in any form that ``parse_hosts`` takes, into lists of at most ``size``, for
    ``.expand``.

    All are checked together: one that two chunks would share is refused.

    :raises ValueError: as ``parse_hosts``, or if ``size`` is below 1.
    """
    if size < 1:
        raise ValueError(f"size is {size!r}: give how many hosts a chunk has at most")
    entries = [_build_entry(target) for target in parse_hosts(hosts)]
    return [entries[start : start + size] for start in range(0, len(entries), size)]


def _build_entry(target: Target) -> str | dict[str, Any]:
    """Return a target as authors write it, which XCom can carry."""
    given = {name: getattr(target, name) for name in ("port", "username", "ssh_conn_id")}
    entry = {name: value for name, value in given.items() if value is not None}
    if target.labels:
        entry["labels"] = dict(target.labels)
    if target.address != target.host:
        entry["address"] = target.address
    return {"host": target.host, **entry} if entry else target.host


def parse_labels(labels: Any, what: str) -> dict[str, str]:
    """Return labels as text by text.

    :raises ValueError: if they are no mapping of names to plain values.
    """
    read = _read_text(labels) if isinstance(labels, str) else labels
    if read is None:
        return {}
    if isinstance(read, Mapping):
        return {_check_label(name, value, what): str(value) for name, value in read.items()}
    raise ValueError(f"{what} must be a mapping of names to values, not {type(labels).__name__}")


def _check_label(name: Any, value: Any, what: str) -> str:
    if isinstance(name, str) and name and isinstance(value, str | int | float):
        return name
    raise ValueError(f"{what}: {name!r}: {value!r} is no label: names are text, values text or numbers")


def _list_entries(hosts: Any) -> list[Any]:
    if isinstance(hosts, str):
        hosts = _read_file(hosts) if is_file(hosts) else _split_text(hosts)
    if isinstance(hosts, Mapping):
        return [hosts]
    if isinstance(hosts, Iterable) and not isinstance(hosts, bytes):
        # A mapped upstream task gives a list of lists.
        return [part for entry in hosts for part in (entry if isinstance(entry, list | tuple) else (entry,))]
    raise ValueError(f"hosts must be a list of names or dicts, or their text, not {type(hosts).__name__}")


def _read_file(text: str) -> list[Any]:
    # Not at the top: it comes with a parser of YAML, and most DAG files name no file.
    from airflow_provider_restrack.collect.inventory_files import read_hosts_file

    return read_hosts_file(Path(text.strip().removeprefix(_FILE).removeprefix("//")))


def _split_text(text: str) -> Any:
    stripped = text.strip()
    if stripped in {"None", "null"}:
        raise ValueError(f"hosts was rendered to {stripped!r}: the upstream task or parameter gave no hosts")
    value = _read_text(stripped)
    if isinstance(value, Mapping | list | tuple):
        return value
    _refuse_rubble(stripped)
    return [part.strip() for part in re.split(r"[,\n]", stripped) if part.strip()]


def _refuse_rubble(text: str) -> None:
    """Refuse what is neither names nor a list: a Variable or an upstream task with something else in it.

    The message does not repeat it, for there may be a password in it.
    """
    is_number = re.fullmatch(r"-?[\d.]+(?:e[+-]?\d+)?", text) is not None and text.count(".") < _V4_DOTS
    if is_number or text in {"True", "False", "true", "false"}:
        raise ValueError(
            "hosts was rendered to a number or a truth value: the Variable, upstream task or parameter has to"
            " hold a list of hosts, or their names separated by commas"
        )
    if text.startswith(("{", "(")) or (text.startswith("[") and not _BRACKETED.match(text)):
        raise ValueError(
            f"hosts begins with {text[0]!r} and is neither JSON nor a Python list ({_locate_fault(text)}):"
            " mend the Variable, upstream task or parameter that it comes from"
        )


def _locate_fault(text: str) -> str:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return f"{error.msg}, line {error.lineno}, column {error.colno}"
    except (ValueError, RecursionError) as error:
        return type(error).__name__
    return "no list"


def _read_text(text: str) -> Any:
    """Read JSON, or the Python form that a template renders a list to; what is neither stays text.

    ``[::1]:22`` opens like a list and is none, so failing to read it is no error.
    """
    if not text.lstrip().startswith(("[", "{", "(")):
        return text
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text


def _parse_entry(entry: Any, shared: Mapping[str, str]) -> Target:
    if isinstance(entry, str):
        username, address, port = _parse_spec(entry)
        return Target(host=address, address=address, port=port, username=username, labels=dict(shared))
    if isinstance(entry, Mapping):
        return _parse_mapping(entry, shared)
    raise ValueError(f"host {entry!r}: a host is text or a dict, not {type(entry).__name__}")


def _parse_mapping(entry: Mapping[Any, Any], shared: Mapping[str, str]) -> Target:
    # Messages go to logs, and the value of a key that is not known may be a password.
    name = entry.get("host")
    unknown = sorted(str(key) for key in entry if key not in _DICT_KEYS)
    if unknown:
        raise ValueError(f"host {name!r}: unknown key {unknown[0]!r}; known are {sorted(_DICT_KEYS)}")
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"host {dict(entry)!r}: lacks `host`, the name that its samples carry")
    username, address, port = _parse_spec(entry.get("address") or name)
    has_address = bool(entry.get("address"))
    own_labels = parse_labels(entry.get("labels"), f"labels of host {name!r}")
    return Target(
        host=_check_name(name) if has_address else address,
        address=address,
        port=port if entry.get("port") is None else _parse_port(entry["port"], name),
        username=username if entry.get("username") is None else _check_username(entry["username"], name),
        labels={**shared, **own_labels},
        ssh_conn_id=_check_conn_id(entry.get("ssh_conn_id"), name),
    )


def _parse_spec(spec: Any) -> tuple[str | None, str, int | None]:
    """Split ``user@host:port``, ``[v6]:port`` or a bare IPv6 address into user, address and port."""
    if not isinstance(spec, str) or not spec.strip():
        raise ValueError(f"host {spec!r}: an address is text such as name, user@host:port or [v6]:port")
    login, at, rest = spec.strip().rpartition("@")
    if ":" in login:
        raise ValueError(
            f"host {rest!r}: the login before @ has a colon: passwords belong in the SSH connection"
        )
    username = _check_username(login, spec) if at else None
    bracketed = _BRACKETED.fullmatch(rest)
    if bracketed:
        address = _check_v6(bracketed["address"], spec)
        port = bracketed["port"]
        return username, address, None if port is None else _parse_port(port, spec)
    if rest.count(":") > 1:
        return username, _check_v6(rest, spec), None
    address, colon, port = rest.partition(":")
    if not _ADDRESS.fullmatch(address):
        raise ValueError(f"host {spec!r} is no host name or address: write name, user@host:port or [v6]:port")
    return username, address, _parse_port(port, spec) if colon else None


def _check_v6(address: str, spec: str) -> str:
    try:
        ipaddress.IPv6Address(address)
    except ValueError as error:
        raise ValueError(f"host {spec!r}: {address!r} is no IPv6 address: {error}") from error
    return address


def _parse_port(port: Any, host: str) -> int:
    number = int(port) if isinstance(port, str) and port.isascii() and port.isdigit() else port
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= 65535:
        raise ValueError(f"host {host!r}: port {port!r} is no port: give a number from 1 to 65535")
    return number


def _check_username(username: Any, host: str) -> str:
    if not isinstance(username, str) or not _USERNAME.fullmatch(username):
        raise ValueError(f"host {host!r}: username {username!r} is no login name")
    return username


def _check_conn_id(conn_id: Any, host: str) -> str | None:
    if conn_id is not None and (not isinstance(conn_id, str) or not conn_id):
        raise ValueError(f"host {host!r}: ssh_conn_id {conn_id!r} is no connection id")
    return conn_id


def _check_name(name: str) -> str:
    if not name.isprintable() or name != name.strip() or len(name) > 255:
        raise ValueError(
            f"host {name!r} is no host name: at most 255 printable characters, no blank at the ends"
        )
    return name


def _refuse_duplicates(targets: tuple[Target, ...]) -> None:
    seen: dict[str, Target] = {}
    for target in targets:
        first = seen.setdefault(target.host, target)
        if first is not target:
            raise ValueError(
                f"host {target.host!r} is given twice ({_locate(first)} and {_locate(target)}): samples are"
                " told apart by host, so give each a name: {'host': name, 'address': …, 'port': …}"
            )


def _locate(target: Target) -> str:
    return target.address if target.port is None else f"{target.address} port {target.port}"
