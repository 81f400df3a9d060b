"""Runs inputs through the loader's two encoders and compares each outcome with the reference."""

from __future__ import annotations

import ipaddress
import math
import random
import re
import struct
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache
from types import SimpleNamespace
from typing import Any

from cassandra import cqltypes
from cassandra.protocol import ProtocolHandler
from cassandra.query import UNSET_VALUE

from airflow_provider_restrack.load.cql_types import CqlType, parse_cql_type
from airflow_provider_restrack.load.encode import RowEncoder
from airflow_provider_restrack.load.errors import RejectError
from airflow_provider_restrack.load.pack import PackedEncoder
from airflow_provider_restrack.load.policy import LoadPolicy
from airflow_provider_restrack.load.rows import build_row_maker
from airflow_provider_restrack.load.table import Column
from airflow_provider_restrack.store import schema
from tests.fuzz.inputs import NOW_S, VALID, Inputs, moment
from tests.fuzz.readings import LeftOpenError, RefusedError
from tests.fuzz.reference import Reference, TableSpec
from tests.unit.load.fakes import FakeMessage, driver_type, prepare

_int = struct.Struct(">i").unpack_from
_NOW_US = NOW_S * 1_000_000
_VERSION = 5  # of the protocol
_SHARES = (1, 2, 2, 2)  # of the inputs, in the order of subjects()
_type = cache(driver_type)
PLACE = CqlType(
    "place",
    tuple(map(parse_cql_type, ("int", "text", "date", "frozen<list<double>>"))),
    fields=("row", "Rack", "since", "of it"),
)


class WrongRowError(AssertionError):
    """The loader made a row that is not the record's, lost one, or raised something else than a reject."""


class FakeSession:
    """Answers what is asked before the first record: the tables' columns, and prepared statements.

    :param packs: whether it takes packed rows.
    """

    def __init__(self, tables: list[TableSpec], *, packs: bool) -> None:
        self._tables = {table.name: table for table in tables}
        if packs:
            self.client_protocol_handler = ProtocolHandler

    def execute(self, _query: str, where: tuple[str, ...]) -> list[Any]:
        if len(where) == 1:
            kinds = [_text_of(one) for one in PLACE.arguments]
            return [SimpleNamespace(type_name=PLACE.name, field_names=PLACE.fields, field_types=kinds)]
        table = self._tables[where[1]]
        return [
            SimpleNamespace(column_name=name, kind=kind, position=position, type=_text_of(table.types[name]))
            for kind, names in (
                ("partition_key", table.partition),
                ("clustering", table.clustering),
                ("regular", [name for name in table.types if name not in table.key]),
            )
            for position, name in enumerate(names)
        ]

    def prepare(self, query: str) -> Any:
        found = re.fullmatch(r"INSERT INTO ks\.(\w+) \((.*)\) VALUES .*", query)
        assert found is not None
        table = self._tables[found[1]]
        names = [name.strip('"') for name in found[2].split(", ")]
        columns = [Column(name, table.types[name], "regular") for name in names]
        prepared = prepare(columns, with_ttl="TTL" in query)
        prepared.routing_key_indexes = list(range(len(table.partition)))
        prepared.result_metadata_id = b"result"
        return prepared


def _text_of(cql: CqlType) -> str:
    if cql.fields:
        return f"frozen<{cql.name}>" if cql.frozen else cql.name
    text = f"{cql.name}<{', '.join(map(_text_of, cql.arguments))}>" if cql.arguments else cql.name
    return f"frozen<{text}>" if cql.frozen else text


