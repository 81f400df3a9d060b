"""A second, simple reading of JSON and of the values that columns take. It shares no code with the loader.

JSON is read by Python's own ``json``; the rules of each column type are written out here once more, from the
formats' descriptions (RFC 8259, RFC 3339, RFC 4648, CQL's types) and from what the loader promises.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
import struct
import uuid
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_restrack.load.cql_types import CqlType

DATE_MIDDLE = 2**31  # CQL's date 1970-01-01
_EPOCH = date(1970, 1, 1).toordinal()
_DAY_US = 86_400_000_000
_MAX_MILLIS = (2**63 - 1) // 1000
(_MAX_FLOAT,) = struct.unpack(">f", b"\x7f\x7f\xff\xff")
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):?(\d\d))", re.ASCII
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_WEEK_DATE = re.compile(r"(\d{4})-W(\d\d)-(\d)", re.ASCII)
_SECONDS = re.compile(r"^(.{10}[Tt ]\d\d:\d\d)(?::[0-5]\d(?:\.\d+)?)?(.*)$", re.ASCII)
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)", re.ASCII)
_TIME = re.compile(r"(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-?)[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{12}")
_BASE64 = re.compile(r"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_SURROGATE = re.compile("[\ud800-\udfff]")
_PAIR = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


class RefusedError(Exception):
    """No row can be made of the record."""


class LeftOpenError(Exception):
    """It is left open here: nested so deeply that Python's ``json`` gives up, or a rare form of ISO 8601."""


class Number(str):
    """A number as it is written."""

    __slots__ = ()


class Pairs(list[tuple[str, Any]]):
    """An object as it is written: its keys in order, each as often as it is there."""


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_JSON = json.JSONDecoder(
    object_pairs_hook=Pairs, parse_int=Number, parse_float=Number, parse_constant=_no_constant
)


def parse(raw: bytes | None) -> tuple[Pairs, bool]:
    """Return the record's object, and whether it has halves of surrogate pairs or bytes that are no text."""
    if raw is None:
        raise RefusedError("tombstone")
    text = raw.decode("utf-8", "surrogateescape")  # bytes that are no UTF-8 may stand in what is not taken
    try:
        value = _JSON.decode(text)
    except RecursionError:
        raise LeftOpenError from None
    except ValueError as error:
        raise RefusedError(str(error)) from None
    if type(value) is not Pairs:
        raise RefusedError("no object")
    return value, _SURROGATE.search(text) is not None or _HALF_PAIR.search(_PAIR.sub("", text)) is not None


def day_number(micros: int) -> int:
    return micros // _DAY_US + DATE_MIDDLE


def reader_of(cql: CqlType) -> Callable[[Any], Any]:
    """Return what reads a JSON value as a column's value."""
    if cql.name == "map":
        return _map_reader(*cql.arguments)
    if cql.name in ("list", "set"):
        item = reader_of(cql.arguments[0])

        def read(value: Any) -> Any:
            if type(value) is not list:
                raise RefusedError("no array")
            items = [item(one) for one in value]
            return items if cql.name == "list" else frozenset(items)

        return read
    if cql.fields:
        return _object_reader(dict(zip(cql.fields, map(reader_of, cql.arguments), strict=True)))
    if cql.name == "vector":
        return _array_reader([reader_of(cql.arguments[0])] * int(cql.arguments[1].name))
    if cql.name == "tuple":
        return _array_reader([_or_none(reader_of(one)) for one in cql.arguments])
    return _SCALARS[cql.name]


