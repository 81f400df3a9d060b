r"""Reads InfluxDB's line protocol, any number of lines in a record.

The format: https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/. Escapes are ``\,``,
``\=`` and ``\ `` in names and tags, ``\"`` and ``\\`` in strings; any other backslash is itself. Strings may
hold newlines, as Telegraf writes them. A tag or field that stands twice in a line is refused, as nobody can
tell which one is meant.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.load.errors import ConfigurationError, RejectError
from airflow_provider_restrack.load.formats.points import build_row, record_millis, to_instant

if TYPE_CHECKING:
    from collections.abc import Mapping

_PRECISIONS_NS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_KEY = r"((?:[^\\,= \n]|\\[^\n])+)"
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_MEASUREMENT = re.compile(r"((?:[^\\, \n]|\\[^\n])+)")
_TAG = re.compile(rf",{_KEY}={_KEY}")
_SPACE = re.compile(r" +")
_FIELD = re.compile(rf'{_KEY}=(?:"((?:[^"\\]|\\.)*)"|([^," \r\n]+))', re.DOTALL)
_END = re.compile(r"(?: +(-?[0-9]{1,19}))? *\r?(?:\n|\Z)")
_ESCAPE = re.compile(r"\\([,= ])")
_MEASUREMENT_ESCAPE = re.compile(r"\\([, ])")
_STRING_ESCAPE = re.compile(r'\\(["\\])')
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_INTEGER = re.compile(r"([+-]?[0-9]{1,20})([iu])")
_BOOLEANS = dict.fromkeys(("t", "T", "true", "True", "TRUE"), True) | dict.fromkeys(
    ("f", "F", "false", "False", "FALSE"), False
)
_RANGES = {"i": range(-(2**63), 2**63), "u": range(2**64)}


@dataclass(frozen=True, slots=True)
class InfluxFormat:
    """Line protocol.

    :ivar unit_ns: nanoseconds in a unit of the timestamps.
    """

    unit_ns: int = 1
    name: str = "influx"

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> InfluxFormat:
        """Return the format with its options."""
        return cls(parse_precision(options.get("precision", "ns")))

    def parse(self, value: bytes, record: Any) -> list[dict[str, Any]]:
        """Return a row for each line; one without a timestamp takes Kafka's time.

        :raises RejectError: with line and column, if a line is malformed.
        """
        try:
            text = value.decode()
        except UnicodeDecodeError as error:
            line = value.count(b"\n", 0, error.start) + 1
            raise RejectError(
                f"influx: line {line} is not UTF-8: {error.reason} at byte {error.start}"
            ) from error
        rows, position = [], _skip_blank(text, 0)
        while position < len(text):
            row, position = self._read_line(text, position, record)
            rows.append(row)
            position = _skip_blank(text, position)
        return rows

    def _read_line(self, text: str, position: int, record: Any) -> tuple[dict[str, Any], int]:
        match = _MEASUREMENT.match(text, position)
        if match is None:
            raise _malformed(text, position, "a measurement is expected")
        name = _MEASUREMENT_ESCAPE.sub(r"\1", match[1])
        tags, position = _read_tags(text, match.end())
        fields, position = _read_fields(text, position)
        end = _END.match(text, position)
        if end is None:
            raise _malformed(text, position, "a comma, a timestamp or the end of the line is expected")
        try:
            time = record_millis(record) if end[1] is None else to_instant(int(end[1]), self.unit_ns)
        except OverflowError:
            raise _malformed(text, position, "the timestamp is out of range") from None
        return build_row(name, tags, fields, time), end.end()


def parse_precision(value: Any) -> int:
    """Return the nanoseconds in a unit of ``precision``.

    :raises ConfigurationError: if it is no unit.
    """
    if not isinstance(value, str) or value not in _PRECISIONS_NS:
        raise ConfigurationError(
            f"precision of format 'influx' is {value!r}: give one of {', '.join(_PRECISIONS_NS)}"
        )
    return _PRECISIONS_NS[value]


def _skip_blank(text: str, position: int) -> int:
    """Return where the next line with a point begins, after empty ones and comments."""
    match = _BLANK.match(text, position)
    return match.end() if match is not None else position


def _read_tags(text: str, position: int) -> tuple[dict[str, str], int]:
    tags: dict[str, str] = {}
    while text.startswith(",", position):
        match = _TAG.match(text, position)
        if match is None:
            raise _malformed(text, position + 1, "a tag is expected: KEY=VALUE, neither of them empty")
        key = _ESCAPE.sub(r"\1", match[1])
        if key in tags:
            raise _malformed(text, position + 1, f"tag {key!r} stands twice")
        tags[key] = _ESCAPE.sub(r"\1", match[2])
        position = match.end()
    return tags, position


def _read_fields(text: str, position: int) -> tuple[dict[str, Any], int]:
    space = _SPACE.match(text, position)
    if space is None:
        raise _malformed(text, position, "a comma, or a space and the fields are expected")
    fields: dict[str, Any] = {}
    position = space.end() - 1
    while not fields or text.startswith(",", position):
        position += 1
        match = _FIELD.match(text, position)
        if match is None:
            raise _malformed(text, position, "a field is expected: KEY=VALUE, strings in double quotes")
        key = _ESCAPE.sub(r"\1", match[1])
        if key in fields:
            raise _malformed(text, position, f"field {key!r} stands twice")
        fields[key] = _read_value(text, match)
        position = match.end()
    return fields, position


def _read_value(text: str, match: re.Match[str]) -> bool | int | float | str:
    if match[2] is not None:
        return _STRING_ESCAPE.sub(r"\1", match[2])
    raw = match[3]
    if raw in _BOOLEANS:
        return _BOOLEANS[raw]
    whole = _INTEGER.fullmatch(raw)
    if whole is not None:
        number = int(whole[1])
        if number in _RANGES[whole[2]]:
            return number
    elif _NUMBER.fullmatch(raw) and math.isfinite(float(raw)):
        return float(raw)
    raise _malformed(
        text, match.start(3), f"{raw[:40]!r} is no number in range, no boolean and no quoted string"
    )


def _malformed(text: str, position: int, reason: str) -> RejectError:
    line = text.count("\n", 0, position) + 1
    column = position - (text.rfind("\n", 0, position) + 1) + 1
    return RejectError(f"influx: line {line}, column {column}: {reason}")
