"""Hosts from a file on the worker: a list or an Ansible inventory, as YAML, JSON or INI."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from airflow_provider_restrack.collect.ansible import list_hosts, parse_ini, parse_tree

if TYPE_CHECKING:
    from pathlib import Path


class _Loader(yaml.SafeLoader):
    """Reads YAML without secrets: what Ansible's vault keeps is not needed here."""


_Loader.add_constructor("!vault", lambda _loader, _node: None)
_Loader.add_constructor("!unsafe", lambda _loader, node: str(node.value))


def read_hosts_file(path: Path) -> list[Any]:
    """Return the hosts of a file, in the forms that ``parse_hosts`` takes.

    ``.yaml``, ``.yml`` and ``.json`` hold a list of hosts or an Ansible inventory; any other name is read as
    an Ansible inventory in INI form.

    :raises ValueError: if it cannot be read; the message names the file.
    """
    try:
        text = path.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise ValueError(f"hosts file {path} cannot be read on this worker: {error}") from error
    if path.suffix not in {".yaml", ".yml", ".json"}:
        return list(list_hosts(parse_ini(text, str(path)), str(path)))
    data = _parse(text, path)
    if isinstance(data, list):
        return data
    if isinstance(data, Mapping):
        return list(list_hosts(parse_tree(data, str(path)), str(path)))
    raise ValueError(f"hosts file {path} holds neither a list of hosts nor an Ansible inventory")


def _parse(text: str, path: Path) -> Any:
    try:
        # The loader is a safe one: it makes no objects.
        return json.loads(text) if path.suffix == ".json" else yaml.load(text, Loader=_Loader)  # noqa: S506
    except yaml.MarkedYAMLError as error:
        # Its own text quotes the line, and there may be a password in it.
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ValueError(f"hosts file {path}, line {line}: {error.problem}") from error
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"hosts file {path} cannot be parsed: {error}") from error
