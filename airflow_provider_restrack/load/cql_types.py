"""Maps CQL types to the Python types that JSON is decoded into, and to the values that the driver binds.

A value that passes here can be bound: the driver raises only for what these types and converters let through.
"""

from __future__ import annotations

import ipaddress
import math
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, defstruct, structs

from airflow_provider_restrack.load.durations import to_duration
from airflow_provider_restrack.load.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Converter = Callable[[Any], Any]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
DATE_OFFSET = 2**31  # CQL's date counts days from the middle of an unsigned 32-bit range
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_MAX_MILLIS = 9_223_372_036_854_775  # beyond it the write timestamp, in microseconds, overflows
_MAX_EPOCH_EXPONENT = 21  # of that time in nanoseconds
_MAX_FLOAT = 3.4028234663852886e38
_MAX_EXPONENT = 6144  # of decimal128; a larger one makes readers of the row expand gigabytes of digits

_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])(?:\.([0-9]{1,9}))?")
_OFFSET = re.compile(r"(Z|[+-][0-9]{2}(:?[0-5][0-9])?)$")

# An instant: ISO 8601 with a zone (a naive one would be read in whatever zone the reader lives in), or
# milliseconds since 1970 as in CQL.
Instant = Annotated[datetime, Meta(tz=True)] | Annotated[int, Meta(ge=-_MAX_MILLIS, le=_MAX_MILLIS)]


@dataclass(frozen=True, slots=True)
class CqlType:
    """A parsed CQL type: its name, and what stands in its angle brackets.

    :ivar fields: the names of a user-defined type's fields, whose types are the arguments.
    """

    name: str
    arguments: tuple[CqlType, ...] = ()
    frozen: bool = False
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}<{', '.join(map(str, self.arguments))}>" if self.arguments else self.name


@dataclass(frozen=True, slots=True)
class JsonType:
    """What msgspec decodes a JSON value into, and what then makes the driver's value of it, if anything."""

    python: Any
    convert: Converter | None = None


_TOKEN = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*|\"(?:[^\"]|\"\")+\"|'[^']*'|\d+|[<>,])")


def parse_cql_type(text: str) -> CqlType:
    """Parse a type as ``system_schema.columns`` writes it, such as ``frozen<map<text, double>>``.

    :raises ConfigurationError: if it is no CQL type.
    """
    tokens = _TOKEN.findall(text)
    if "".join(tokens) != re.sub(r"\s+", "", text):
        raise ConfigurationError(f"{text!r} is no CQL type")
    parsed, rest = _parse(tokens)
    if rest:
        raise ConfigurationError(f"{text!r} is no CQL type")
    return parsed


def _parse(tokens: list[str]) -> tuple[CqlType, list[str]]:
    if not tokens or tokens[0] in "<>,":
        raise ConfigurationError("a CQL type ends too early")
    name, rest = tokens[0], tokens[1:]
    name = name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()
    arguments: list[CqlType] = []
    if rest[:1] == ["<"]:
        separator = "<"
        while separator in ("<", ","):
            argument, rest = _parse(rest[1:])
            arguments.append(argument)
            separator = rest[0] if rest else ""
        if separator != ">":
            raise ConfigurationError(f"CQL type {name!r} lacks its closing bracket")
        rest = rest[1:]
    if name == "frozen" and len(arguments) == 1:
        inner = arguments[0]
        return CqlType(inner.name, inner.arguments, frozen=True), rest
    return CqlType(name, tuple(arguments)), rest


def is_builtin(cql: CqlType) -> bool:
    """Whether a type needs no definition of the keyspace."""
    if cql.name == "vector":
        return True
    if not cql.arguments:
        return cql.name in _SCALARS or cql.name == "counter"
    return all(map(is_builtin, cql.arguments))


