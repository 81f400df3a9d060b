"""Runs inputs of the other formats: what is valid must give the rows of the same points as flat JSON, which
``harness.py`` holds against a reading of its own; what is damaged gives a row or a reject, in both encoders.
"""

from __future__ import annotations

import io
import json
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import fastavro

from airflow_provider_restrack.load.errors import RejectError
from airflow_provider_restrack.load.formats.avro import PlainAvro, compile_reader
from airflow_provider_restrack.load.formats.influx import InfluxFormat
from airflow_provider_restrack.load.formats.telegraf import TelegrafFormat
from airflow_provider_restrack.load.policy import LoadPolicy
from airflow_provider_restrack.load.rows import build_row_maker
from tests.fuzz.harness import FakeSession, WrongRowError, reason, spec
from tests.fuzz.inputs import NOW_S, damage
from tests.unit.load.fakes import FakeMessage

if TYPE_CHECKING:
    from collections.abc import Callable

    Point = dict[str, Any]  # tags, fields and timestamp in milliseconds

_TABLE = spec(
    "points",
    "merge",
    {"host": "text", "at": "timestamp", "cpu": "text", "usage": "double", "n": "bigint", "up": "boolean",
     "note": "text", "labels": "frozen<map<text, text>>"},
    ("host", "at"),
    fields={"at": "timestamp", "labels": "tags"},
)  # fmt: skip
_SCHEMA = {
    "type": "record", "name": "point", "fields": [
        {"name": "host", "type": "string"}, {"name": "timestamp", "type": "long"},
        {"name": "cpu", "type": ["null", "string"]}, {"name": "usage", "type": ["null", "double"]},
        {"name": "n", "type": ["null", "long"]}, {"name": "up", "type": ["null", "boolean"]},
        {"name": "note", "type": ["null", "string"]},
        {"name": "tags", "type": {"type": "map", "values": "string"}},
    ],
}  # fmt: skip
_PARSED = fastavro.parse_schema(_SCHEMA)
_TEXTS = ("a", "web 1", "a,b=c", 'say "so"', "\u00e4\U0001f600", "back\\slash", "two\nlines", "=", " x ")


def _point(rng: random.Random) -> Point:
    fields = {
        "usage": rng.choice((rng.random() * 100, -0.0, 1e300, 5e-324)),
        "n": rng.choice((rng.randrange(10**6), -(2**63), 2**63 - 1)),
        "up": rng.random() < 0.5,
        "note": rng.choice(_TEXTS),
    }
    kept = {name: value for name, value in fields.items() if rng.random() < 0.7} or {"n": 1}
    # A tag of line protocol can neither hold a newline nor end in a backslash.
    tags = {"host": rng.choice(_TEXTS).replace("\n", " ").replace("\\", "/")}
    if rng.random() < 0.6:
        tags["cpu"] = f"cpu{rng.randrange(8)}"
    return {"tags": tags, "fields": kept, "timestamp": NOW_S * 1000 - rng.randrange(10**8)}


def _telegraf(points: list[Point], rng: random.Random) -> bytes:
    metrics = [{"name": "m", **point} for point in points]
    made = metrics[0] if len(metrics) == 1 and rng.random() < 0.5 else {"metrics": metrics}
    return json.dumps(made, ensure_ascii=rng.random() < 0.5).encode()


def _influx(points: list[Point], _rng: random.Random) -> bytes:
    return "\n".join(map(_line, points)).encode()


def _line(point: Point) -> str:
    tags = "".join(f",{name}={_escaped(value)}" for name, value in point["tags"].items())
    fields = ",".join(f"{name}={_field(value)}" for name, value in point["fields"].items())
    return f"m{tags} {fields} {point['timestamp']}"


def _escaped(text: str) -> str:
    return "".join("\\" + one if one in ",= " else one for one in text)


