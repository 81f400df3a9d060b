from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_restrack.load.topics import TopicSpec
from airflow_provider_restrack.operators.provision import (
    ProvisionOperator,
    parse_replication,
    parse_tables,
    parse_topics,
)
from airflow_provider_restrack.store.alert_tables import ALERT_TABLES
from airflow_provider_restrack.store.forecasts import FORECASTS
from airflow_provider_restrack.store.schema import TABLES
from airflow_provider_restrack.store.tiers import ROLLUP_TABLES

DAY = 86400


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(3, 3, id="number"),
        pytest.param("3", 3, id="number-from-a-template"),
        pytest.param({"dc1": 3, "dc2": "2"}, {"dc1": 3, "dc2": 2}, id="by-data-centre"),
        pytest.param('{"dc1": 3}', {"dc1": 3}, id="json"),
    ],
)
def test_replication_is_a_number_or_numbers_by_data_centre(value: Any, expected: Any) -> None:
    assert parse_replication(value) == expected


@pytest.mark.parametrize(
    "value", [0, -1, 1.5, True, "three", "", "1.0", {}, {"dc1": 0}, {"dc1": None}, [3], None]
)
def test_replication_of_another_kind_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^replication .*whole number from 1 up"):
        parse_replication(value)


def test_replication_that_is_broken_json_says_so() -> None:
    with pytest.raises(ValueError, match="replication is no valid JSON"):
        parse_replication('{"dc1": 3')


def test_default_topics_are_samples_dead_letters_and_alerts() -> None:
    assert parse_topics(None, 3) == (
        TopicSpec("system_metrics", 4, 3, 7 * DAY),
        TopicSpec("system_metrics_dead_letters", 1, 3, 30 * DAY, {"max.message.bytes": "2097152"}),
        TopicSpec("system_alerts", 1, 3, 30 * DAY),
    )


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"a": {"partitions": 2, "replication": 1, "retention": "12h"}}, id="by-name"),
        pytest.param([{"name": "a", "partitions": "2", "replication": 1, "retention": 43200}], id="list"),
        pytest.param('{"a": {"partitions": 2, "replication": 1, "retention": "12h"}}', id="json"),
        pytest.param(
            ({"name": "a", "partitions": 2, "replication": 1, "retention": timedelta(hours=12)},),
            id="timedelta",
        ),
    ],
)
def test_topics_are_given_by_name_or_as_a_list(value: Any) -> None:
    assert parse_topics(value, 3) == (TopicSpec("a", 2, 1, 12 * 3600),)


def test_topic_takes_defaults_for_what_it_leaves_out_and_keeps_for_ever_on_none() -> None:
    assert parse_topics({"a": {}, "b": {"retention": None, "config": {"preallocate": True}}}, 2) == (
        TopicSpec("a", 4, 2, 7 * DAY),
        TopicSpec("b", 4, 2, None, {"preallocate": "true"}),
    )
    assert parse_topics({"a": {"config": None}}, 2) == (TopicSpec("a", 4, 2, 7 * DAY),)


def test_no_topics_are_no_topics() -> None:
    assert parse_topics([], 3) == parse_topics({}, 3) == ()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param({"a": {"partition": 2}}, "topic a: unknown keys partition; use", id="unknown-key"),
        pytest.param({"a": {"partitions": 0}}, "topic a: partitions must be a whole number", id="partitions"),
        pytest.param({"a": {"replication": 1.5}}, "topic a: replication must be", id="replication"),
        pytest.param({"a": {"retention": "a week"}}, "topic a: retention: ", id="retention"),
        pytest.param({"a b": {}}, "'a b' is no valid name", id="name"),
        pytest.param([{"partitions": 1}], "list of objects with name", id="no-name"),
        pytest.param(["a"], "list of objects with name", id="bare-name"),
        pytest.param("system_metrics", "list of objects with name", id="text"),
        pytest.param(5, "list of objects with name", id="number"),
        pytest.param([{"name": "a"}, {"name": "a"}], "names one twice", id="twice"),
        pytest.param({"a": None}, "must be an object by name", id="nothing"),
        pytest.param({"a": {"config": "x=1"}}, "topic a: config must be an object", id="config"),
        pytest.param("[{", "topics is no valid JSON", id="broken-json"),
    ],
)
def test_topics_that_make_no_sense_are_refused_by_name(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_topics(value, 3)


def test_all_tables_of_the_schema_are_the_default() -> None:
    assert parse_tables(None, None) == (*TABLES, *ROLLUP_TABLES, FORECASTS, *ALERT_TABLES)


@pytest.mark.parametrize("value", [["latest_metrics"], "latest_metrics", '["latest_metrics"]'])
def test_tables_are_chosen_by_name(value: Any) -> None:
    assert [table.name for table in parse_tables(value, None)] == ["latest_metrics"]


def test_unknown_table_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"metrics\.cpu; there are system_metrics, latest_metrics"):
        parse_tables(["metrics.cpu"], None)