class Subject:
    """Tables that are filled from one record, by both encoders, and the reference's reading of them."""

    def __init__(
        self,
        name: str,
        tables: list[TableSpec],
        *,
        time_field: str = "timestamp",
        ttl: int | None = None,
        ahead: int | None = None,
    ) -> None:
        self.name, self.tables, self._ttl = name, tables, ttl
        policy = LoadPolicy(
            topics=["t"],
            tables=[{"table": f"ks.{table.name}", "mode": table.mode} for table in tables],
            columns={column: one for table in tables for column, one in table.fields.items()},
            timestamp_field=time_field,
            ttl=ttl,
            max_ahead=ahead,
        )
        self.packed = build_row_maker(policy, FakeSession(tables, packs=True))
        self.bound = build_row_maker(policy, FakeSession(tables, packs=False))
        assert all(type(one) is PackedEncoder for one in self.packed.encoders)
        assert all(type(one) is RowEncoder for one in self.bound.encoders)
        self._reference = Reference(tables, time_field, ttl, ahead)
        self.fields = {
            table.field_of(column): cql for table in tables for column, cql in table.types.items()
        } | {time_field: parse_cql_type("timestamp")}
        self.needed = {table.field_of(column) for table in tables for column in table.key} | {time_field}

    def check(self, raw: bytes | None, kafka_time: tuple[int, int]) -> str:
        """Compare what comes of a record with what must; return what it was.

        :raises WrongRowError: if they differ.
        """
        packed, bound = (_outcome(one, raw, kafka_time) for one in (self.packed, self.bound))
        cells = self._compare_encoders(packed, bound)
        try:
            expected = self._reference.read(raw, kafka_time, _NOW_US)
        except LeftOpenError:
            return "left open"
        except RefusedError as error:
            if not isinstance(packed, str):
                raise WrongRowError(f"a row came of what must be rejected: {error}") from None
            return f"reject: {packed}"
        if isinstance(packed, str):
            if not expected.doubtful:
                raise WrongRowError(f"a row was rejected: {packed[:300]}")
            return f"reject: {packed}"
        if expected.rows is None or packed is None:
            if expected.rows is not None or packed is not None:
                raise WrongRowError(f"the record's time to live is {expected.ttl} s, its rows are {packed}")
            return "expired"
        for table, maker, row, row_cells, wanted in zip(
            self.tables, self.packed.encoders, packed, cells, expected.rows, strict=True
        ):
            names = [source.column.name for source in maker.plan.sources]
            _check_values(table, names, row_cells, wanted)
            _check_tail(row_cells[len(names) :], expected.write_us, expected.ttl)
            _check_keys(table, row, row_cells)
        return "row"

    def _compare_encoders(self, packed: Any, bound: Any) -> list[list[Any]]:
        """Return the values of the packed rows, which are those of the bound ones."""
        if not isinstance(packed, list) or not isinstance(bound, list):
            if packed != bound:
                raise WrongRowError(f"the encoders differ: {str(packed)[:300]} is not {str(bound)[:300]}")
            return []
        cells = [_split(row.statement) for row in packed]
        for one, row, other in zip(cells, packed, bound, strict=True):
            if one != other.statement.values:
                raise WrongRowError(f"the encoders differ: {one} is not {other.statement.values}")
            for name in ("partition_key", "primary_key", "write_us", "size"):
                if getattr(row, name) != getattr(other, name):
                    raise WrongRowError(f"the encoders differ in {name}")
        return cells


def _outcome(maker: Any, raw: bytes | None, kafka_time: tuple[int, int]) -> Any:
    """Return the rows, None, or the reason of a reject."""
    try:
        return maker.make(FakeMessage(raw, moment=kafka_time), _NOW_US)
    except RejectError as error:
        return str(error)
    except Exception as error:
        raise WrongRowError(f"{type(error).__name__} escapes: {error}") from error


def _split(body: bytes) -> list[Any]:
    """Return the values of packed bytes: None is null."""
    cells: list[Any] = []
    at = 0
    while at < len(body):
        (size,) = _int(body, at)
        at += 4
        if size < 0:
            cells.append({-1: None, -2: UNSET_VALUE}[size])
        else:
            cells.append(body[at : at + size])
            if len(cells[-1]) != size:
                raise WrongRowError("a value is cut")
            at += size
    return cells


def _check_values(table: TableSpec, names: list[str], cells: list[Any], row: dict[str, Any]) -> None:
    absent = UNSET_VALUE if table.mode == "merge" else None
    for name, cell in zip(names, cells, strict=False):
        wanted, cql = row[name], table.types[name]
        if wanted is None:
            if cell is not absent:
                raise WrongRowError(f"{table.name}.{name} is {cell!r}, but the record has none")
        elif type(cell) is not bytes or not _same(cql, cell, wanted):
            raise WrongRowError(f"{table.name}.{name} is {cell!r}, not {str(wanted)[:300]}")