def json_type(cql: CqlType) -> JsonType:
    """Return how a JSON value becomes a value of a CQL type.

    :raises ConfigurationError: if the type is none that JSON can fill.
    """
    if cql.name in _SCALARS and not cql.arguments:
        return _SCALARS[cql.name]
    if cql.name in ("list", "set") and len(cql.arguments) == 1:
        return _sequence_type(cql)
    if cql.name == "map" and len(cql.arguments) == 2:
        return _map_type(cql)
    if cql.name == "tuple" and cql.arguments:
        return _tuple_type(cql)
    if cql.name == "vector" and len(cql.arguments) == 2 and cql.arguments[0].name == "float":
        size = int(cql.arguments[1].name)
        item = json_type(cql.arguments[0]).python
        return JsonType(Annotated[list[item], Meta(min_length=size, max_length=size)])  # type: ignore[valid-type]
    if cql.fields:
        return _object_type(cql)
    if cql.name == "counter":
        raise ConfigurationError(
            "type counter can only be added to, so that a load that is repeated would count twice"
        )
    raise ConfigurationError(f"type {cql.name} cannot be loaded")


def to_microseconds(value: datetime | int) -> int:
    """Return an ``Instant`` as microseconds since 1970: the unit of a write timestamp."""
    if isinstance(value, int):
        return value * 1000
    since = value - EPOCH  # its parts, as dividing it by a timedelta takes a fifth longer
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def to_millis(value: datetime | int) -> int:
    """Return an ``Instant`` as milliseconds since 1970: the unit of CQL's ``timestamp``."""
    return value if isinstance(value, int) else (value - EPOCH) // _MICROSECOND // 1000


def epoch_type(per_second: int) -> JsonType:
    """Return how epoch times in a unit become microseconds since 1970, rounded down.

    :param per_second: how many of the unit a second has.
    """

    def convert(value: Decimal) -> int:
        far = value.adjusted() > _MAX_EPOCH_EXPONENT  # first: Decimal raises Overflow at abs(1e1000000)
        if not value.is_finite() or far or abs(value) > _MAX_MILLIS // 1000 * per_second:
            raise ValueError("an epoch time is out of range")
        return math.floor(value * 1_000_000 / per_second)

    return JsonType(Decimal, convert)


def day_of(microseconds: int) -> int:
    """Return the UTC day of a time, in the form in which the driver takes a ``date``."""
    return microseconds // 86_400_000_000 + DATE_OFFSET


def _to_date(value: str) -> int:
    """Make a ``date`` of an ISO date, or the UTC day of an ISO time with a zone."""
    try:
        if len(value) == 10:
            return date.fromisoformat(value).toordinal() - _EPOCH_ORDINAL + DATE_OFFSET
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(f"{value[:40]!r} is no ISO 8601 date") from None
    if moment.tzinfo is None:
        raise ValueError(f"{value[:40]!r} lacks its time zone")
    if not _OFFSET.search(value):  # Python takes +01:80 as well
        raise ValueError(f"{value[:40]!r} is no ISO 8601 date")
    return day_of(to_microseconds(moment))


def _to_time(value: str) -> int:
    """Make nanoseconds of a time of day; Python's own ``time`` ends at microseconds, and 23:59:59.9999999
    would be rounded to midnight.
    """
    found = _TIME.fullmatch(value)
    if found is None:
        raise ValueError(f"{value[:40]!r} is no time of day such as 13:30:54.234, without a time zone")
    seconds = (int(found[1]) * 60 + int(found[2])) * 60 + int(found[3])
    return seconds * 1_000_000_000 + int((found[4] or "").ljust(9, "0"))


def _to_inet(value: str) -> str:
    address = ipaddress.ip_address(value)
    if "%" in value:
        raise ValueError("a scope cannot be stored in an inet")
    return str(address)


def _to_ascii(value: str) -> str:
    if not value.isascii():
        raise ValueError("text of a column of type ascii has other characters")
    return value


