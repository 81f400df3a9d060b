"""Creates keyspace and tables, and changes something only if all that is there fits what is wanted.

Planning is pure, on what ``system_schema`` says; ``read_state`` and ``apply_plan`` are the only parts that
talk.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cassandra import InvalidRequest, Unauthorized
from cassandra.protocol import ErrorMessage

from airflow_provider_restrack.store.schema import (
    SAMPLE_COLUMNS,
    build_create_table,
    build_create_type,
    check_identifier,
)
from airflow_provider_restrack.store.session import DRIVER_ERRORS, CassandraError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_provider_restrack.store.schema import Table

STRATEGY = "NetworkTopologyStrategy"
# The options that decide how long rows live and how they are found and dropped; the rest is the operator's to
# tune.
_COMPARED_OPTIONS = ("default_time_to_live", "gc_grace_seconds", "compaction")


class ProvisionError(CassandraError):
    """The cluster cannot hold what is wanted, or refuses a statement."""


class ShapeMismatchError(RuntimeError):
    """Something of a wanted name exists with another shape."""

    def __init__(self, differences: Sequence[Difference], changed: Sequence[str] = ()) -> None:
        self.differences = tuple(differences)
        count = f"{len(self.differences)} difference{'s' * (len(self.differences) != 1)}"
        lines = "\n".join(f"- {difference}" for difference in self.differences)
        outcome = f"after creating {', '.join(changed)}" if changed else "nothing was changed"
        super().__init__(f"{count} between what is wanted and what exists; {outcome}:\n{lines}")


@dataclass(frozen=True, slots=True)
class Difference:
    """One respect in which something that exists is not as wanted, and how to mend it."""

    subject: str
    wanted: str
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.subject}: wanted {self.wanted}, found {self.found}. {self.remedy}"


@dataclass(frozen=True, slots=True)
class KeyspaceSpec:
    """The keyspace that is wanted: copies of each row by data centre."""

    name: str
    replication: Mapping[str, int]
    durable_writes: bool = True

    def __post_init__(self) -> None:
        check_identifier(self.name, "keyspace")
        if not self.replication:
            raise ValueError(
                f"keyspace {self.name} has no replication: name a data centre and a number of copies"
            )
        for data_centre, copies in self.replication.items():
            if copies < 1:
                raise ValueError(f"replication of {data_centre!r} must be 1 or more, it is {copies}")
            if "'" in data_centre:
                raise ValueError(f"data centre {data_centre!r} is no valid name")

    @property
    def replication_cql(self) -> str:
        """The replication as a CQL map."""
        parts = "".join(f", '{name}': {copies}" for name, copies in sorted(self.replication.items()))
        return f"{{'class': '{STRATEGY}'{parts}}}"


@dataclass(frozen=True, slots=True)
class TableState:
    """A table as the cluster has it."""

    columns: Mapping[str, str]
    partition_key: tuple[str, ...]
    clustering: tuple[tuple[str, str], ...]
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StoreState:
    """What exists: the keyspace's replication (None if it does not), its tables and user-defined types, each
    data centre's nodes.
    """

    replication: Mapping[str, str] | None = None
    durable_writes: bool = True
    tables: Mapping[str, TableState] = field(default_factory=dict)
    nodes: Mapping[str, int] = field(default_factory=dict)
    types: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One statement and what it makes."""

    subject: str
    cql: str


@dataclass(frozen=True, slots=True)
class StorePlan:
    """What to do: steps to take in order, or the differences that forbid them."""

    steps: tuple[Step, ...]
    unchanged: tuple[str, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...] = ()


def plan_store(
    wanted: KeyspaceSpec, tables: Iterable[Table], found: StoreState, *, add_missing_columns: bool = False
) -> StorePlan:
    """Compare wanted and found, and return the statements to run or all differences.

    Columns that a table has beyond ours are the user's own: they are noted and left alone. Columns that it
    lacks are a difference, or with ``add_missing_columns`` a statement.

    :raises ProvisionError: if the keyspace is to be made and a data centre has fewer nodes than copies are
        wanted.
    """
    subject = f"keyspace {wanted.name}"
    steps: list[Step] = []
    unchanged: list[str] = []
    differences: list[Difference] = []
    notes: list[str] = []
    if found.replication is None:
        _check_nodes(wanted, found.nodes)
        steps.append(Step(subject, build_create_keyspace(wanted)))
    else:
        unchanged.append(subject)
        differences += _compare_keyspace(wanted, found)
    tables = tuple(tables)
    made, there, other = _plan_types(wanted.name, tables, found)
    steps, unchanged, differences = steps + made, unchanged + there, differences + other
    for table in tables:
        name = f"{wanted.name}.{table.name}"
        state = found.tables.get(table.name)
        if state is None:
            steps.append(Step(f"table {name}", build_create_table(table, wanted.name)))
            continue
        unchanged.append(f"table {name}")
        differences += _compare_table(table, name, state)
        if own := [column for column in state.columns if column not in table.columns]:
            notes.append(f"table {name} has columns of its own, which are left alone: {', '.join(own)}")
        missing = _list_missing(table, state)
        if missing and add_missing_columns:
            change = build_add_columns(name, missing, table.columns)
            steps.append(Step(f"columns of {name}: {', '.join(missing)}", change))
        elif missing:
            differences.append(_missing_columns(name, missing, table.columns))
    return StorePlan(tuple(steps), tuple(unchanged), tuple(differences), tuple(notes))