def _same(cql: CqlType, cell: bytes, wanted: Any) -> bool:
    if cql.name == "map":
        flat = _items(cell, 2)
        keys = [_value(cql.arguments[0], one) for one in flat[::2]]
        if len(keys) != len(wanted) or set(keys) != set(wanted):
            return False
        return all(
            _same(cql.arguments[1], one, wanted[key]) for key, one in zip(keys, flat[1::2], strict=True)
        )
    if cql.name == "tuple" or cql.fields:
        return all(
            part is None if one is None else part is not None and _same(kind, part, one)
            for kind, part, one in zip(cql.arguments, _split(cell), wanted, strict=True)
        )
    if cql.name == "vector":
        return struct.unpack(f">{len(wanted)}f", cell) == wanted
    if cql.name == "list":
        items = _items(cell, 1)
        return len(items) == len(wanted) and all(
            _same(cql.arguments[0], one, other) for one, other in zip(items, wanted, strict=True)
        )
    if cql.name == "set":
        items = [_value(cql.arguments[0], one) for one in _items(cell, 1)]
        return len(items) == len(wanted) and set(items) == wanted
    value = _value(cql, cell)
    if cql.name == "decimal":
        return bool(value.as_tuple() == wanted.as_tuple() or (value == wanted == 0))
    if cql.name in ("double", "float"):
        return bool(value == wanted) and math.copysign(1, value) == math.copysign(1, wanted)
    return bool(value == wanted)


def _items(cell: bytes, of_each: int) -> list[bytes]:
    (count,) = _int(cell, 0)
    items = _split(cell[4:])
    if len(items) != count * of_each or not all(type(one) is bytes for one in items):
        raise WrongRowError("a collection's items are not as many as it says")
    return items


def _value(cql: CqlType, cell: bytes) -> Any:
    """Return a scalar by the driver's own type, or what of its value is to be compared."""
    if cql.name in ("timestamp", "time"):  # the driver makes objects of them that hold less
        return cqltypes.LongType.deserialize(cell, _VERSION)
    value = _type(cql).deserialize(cell, _VERSION)
    if cql.name == "date":
        return value.days_from_epoch + 2**31
    if cql.name == "duration":
        return value.months, value.days, value.nanoseconds
    return ipaddress.ip_address(value) if cql.name == "inet" else value


def _check_tail(tail: list[Any], write_us: int, ttl: int | None) -> None:
    wanted = [struct.pack(">q", write_us)] + ([] if ttl is None else [struct.pack(">i", ttl)])
    if tail != wanted:
        raise WrongRowError(f"write time and time to live are {tail}, not {wanted}")


def _check_keys(table: TableSpec, row: Any, cells: list[Any]) -> None:
    """Compare the keys that batches are made of, and the size, with the values."""
    size = len(table.partition)
    if row.primary_key != tuple(cells[: len(table.key)]) or row.partition_key != row.primary_key[:size]:
        raise WrongRowError(f"the keys {row.primary_key} are not those of the values")
    made = [one or b"" for one in cells if one is not UNSET_VALUE]
    if row.size != sum(map(len, made)) + 20 * len(made):  # as the server counts cells, tombstones among them
        raise WrongRowError(f"the size is {row.size}")


def _with_place(cql: CqlType) -> CqlType:
    """Return a type with the definition of the user-defined one in it."""
    if cql.name == PLACE.name:
        return replace(PLACE, frozen=cql.frozen)
    return replace(cql, arguments=tuple(map(_with_place, cql.arguments)))


def spec(name: str, mode: str, types: dict[str, str], key: tuple[str, str], **more: Any) -> TableSpec:
    """Return a table; its key is two lists of names in words."""
    partition, clustering = (one.split() for one in key)
    return TableSpec(
        name,
        mode,
        {one: _with_place(parse_cql_type(kind)) for one, kind in types.items()},
        partition,
        clustering,
        **more,
    )


