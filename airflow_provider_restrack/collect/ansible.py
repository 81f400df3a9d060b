"""Hosts of Ansible inventories: INI, YAML, and the JSON that ``ansible-inventory --list`` prints.

What Ansible itself would compute (templates, ``group_vars`` directories, plugins) stays its own: its JSON has
all of that filled in.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_SECTION = re.compile(r"\[(?P<group>[^:\]\s]+)(?::(?P<kind>\w+))?\]\s*(?:#.*)?")
_RANGE = re.compile(r"\[(\w+):(\w+)(?::(\d+))?\]")
_NAME_AND_PORT = re.compile(r"(?P<name>[^:]+):(?P<port>\d+)")
_MAX_HOSTS = 100_000
# The first name wins; the later ones are those of Ansible before 2.0.
_VARIABLES = {
    "address": ("ansible_host", "ansible_ssh_host"),
    "port": ("ansible_port", "ansible_ssh_port"),
    "username": ("ansible_user", "ansible_ssh_user"),
}
# Every host is in one of these: they tell nothing.
_NO_LABELS = frozenset({"all", "ungrouped"})


@dataclass(slots=True)
class Group:
    """A group as it stands: its own hosts with their variables, the groups in it, and its variables."""

    hosts: dict[str, dict[str, Any]] = field(default_factory=dict)
    children: set[str] = field(default_factory=set)
    variables: dict[str, Any] = field(default_factory=dict)


Groups = dict[str, Group]


def parse_ini(text: str, source: str) -> Groups:
    """Read an inventory in Ansible's INI form.

    :param source: the file's name, for messages.
    :raises ValueError: naming the line that cannot be read.
    """
    groups: Groups = {}
    name, kind = "ungrouped", "hosts"
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        section = _SECTION.fullmatch(stripped)
        if section:
            name, kind = section["group"], section["kind"] or "hosts"
            groups.setdefault(name, Group())
            continue
        try:
            _take_line(groups.setdefault(name, Group()), kind, stripped)
        except ValueError as error:
            raise ValueError(f"{source}, line {number}: {error}") from error
    return groups


def parse_tree(data: Mapping[Any, Any], source: str) -> Groups:
    """Read an inventory in Ansible's YAML form, or the JSON of ``ansible-inventory --list``.

    :raises ValueError: naming the group that cannot be read.
    """
    groups: Groups = {}
    if "plugin" in data:
        raise ValueError(
            f"{source} is the configuration of the inventory plugin {data['plugin']!r}: give what"
            " `ansible-inventory --list` prints of it, as a .json file"
        )
    for name, body in data.items():
        if name != "_meta":
            _take_group(groups, str(name), body, source)
    meta = data.get("_meta")
    own = meta.get("hostvars", {}) if isinstance(meta, Mapping) else {}
    for group in groups.values():
        for host, variables in group.hosts.items():
            variables.update(own.get(host, {}))
    return groups


def list_hosts(groups: Groups, source: str) -> list[dict[str, Any]]:
    """Return the hosts of all groups as dicts that ``parse_hosts`` takes, in the order of the file.

    Each group that a host is in, also through another group, is a label with the value ``true``. As in
    Ansible a host's variables win over its groups', and an inner group's over an outer one's.

    :raises ValueError: if groups contain each other, or a variable holds a template.
    """
    levels = _find_levels(groups, source)
    ordered = sorted(groups, key=lambda name: (levels[name], name))
    members = {name: _find_members(groups, name) for name in ordered}
    hosts = dict.fromkeys(host for group in groups.values() for host in group.hosts)
    own: dict[str, dict[str, Any]] = {host: {} for host in hosts}
    for group in groups.values():
        for host, given in group.hosts.items():
            own[host].update(given)
    found = []
    for host in hosts:
        names = [name for name in ordered if host in members[name]]
        # Everybody is in `all`, whether it says so or not.
        outer = ["all"] if "all" in groups else []
        variables: dict[str, Any] = {}
        for name in outer + [name for name in names if name != "all"]:
            variables.update(groups[name].variables)
        found.append(_build_entry(host, variables | own[host], names, source))
    return found


def expand_range(pattern: str) -> list[str]:
    """Return the names of a pattern: ``web[01:03]`` is web01, web02 and web03, ``db-[a:c]`` counts letters.

    :raises ValueError: if a range cannot be counted, or gives more than 100,000 names.
    """
    parts: list[list[str]] = []
    end = 0
    for match in _RANGE.finditer(pattern):
        first, last, step = match.groups()
        parts += [[pattern[end : match.start()]], _count(first, last, step, pattern)]
        end = match.end()
    parts.append([pattern[end:]])
    total = 1
    for part in parts:
        total *= len(part)
    if total > _MAX_HOSTS:
        raise ValueError(f"{pattern!r} are {total} hosts, over {_MAX_HOSTS}")
    return ["".join(choice) for choice in itertools.product(*parts)]


def _count(first: str, last: str, step: str | None, pattern: str) -> list[str]:
    stride = int(step or 1)
    if first.isdecimal() and last.isdecimal() and int(first) <= int(last) and stride > 0:
        width = len(first) if first.startswith("0") else 0
        if (int(last) - int(first)) // stride < _MAX_HOSTS:
            return [str(number).zfill(width) for number in range(int(first), int(last) + 1, stride)]
    elif len(first) == len(last) == 1 and first.isalpha() and last.isalpha() and first <= last and stride > 0:
        return [chr(code) for code in range(ord(first), ord(last) + 1, stride)]
    raise ValueError(f"{pattern!r} has the range {first}:{last}, which cannot be counted")


def _take_line(group: Group, kind: str, line: str) -> None:
    if kind == "children":
        group.children.add(line.partition("#")[0].strip())
    elif kind == "vars":
        name, equals, value = line.partition("=")
        if not equals:
            raise ValueError("a variable is name=value")
        group.variables[name.strip()] = _unquote(value.strip())
    elif kind == "hosts":
        first, *rest = shlex.split(line, comments=True)
        variables = dict(part.partition("=")[::2] for part in rest)
        if not all("=" in part for part in rest):
            raise ValueError("what follows a host is name=value")
        _add_hosts(group, first, variables)
    else:
        raise ValueError(f"a section is [group], [group:vars] or [group:children], not :{kind}")


def _unquote(value: str) -> str:
    """Return a value without its quotes; what they do not close, as in ``it's``, is plain text to Ansible."""
    try:
        words = shlex.split(value, comments=True)
    except ValueError:
        return value
    return words[0] if len(words) == 1 else value


