"""The field list is consistent, and the statements that are built of it say what it says."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from airflow_provider_restrack.store.schema import (
    FIELD_BY_NAME,
    FIELDS,
    LATEST_METRICS,
    SYSTEM_METRICS,
    TABLES,
    build_create_table,
    check_identifier,
    cql_type,
    split_table_name,
    with_life,
)

if TYPE_CHECKING:
    from airflow_provider_restrack.store import schema

COLUMNS_OF_THE_FIRST_DESCRIPTION = {
    "id": "uuid",
    "timestamp": "timestamp",
    "cpu_usage": "double",
    "memory_usage": "double",
    "disk_usage": "double",
    "network_io_recv": "double",
    "network_io_sent": "double",
}
GROUPS_WITHOUT_UNIT = {"identity", "outcome"}


def test_every_name_stands_once_and_is_a_column_name() -> None:
    doubled = [name for name, count in Counter(field.name for field in FIELDS).items() if count > 1]

    assert doubled == []
    assert [field.name for field in FIELDS if check_identifier(field.name, "column") != field.name] == []


def test_every_measured_field_has_a_unit_and_every_field_a_meaning() -> None:
    assert [field.name for field in FIELDS if not field.meaning] == []
    assert [f.name for f in FIELDS if not f.unit and f.group not in GROUPS_WITHOUT_UNIT] == []


def test_the_columns_of_the_first_description_are_kept_with_their_types() -> None:
    assert {name: FIELD_BY_NAME[name].type for name in COLUMNS_OF_THE_FIRST_DESCRIPTION} == (
        COLUMNS_OF_THE_FIRST_DESCRIPTION
    )


def test_metrics_are_numbers_truth_values_and_maps_of_numbers_only() -> None:
    assert {field.type for field in FIELDS if field.is_metric} == {
        "double", "int", "bigint", "boolean", "map<text,double>",
    }  # fmt: skip
    assert not FIELD_BY_NAME["labels"].is_metric
    assert not FIELD_BY_NAME["error"].is_metric
    assert FIELD_BY_NAME["up"].is_metric


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_create_statement_has_every_field_with_its_type_and_the_key(table: schema.Table) -> None:
    statement = build_create_table(table, "metrics")

    assert statement.startswith(f"CREATE TABLE IF NOT EXISTS metrics.{table.name} (")
    assert [field.name for field in FIELDS if f"    {field.name} {cql_type(field)},\n" not in statement] == []


def test_samples_are_kept_by_host_and_day_newest_first_and_expire_by_window() -> None:
    statement = build_create_table(SYSTEM_METRICS)

    assert "PRIMARY KEY ((host, day), timestamp)" in statement
    assert "CLUSTERING ORDER BY (timestamp DESC)" in statement
    assert "TimeWindowCompactionStrategy" in statement
    assert "default_time_to_live = 1209600" in statement
    assert "gc_grace_seconds = 10800" in statement


def test_the_newest_sample_has_one_row_a_host_which_is_replaced_whole() -> None:
    assert "PRIMARY KEY ((host))" in build_create_table(LATEST_METRICS)
    assert LATEST_METRICS.write_mode == "replace"


def test_tombstones_of_a_row_that_is_replaced_outlive_every_record_that_may_come_late() -> None:
    def grace(table: schema.Table) -> str:
        return table.options["gc_grace_seconds"]

    assert grace(LATEST_METRICS) == LATEST_METRICS.options["default_time_to_live"] == "1209600"
    assert grace(with_life(LATEST_METRICS, 86_400)) == "86400"
    assert grace(with_life(LATEST_METRICS, 60)) == "10800"  # as long as hints are kept
    assert grace(with_life(SYSTEM_METRICS, 86_400)) == "10800"


def test_collections_are_frozen() -> None:
    assert cql_type(FIELD_BY_NAME["labels"]) == "frozen<map<text,text>>"
    assert cql_type(FIELD_BY_NAME["cpu_core_usage"]) == "frozen<list<double>>"


@pytest.mark.parametrize("name", ["", "Metrics", "1st", "a-b", "a.b", "a;drop", "ä", "a" * 49, "a\n"])
def test_what_could_leave_its_place_in_cql_is_no_identifier(name: str) -> None:
    with pytest.raises(ValueError, match="keyspace"):
        check_identifier(name, "keyspace")


def test_a_table_name_has_two_parts() -> None:
    assert split_table_name("metrics.system_metrics") == ("metrics", "system_metrics")


@pytest.mark.parametrize(
    ("name", "part"),
    [("system_metrics", r"write it as keyspace\.table"), ("a.b.c", "b.c"), ("a.", "''"), (".b", "''")],
)
def test_a_table_name_with_other_parts_is_refused(name: str, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        split_table_name(name)
