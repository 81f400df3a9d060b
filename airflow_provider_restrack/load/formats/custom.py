"""Lets a function of the user's make the rows of a record."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.load.errors import ConfigurationError, RejectError

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class CustomFormat:
    """A function ``(value: bytes, record) -> dict | list[dict] | None``; None stands for no row."""

    name: str
    function: Callable[[bytes, Any], Any]

    def parse(self, value: bytes, record: Any) -> list[dict[str, Any]]:
        """Return what the function makes of a record.

        :raises RejectError: with its text if the function raises, or if it returns something else.
        """
        try:
            made = self.function(value, record)
            rows = [] if made is None else [made] if isinstance(made, Mapping) else list(made)
        except Exception as error:  # the function is not ours, and may raise anything
            raise RejectError(f"{self.name}: {type(error).__name__}: {error}") from error
        for row in rows:
            if not isinstance(row, Mapping):
                raise RejectError(
                    f"{self.name} returned a {type(row).__name__} as row: a dict, a list of dicts or None is"
                    " expected"
                )
        return [dict(row) for row in rows]


def import_function(path: str) -> Callable[[bytes, Any], Any]:
    """Return the function at a dotted path.

    :raises ConfigurationError: if it cannot be imported or called.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # a module of the user's may raise anything
        raise ConfigurationError(
            f"format {path!r} cannot be imported: {type(error).__name__}: {error}; give the dotted path of a"
            " function that the workers can import"
        ) from error
    if not callable(found):
        raise ConfigurationError(f"format {path!r} is a {type(found).__name__} and no function")
    return found  # type: ignore[no-any-return]
