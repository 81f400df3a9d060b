"""Reads what ``columns=`` says of a column: a field, an epoch time, a day, Kafka's metadata or a constant.

All of it is data that JSON can hold, and is checked before a record is read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.load.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADER = "header."
EPOCH_UNITS: Mapping[str, int] = {"s": 1, "ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}
_TEXTS = frozenset({"text", "varchar", "ascii"})
_WHOLE = frozenset({"tinyint", "smallint", "int", "bigint", "varint"})
_SCALARS = _TEXTS | _WHOLE | {
    "float", "double", "decimal", "timestamp", "date", "time", "uuid", "timeuuid", "inet", "blob",
}  # fmt: skip
_METADATA: Mapping[str, frozenset[str]] = {
    "__key": _SCALARS,
    "__topic": _TEXTS,
    "__partition": _WHOLE | _TEXTS,
    "__offset": _WHOLE | _TEXTS,
    "__timestamp": _TEXTS | {"bigint", "varint", "timestamp", "date"},
}
_FORMS = (
    "a field's name, None, __key, __topic, __partition, __offset, __timestamp, header.NAME,"
    ' {"field": NAME, "unit": "s" | "ms" | "us" | "ns"}, {"day_of": NAME} or {"value": …}'
)


@dataclass(frozen=True, slots=True)
class Given:
    """What fills a column: one of field, metadata and constant.

    :ivar field: the record's field.
    :ivar unit: of the field's epoch time, where it is said.
    :ivar day: whether the field is a time of which the column takes the UTC day.
    :ivar metadata: such as ``__key``.
    :ivar constant: the constant as JSON.
    """

    field: str | None = None
    unit: str | None = None
    day: bool = False
    metadata: str | None = None
    constant: bytes | None = None


def parse_source(column: str, given: Any) -> Given | None:
    """Read the source of a column; None leaves it out.

    :raises ConfigurationError: naming the column and what is allowed.
    """
    if given is None:
        return None
    if isinstance(given, str) and given:
        is_metadata = given in _METADATA or (given.startswith(HEADER) and given != HEADER)
        return Given(metadata=given) if is_metadata else Given(field=given)
    match dict(given) if hasattr(given, "keys") else given:
        case {"field": str(field), **rest} if field and not rest:
            return Given(field=field)
        case {"field": str(field), "unit": str(unit), **rest} if field and unit in EPOCH_UNITS and not rest:
            return Given(field=field, unit=unit)
        case {"day_of": str(field), **rest} if field and not rest:
            return Given(field=field, day=True)
        case {"value": value, **rest} if value is not None and not rest:
            return Given(constant=_constant(column, value))
    raise ConfigurationError(f"columns= fills {column!r} with {given!r}: it must be {_FORMS}")


def check_type(column: str, kind: str, given: Given) -> None:
    """Refuse a source that can never fill a column of a type.

    :param kind: the name of the column's CQL type.
    :raises ConfigurationError: naming column, source and the types that it can fill.
    """
    if given.metadata is not None:
        allowed, what = _METADATA.get(given.metadata, _SCALARS), given.metadata
    elif given.unit is not None:
        allowed, what = frozenset({"timestamp", "date"}), f"a field with unit {given.unit!r}"
    elif given.day:
        allowed, what = frozenset({"date"}), "day_of"
    else:
        return
    if kind not in allowed:
        raise ConfigurationError(
            f"columns= fills {column!r}, which has type {kind}, with {what}: that fills columns of type"
            f" {', '.join(sorted(allowed))}"
        )


def _constant(column: str, value: Any) -> bytes:
    try:
        return json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"columns= fills {column!r} with a value that is no JSON: {error}"
        ) from error


def read_metadata(name: str, record: Any, *, as_bytes: bool) -> Any:
    """Return metadata of a record, None where it has none; of a header that is there twice, the last.

    :param as_bytes: whether a key or a header is taken as it is; else it is UTF-8 text.
    :raises UnicodeDecodeError: if it is no text.
    """
    if name == "__topic":
        return record.topic()
    if name == "__partition":
        return record.partition()
    if name == "__offset":
        return record.offset()
    if name == "__timestamp":
        kind, millis = record.timestamp()
        return millis if kind else None
    raw = record.key() if name == "__key" else dict(record.headers() or ()).get(name.removeprefix(HEADER))
    return raw if raw is None or as_bytes or isinstance(raw, str) else raw.decode()
