"""Rewrites JSON whose values have another type than their columns, where only one reading is possible.

It is asked only about records that the typed decoder has refused, and gives JSON to the same decoder again:
what it cannot help with is refused there, with the same words.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_restrack.load.cql_types import CqlType

    Rewrite = Callable[[bytes], bytes]

_NUMBERS = frozenset({"tinyint", "smallint", "int", "bigint", "varint", "float", "double"})
_TEXTS = frozenset({"text", "varchar", "ascii"})
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")  # RFC 8259
_NUMBER_STARTS = b"-0123456789"
_text = msgspec.json.Decoder(str).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_entries = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def rewrite_of(cql: CqlType) -> Rewrite | None:
    """Return what rewrites a JSON value for a column's type, or None if such a type takes no other JSON.

    Text becomes a number where it is one, a number becomes the text that it is written as. A null among a
    map's values takes its entry away, as what is unknown is absent. Nothing becomes a boolean or a time.
    """
    if cql.name in _TEXTS:
        return _number_to_text
    if cql.name in _NUMBERS:
        return _text_to_number
    return _rewrite_inside(cql)


def _rewrite_inside(cql: CqlType) -> Rewrite | None:
    inner = [rewrite_of(one) for one in cql.arguments]
    if cql.fields:
        return object_rewrite(dict(zip(cql.fields, inner, strict=True)))
    if cql.name in ("list", "set", "vector"):
        return _list_rewrite(inner[0] or _same)
    if cql.name == "map":
        return _map_rewrite(inner[1] or _same)
    if cql.name == "tuple":
        return _tuple_rewrite([one or _same for one in inner])
    return None


def object_rewrite(rewrites: Mapping[str, Rewrite | None]) -> Rewrite:
    """Return what rewrites an object's fields, and leaves out the others.

    What it returns raises ``ValueError`` if it is given no JSON.
    """
    decode = raw_fields(list(rewrites))
    steps = [(msgspec.json.encode(name) + b":", rewrite or _same) for name, rewrite in rewrites.items()]

    def rewrite_object(raw: bytes) -> bytes:
        if raw.lstrip()[:1] != b"{":
            return raw
        pairs = zip(steps, decode(raw), strict=True)
        return (
            b"{" + b",".join([key + step(bytes(one)) for (key, step), one in pairs if one is not None]) + b"}"
        )

    return rewrite_object


def raw_fields(names: Sequence[str]) -> Callable[[bytes], tuple[msgspec.Raw | None, ...]]:
    """Return what takes the JSON of these keys out of an object; None for one that it lacks.

    What it returns raises ``ValueError`` if it is given no JSON of an object.
    """
    members: list[Any] = [(f"f{index}", msgspec.Raw, None) for index in range(len(names))]
    renamed = {f"f{index}": name for index, name in enumerate(names)}
    kind = msgspec.defstruct("RawRecord", members, rename=renamed, gc=False)
    decode = msgspec.json.Decoder(kind).decode
    return lambda raw: msgspec.structs.astuple(decode(raw))


def _same(raw: bytes) -> bytes:
    return raw


def _number_to_text(raw: bytes) -> bytes:
    return b'"' + raw.strip() + b'"' if raw[:1] in _NUMBER_STARTS else raw


def _text_to_number(raw: bytes) -> bytes:
    if raw[:1] != b'"':
        return raw
    text = _text(raw)
    return text.encode() if _NUMBER.fullmatch(text) else raw


def _list_rewrite(item: Rewrite) -> Rewrite:
    def rewrite(raw: bytes) -> bytes:
        if raw[:1] != b"[":
            return raw
        return b"[" + b",".join([item(bytes(one)) for one in _items(raw)]) + b"]"

    return rewrite


def _tuple_rewrite(rewrites: Sequence[Rewrite]) -> Rewrite:
    def rewrite(raw: bytes) -> bytes:
        items = _items(raw) if raw[:1] == b"[" else ()
        if len(items) != len(rewrites):
            return raw
        return b"[" + b",".join([one(bytes(item)) for one, item in zip(rewrites, items, strict=True)]) + b"]"

    return rewrite


def _map_rewrite(item: Rewrite) -> Rewrite:
    def rewrite(raw: bytes) -> bytes:
        if raw[:1] != b"{":
            return raw
        pairs = [(name, bytes(one)) for name, one in _entries(raw).items()]
        kept = [msgspec.json.encode(name) + b":" + item(one) for name, one in pairs if one != b"null"]
        return b"{" + b",".join(kept) + b"}"

    return rewrite
