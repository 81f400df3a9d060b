"""Finished samples from what a host sent or why it sent nothing: the one place that decides what a row
holds.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_restrack import clock
from airflow_provider_restrack.store.schema import FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from airflow_provider_restrack.collect.inventory import Target

Outcome = Literal[
    "ok", "partial", "unreachable", "auth_failed", "hostkey_mismatch", "timeout", "no_python", "parse_error"
]

# The namespace of sample ids; a new one would give every stored sample another id.
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://pypi.org/project/airflow-provider-restrack/")
# Fields that the worker knows better than the host: what an agent sends under these names is dropped.
_OF_WORKER = frozenset({"host", "day", "timestamp", "id", "labels", "up", "collect_seconds", "clock_skew"})
_FROM_HOST = tuple(field for field in FIELDS if field.name not in _OF_WORKER)
_ALL_NAMES = tuple(field.name for field in FIELDS if field.name != "day")
_MAX_TEXT = 2000
_MAX_ITEMS = 4096


class CollectError(RuntimeError):
    """Why a host gave no sample; ``outcome`` is what its row says."""

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.outcome: Outcome = outcome


class _UnfitError(ValueError):
    """A value that a host sent cannot stand in its field."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What an agent sent, when its sample arrived by the worker's clock, and how far the host's clock is off
    (s).
    """

    payload: Mapping[str, Any]
    received_at: datetime
    clock_skew: float | None


def sample_id(host: str, timestamp: str) -> str:
    """Return the id of a host's sample: the same for the same host and timestamp, whoever computes it."""
    return str(uuid.uuid5(_NAMESPACE, f"{host} {timestamp}"))


def build_up_row(target: Target, reading: Reading, collect_seconds: float) -> dict[str, Any]:
    """Return the sample of a host that answered.

    A value of the wrong type, NaN or infinity becomes null, names its field in ``error`` and makes the
    outcome ``partial``: one bad value neither takes the rest with it nor reaches the table.
    """
    values, complaints = _clean_payload(reading.payload)
    if values["outcome"] not in {"ok", "partial"}:
        complaints.insert(0, f"outcome: {values['outcome']!r} is none of an agent's")
    if complaints:
        values["outcome"] = "partial"
        values["error"] = _cut("; ".join([*([values["error"]] if values["error"] else []), *complaints]))
    return {
        **_build_identity(target, reading.received_at),
        **values,
        "up": True,
        "collect_seconds": round(collect_seconds, 3),
        "clock_skew": reading.clock_skew,
    }


def build_down_row(
    target: Target, moment: datetime, outcome: Outcome, error: str, collect_seconds: float
) -> dict[str, Any]:
    """Return the sample of a host that gave none: who, when and why; everything else is null."""
    return {
        **_build_identity(target, moment),
        "up": False,
        "outcome": outcome,
        "error": _cut(_printable(error)),
        "collect_seconds": round(collect_seconds, 3),
    }


def excerpt(raw: bytes, length: int = 200) -> str:
    """Return the start of a host's output, fit for one line of a log: no control characters, cut to
    ``length``.
    """
    text = raw[: 4 * length].decode("utf-8", "replace")
    plain = " ".join(_printable(text).split())
    return plain if len(plain) <= length else plain[:length] + "…"


def _build_identity(target: Target, moment: datetime) -> dict[str, Any]:
    timestamp = clock.format_utc(moment)
    row: dict[str, Any] = dict.fromkeys(_ALL_NAMES)
    row.update(
        host=target.host,
        timestamp=timestamp,
        id=sample_id(target.host, timestamp),
        labels=dict(target.labels),
    )
    return row


def _clean_payload(payload: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the fields that a host may set, with a complaint for each value that cannot stand."""
    values: dict[str, Any] = {}
    complaints: list[str] = []
    for field in _FROM_HOST:
        raw = payload.get(field.name)
        try:
            values[field.name] = None if raw is None else _CLEANERS[field.type](raw, field.name, complaints)
        except _UnfitError as error:
            values[field.name] = None
            complaints.append(f"{field.name}: {error}")
    return values, complaints


def _clean_double(raw: Any, _name: str, _complaints: list[str]) -> float:
    if type(raw) is float and math.isfinite(raw):
        return raw
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise _UnfitError(f"is {type(raw).__name__}, not a number")
    try:
        value = float(raw)
    except OverflowError:
        raise _UnfitError("is too large") from None
    if not math.isfinite(value):
        raise _UnfitError(f"is {value}")
    return value


def _clean_integer(raw: Any, bits: int) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise _UnfitError(f"is {type(raw).__name__}, not an integer")
    if isinstance(raw, float) and not raw.is_integer():
        raise _UnfitError(f"is {raw}, not an integer")
    value = int(raw)
    if not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
        raise _UnfitError(f"is beyond {bits} bits")
    return value


def _clean_text(raw: Any, _name: str, _complaints: list[str]) -> str:
    if not isinstance(raw, str):
        raise _UnfitError(f"is {type(raw).__name__}, not text")
    # JSON can carry half a surrogate pair, which no UTF-8 encoder behind us takes.
    return _cut(_printable(raw.encode("utf-8", "replace").decode()))


def _clean_list(raw: Any, name: str, complaints: list[str]) -> list[float]:
    if not isinstance(raw, list):
        raise _UnfitError(f"is {type(raw).__name__}, not a list")
    if len(raw) > _MAX_ITEMS:
        raise _UnfitError(f"has {len(raw)} items, over {_MAX_ITEMS}")
    return [_clean_double(item, name, complaints) for item in raw]


def _clean_map(raw: Any, name: str, complaints: list[str]) -> dict[str, float]:
    """Keep the good entries of a map: one mount that reports nonsense does not hide the others."""
    if not isinstance(raw, dict):
        raise _UnfitError(f"is {type(raw).__name__}, not a map")
    if len(raw) > _MAX_ITEMS:
        raise _UnfitError(f"has {len(raw)} entries, over {_MAX_ITEMS}")
    values: dict[str, float] = {}
    for key, item in raw.items():
        try:
            if item is not None:
                values[_clean_text(key, name, complaints)] = _clean_double(item, name, complaints)
        except _UnfitError as error:
            complaints.append(f"{name}[{excerpt(key.encode('utf-8', 'replace'), 60)}]: {error}")
    return values


def _printable(text: str) -> str:
    """Take from a host's text what would move the cursor or the lines of whoever shows it."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " for char in text)


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"


_CLEANERS: Mapping[str, Callable[[Any, str, list[str]], Any]] = {
    "double": _clean_double,
    "int": lambda raw, _name, _complaints: _clean_integer(raw, 32),
    "bigint": lambda raw, _name, _complaints: _clean_integer(raw, 64),
    "text": _clean_text,
    "list<double>": _clean_list,
    "map<text,double>": _clean_map,
}