def _or_none(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


def _object_reader(readers: Mapping[str, Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """Return what reads an object's fields, the last one where one is there twice, and leaves out others."""

    def read(value: Any) -> Any:
        if type(value) is not Pairs:
            raise RefusedError("no object")
        found = dict(value)
        return tuple(_or_none(one)(found.get(name)) for name, one in readers.items())

    return read


def _array_reader(readers: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """Return what reads an array of just as many items."""

    def read(value: Any) -> Any:
        if type(value) is not list or len(value) != len(readers):
            raise RefusedError("no array of so many")
        return tuple(one(item) for one, item in zip(readers, value, strict=True))

    return read


def _map_reader(key: CqlType, item: CqlType) -> Callable[[Any], Any]:
    read_key, read_item = reader_of(key), reader_of(item)
    numeric = key.name == "int"

    def read(value: Any) -> Any:
        if type(value) is not Pairs:
            raise RefusedError("no object")
        # A key that is there twice has the last value; then those that are the same but for their writing.
        made = {}
        for name, one in dict(value).items():
            if one is None:
                continue  # what is unknown is absent
            if numeric and not _INTEGER.fullmatch(name):
                raise RefusedError("no integer as key")
            made[read_key(Number(name) if numeric else name)] = read_item(one)
        return made

    return read


def read_text(value: Any) -> str:
    """Return text; of a number, as it is written."""
    if type(value) is Number:
        return str(value)
    return strict_text(value)


def strict_text(value: Any) -> str:
    if type(value) is not str or _SURROGATE.search(value):
        raise RefusedError("no text")
    return value


def read_ascii(value: Any) -> str:
    if not read_text(value).isascii():
        raise RefusedError("not ASCII")
    return str(value)


def read_boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise RefusedError("no boolean")
    return value


def number_of(value: Any) -> Any:
    """Return the number that a text is, and else the value."""
    return Number(value) if type(value) is str and _NUMBER.fullmatch(value) else value


def integer(bits: int | None) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        value = number_of(value)
        if type(value) is not Number or not _INTEGER.fullmatch(value):
            raise RefusedError("no integer")
        made = int(value)
        if bits is not None and not -(2 ** (bits - 1)) <= made < 2 ** (bits - 1):
            raise RefusedError("integer out of range")
        return made

    return read


def read_double(value: Any) -> float:
    value = number_of(value)
    if type(value) is not Number:
        raise RefusedError("no number")
    made = float(value)
    if made in (float("inf"), float("-inf")):
        raise RefusedError("number out of range")
    return 0.0 if value == "-0" else made  # as an integer, zero has no sign


def read_float(value: Any) -> float:
    made = read_double(value)
    if abs(made) > _MAX_FLOAT:
        raise RefusedError("number out of range")
    rounded: float = struct.unpack(">f", struct.pack(">f", made))[0]
    return rounded


def read_decimal(value: Any) -> Decimal:
    if type(value) not in (Number, str):
        raise RefusedError("no number")
    try:
        made = Decimal(value)
    except InvalidOperation:
        raise RefusedError("no decimal") from None
    if not made.is_finite() or abs(made.adjusted()) > 6144:
        raise RefusedError("decimal out of range")
    return Decimal(0) if type(value) is Number and value == "-0" else made


def read_instant(value: Any) -> int:
    """Return microseconds since 1970 of milliseconds, or of RFC 3339's date-time rounded to a microsecond."""
    if type(value) is Number:
        millis = integer(64)(value)
        if abs(millis) > _MAX_MILLIS:
            raise RefusedError("time out of range")
        return millis * 1000
    return _instant_of(strict_text(value))


def _instant_of(text: str) -> int:
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise RefusedError("no RFC 3339 time with a zone")
    year, month, day, hour, minute, second = map(int, found.groups()[:6])
    if hour > 23 or minute > 59 or second > 59 or int(found[9] or 0) > 23 or int(found[10] or 0) > 59:
        raise RefusedError("no such time")
    digits = (found[7] or "").ljust(7, "0")
    micros = int(digits[:6]) + (digits[6] >= "5")
    local = ordinal(year, month, day) * _DAY_US + ((hour * 60 + minute) * 60 + second) * 10**6 + micros
    if local >= (date.max.toordinal() + 1 - _EPOCH) * _DAY_US:
        raise RefusedError("time out of range")
    offset = (int(found[9] or 0) * 60 + int(found[10] or 0)) * 60 * 10**6
    return local + offset if found[8] == "-" else local - offset


def ordinal(year: int, month: int, day: int) -> int:
    """Return the days since 1970."""
    try:
        return date(year, month, day).toordinal() - _EPOCH
    except ValueError:
        raise RefusedError("no such day") from None


def read_date(value: Any) -> int:
    text = strict_text(value)
    if _DATE.fullmatch(text):
        return ordinal(*map(int, text.split("-"))) + DATE_MIDDLE
    if week := _WEEK_DATE.fullmatch(text):
        try:
            return date.fromisocalendar(*map(int, week.groups())).toordinal() - _EPOCH + DATE_MIDDLE
        except ValueError:
            raise RefusedError("no such week") from None
    if text[:4].isdecimal() and len(text) > 10 and not _DATE_TIME.fullmatch(text):
        raise LeftOpenError  # ISO 8601 has more forms than RFC 3339, and Python reads some of them
    return day_number(_instant_of(_SECONDS.sub(r"\1:00\2", text)))  # the day does not need the seconds


def read_time(value: Any) -> int:
    found = _TIME.fullmatch(strict_text(value))
    if found is None or int(found[1]) > 23 or int(found[2]) > 59 or int(found[3]) > 59:
        raise RefusedError("no time of day")
    seconds = (int(found[1]) * 60 + int(found[2])) * 60 + int(found[3])
    return seconds * 10**9 + int((found[4] or "").ljust(9, "0"))


def read_uuid(value: Any) -> uuid.UUID:
    if not _UUID.fullmatch(strict_text(value)):
        raise RefusedError("no UUID")
    return uuid.UUID(value)


def read_timeuuid(value: Any) -> uuid.UUID:
    made = read_uuid(value)
    if made.version != 1:
        raise RefusedError("no UUID of version 1")
    return made


def read_inet(value: Any) -> Any:
    try:
        made = ipaddress.ip_address(strict_text(value))
    except ValueError:
        raise RefusedError("no address") from None
    if "%" in value:
        raise RefusedError("a scope")
    return made


def read_blob(value: Any) -> bytes:
    if not _BASE64.fullmatch(strict_text(value)):
        raise RefusedError("no base64")
    return base64.b64decode(value)


_MONTHS = {"y": 12, "mo": 1}
_DAYS = {"w": 7, "d": 1}
_NANOS = {"h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}
_ORDER = ("y", "mo", "w", "d", "h", "m", "s", "ms", "us", "ns")
_STEP = re.compile(r"([0-9]+)(mo|ms|us|\u00b5s|ns|[ywdhms])")
_ISO_STEP = re.compile(r"([0-9]+)(?:\.([0-9]{1,9}))?([YMWDHS])")


def read_duration(value: Any) -> tuple[int, int, int]:
    """Return months, days and nanoseconds of ISO 8601 or of Cassandra's own form, a part after the other."""
    text = strict_text(value)
    sign, text = (-1, text[1:]) if text[:1] == "-" else (1, text)
    steps = _iso_steps(text[1:]) if text[:1] == "P" else _own_steps(text)
    places = [_ORDER.index(unit) for _, _, unit in steps]
    if not steps or places != sorted(set(places)):
        raise RefusedError("no duration")
    made = [0, 0, 0]
    for digits, fraction, unit in steps:
        if len(digits) > 4000:
            raise RefusedError("out of range")
        for index, units in enumerate((_MONTHS, _DAYS, _NANOS)):
            made[index] += int(digits) * units.get(unit, 0)
        made[2] += int(fraction.ljust(9, "0"))
    if made[0] >= 2**31 or made[1] >= 2**31 or made[2] >= 2**63:
        raise RefusedError("out of range")
    return sign * made[0], sign * made[1], sign * made[2]


def _own_steps(text: str) -> list[tuple[str, str, str]]:
    steps = [(found[1], "", found[2]) for found in _STEP.finditer(text)]
    if "".join(digits + unit for digits, _, unit in steps) != text:
        raise RefusedError("no duration")
    return [(digits, none, unit.replace("\u00b5s", "us")) for digits, none, unit in steps]


def _iso_steps(text: str) -> list[tuple[str, str, str]]:
    days, clock, times = text.partition("T")
    if clock and not times:
        raise RefusedError("no duration")
    steps = []
    for part, units in (
        (days, {"Y": "y", "M": "mo", "W": "w", "D": "d"}),
        (times, {"H": "h", "M": "m", "S": "s"}),
    ):
        found = list(_ISO_STEP.finditer(part))
        if "".join(one[0] for one in found) != part:
            raise RefusedError("no duration")
        for one in found:
            if one[3] not in units or (one[2] and one[3] != "S"):
                raise RefusedError("no duration")
            steps.append((one[1], one[2] or "", units[one[3]]))
    return steps


_SCALARS: Mapping[str, Callable[[Any], Any]] = {
    "text": read_text, "varchar": read_text, "ascii": read_ascii, "boolean": read_boolean,
    "tinyint": integer(8), "smallint": integer(16), "int": integer(32), "bigint": integer(64),
    "varint": integer(None), "double": read_double, "float": read_float, "decimal": read_decimal,
    "timestamp": lambda value: read_instant(value) // 1000, "date": read_date, "time": read_time,
    "uuid": read_uuid, "timeuuid": read_timeuuid, "inet": read_inet, "blob": read_blob,
    "duration": read_duration,
}  # fmt: skip
