"""Which mounts, devices and interfaces are measured, as a DAG author writes it and as the agent takes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_KINDS = ("mounts", "devices", "interfaces")
# Python's fnmatch and a shell's `case` read these differently.
_AMBIGUOUS = ("\\", "[^")


def parse_patterns(include: Any, exclude: Any) -> tuple[tuple[str, str], ...]:
    """Return the pairs that the agent takes, such as ``("exclude", "mounts=/mnt/*")``.

    :param include: None, or a mapping of ``mounts``, ``devices`` and ``interfaces`` to one or more patterns.
    :raises ValueError: naming the argument and the key or pattern that is wrong.
    """
    return tuple(
        (verb, f"{kind}={pattern}")
        for verb, argument in (("include", include), ("exclude", exclude))
        for kind, patterns in _read_kinds(argument, verb).items()
        for pattern in patterns
    )


def _read_kinds(argument: Any, verb: str) -> dict[str, list[str]]:
    if argument is None:
        return {}
    if not isinstance(argument, Mapping):
        said = f"{verb} is {argument!r}: give a mapping with the keys {', '.join(_KINDS)}"
        raise ValueError(said)  # noqa: TRY004 - one class for all bad values
    for kind in argument:
        if kind not in _KINDS:
            raise ValueError(f"{verb} has the key {kind!r}: there are {', '.join(_KINDS)}")
    return {kind: _read_list(value, f"{verb}[{kind!r}]") for kind, value in argument.items()}


def _read_list(value: Any, where: str) -> list[str]:
    patterns = [value] if isinstance(value, str) else value
    if not isinstance(patterns, list | tuple | set | frozenset):
        said = f"{where} is {value!r}: give a pattern or a list of patterns"
        raise ValueError(said)  # noqa: TRY004 - one class for all bad values
    for pattern in patterns:
        if not isinstance(pattern, str) or not pattern or not pattern.isprintable():
            raise ValueError(f"{where} has {pattern!r}: give text such as 'eth*'")
        if any(sign in pattern for sign in _AMBIGUOUS):
            raise ValueError(
                f"{where} has {pattern!r}: a pattern has *, ?, [abc] and [!abc], and no backslash"
            )
    return list(patterns)