def _field(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{value}i" if isinstance(value, int) else repr(value)


def _avro(points: list[Point], _rng: random.Random) -> bytes:
    out = io.BytesIO()
    names = [one["name"] for one in _SCHEMA["fields"]]  # type: ignore[index]
    fastavro.schemaless_writer(out, _PARSED, {name: _flat(points[0]).get(name) for name in names})
    return out.getvalue()


def _flat(point: Point) -> dict[str, Any]:
    return {**point["tags"], **point["fields"], "tags": point["tags"], "timestamp": point["timestamp"]}


class FormatSubject:
    """A format, what writes it, and the makers of its rows by both encoders."""

    def __init__(self, one: Any, write: Callable[[list[Point], random.Random], bytes], most: int) -> None:
        self.name, self._write, self._most = one.name, write, most
        policy = LoadPolicy(topics=["t"], tables=["ks.points"], columns=_TABLE.fields, max_ahead=None)
        sessions = [FakeSession([_TABLE], packs=packs) for packs in (True, False)]
        self._makers = [build_row_maker(policy, session, one) for session in sessions]
        self._flat = build_row_maker(policy, sessions[1])

    def make(self, rng: random.Random) -> tuple[bytes, list[Point] | None]:
        """Return a value, and its points where they are known."""
        if rng.random() < 0.05:
            return rng.randbytes(rng.randrange(120)), None
        points = [_point(rng) for _ in range(rng.randrange(1, self._most + 1))]
        raw = self._write(points, rng)
        if rng.random() < 0.4:
            return raw, points
        for _ in range(rng.randrange(1, 4)):
            raw = damage(rng, raw)
        return raw, None

    def check(self, raw: bytes, points: list[Point] | None) -> str:
        """Compare the rows of both encoders, and with those of the points; return what came of it.

        :raises WrongRowError: if they differ.
        """
        message = FakeMessage(raw, moment=(1, NOW_S * 1000))
        packed, bound = (_rows(maker, message) for maker in self._makers)
        if packed != bound:
            raise WrongRowError(f"the encoders differ: {str(packed)[:300]} is not {str(bound)[:300]}")
        if points is not None:
            flat = [FakeMessage(json.dumps(_flat(one)).encode(), moment=message.moment) for one in points]
            wanted = [row for one in flat for row in _rows(self._flat, one)]
            if packed != wanted:
                raise WrongRowError(f"{str(packed)[:300]} is not {str(wanted)[:300]}")
        return f"reject: {packed}" if isinstance(packed, str) else "rows" if packed else "no row"


def _rows(maker: Any, message: FakeMessage) -> Any:
    """Return keys, write times and values of the rows, or the reason of a reject."""
    try:
        made = maker.make_all(message, NOW_S * 10**6)
    except RejectError as error:
        return str(error)
    except Exception as error:
        raise WrongRowError(f"{type(error).__name__} escapes: {error}") from error
    rows = [row for rows in made for row in rows]
    return [(row.primary_key, row.write_us, row.size, values_of(row)) for row in rows]


def values_of(row: Any) -> bytes:
    """Return the values of a row as the protocol has them."""
    from airflow_provider_restrack.load.pack import pack_bound

    return row.statement if isinstance(row.statement, bytes) else pack_bound(row.statement.values)


class FormatFuzzer:
    """Makes and checks inputs of each format in turn; a seed gives the same inputs again."""

    def __init__(self, seed: int) -> None:
        self.seed, self.counts, self._rng = seed, Counter[str](), random.Random(seed)
        self.subjects = [
            FormatSubject(TelegrafFormat.of({"json_timestamp_units": "1ms"}), _telegraf, 3),
            FormatSubject(InfluxFormat.of({"precision": "ms"}), _influx, 3),
            FormatSubject(PlainAvro(compile_reader([json.dumps(_SCHEMA)])), _avro, 1),
        ]

    def run(self, count: int) -> None:
        """Check so many inputs.

        :raises WrongRowError: at the first that goes wrong, with the seed and the input.
        """
        for index in range(count):
            subject = self.subjects[index % len(self.subjects)]
            raw, points = subject.make(self._rng)
            try:
                outcome = subject.check(raw, points)
            except WrongRowError as error:
                raise WrongRowError(
                    f"format {subject.name}, seed {self.seed}, input {index}: {error}\n{raw.hex()}"
                ) from error
            self.counts[f"{subject.name} {reason(outcome)}"] += 1
