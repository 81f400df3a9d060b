"""Reads a table's columns from Cassandra and plans which field fills each, before any record is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.load.cql_types import CqlType, is_builtin, json_type, parse_cql_type
from airflow_provider_restrack.load.errors import ConfigurationError
from airflow_provider_restrack.load.sources import Given, check_type, parse_source
from airflow_provider_restrack.store.schema import TABLE_BY_NAME, split_table_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_provider_restrack.store.schema import WriteMode

_COLUMNS_OF_TABLE = (
    "SELECT column_name, kind, position, type FROM system_schema.columns"
    " WHERE keyspace_name = %s AND table_name = %s"
)
_USER_TYPES = "SELECT type_name, field_names, field_types FROM system_schema.types WHERE keyspace_name = %s"
_BY_NAME = Given()
_TEXT = CqlType("text")
_MODES = ("merge", "replace")


@dataclass(frozen=True, slots=True)
class TableTarget:
    """A table to fill and how: ``merge`` leaves absent fields as they are, ``replace`` deletes them."""

    keyspace: str
    name: str
    mode: WriteMode

    @property
    def full_name(self) -> str:
        """``keyspace.table``."""
        return f"{self.keyspace}.{self.name}"


@dataclass(frozen=True, slots=True)
class Column:
    """A column as the table declares it; ``kind`` is partition_key, clustering, static or regular."""

    name: str
    cql: CqlType
    kind: str

    @property
    def in_key(self) -> bool:
        """Whether it is a part of the primary key."""
        return self.kind in ("partition_key", "clustering")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a column's value comes from: a field, or the day of a time field where the field is absent.

    :ivar field: the record's field, or a name of its own for what is none or is read as another type.
    :ivar given: what ``columns=`` says of it.
    :ivar fallback: the time field whose UTC day stands in for an absent ``field``.
    :ivar is_part: whether the column takes another source if this one is absent.
    """

    column: Column
    field: str
    fallback: str | None = None
    given: Given = _BY_NAME
    is_part: bool = False

    @property
    def is_required(self) -> bool:
        """Whether a record without the field is rejected."""
        return self.column.in_key and self.fallback is None and not self.is_part

    @property
    def parts(self) -> tuple[Source, ...]:
        """The sources whose values are read of the record: its own parts, or itself."""
        if not self.given.parts:
            return (self,)
        column, names = self.column, [part.field for part in self.given.parts]
        if self.given.namespace is not None:  # texts of their own, whatever the fields are elsewhere
            column, names = replace(column, cql=_TEXT), [None] * len(names)
        return tuple(
            Source(column, name or _name_of(part, column), given=part, is_part=True)
            for name, part in zip(names, self.given.parts, strict=True)
        )


def _name_of(given: Given, column: Column) -> str:
    return f"{given.label} as {column.cql}"


@dataclass(frozen=True, slots=True)
class TablePlan:
    """A table and the source of each column that it takes; the columns of the primary key come first.

    :ivar cleared: columns that every row sets to null: those left out, where rows are replaced whole.
    """

    target: TableTarget
    sources: tuple[Source, ...]
    cleared: tuple[str, ...] = ()

    @property
    def partition_size(self) -> int:
        """How many of the first columns are the partition key."""
        return sum(source.column.kind == "partition_key" for source in self.sources)

    @property
    def key_size(self) -> int:
        """How many of the first columns are the primary key."""
        return sum(source.column.in_key for source in self.sources)


def parse_targets(tables: Sequence[str | Mapping[str, str]]) -> tuple[TableTarget, ...]:
    """Read the tables of an operator's argument.

    :param tables: names ``keyspace.table``, or mappings ``{"table": …, "mode": "merge" | "replace"}``.
        Without a mode, the tables of ``store/schema.py`` have their own and any other is merged.
    :raises ConfigurationError: if there is none, one is named twice, a name or mode is none, or a key is
        unknown.
    """
    if isinstance(tables, str) or not tables:
        raise ConfigurationError(f"tables is {tables!r}: give a list such as ['metrics.system_metrics']")
    targets = tuple(_parse_target(table) for table in tables)
    names = [target.full_name for target in targets]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"tables names {name} twice")
    return targets