def _add_hosts(group: Group, pattern: str, variables: Mapping[str, Any]) -> None:
    for name in expand_range(pattern):
        port = _NAME_AND_PORT.fullmatch(name)
        host, given = (port["name"], {"ansible_port": port["port"]}) if port else (name, {})
        group.hosts.setdefault(host, {}).update(given | dict(variables))


def _take_group(groups: Groups, name: str, body: Any, source: str) -> None:
    group = groups.setdefault(name, Group())
    if body is None:
        return
    if isinstance(body, list):  # the short form of a script's output
        body = {"hosts": body}
    if not isinstance(body, Mapping):
        raise ValueError(  # noqa: TRY004 - what is wrong is the file
            f"{source}: group {name!r} is no mapping with hosts, children and vars"
        )
    for pattern, variables in _pair(body.get("hosts"), f"{source}: hosts of group {name!r}"):
        if not isinstance(variables, Mapping):
            raise ValueError(  # noqa: TRY004 - what is wrong is the file
                f"{source}: host {pattern!r}: its variables are no mapping"
            )
        _add_hosts(group, pattern, {str(key): value for key, value in variables.items()})
    for child, inner in _pair(body.get("children"), f"{source}: children of group {name!r}"):
        group.children.add(child)
        _take_group(groups, child, inner, source)
    for variable, value in _pair(body.get("vars"), f"{source}: vars of group {name!r}"):
        group.variables[variable] = value


def _pair(value: Any, what: str) -> list[tuple[str, Any]]:
    """Return the entries of a mapping, or those of a list with nothing to say of them."""
    if value is None:
        return []
    if isinstance(value, Mapping):
        return [(str(key), {} if entry is None else entry) for key, entry in value.items()]
    if isinstance(value, list):
        return [(str(entry), {}) for entry in value]
    raise ValueError(f"{what} are no mapping")


def _find_levels(groups: Groups, source: str) -> dict[str, int]:
    """Return how deep each group lies in others."""
    for group in list(groups.values()):
        for child in group.children:
            groups.setdefault(child, Group())
    levels = dict.fromkeys(groups, 0)
    for _ in groups:
        changed = False
        for name, group in groups.items():
            for child in group.children:
                if levels[child] <= levels[name]:
                    levels[child] = levels[name] + 1
                    changed = True
        if not changed:
            return levels
    raise ValueError(f"{source}: a group contains itself through its children")


def _find_members(groups: Groups, name: str) -> set[str]:
    members: set[str] = set()
    waiting = [name]
    while waiting:
        group = groups[waiting.pop()]
        members |= group.hosts.keys()
        waiting += group.children
    return members


def _build_entry(
    host: str, variables: Mapping[str, Any], names: Iterable[str], source: str
) -> dict[str, Any]:
    entry: dict[str, Any] = {"host": host}
    for key, variants in _VARIABLES.items():
        value = next((variables[variant] for variant in variants if variables.get(variant)), None)
        if isinstance(value, str) and "{{" in value:
            raise ValueError(
                f"{source}: host {host!r}: {variants[0]} holds a template, which only Ansible can fill in:"
                " give what `ansible-inventory --list` prints, as a .json file"
            )
        if value is not None:
            entry[key] = value
    labels = {name: "true" for name in names if name not in _NO_LABELS}
    return {**entry, "labels": labels} if labels else entry