def _kinds() -> dict[str, str]:
    """Return a column of every type, and of collections as they are packed and as they are bound."""
    collections = (
        "list<double>", "frozen<list<int>>", "list<boolean>", "list<text>", "list<decimal>",
        "list<timestamp>", "set<text>", "frozen<set<inet>>", "set<double>", "map<text, double>",
        "frozen<map<text, bigint>>", "map<text, text>", "map<ascii, tinyint>", "map<int, double>",
        "frozen<map<date, double>>", "map<uuid, float>", "map<text, frozen<list<double>>>",
        "list<frozen<map<text, float>>>", "tuple<int, text, timestamp>", "frozen<tuple<double, blob>>",
        "place", "frozen<place>", "list<frozen<place>>", "map<text, frozen<place>>",
        "vector<float, 3>", "list<frozen<tuple<text, inet>>>", "map<text, duration>",
    )  # fmt: skip
    return {f"c_{number}": kind for number, kind in enumerate((*VALID, *collections))}


def subjects() -> list[Subject]:
    """Return the tables that are fuzzed: the provider's own two, every type, and every kind of key."""
    samples = {one.name: schema.cql_type(one) for one in schema.FIELDS}
    system = spec("system_metrics", "merge", samples, ("host day", "timestamp"), day=True)
    latest = spec("latest_metrics", "replace", samples, ("host", ""), day=True)
    kinds = {"k": "text", "n": "int"} | _kinds()
    keys = {
        "p_text": "text", "p_double": "double", "p_decimal": "decimal", "p_blob": "blob", "k_at": "timestamp",
        "k_id": "uuid", "k_inet": "inet", "k_text": "text", "v": "int", "when": "date",
    }  # fmt: skip
    small = {"k": "text", "v": "int", "w": "double", "x": "text"}
    return [
        Subject("samples", [system, latest]),
        Subject("kinds", [spec("kinds", "merge", kinds, ("k", "n"))], ttl=14 * 86_400),
        Subject(
            "keys",
            [spec("keys", "replace", keys, ("p_text p_double p_decimal p_blob", "k_at k_id k_inet k_text"))],
            time_field="k_at",
        ),
        Subject(
            "small",
            [
                spec("small", "merge", small, ("k", ""), fields={"v": "a value", "k": "key"}),
                spec("ratios", "merge", {"w": "double", "v": "int"}, ("w", ""), fields={"v": "a value"}),
                spec("days", "replace", {"k": "text", "day": "date", "x": "text"}, ("k day", ""), day=True,
                      fields={"k": "key"}),
            ],
            time_field="made",
            ttl=3600,
            ahead=3600,
        ),
    ]  # fmt: skip


@dataclass
class Fuzzer:
    """Makes and checks inputs; a seed gives the same inputs again."""

    seed: int
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._subjects = subjects()
        self._inputs = [Inputs(self._rng, one.fields, one.needed) for one in self._subjects]

    def run(self, count: int) -> None:
        """Check so many inputs.

        :raises WrongRowError: at the first that goes wrong, with the seed and the input.
        """
        for _ in range(count):
            index = self._rng.choices(range(len(self._subjects)), _SHARES)[0]
            raw, kafka_time = self._inputs[index].make(), moment(self._rng)
            try:
                outcome = self._subjects[index].check(raw, kafka_time)
            except WrongRowError as error:
                raise WrongRowError(
                    f"tables {self._subjects[index].name!r}, seed {self.seed}, input"
                    f" {sum(self.counts.values())}, Kafka's time {kafka_time}: {error}\n{describe(raw)}"
                ) from error
            self.counts[reason(outcome)] += 1


def describe(raw: bytes | None) -> str:
    """Return an input as hexadecimal digits, as ``--replay`` takes it."""
    return "no value" if raw is None else raw.hex()


def reason(outcome: str) -> str:
    """Return an outcome without what is a record's own, so that it can be counted."""
    text = re.sub(r" - at `.*", "", outcome)
    text = re.sub(r"key column '\w+'", "a key column", re.sub(r"ks\.\w+", "a table", text))
    text = re.sub(
        r"^(reject: ).*( is no ISO 8601 date| lacks its time zone| is no time-based UUID).*", r"\1…\2", text
    )
    text = re.sub(r"'.*?'|\"[^\"]*\"", "…", text)
    return re.sub(r"\(byte \d+\)|-?\d{3,}", "N", text)[:90]