def _parse_target(table: str | Mapping[str, str]) -> TableTarget:
    given = {"table": table} if isinstance(table, str) else dict(table)
    if "table" not in given or set(given) - {"table", "mode"}:
        raise ConfigurationError(
            f"tables has {table!r}: write 'ks.table' or {{'table': 'ks.table', 'mode': 'merge'}}"
        )
    try:
        keyspace, name = split_table_name(given["table"])
    except ValueError as error:
        raise ConfigurationError(f"tables: {error}") from error
    known = TABLE_BY_NAME.get(name)
    mode = given.get("mode") or (known.write_mode if known else "merge")
    if mode not in _MODES:
        raise ConfigurationError(f"tables: mode of {given['table']} is {mode!r}: it must be merge or replace")
    return TableTarget(keyspace, name, mode)  # type: ignore[arg-type]


def read_columns(session: Any, target: TableTarget, *, connection: str) -> tuple[Column, ...]:
    """Return a table's columns, those of the primary key first and in its order.

    They come from ``system_schema`` and not from the driver's copy, which can be older than the table.

    :raises ConfigurationError: if there is no such table, or it has a column of a type that JSON cannot fill.
    """
    rows = list(session.execute(_COLUMNS_OF_TABLE, (target.keyspace, target.name)))
    if not rows:
        raise ConfigurationError(
            f"table {target.full_name} does not exist on Cassandra connection {connection!r}: create it with"
            " ProvisionOperator, or correct tables="
        )
    order = {"partition_key": 0, "clustering": 1, "static": 2, "regular": 3}
    rows.sort(key=lambda row: (order.get(row.kind, 4), row.position, row.column_name))
    columns = [Column(row.column_name, parse_cql_type(row.type), row.kind) for row in rows]
    if all(is_builtin(column.cql) for column in columns):
        return tuple(columns)
    found = session.execute(_USER_TYPES, (target.keyspace,))
    types = {row.type_name: (tuple(row.field_names), tuple(row.field_types)) for row in found}
    return tuple(Column(one.name, _with_fields(one.cql, types), one.kind) for one in columns)


def _with_fields(cql: CqlType, types: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]) -> CqlType:
    """Return a type with the definitions of the user-defined types in it."""
    if cql.name in types and not cql.arguments:
        names, kinds = types[cql.name]
        inner = tuple(_with_fields(parse_cql_type(kind), types) for kind in kinds)
        return replace(cql, arguments=inner, fields=names)
    return replace(cql, arguments=tuple(_with_fields(one, types) for one in cql.arguments))


def plan_table(
    target: TableTarget, columns: Iterable[Column], mapping: Mapping[str, Any], *, timestamp_field: str
) -> TablePlan:
    """Decide which field fills each column.

    :param mapping: column → what ``parse_source`` reads; a column that it does not name takes the field of
        its own name, and one that it maps to None is left out.
    :param timestamp_field: the field whose UTC day fills a date column ``day`` that a record lacks, in the
        tables of ``store/schema.py`` and in any that has it in its key.
    :raises ConfigurationError: if a key column is left out, or a column has a type that JSON cannot fill.
    """
    sources, cleared = [], []
    for column in columns:
        given: Given | None = Given(column.name)
        if column.name in mapping:
            given = parse_source(column.name, mapping[column.name])
        if given is None:
            if column.in_key:
                raise ConfigurationError(
                    f"columns= leaves out {column.name!r}, a part of the primary key of"
                    f" {target.full_name}: name the field that fills it"
                )
            if target.mode == "replace" and column.kind == "regular":
                cleared.append(column.name)
            continue
        _check_type(target, column)
        check_type(column.name, column.cql.name, given)
        derived = column.name == "day" and column.cql.name == "date" and column.name not in mapping
        derived = derived and (column.in_key or target.name in TABLE_BY_NAME)
        name = given.field or _name_of(given, column)
        sources.append(Source(column, name, timestamp_field if derived else None, given))
    return TablePlan(target, tuple(sources), tuple(cleared))


def check_mapping(plans: Mapping[TableTarget, Iterable[Column]], mapping: Mapping[str, Any]) -> None:
    """Refuse a mapping of a column that no table has.

    :raises ConfigurationError: naming the column and the tables.
    """
    known = {column.name for columns in plans.values() for column in columns}
    for name in mapping:
        if name not in known:
            tables = ", ".join(target.full_name for target in plans)
            raise ConfigurationError(f"columns= names {name!r}, which is no column of {tables}")


def _check_type(target: TableTarget, column: Column) -> None:
    try:
        json_type(column.cql)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"column {column.name!r} of {target.full_name}: {error}; leave it out with"
            f" columns={{{column.name!r}: None}}"
        ) from error