def build_create_keyspace(wanted: KeyspaceSpec) -> str:
    """Return the CREATE KEYSPACE statement."""
    durable = str(wanted.durable_writes).lower()
    return (
        f"CREATE KEYSPACE IF NOT EXISTS {wanted.name} WITH replication = {wanted.replication_cql}"
        f" AND durable_writes = {durable}"
    )


def build_add_columns(name: str, columns: Iterable[str], types: Mapping[str, str] = SAMPLE_COLUMNS) -> str:
    """Return the ALTER TABLE statement that adds columns of the schema to an older table."""
    return f"ALTER TABLE {name} ADD ({', '.join(f'{column} {types[column]}' for column in columns)})"


def read_state(session: Any, keyspace: str, *, timeout_s: float) -> StoreState:
    """Read what exists, from ``system_schema`` and so fresh, not from the driver's copy.

    :raises ProvisionError: if the cluster does not answer.
    """
    nodes: dict[str, int] = {}
    for host in session.cluster.metadata.all_hosts():
        nodes[host.datacenter] = nodes.get(host.datacenter, 0) + 1
    found = _select(session, "keyspaces", "replication, durable_writes", keyspace, timeout_s)
    if not found:
        return StoreState(nodes=nodes)
    columns = "table_name, column_name, kind, position, clustering_order, type"
    rows = _select(session, "columns", columns, keyspace, timeout_s)
    options = _select(session, "tables", f"table_name, {', '.join(_COMPARED_OPTIONS)}", keyspace, timeout_s)
    tables = {
        table: _table_state(
            [row[1:] for row in rows if row[0] == table], dict(zip(_COMPARED_OPTIONS, values, strict=True))
        )
        for table, *values in options
    }
    types = {
        name: dict(zip(names, kinds, strict=True))
        for name, names, kinds in _select(
            session, "types", "type_name, field_names, field_types", keyspace, timeout_s
        )
    }
    replication, durable = found[0]
    return StoreState(dict(replication), durable, tables, nodes, types)


def apply_plan(session: Any, plan: StorePlan, *, timeout_s: float) -> None:
    """Run the steps one after the other; the next starts when all nodes agree on the schema.

    Two that run at once, against the same node, do no harm: every CREATE is IF NOT EXISTS, and a column that
    is there by now counts as added.

    :raises ShapeMismatchError: if the plan holds differences; nothing is run then.
    :raises ProvisionError: if the cluster refuses a statement, does not answer or does not agree.
    """
    if plan.differences:
        raise ShapeMismatchError(plan.differences)
    for step in plan.steps:
        try:
            result = session.execute(step.cql, timeout=timeout_s)
        except (InvalidRequest, ErrorMessage) as error:
            if step.cql.startswith("ALTER TABLE") and "already exist" in str(error):
                continue  # another run added it between our look and our statement
            raise ProvisionError(f"Cassandra refuses to make {step.subject}: {error}") from error
        except Unauthorized as error:
            raise ProvisionError(
                f"The login may not make {step.subject}: {error}. Grant it CREATE and ALTER."
            ) from error
        except DRIVER_ERRORS as error:
            raise ProvisionError(
                f"Making {step.subject} failed: {error}. Check the nodes, and run it again."
            ) from error
        if not result.response_future.is_schema_agreed:
            raise ProvisionError(
                f"{step.subject} is made, but the nodes do not agree on the schema yet."
                " Check `nodetool describecluster`, and run it again."
            )


def _check_nodes(wanted: KeyspaceSpec, nodes: Mapping[str, int]) -> None:
    """Refuse more copies than nodes: Cassandra takes the keyspace, and quorum reads and writes then fail."""
    known = ", ".join(f"{name} ({count})" for name, count in sorted(nodes.items()))
    for data_centre, copies in wanted.replication.items():
        count = nodes.get(data_centre, 0)
        if copies > count:
            nodes_there = f"{count} node{'s' * (count != 1)}"
            raise ProvisionError(
                f"keyspace {wanted.name} asks for {copies} copies in data centre {data_centre}, which has"
                f" {nodes_there} (known: {known}). Set the argument replication to at most that number,"
                " or add nodes."
            )


def _compare_keyspace(wanted: KeyspaceSpec, found: StoreState) -> list[Difference]:
    """Return how the existing keyspace differs in replication and durability."""
    subject, alter = f"keyspace {wanted.name}", f"ALTER KEYSPACE {wanted.name} WITH"
    differences = []
    existing = dict(found.replication or {})
    existing["class"] = _short(existing.get("class", ""))
    copies = {"class": STRATEGY, **{name: str(count) for name, count in wanted.replication.items()}}
    if existing != copies:
        change = f"{alter} replication = {wanted.replication_cql};"
        remedy = f"Change the argument replication, or run: {change} and then a full repair."
        differences.append(Difference(f"{subject}, replication", _pairs(copies), _pairs(existing), remedy))
    if found.durable_writes != wanted.durable_writes:
        value, other = str(wanted.durable_writes).lower(), str(found.durable_writes).lower()
        remedy = f"Run: {alter} durable_writes = {value};"
        differences.append(Difference(f"{subject}, durable_writes", value, other, remedy))
    return differences


