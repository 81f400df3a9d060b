"""Rules from a YAML or JSON file: ``rules`` and, if they are kept beside them, their ``tests``."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from airflow_provider_restrack.alert.rules import RuleError, parse_rules

if TYPE_CHECKING:
    from airflow_provider_restrack.alert.rules import AlertRule

FILE_KEYS = ("rules", "tests")


class _Loader(yaml.SafeLoader):
    """Reads YAML, and refuses a key that stands twice in a mapping: of two ``for`` only one would count."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        for number, (key, _) in enumerate(node.value):
            if key.value in keys[:number] and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value!r} stands twice", key.start_mark
                )
        return super().construct_mapping(node, deep)


def load_rules(name: str, folder: Path | None = None) -> tuple[AlertRule, ...]:
    """Read and check the rules of a file.

    :param name: path of the file; ``~`` is the home of who reads it.
    :param folder: what the path is relative to; None: it has to be absolute.
    :raises RuleError: if it cannot be read, or with every problem of its rules; each names the file.
    """
    path = _find_path(name, folder)
    data = read_rule_file(path)
    try:
        return parse_rules(data["rules"])
    except RuleError as error:
        raise RuleError([f"{path}: {problem}" for problem in error.problems]) from None


def read_rule_file(path: Path) -> Mapping[str, Any]:
    """Return what a file of rules holds: ``rules`` as a list of data, and perhaps ``tests``.

    :raises RuleError: if it cannot be read or has not that form.
    """
    try:
        # The loader is a safe one: it makes no objects. JSON is YAML, too.
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise RuleError([f"rules file {path} cannot be read: {error}"]) from error
    if not isinstance(data, Mapping) or not isinstance(data.get("rules"), list):
        raise RuleError([f"rules file {path} must have a list of rules under the key `rules`"])
    unknown = [key for key in data if key not in FILE_KEYS]
    if unknown:
        raise RuleError([f"rules file {path}: {unknown[0]!r} is not known; allowed: {', '.join(FILE_KEYS)}"])
    return data


def _find_path(name: str, folder: Path | None) -> Path:
    path = Path(name).expanduser()
    if path.is_absolute():
        return path
    if folder is None:
        raise RuleError(
            [
                f"rules file {name!r} is a relative path, and there is no folder that it could be of: "
                "give the whole path"
            ]
        )
    return folder / path
