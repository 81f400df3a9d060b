"""Pages of results as Cassandra sends them, made of values."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.store.raw_rows import RawRows
from airflow_provider_restrack.store.tiers import AGGREGATE_FIELDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PACKED = {"boolean": ">b", "int": ">i", "bigint": ">q", "double": ">d", "timestamp": ">q"}


def encode_page(types: Mapping[str, str], rows: Sequence[tuple[Any, ...]]) -> RawRows:
    """Return rows of columns as one page."""
    cells = [encode(kind, value) for row in rows for kind, value in zip(types.values(), row, strict=True)]
    return RawRows(struct.pack(">i", len(rows)) + b"".join(cells))


def sized(raw: bytes) -> bytes:
    return struct.pack(">i", len(raw)) + raw


def encode(kind: str, value: Any) -> bytes:
    """Return one value as the protocol's [bytes]."""
    kind = kind.replace(" ", "")
    if value is None:
        return struct.pack(">i", -1)
    if kind.startswith("frozen<"):
        return encode(kind[7:-1], value)
    if kind == "aggregate":
        parts = zip(AGGREGATE_FIELDS.values(), value, strict=True)
        return sized(b"".join(encode(part, one) for part, one in parts))
    if kind.startswith("map"):
        inner = kind[len("map<text,") : -1]
        pairs = b"".join(sized(name.encode()) + encode(inner, one) for name, one in value.items())
        return sized(struct.pack(">i", len(value)) + pairs)
    if kind == "text":
        return sized(value.encode())
    return sized(struct.pack(_PACKED[kind], value))