def _to_timeuuid(value: uuid.UUID) -> uuid.UUID:
    if value.version != 1:
        raise ValueError(f"{value} is no time-based UUID (version 1)")
    return value


def _to_decimal(value: Decimal) -> Decimal:
    if not value.is_finite() or abs(value.adjusted()) > _MAX_EXPONENT:
        raise ValueError("a decimal is not finite or its exponent is out of range")
    return value


def _signed(bits: int) -> Any:
    return Annotated[int, Meta(ge=-(2 ** (bits - 1)), le=2 ** (bits - 1) - 1)]


_TEXT = JsonType(str)
_SCALARS: Mapping[str, JsonType] = {
    "text": _TEXT,
    "varchar": _TEXT,
    "ascii": JsonType(str, _to_ascii),
    "boolean": JsonType(bool),
    "tinyint": JsonType(_signed(8)),
    "smallint": JsonType(_signed(16)),
    "int": JsonType(_signed(32)),
    "bigint": JsonType(_signed(64)),
    "varint": JsonType(int),
    "double": JsonType(float),
    "float": JsonType(Annotated[float, Meta(ge=-_MAX_FLOAT, le=_MAX_FLOAT)]),
    "decimal": JsonType(Decimal, _to_decimal),
    "timestamp": JsonType(Instant, to_millis),
    "date": JsonType(str, _to_date),
    "time": JsonType(str, _to_time),
    "uuid": JsonType(uuid.UUID),
    "timeuuid": JsonType(uuid.UUID, _to_timeuuid),
    "inet": JsonType(str, _to_inet),
    "blob": JsonType(bytes),
    "duration": JsonType(str, to_duration),
}


def _sequence_type(cql: CqlType) -> JsonType:
    item = json_type(cql.arguments[0])
    make: Callable[[Any], Any] = set if cql.name == "set" else list
    if cql.name == "set" and cql.arguments[0].arguments:
        raise ConfigurationError(f"type set<{cql.arguments[0].name}> cannot be loaded")
    if item.convert is not None:
        convert = item.convert
        return JsonType(list[item.python], lambda values: make([convert(value) for value in values]))  # type: ignore[name-defined]
    return JsonType(list[item.python], None if make is list else make)  # type: ignore[name-defined]


def _map_type(cql: CqlType) -> JsonType:
    if cql.arguments[0].arguments:
        raise ConfigurationError(f"type map<{cql.arguments[0].name}, …> cannot be loaded")
    key, value = map(json_type, cql.arguments)
    python = dict[key.python, value.python]  # type: ignore[name-defined]
    if key.convert is None and value.convert is None:
        return JsonType(python)
    of_key, of_value = key.convert or _same, value.convert or _same
    return JsonType(python, lambda values: {of_key(k): of_value(v) for k, v in values.items()})


def _tuple_type(cql: CqlType) -> JsonType:
    """Return how an array becomes a tuple; a null in it is a field without value."""
    items = [json_type(one) for one in cql.arguments]
    python = tuple[tuple(one.python | None for one in items)]  # type: ignore[misc, valid-type]
    return JsonType(python, _fields_converter(items))


def _object_type(cql: CqlType) -> JsonType:
    """Return how an object becomes a value of a user-defined type; a field that it lacks has no value."""
    items = [json_type(one) for one in cql.arguments]
    members: list[Any] = [(f"f{index}", one.python | None, None) for index, one in enumerate(items)]
    names = {f"f{index}": name for index, name in enumerate(cql.fields)}
    convert = _fields_converter(items)
    return JsonType(
        defstruct("UserType", members, rename=names), lambda value: convert(structs.astuple(value))
    )


def _fields_converter(items: Sequence[JsonType]) -> Converter:
    converters = [one.convert or _same for one in items]

    def convert(values: Any) -> Any:
        pairs = zip(converters, values, strict=True)
        return tuple([None if value is None else make(value) for make, value in pairs])

    return convert


def _same(value: Any) -> Any:
    return value
