"""Knows what was sent: every record's key and values, from a seed, and what the tables must hold for it."""

from __future__ import annotations

import json
import random
import uuid
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack import clock
from airflow_provider_restrack.store import schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Key = tuple[Any, ...]
Row = dict[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_COLUMNS = tuple(one.name for one in schema.FIELDS)
_VALUES = tuple(one for one in schema.FIELDS if one.group != "identity" and one.name not in ("up", "outcome"))
_DOWN, _LATE, _TWICE = 0.1, 0.15, 0.05


@dataclass(frozen=True, slots=True)
class Record:
    """A record for Kafka, and the key of its row in ``system_metrics``; None if it must make no row."""

    key: bytes | None
    value: bytes | None
    row: Key | None


@dataclass(frozen=True, slots=True)
class Sent:
    """Where Kafka has put a record."""

    record: Record
    partition: int
    offset: int


@dataclass
class Ledger:
    """Makes samples as a fleet does: mostly newer ones, some late, some sent twice, some of hosts down.

    A host that is down has nearly no fields, so that a value of an older sample which survives in
    ``latest_metrics`` shows.
    """

    seed: int
    hosts: int = 1000
    rows: dict[Key, Row] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._start = int((clock.utc_now() - _EPOCH).total_seconds()) * 1000 - 6 * 3_600_000
        self._newest: dict[str, int] = {}
        self._made: list[Record] = []

    def make(self, count: int) -> list[Record]:
        """Return so many further records, and note the rows that they make."""
        records = []
        for _ in range(count):
            if self._made and self._random.random() < _TWICE:
                records.append(self._random.choice(self._made))
            else:
                records.append(self._make())
        return records

    def latest(self) -> dict[Key, Row]:
        """Return what ``latest_metrics`` must hold: of every host the newest sample, whole."""
        newest: dict[Key, Row] = {}
        for row in self.rows.values():
            known = newest.get((row["host"],))
            if known is None or known["timestamp"] < row["timestamp"]:
                newest[(row["host"],)] = row
        return newest

    def note(self, row: Mapping[str, Any]) -> Key:
        """Note a sample that must be stored, and return the key of its row."""
        moment = datetime.fromisoformat(row["timestamp"])
        whole = dict.fromkeys(_COLUMNS) | dict(row) | {"timestamp": moment, "day": moment.date()}
        key = (row["host"], whole["day"], moment)
        self.rows[key] = {name: whole[name] for name in _COLUMNS}
        return key

    def _make(self) -> Record:
        host = f"host-{self._random.randrange(self.hosts)}"
        sample = {"host": host, "timestamp": self._moment(host), "up": True, "outcome": "ok"}
        sample["id"] = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{host} {sample['timestamp']}"))
        sample["labels"] = {"role": self._random.choice(("web", "db", "größe"))}
        if self._random.random() < _DOWN:
            sample |= {"up": False, "outcome": "unreachable", "error": f"no route to {host}"}
        else:
            sample |= dict(self._fields())
        record = Record(host.encode(), json.dumps(sample).encode(), self.note(sample))
        self._made.append(record)
        return record

    def _moment(self, host: str) -> str:
        newest = self._newest.get(host, self._start)
        moment = newest + self._random.randrange(1, 2000)
        while self._random.random() < _LATE or self._key(host, moment) in self.rows:
            moment = newest - self._random.randrange(1, 3_600_000)
            if self._key(host, moment) not in self.rows:
                break
        self._newest[host] = max(newest, moment)
        return clock.format_utc(_EPOCH + timedelta(milliseconds=moment))

    def _key(self, host: str, moment: int) -> Key:
        when = _EPOCH + timedelta(milliseconds=moment)
        return host, when.date(), when

    def _fields(self) -> Iterator[tuple[str, Any]]:
        share = self._random.choice((0.2, 0.9))
        for one in _VALUES:
            if self._random.random() < share:
                yield one.name, self._value(one.type)

    def _value(self, kind: str) -> Any:
        if kind == "double":
            return self._random.uniform(0, 100)
        if kind == "int":
            return self._random.randrange(-(2**31), 2**31)
        if kind == "bigint":
            return self._random.randrange(-(2**63), 2**63)
        if kind == "text":
            return f"text {self._random.randrange(10**6)}"
        if kind == "list<double>":
            return [self._random.random() for _ in range(self._random.randrange(1, 5))]
        if kind == "map<text,double>":
            return {f"/mount/{n}": self._random.random() for n in range(self._random.randrange(1, 4))}
        raise ValueError(f"no value is made of type {kind}: add it here")


def to_row(found: Any) -> Row:
    """Return a row of the driver's in the ledger's form."""
    return {name: _plain(getattr(found, name)) for name in _COLUMNS}


def _plain(value: Any) -> Any:
    from cassandra.util import Date

    if isinstance(value, datetime):
        # The driver goes through a float, which is some microseconds off for distant years.
        return _EPOCH + round((value.replace(tzinfo=UTC) - _EPOCH) / _MILLISECOND) * _MILLISECOND
    if isinstance(value, Date):
        return date(1970, 1, 1) + timedelta(days=value.days_from_epoch)
    if isinstance(value, uuid.UUID):
        return str(value)
    if hasattr(value, "items"):
        return dict(value.items())
    return value


def find_differences(wanted: Mapping[Key, Row], found: list[Row], key: tuple[str, ...]) -> list[str]:
    """Return in words every row that is missing, stands twice, was never sent, or differs in a column."""
    by_key: dict[Key, Row] = {}
    differences = []
    for row in found:
        place = tuple(row[name] for name in key)
        if place in by_key:
            differences.append(f"{place} stands there twice")
        by_key[place] = row
    differences += [f"{place} is missing" for place in wanted if place not in by_key]
    for place, row in by_key.items():
        if place not in wanted:
            differences.append(f"{place} was never sent: {row}")
            continue
        differences += [
            f"{place}: {name} is {row[name]!r}, not {value!r}"
            for name, value in wanted[place].items()
            if row[name] != value
        ]
    return differences


def find_lost(
    sent: list[Sent], committed: Mapping[int, int], rows: list[Row], latest: list[Row]
) -> list[str]:
    """Return in words every record before a committed offset whose rows are not stored."""
    stored = {(row["host"], row["day"], row["timestamp"]) for row in rows}
    newest = {row["host"]: row["timestamp"] for row in latest}
    lost = []
    for one in sent:
        if one.record.row is None or one.offset >= committed.get(one.partition, 0):
            continue
        host, _, moment = one.record.row
        where = f"partition {one.partition} offset {one.offset}"
        if one.record.row not in stored:
            lost.append(f"{where}, committed and not in system_metrics: {one.record.row}")
        elif host not in newest or newest[host] < moment:
            lost.append(f"{where}, committed and not in latest_metrics: {host} {moment}")
    return lost
