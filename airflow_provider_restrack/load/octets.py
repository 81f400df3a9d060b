"""Makes text of the bytes that a format finds, where no column takes bytes: JSON has no bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_BYTES = (bytes, bytearray, memoryview)
_MAY_HOLD_BYTES = (*_BYTES, dict, list, tuple, set, frozenset)


def takes_bytes(kind: Any) -> bool:
    """Whether a type that JSON is decoded into is of bytes, or has some in it."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return any(takes_bytes(one.type) for one in msgspec.structs.fields(kind))
    return kind is bytes or any(map(takes_bytes, get_args(kind)))


def as_text(values: Mapping[str, Any], kept: Collection[str]) -> dict[str, Any]:
    """Return values with UTF-8 text in place of bytes, in whatever they are nested.

    :param kept: dotted names of what keeps its bytes, as a column takes them.
    :raises UnicodeDecodeError: if some are no such text.
    """
    return {name: _text_of(value, name, kept) for name, value in values.items()}


def _text_of(value: Any, name: str, kept: Collection[str]) -> Any:
    if not isinstance(value, _MAY_HOLD_BYTES) or name in kept:
        return value
    if isinstance(value, _BYTES):
        return str(value, "utf-8")
    if isinstance(value, dict):
        keys = [str(key, "utf-8") if isinstance(key, _BYTES) else key for key in value]
        return {
            key: _text_of(one, f"{name}.{key}", kept) for key, one in zip(keys, value.values(), strict=True)
        }
    return [_text_of(one, name, kept) for one in value]