def lives(ttl: Any) -> list[int]:
    return [int(table.options["default_time_to_live"]) // DAY for table in parse_tables(None, ttl)]


def test_ttl_replaces_how_long_samples_live_and_leaves_rollups() -> None:
    assert lives("30d") == [30, 30, 90, 730, 1825, 35, 0, 400, 400, 0]


def test_tombstones_of_the_newest_samples_live_as_long_as_these() -> None:
    tables = {table.name: table.options["gc_grace_seconds"] for table in parse_tables(None, "30d")}

    assert (tables["latest_metrics"], tables["system_metrics"]) == (str(30 * DAY), "10800")


def test_ttl_by_table_replaces_only_what_it_names_and_fits_the_compaction_window() -> None:
    assert lives({"system_metrics_5m": "180d"}) == [14, 14, 180, 730, 1825, 35, 0, 400, 400, 0]
    (table,) = parse_tables("system_metrics_5m", {"system_metrics_5m": "180d"})
    assert "'compaction_window_size': 6" in table.options["compaction"]
    (history,) = parse_tables("alert_history", {"alert_history": "90d"})
    assert "'compaction_window_size': 3" in history.options["compaction"]


@pytest.mark.parametrize("name", ["alerts", "silences"])
def test_ttl_of_a_table_whose_rows_have_their_own_end_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"ttl of {name} cannot be chosen"):
        parse_tables(None, {name: "9d"})


def test_ttl_of_an_unknown_table_is_refused() -> None:
    with pytest.raises(ValueError, match="ttl names none of the schema: system_metrics_1w"):
        parse_tables(None, {"system_metrics_1w": "9d"})


@pytest.mark.parametrize("ttl", [0, "0s", "21000d", "soon", -5])
def test_ttl_that_cassandra_cannot_keep_is_refused(ttl: Any) -> None:
    with pytest.raises(ValueError, match=r"^ttl"):
        parse_tables(None, ttl)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"keyspace": "My-Metrics"}, "keyspace 'My-Metrics' is no valid name"),
        ({"timeout": 0}, "timeout must be more than 0"),
        ({"replication": "many"}, "replication must be a whole number"),
        ({"tables": ["cpu"]}, "tables names none of the schema: cpu"),
        ({"ttl": "soon"}, "ttl: 'soon' is not a duration"),
        ({"topics": {"a": {"partition": 2}}}, "topic a: unknown keys partition"),
    ],
)
def test_literal_that_cannot_work_is_told_when_the_dag_is_parsed(
    argument: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ProvisionOperator(task_id="provision", **argument)


def test_templates_are_left_until_they_are_rendered() -> None:
    arguments = dict.fromkeys(("keyspace", "replication", "tables", "ttl", "topics"), "{{ params.value }}")
    operator = ProvisionOperator(task_id="provision", **arguments)
    assert {getattr(operator, name) for name in arguments} == {"{{ params.value }}"}


def test_every_data_argument_and_connection_is_a_template_field() -> None:
    assert set(ProvisionOperator.template_fields) == {
        "topics", "keyspace", "replication", "tables", "ttl", "kafka_config_id", "cassandra_conn_id",
    }  # fmt: skip


def test_bad_argument_fails_before_any_server_is_asked() -> None:
    # No connection of these names exists: looking one up would raise another error.
    operator = ProvisionOperator(
        task_id="provision", replication="{{ n }}", kafka_config_id="none_a", cassandra_conn_id="none_b"
    )
    operator.render_template_fields({"n": "many"})
    with pytest.raises(ValueError, match="replication must be a whole number"):
        operator.execute({})
