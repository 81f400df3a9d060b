from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_restrack.load.cql_types import CqlType
from airflow_provider_restrack.load.errors import ConfigurationError
from airflow_provider_restrack.load.table import (
    Column,
    TableTarget,
    check_mapping,
    parse_targets,
    plan_table,
    read_columns,
)
from tests.unit.load.fakes import TARGET, columns_of

COLUMNS = columns_of(
    {"host": "text", "day": "date", "at": "timestamp", "up": "boolean"}, ["host", "day"], ["at"]
)


class FakeSession:
    def __init__(self, *rows: tuple[str, str, int, str]) -> None:
        names = ("column_name", "kind", "position", "type")
        self.rows = [SimpleNamespace(**dict(zip(names, row, strict=True))) for row in rows]
        self.asked: list[tuple[str, tuple[str, str]]] = []

    def execute(self, query: str, arguments: tuple[str, str]) -> list[Any]:
        self.asked.append((query, arguments))
        return self.rows


def test_a_table_of_the_schema_has_its_own_mode_and_any_other_is_merged() -> None:
    targets = parse_targets(["metrics.latest_metrics", "metrics.system_metrics", "ks.other"])

    assert [one.mode for one in targets] == ["replace", "merge", "merge"]


def test_a_given_mode_wins() -> None:
    assert parse_targets(
        [{"table": "ks.latest_metrics", "mode": "merge"}, {"table": "ks.t", "mode": "replace"}]
    ) == (
        TableTarget("ks", "latest_metrics", "merge"),
        TableTarget("ks", "t", "replace"),
    )


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ([], r"tables is \[\]: give a list"),
        ("ks.t", "tables is 'ks.t': give a list"),
        (["t"], "lacks its keyspace"),
        (["ks.T"], "no valid name"),
        (["ks.t; DROP TABLE x"], "no valid name"),
        (["ks.t", {"table": "ks.t"}], "ks.t twice"),
        ([{"table": "ks.t", "mode": "append"}], "mode of ks.t is 'append'"),
        ([{"table": "ks.t", "modus": "merge"}], "modus"),
        ([{"mode": "merge"}], "write 'ks.table'"),
    ],
)
def test_tables_that_cannot_be_are_refused(tables: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        parse_targets(tables)


def test_columns_come_key_first_in_the_keys_order() -> None:
    session = FakeSession(
        ("b", "regular", -1, "int"), ("c", "clustering", 0, "int"), ("p2", "partition_key", 1, "text"),
        ("s", "static", -1, "int"), ("p1", "partition_key", 0, "text"),
    )  # fmt: skip

    columns = read_columns(session, TARGET, connection="c")

    assert [one.name for one in columns] == ["p1", "p2", "c", "s", "b"]
    assert [one.in_key for one in columns] == [True, True, True, False, False]
    assert session.asked[0][1] == ("ks", "t")


def test_a_missing_table_is_named_with_connection_and_remedy() -> None:
    with pytest.raises(ConfigurationError, match=r"ks\.t does not exist .*'my_cassandra'.*ProvisionOperator"):
        read_columns(FakeSession(), TARGET, connection="my_cassandra")


def test_columns_take_the_fields_of_their_names_and_a_key_day_that_of_the_time() -> None:
    plan = plan_table(TARGET, COLUMNS, {}, timestamp_field="at")

    assert [(one.column.name, one.field, one.fallback) for one in plan.sources] == [
        ("host", "host", None), ("day", "day", "at"), ("at", "at", None), ("up", "up", None),
    ]  # fmt: skip
    assert (plan.partition_size, plan.key_size) == (2, 3)


def test_a_day_outside_of_the_key_is_derived_only_in_the_schemas_own_tables() -> None:
    columns = columns_of({"host": "text", "day": "date"}, ["host"])
    latest = TableTarget("ks", "latest_metrics", "replace")

    assert plan_table(TARGET, columns, {}, timestamp_field="at").sources[1].fallback is None
    assert plan_table(latest, columns, {}, timestamp_field="at").sources[1].fallback == "at"


def test_the_mapping_renames_and_leaves_out() -> None:
    plan = plan_table(TARGET, COLUMNS, {"host": "name", "day": "when", "up": None}, timestamp_field="at")

    assert [(one.column.name, one.field, one.fallback) for one in plan.sources] == [
        ("host", "name", None), ("day", "when", None), ("at", "at", None),
    ]  # fmt: skip


def test_a_row_that_is_replaced_whole_sets_what_is_left_out_to_null() -> None:
    others = [Column("of_host", CqlType("text"), "static"), Column("n", CqlType("counter"), "regular")]
    columns = [*COLUMNS, *others]
    mapping = {"up": None, "n": None, "of_host": None}

    def cleared(mode: Any) -> tuple[str, ...]:
        return plan_table(TableTarget("ks", "t", mode), columns, mapping, timestamp_field="at").cleared

    assert (cleared("replace"), cleared("merge")) == (("up", "n"), ())


def test_a_key_column_cannot_be_left_out() -> None:
    with pytest.raises(ConfigurationError, match=r"'host', a part of the primary key of ks\.t"):
        plan_table(TARGET, COLUMNS, {"host": None}, timestamp_field="at")


def test_a_column_of_a_type_that_json_cannot_fill_is_named_and_can_be_left_out() -> None:
    columns = columns_of({"k": "text", "n": "counter"}, ["k"])

    with pytest.raises(
        ConfigurationError, match=r"column 'n' of ks\.t: type counter can only .* twice; leave it out"
    ):
        plan_table(TARGET, columns, {}, timestamp_field="at")
    assert len(plan_table(TARGET, columns, {"n": None}, timestamp_field="at").sources) == 1


def test_a_mapping_of_an_unknown_column_is_refused() -> None:
    check_mapping({TARGET: COLUMNS}, {"up": "x"})
    with pytest.raises(ConfigurationError, match=r"'upp', which is no column of ks\.t"):
        check_mapping({TARGET: COLUMNS}, {"upp": "x"})


def test_a_user_defined_type_has_the_fields_of_its_keyspace() -> None:
    class Session:
        def execute(self, query: str, _where: tuple[str, ...]) -> list[SimpleNamespace]:
            if "types" in query:
                return [
                    SimpleNamespace(type_name="place", field_names=["row", "in"], field_types=["int", "text"])
                ]
            return [
                SimpleNamespace(column_name="k", kind="partition_key", position=0, type="text"),
                SimpleNamespace(column_name="p", kind="regular", position=-1, type="list<frozen<place>>"),
            ]

    [_, column] = read_columns(Session(), TARGET, connection="c")

    [place] = column.cql.arguments
    assert (place.fields, [one.name for one in place.arguments]) == (("row", "in"), ["int", "text"])