def _compare_table(table: Table, name: str, found: TableState) -> list[Difference]:
    """Return how an existing table differs in key, column types and options; not which columns it lacks."""
    subject, recreate = f"table {name}", "Use another keyspace, or copy its rows away and drop it."
    differences = []
    if found.partition_key != table.partition_key:
        wanted_key, found_key = f"({', '.join(table.partition_key)})", f"({', '.join(found.partition_key)})"
        differences.append(Difference(f"{subject}, partition key", wanted_key, found_key, recreate))
    clustering = tuple((column, "desc") for column in table.clustering)
    if found.clustering != clustering:
        wanted_order, found_order = _order(clustering), _order(found.clustering)
        differences.append(Difference(f"{subject}, clustering", wanted_order, found_order, recreate))
    differences += [
        Difference(f"{subject}, column {column}", wanted, found.columns[column], recreate)
        for column, wanted in table.columns.items()
        if column in found.columns and _squeeze(found.columns[column]) != _squeeze(wanted)
    ]
    differences += _compare_options(table, name, found)
    return differences


def _compare_options(table: Table, name: str, found: TableState) -> list[Difference]:
    """Return the options that differ, each with its ALTER TABLE."""
    differences = []
    for option in _COMPARED_OPTIONS:
        if option not in table.options:
            continue
        literal = table.options[option]
        wanted = ast.literal_eval(literal)
        existing = found.options.get(option)
        if isinstance(wanted, dict):
            existing = {key: (existing or {}).get(key, "unset") for key in wanted}
            existing["class"] = _short(existing["class"])
            wanted = {key: str(value) for key, value in wanted.items()}
        if existing != wanted:
            remedy = f"Run: ALTER TABLE {name} WITH {option} = {literal};"
            subject = f"table {name}, {option}"
            differences.append(Difference(subject, _pairs(wanted), _pairs(existing), remedy))
    return differences


def _list_missing(table: Table, found: TableState) -> list[str]:
    """Return the columns that ALTER TABLE can add; one of the key shows as another key."""
    return [column for column in table.columns if column not in found.columns]


def _missing_columns(name: str, missing: Sequence[str], types: Mapping[str, str]) -> Difference:
    return Difference(
        f"table {name}, columns",
        ", ".join(f"{column} {types[column]}" for column in missing),
        "none of that name",
        f"Set add_missing_columns=True, or run: {build_add_columns(name, missing, types)};",
    )


def _plan_types(
    keyspace: str, tables: Iterable[Table], found: StoreState
) -> tuple[list[Step], list[str], list[Difference]]:
    """Return the user-defined types to make, those that are there, and how these differ."""
    steps: list[Step] = []
    unchanged: list[str] = []
    differences: list[Difference] = []
    for name, fields in {name: one for table in tables for name, one in table.user_types.items()}.items():
        subject = f"type {keyspace}.{name}"
        if name not in found.types:
            steps.append(Step(subject, build_create_type(name, fields, keyspace)))
            continue
        unchanged.append(subject)
        if list(found.types[name].items()) != list(fields.items()):
            remedy = "Use another keyspace, or drop it with the tables that use it."
            differences.append(
                Difference(
                    f"{subject}, fields", _pairs(dict(fields)), _pairs(dict(found.types[name])), remedy
                )
            )
    return steps, unchanged, differences


def _select(session: Any, table: str, columns: str, keyspace: str, timeout_s: float) -> list[Any]:
    cql = f"SELECT {columns} FROM system_schema.{table} WHERE keyspace_name = %s"  # noqa: S608 - all literals
    try:
        return list(session.execute(cql, (keyspace,), timeout=timeout_s))
    except DRIVER_ERRORS as error:
        raise ProvisionError(f"Cassandra does not say what keyspace {keyspace} holds: {error}") from error


def _table_state(columns: Iterable[tuple[str, str, int, str, str]], options: Mapping[str, Any]) -> TableState:
    """Turn rows of ``system_schema.columns`` (name, kind, position, order, type) into a table's shape."""
    ordered = sorted(columns, key=lambda column: (column[2], column[0]))
    return TableState(
        columns={
            name: f"{kind_type} static" if kind == "static" else kind_type
            for name, kind, _, _, kind_type in ordered
        },
        partition_key=tuple(name for name, kind, *_ in ordered if kind == "partition_key"),
        clustering=tuple((name, order) for name, kind, _, order, _ in ordered if kind == "clustering"),
        options=options,
    )


def _order(clustering: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name} {order.upper()}" for name, order in clustering) or "none"


def _pairs(value: object) -> str:
    return (
        ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else str(value)
    )


def _short(class_name: str) -> str:
    return class_name.rpartition(".")[2]


def _squeeze(type_name: str) -> str:
    return type_name.replace(" ", "")
