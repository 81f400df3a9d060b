"""Reads Avro: with a schema registry's framing, or of one schema that is given.

The framing: a zero byte, the schema's id as four bytes (big-endian), and the datum in Avro's binary encoding;
https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format.
fastavro is the extra ``avro``.
"""

from __future__ import annotations

import io
import json
import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_restrack import clock
from airflow_provider_restrack.load.errors import ConfigurationError, RejectError
from airflow_provider_restrack.load.formats.schema_registry import SchemaRegistry, parse_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_HEADER = struct.Struct(">BI")
_ASK_AGAIN_S = 30.0
_READABLE_FORMS = ("record", "error")


class Schemas(Protocol):
    """Where schemas come from by their id."""

    def fetch(self, schema_id: int) -> Sequence[str]:
        """Return a schema as JSON, after those that it refers to.

        :raises RejectError: if there is none.
        :raises SchemaRegistryError: if it is not to be had now.
        """


class FramedAvro:
    """Values with a schema's id in front; schemas are asked for once a run, those that there are not some
    seconds later again: a registry's copies learn late of what one of them was told.

    :param now: the monotonic clock.
    """

    name = "avro"

    def __init__(self, schemas: Schemas, *, now: Callable[[], float] = clock.monotonic) -> None:
        self._schemas, self._now = schemas, now
        self._readers: dict[int, Callable[[io.BytesIO], Any] | RejectError] = {}
        self._ask_again: dict[int, float] = {}

    def parse(self, value: bytes, record: Any) -> list[dict[str, Any]]:  # noqa: ARG002 - as of all formats
        """Return the row of a record.

        :raises RejectError: if the framing, the id or the datum is bad.
        :raises SchemaRegistryError: if the registry does not give the schema now.
        """
        if len(value) < _HEADER.size or value[0] != 0:
            raise RejectError(
                f"avro: the value begins with {value[: _HEADER.size].hex(' ') or 'nothing'}: a zero byte and"
                " the four of a schema's id are expected"
            )
        _, schema_id = _HEADER.unpack_from(value)
        body = io.BytesIO(value)
        body.seek(_HEADER.size)
        return [_read_datum(self._reader(schema_id), body, len(value))]

    def _reader(self, schema_id: int) -> Callable[[io.BytesIO], Any]:
        found = self._readers.get(schema_id)
        if found is None or (isinstance(found, RejectError) and self._is_old(schema_id)):
            found = self._readers[schema_id] = self._open(schema_id)
        if isinstance(found, RejectError):
            raise RejectError(str(found))
        return found

    def _is_old(self, schema_id: int) -> bool:
        """Whether it is long ago that there was no such schema; one that cannot be used stays so."""
        return self._ask_again.get(schema_id, math.inf) <= self._now()

    def _open(self, schema_id: int) -> Callable[[io.BytesIO], Any] | RejectError:
        self._ask_again.pop(schema_id, None)
        try:
            schemas = self._schemas.fetch(schema_id)
        except RejectError as error:
            self._ask_again[schema_id] = self._now() + _ASK_AGAIN_S
            return RejectError(f"avro: schema {schema_id}: {error}")
        try:
            return compile_reader(schemas)
        except ConfigurationError as error:
            return RejectError(f"avro: schema {schema_id}: {error}")


@dataclass(frozen=True, slots=True)
class PlainAvro:
    """Values without framing, all of one schema."""

    reader: Callable[[io.BytesIO], Any]
    name: str = "avro"

    def parse(self, value: bytes, record: Any) -> list[dict[str, Any]]:  # noqa: ARG002 - as of all formats
        """Return the row of a record.

        :raises RejectError: if the datum is bad.
        """
        return [_read_datum(self.reader, io.BytesIO(value), len(value))]


def open_avro(
    options: Mapping[str, Any], config: Mapping[str, Any], *, connection: str
) -> FramedAvro | PlainAvro:
    """Return the format: by the option ``schema``, else by the registry that the Kafka connection names.

    :raises ConfigurationError: if fastavro, the registry's address or a usable schema is missing.
    """
    try:
        import fastavro  # noqa: F401 - whether it is there
    except ImportError as error:
        raise ConfigurationError(
            "format 'avro' needs fastavro: pip install 'airflow-provider-restrack[avro]'"
        ) from error
    schema = options.get("schema")
    if schema is None:
        return FramedAvro(SchemaRegistry(parse_registry(config, connection=connection)))
    try:
        return PlainAvro(compile_reader([schema if isinstance(schema, str) else json.dumps(schema)]))
    except (ConfigurationError, TypeError) as error:
        raise ConfigurationError(f"schema of format 'avro': {error}") from error


def compile_reader(schemas: Sequence[str]) -> Callable[[io.BytesIO], Any]:
    """Return what reads a datum of the last of these schemas.

    :raises ConfigurationError: if it is no schema of a record, or one whose data can hold more than their
        bytes: a few of those could exhaust stack or memory.
    """
    import fastavro

    named: dict[str, Any] = {}
    try:
        for text in schemas:
            parsed = fastavro.parse_schema(json.loads(text), named_schemas=named)
        _takes_no_bytes(parsed, named, ())
    except ConfigurationError:
        raise
    except Exception as error:  # fastavro names no errors of its own for all that can be wrong
        raise ConfigurationError(f"no Avro schema: {type(error).__name__}: {error}") from error
    if not isinstance(parsed, dict) or parsed.get("type") not in _READABLE_FORMS:
        raise ConfigurationError("it is no schema of a record, and only fields can fill columns")
    return lambda body: fastavro.schemaless_reader(body, parsed, None)


def _takes_no_bytes(schema: Any, named: Mapping[str, Any], within: tuple[str, ...]) -> bool:
    """Whether a value of a schema may take no bytes at all.

    :raises ConfigurationError: if the schema contains itself (of deep data fastavro's reader then overflows
        the C stack) or an array of values without bytes (of which ten bytes can ask for any number).
    """
    if isinstance(schema, list):
        for branch in schema:
            _takes_no_bytes(branch, named, within)
        return False
    if isinstance(schema, str):
        return schema == "null" or (schema in named and _takes_no_bytes(named[schema], named, within))
    kind = schema["type"]
    if kind in _READABLE_FORMS:
        if schema["name"] in within:
            raise ConfigurationError(f"type {schema['name']} contains itself")
        inner = (*within, schema["name"])
        empty = [_takes_no_bytes(one["type"], named, inner) for one in schema["fields"]]
        return all(empty)
    if kind == "array" and _takes_no_bytes(schema["items"], named, within):
        raise ConfigurationError("it has an array of values that take no bytes")
    if kind == "map":
        _takes_no_bytes(schema["values"], named, within)
    if kind == "fixed":
        return bool(schema["size"] == 0)
    return _takes_no_bytes(kind, named, within) if not isinstance(kind, str) else kind == "null"


def _read_datum(read: Callable[[io.BytesIO], Any], body: io.BytesIO, size: int) -> dict[str, Any]:
    start = body.tell()
    try:
        datum = read(body)
    except Exception as error:  # of bad bytes fastavro raises whatever its steps raise
        raise RejectError(
            f"avro: no datum of the schema, at byte {body.tell()} of {size} or before:"
            f" {type(error).__name__}: {error}"
        ) from error
    if body.tell() != size:
        raise RejectError(f"avro: the datum ends at byte {body.tell()} of {size}: it has another schema")
    if not isinstance(datum, dict):
        raise RejectError(f"avro: the datum at byte {start} is a {type(datum).__name__}, and no record")
    return datum
