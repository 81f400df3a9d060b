"""Records that cannot be stored, or look as if they could not, each with a name."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack import clock
from tests.faults.ledger import Record

if TYPE_CHECKING:
    from tests.faults.ledger import Ledger

_ID = "00000000-0000-5000-8000-000000000000"


def make_poison() -> dict[str, Record]:
    """Return records of which no row can be made, by what is wrong with them."""
    good = {"host": "poisoned", "timestamp": clock.format_utc(clock.utc_now()), "up": True}
    text = json.dumps(good)
    values: dict[str, bytes | None] = {
        "no value": None,
        "empty": b"",
        "no JSON": b"cpu_usage 12.5",
        "cut off": text[:-9].encode(),
        "two objects": (text + text).encode(),
        "a list": f"[{text}]".encode(),
        "a number": b"42",
        "null": b"null",
        "invalid UTF-8": text.replace("poisoned", "poi\udcffsoned").encode("utf-8", "surrogateescape"),
        "NaN": (text[:-1] + ', "cpu_usage": NaN}').encode(),
        "infinity": (text[:-1] + ', "cpu_usage": Infinity}').encode(),
        "a float beyond its type": (text[:-1] + ', "cpu_usage": 1e999}').encode(),
        "nested too deeply": (text[:-1] + ', "labels": ' + "[" * 100_000 + "]" * 100_000 + "}").encode(),
        "nested too deeply where nobody looks": (
            text[:-1] + ', "unknown": ' + '{"a":' * 100_000 + "1" + "}" * 100_000 + "}"
        ).encode(),
    }
    values |= {name: json.dumps(good | changes).encode() for name, changes in _WRONG.items()}
    values |= {f"without {name}": json.dumps(_without(good, name)).encode() for name in ("host", "timestamp")}
    return {name: Record(name.encode(), value, None) for name, value in values.items()}


_WRONG: dict[str, dict[str, Any]] = {
    "a key that is null": {"host": None},
    "a key of a wrong type": {"host": ["web-1"]},
    "a key part over 64 KiB": {"host": "x" * 70_000},
    "a text for a double": {"cpu_usage": "high"},
    "an object for a double": {"cpu_usage": {"value": 1}},
    "a list for a boolean": {"up": [True]},
    "a number for a map": {"labels": 5},
    "an object in a list of numbers": {"cpu_core_usage": [1.0, {}]},
    "an int beyond its type": {"cpu_count": 2**31},
    "a bigint beyond its type": {"memory_total": 2**63},
    "a fraction for an int": {"cpu_count": 1.5},
    "no UUID": {"id": "not a uuid"},
    "no time": {"timestamp": "yesterday"},
    "a time without a zone that is none": {"timestamp": "2026-13-45T99:00:00Z"},
    "a time beyond every calendar": {"timestamp": 10**30},
    "a time far ahead of the clock": {"timestamp": "9999-12-31T23:59:59.999Z"},
    "a row too large for Cassandra": {"error": "x" * 6_000_000},
}


def make_odd(ledger: Ledger) -> list[Record]:
    """Return records that look bad and are none, noted as rows that must be stored."""
    now = clock.utc_now()

    def sample(number: int, **fields: Any) -> dict[str, Any]:
        moment = clock.format_utc(now - timedelta(seconds=number))
        return {"host": f"odd-{number}", "timestamp": moment, "id": _ID, "up": True, **fields}

    def text(row: dict[str, Any], **unknown: Any) -> Record:
        return Record(b"odd", json.dumps(row | unknown).encode(), ledger.note(row))

    twice = sample(1, cpu_usage=2.5)
    doubled = json.dumps(twice).replace('"cpu_usage"', '"cpu_usage": 99.0, "cpu_usage"').encode()
    return [
        Record(b"a field that stands there twice: the last counts", doubled, ledger.note(twice)),
        text(sample(2, error="x" * 1_000_000)),
        text(sample(3), unknown={"deep": [[[[1]]]]}),
        text(sample(4, error="\u0000 \U0001f600 ñ", labels={})),
        Record(None, json.dumps(row := sample(6)).encode(), ledger.note(row)),
    ]


def _without(good: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in good.items() if key != name}
