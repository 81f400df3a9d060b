"""Reads what ``columns=`` says of a column: a field, an epoch time, a day, Kafka's metadata, a constant, or
what is derived of these.

All of it is data that JSON can hold, and is checked before a record is read.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.load.cql_types import day_of
from airflow_provider_restrack.load.errors import ConfigurationError
from airflow_provider_restrack.load.headers import read_headers
from airflow_provider_restrack.load.paths import split_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Compute = Callable[[list[Any], Any], Any]  # of the values that are there already, and Kafka's record

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
    ' {"field": NAME, "unit": "s" | "ms" | "us" | "ns"}, {"day_of": NAME}, {"value": …},'
    ' {"first_of": [SOURCE, …]} or {"uuid5_of": [NAME, …], "namespace": UUID}'
)


@dataclass(frozen=True, slots=True)
class Given:
    """What fills a column: one of field, metadata, constant and parts.

    :ivar field: the record's field.
    :ivar unit: of the field's epoch time, where it is said.
    :ivar day: whether the field is a time of which the column takes the UTC day.
    :ivar metadata: such as ``__key``.
    :ivar constant: the constant as JSON.
    :ivar parts: of which the column takes the first that is not null, or makes a UUID.
    :ivar namespace: of the UUID, where it is one.
    """

    field: str | None = None
    unit: str | None = None
    day: bool = False
    metadata: str | None = None
    constant: bytes | None = None
    parts: tuple[Given, ...] = ()
    namespace: uuid.UUID | None = None

    @property
    def label(self) -> str:
        """What tells it from others, beside the type that it is to have."""
        if self.parts:
            how = "first_of" if self.namespace is None else f"uuid5 in {self.namespace} of"
            return f"{how} {[part.label for part in self.parts]}"
        if self.constant is not None:
            return f"value {self.constant.decode()}"
        return str(self.field or self.metadata)


def parse_source(column: str, given: Any) -> Given | None:
    """Read the source of a column; None leaves it out.

    :raises ConfigurationError: naming the column and what is allowed.
    """
    if given is None:
        return None
    if isinstance(given, str) and given:
        is_metadata = given in _METADATA or (given.startswith(HEADER) and given != HEADER)
        return Given(metadata=given) if is_metadata else Given(field=_field(column, given))
    found = _parse_mapping(column, dict(given)) if hasattr(given, "keys") else None
    if found is None:
        raise ConfigurationError(f"columns= fills {column!r} with {given!r}: it must be {_FORMS}")
    return found


def _parse_mapping(column: str, given: Mapping[str, Any]) -> Given | None:
    match given:
        case {"field": str(field), **rest} if field and not rest:
            return Given(field=_field(column, field))
        case {"field": str(field), "unit": str(unit), **rest} if field and unit in EPOCH_UNITS and not rest:
            return Given(field=_field(column, field), unit=unit)
        case {"day_of": str(field), **rest} if field and not rest:
            return Given(field=_field(column, field), day=True)
        case {"value": value, **rest} if value is not None and not rest:
            return Given(constant=_constant(column, value))
    return _parse_derived(column, given)


def _parse_derived(column: str, given: Mapping[str, Any]) -> Given | None:
    match given:
        case {"first_of": [_, *_] as parts, **rest} if not rest:
            return Given(parts=_parts(column, parts))
        case {"uuid5_of": [_, *_] as names, **rest} if not rest.keys() - {"namespace"}:
            namespace = _namespace(column, rest.get("namespace", str(uuid.NAMESPACE_URL)))
            return Given(parts=_names(column, names), namespace=namespace)
    return None


def check_type(column: str, kind: str, given: Given) -> None:
    """Refuse a source that can never fill a column of a type.

    :param kind: the name of the column's CQL type.
    :raises ConfigurationError: naming column, source and the types that it can fill.
    """
    if given.parts and given.namespace is None:
        for part in given.parts:
            check_type(column, kind, part)
        return
    if given.namespace is not None:
        allowed, what = frozenset({"uuid"}), "uuid5_of"
    elif given.metadata is not None:
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


def _field(column: str, name: str) -> str:
    try:
        split_name(name)
    except ConfigurationError as error:
        raise ConfigurationError(f"columns= fills {column!r}: {error}") from error
    return name


def _parts(column: str, given: Sequence[Any]) -> tuple[Given, ...]:
    """Read the sources of ``first_of``."""
    parts = [parse_source(column, one) for one in given]
    for part, one in zip(parts, given, strict=True):
        if part is None or part.parts:
            raise ConfigurationError(
                f"columns= fills {column!r} with first_of {one!r}: it takes fields, metadata and constants"
            )
    return tuple(part for part in parts if part is not None)


def _names(column: str, given: Sequence[Any]) -> tuple[Given, ...]:
    """Read the names of ``uuid5_of``."""
    for one in given:
        if not isinstance(one, str):
            raise ConfigurationError(
                f"columns= fills {column!r} with uuid5_of {one!r}: it takes names of fields and metadata"
            )
    return _parts(column, given)


def _namespace(column: str, given: Any) -> uuid.UUID:
    try:
        return uuid.UUID(given)
    except (ValueError, TypeError, AttributeError):
        raise ConfigurationError(
            f"columns= fills {column!r} with uuid5_of in namespace {given!r}, which is no UUID"
        ) from None


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
    raw = record.key() if name == "__key" else dict(read_headers(record)).get(name.removeprefix(HEADER))
    return raw if raw is None or as_bytes or isinstance(raw, str) else raw.decode()


def first_of(parts: Sequence[tuple[int, bool]]) -> Compute:
    """Return what takes the first value that is not null.

    :param parts: where they stand among the values, and whether the UTC day of the time there is meant.
    """

    def compute(values: list[Any], _record: Any) -> Any:
        for index, is_day in parts:
            value = values[index]
            if value is not None:
                return day_of(value) if is_day else value
        return None

    return compute


def uuid5_of(parts: Sequence[int], namespace: uuid.UUID) -> Compute:
    """Return what makes a UUIDv5 of texts with spaces between, as a sample's id is one of host and time;
    none if a text is missing.

    :param parts: where they stand among the values.
    """

    def compute(values: list[Any], _record: Any) -> Any:
        texts = [values[index] for index in parts]
        return None if None in texts else uuid.uuid5(namespace, " ".join(texts))

    return compute
