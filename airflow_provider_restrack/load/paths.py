"""Finds fields by dotted names such as ``cpu.user`` in nested objects, and brings them into one flat object.

Typed decoding reads a record's own keys in one pass; only a load that takes dotted names pays for this one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from airflow_provider_restrack.load.coerce import raw_fields
from airflow_provider_restrack.load.errors import ConfigurationError, RejectError

if TYPE_CHECKING:
    from collections.abc import Mapping

    Path = tuple[str, ...]

_DOT = re.compile(r"(?<!\\)\.")


def split_name(name: str) -> Path:
    r"""Return the keys that a field's name leads through; ``\.`` is a dot of a key itself.

    :raises ConfigurationError: if one is empty.
    """
    path = tuple(part.replace("\\.", ".") for part in _DOT.split(name))
    if not all(path):
        raise ConfigurationError(
            f"field {name!r} has an empty key before or after a dot: write a dot that belongs to a key as \\."
        )
    return path


class Flattener:
    """Brings the values of dotted names in a record into one object.

    The key that is the whole name comes first, as in ``{"cpu.user": 1}``; where it is absent or null, the
    rest of the name is looked for in the object under its first part, in the same way.

    :param paths: what the result calls it → where it is.
    """

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._labels = [msgspec.json.encode(name) + b":" for name in paths]
        self._top = _Level(dict(enumerate(paths.values())), "$")

    @property
    def keys(self) -> list[str]:
        """The record's own keys that are looked at."""
        return self._top.keys

    def flatten(self, raw: bytes) -> bytes:
        """Return JSON of the object; what is absent or null is left out.

        :raises RejectError: where an object is expected and something else is found.
        :raises ValueError: if it is no JSON.
        """
        values: list[bytes | None] = [None] * len(self._labels)
        self._top.fill(raw, values)
        pairs = zip(self._labels, values, strict=True)
        return b"{" + b",".join([label + value for label, value in pairs if value is not None]) + b"}"


class _Level:
    """An object on the way: its keys that are values, and its keys that are objects on the way.

    :param paths: index of a value → where it is, from here on.
    :param place: of the object, for messages.
    """

    def __init__(self, paths: Mapping[int, Path], place: str) -> None:
        self._place = place
        whole = {index: ".".join(path) for index, path in paths.items()}
        self.keys = list(dict.fromkeys([*whole.values(), *(path[0] for path in paths.values())]))
        self._decode = raw_fields(self.keys)
        at = {key: position for position, key in enumerate(self.keys)}
        self._exact = [(index, at[key]) for index, key in whole.items()]
        self._inner: list[tuple[int, list[int], _Level]] = []
        for head in dict.fromkeys(path[0] for path in paths.values() if len(path) > 1):
            rest = {index: path[1:] for index, path in paths.items() if path[0] == head and len(path) > 1}
            self._inner.append((at[head], list(rest), _Level(rest, f"{place}.{head}")))

    def fill(self, raw: bytes, values: list[bytes | None]) -> None:
        """Add the JSON of each value that is not there yet."""
        try:
            found = [None if one is None else bytes(one) for one in self._decode(raw)]
        except msgspec.ValidationError as error:
            raise RejectError(f"{error} - at `{self._place}`") from error
        for index, position in self._exact:
            if values[index] is None and found[position] != b"null":
                values[index] = found[position]
        for position, where, level in self._inner:
            inside = found[position]
            if inside is not None and inside != b"null" and any(values[index] is None for index in where):
                level.fill(inside, values)
