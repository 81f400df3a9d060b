from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from cassandra import InvalidRequest, OperationTimedOut, Unauthorized

from airflow_provider_restrack.store.provision import (
    Difference,
    KeyspaceSpec,
    ProvisionError,
    ShapeMismatchError,
    Step,
    StorePlan,
    StoreState,
    TableState,
    _table_state,
    apply_plan,
    build_add_columns,
    plan_store,
)
from airflow_provider_restrack.store.schema import (
    FIELDS,
    LATEST_METRICS,
    SYSTEM_METRICS,
    TABLES,
    build_create_table,
    cql_type,
)
from airflow_provider_restrack.store.tiers import ROLLUP_TABLES

WANTED = KeyspaceSpec("metrics", {"dc1": 3})
NODES = {"dc1": 3}
REPLICATION = {"class": "org.apache.cassandra.locator.NetworkTopologyStrategy", "dc1": "3"}
# As system_schema spells them.
COLUMNS = {field.name: cql_type(field).replace(",", ", ") for field in FIELDS}
HISTORY = TableState(
    columns=COLUMNS,
    partition_key=("host", "day"),
    clustering=(("timestamp", "desc"),),
    options={
        "default_time_to_live": 1209600,
        "gc_grace_seconds": 10800,
        "compaction": {
            "class": "org.apache.cassandra.db.compaction.TimeWindowCompactionStrategy",
            "compaction_window_size": "1",
            "compaction_window_unit": "DAYS",
            "max_threshold": "32",
        },
    },
)
LATEST = TableState(
    columns=COLUMNS,
    partition_key=("host",),
    clustering=(),
    options={
        "default_time_to_live": 1209600,
        "gc_grace_seconds": 1209600,
        "compaction": {"class": "org.apache.cassandra.db.compaction.LeveledCompactionStrategy"},
    },
)
COMPLETE = StoreState(REPLICATION, True, {"system_metrics": HISTORY, "latest_metrics": LATEST}, NODES)


def _without(state: TableState, *names: str) -> TableState:
    return replace(state, columns={name: kind for name, kind in state.columns.items() if name not in names})


def _with_history(**changes: Any) -> StoreState:
    return replace(COMPLETE, tables={**COMPLETE.tables, "system_metrics": replace(HISTORY, **changes)})


def test_static_columns_are_told_from_others() -> None:
    found = _table_state(
        [("scope", "partition_key", 0, "none", "text"), ("horizon", "static", -1, "none", "timestamp")], {}
    )
    assert found.columns == {"scope": "text", "horizon": "timestamp static"}
    assert (found.partition_key, found.clustering) == (("scope",), ())


def test_empty_cluster_gets_the_keyspace_and_then_every_table() -> None:
    plan = plan_store(WANTED, TABLES, StoreState(nodes=NODES))
    keyspace, *tables = plan.steps
    assert keyspace.cql == (
        "CREATE KEYSPACE IF NOT EXISTS metrics WITH replication = "
        "{'class': 'NetworkTopologyStrategy', 'dc1': 3} AND durable_writes = true"
    )
    assert [step.cql for step in tables] == [build_create_table(table, "metrics") for table in TABLES]
    assert [step.subject for step in plan.steps] == [
        "keyspace metrics",
        "table metrics.system_metrics",
        "table metrics.latest_metrics",
    ]
    assert (plan.unchanged, plan.differences) == ((), ())


def test_complete_cluster_needs_no_step() -> None:
    plan = plan_store(WANTED, TABLES, COMPLETE)
    assert plan == StorePlan(
        steps=(),
        unchanged=("keyspace metrics", "table metrics.system_metrics", "table metrics.latest_metrics"),
        differences=(),
    )


def test_only_the_missing_table_is_made() -> None:
    plan = plan_store(WANTED, TABLES, replace(COMPLETE, tables={"system_metrics": HISTORY}))
    assert [step.subject for step in plan.steps] == ["table metrics.latest_metrics"]


@pytest.mark.parametrize(
    ("found", "subject", "wanted", "existing", "remedy"),
    [
        pytest.param(
            replace(COMPLETE, replication={**REPLICATION, "dc1": "1"}),
            "keyspace metrics, replication",
            "class NetworkTopologyStrategy, dc1 3",
            "class NetworkTopologyStrategy, dc1 1",
            "ALTER KEYSPACE metrics WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 3};",
            id="copies",
        ),
        pytest.param(
            replace(COMPLETE, replication={**REPLICATION, "dc2": "3"}),
            "keyspace metrics, replication",
            "class NetworkTopologyStrategy, dc1 3",
            "class NetworkTopologyStrategy, dc1 3, dc2 3",
            "Change the argument replication",
            id="another-data-centre",
        ),
        pytest.param(
            replace(COMPLETE, replication={"class": "SimpleStrategy", "replication_factor": "3"}),
            "keyspace metrics, replication",
            "class NetworkTopologyStrategy, dc1 3",
            "class SimpleStrategy, replication_factor 3",
            "ALTER KEYSPACE",
            id="simple-strategy",
        ),
        pytest.param(
            replace(COMPLETE, durable_writes=False),
            "keyspace metrics, durable_writes",
            "true",
            "false",
            "ALTER KEYSPACE metrics WITH durable_writes = true;",
            id="durable-writes",
        ),
        pytest.param(
            _with_history(partition_key=("host",)),
            "table metrics.system_metrics, partition key",
            "(host, day)",
            "(host)",
            "drop it",
            id="partition-key",
        ),
        pytest.param(
            _with_history(clustering=(("timestamp", "asc"),)),
            "table metrics.system_metrics, clustering",
            "timestamp DESC",
            "timestamp ASC",
            "drop it",
            id="clustering-order",
        ),
        pytest.param(
            _with_history(clustering=()),
            "table metrics.system_metrics, clustering",
            "timestamp DESC",
            "none",
            "drop it",
            id="no-clustering",
        ),
        pytest.param(
            _with_history(columns={**COLUMNS, "cpu_usage": "float"}),
            "table metrics.system_metrics, column cpu_usage",
            "double",
            "float",
            "drop it",
            id="type",
        ),
        pytest.param(
            _with_history(columns={**COLUMNS, "labels": "map<text, text>"}),
            "table metrics.system_metrics, column labels",
            "frozen<map<text,text>>",
            "map<text, text>",
            "drop it",
            id="not-frozen",
        ),
        pytest.param(
            _with_history(options={**HISTORY.options, "default_time_to_live": 0}),
            "table metrics.system_metrics, default_time_to_live",
            "1209600",
            "0",
            "ALTER TABLE metrics.system_metrics WITH default_time_to_live = 1209600;",
            id="ttl",
        ),
        pytest.param(
            _with_history(options={**HISTORY.options, "gc_grace_seconds": 864000}),
            "table metrics.system_metrics, gc_grace_seconds",
            "10800",
            "864000",
            "ALTER TABLE metrics.system_metrics WITH gc_grace_seconds = 10800;",
            id="gc-grace",
        ),
        pytest.param(
            _with_history(
                options={
                    **HISTORY.options,
                    "compaction": {
                        "class": "org.apache.cassandra.db.compaction.SizeTieredCompactionStrategy"
                    },
                }
            ),
            "table metrics.system_metrics, compaction",
            "class TimeWindowCompactionStrategy, compaction_window_unit DAYS, compaction_window_size 1",
            "class SizeTieredCompactionStrategy, compaction_window_unit unset, compaction_window_size unset",
            "ALTER TABLE metrics.system_metrics WITH compaction = {'class': 'TimeWindowCompactionStrategy'",
            id="compaction",
        ),
        pytest.param(
            _with_history(columns=_without(HISTORY, "labels", "load_1m").columns),
            "table metrics.system_metrics, columns",
            "labels frozen<map<text,text>>, load_1m double",
            "none of that name",
            "Set add_missing_columns=True, or run: "
            "ALTER TABLE metrics.system_metrics ADD (labels frozen<map<text,text>>, load_1m double);",
            id="missing-columns",
        ),
    ],
)
def test_each_other_shape_is_one_difference_with_its_remedy(
    found: StoreState, subject: str, wanted: str, existing: str, remedy: str
) -> None:
    plan = plan_store(WANTED, TABLES, found)
    (difference,) = plan.differences
    assert (difference.subject, difference.wanted, difference.found) == (subject, wanted, existing)
    assert remedy in difference.remedy


def test_all_differences_are_collected_even_beside_things_to_create() -> None:
    found = replace(
        COMPLETE,
        durable_writes=False,
        tables={"system_metrics": replace(_without(HISTORY, "up"), partition_key=("host",))},
    )
    plan = plan_store(WANTED, TABLES, found)
    assert [difference.subject for difference in plan.differences] == [
        "keyspace metrics, durable_writes",
        "table metrics.system_metrics, partition key",
        "table metrics.system_metrics, columns",
    ]
    assert [step.subject for step in plan.steps] == ["table metrics.latest_metrics"]


def test_columns_of_the_user_are_noted_and_left_alone() -> None:
    plan = plan_store(
        WANTED, [SYSTEM_METRICS], _with_history(columns={**COLUMNS, "rack": "text", "owner": "text"})
    )
    assert plan.differences == ()
    assert plan.notes == (
        "table metrics.system_metrics has columns of its own, which are left alone: rack, owner",
    )


def test_missing_columns_are_added_when_asked() -> None:
    found = replace(COMPLETE, tables={"latest_metrics": _without(LATEST, "pressure_io", "labels")})
    plan = plan_store(WANTED, [LATEST_METRICS], found, add_missing_columns=True)
    assert plan.differences == ()
    assert plan.steps == (
        Step(
            "columns of metrics.latest_metrics: labels, pressure_io",
            "ALTER TABLE metrics.latest_metrics ADD (labels frozen<map<text,text>>, pressure_io double)",
        ),
    )


@pytest.mark.parametrize(
    ("replication", "message"),
    [
        pytest.param(
            {"dc1": 3},
            r"3 copies in data centre dc1, which has 1 node \(known: dc1 \(1\)\)\. Set the",
            id="too-many",
        ),
        pytest.param({"dc1": 1, "dc9": 1}, "1 copies in data centre dc9, which has 0 nodes", id="unknown-dc"),
    ],
)
def test_more_copies_than_nodes_are_refused_before_anything_is_made(
    replication: dict[str, int], message: str
) -> None:
    with pytest.raises(ProvisionError, match=message):
        plan_store(KeyspaceSpec("metrics", replication), TABLES, StoreState(nodes={"dc1": 1}))


def test_existing_keyspace_is_not_held_against_the_nodes_that_are_up() -> None:
    # A node that leaves for repair must not fail a task that has nothing to create.
    assert plan_store(WANTED, TABLES, replace(COMPLETE, nodes={"dc1": 2})).differences == ()


@pytest.mark.parametrize(
    ("name", "replication", "message"),
    [
        pytest.param("Metrics", {"dc1": 1}, "keyspace 'Metrics' is no valid name", id="name"),
        pytest.param("metrics", {}, "has no replication", id="empty"),
        pytest.param("metrics", {"dc1": 0}, "replication of 'dc1' must be 1 or more", id="zero"),
        pytest.param("metrics", {"a'b": 1}, "is no valid name", id="quote"),
    ],
)
def test_keyspace_that_makes_no_sense_is_refused(
    name: str, replication: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        KeyspaceSpec(name, replication)


class FakeSession:
    """A session that records statements, and fails or disagrees as told."""

    def __init__(self, failure: Exception | None = None, *, agreed: bool = True) -> None:
        self.statements: list[tuple[str, float]] = []
        self.failure = failure
        self.agreed = agreed

    def execute(self, cql: str, *, timeout: float) -> Any:
        self.statements.append((cql, timeout))
        if self.failure:
            raise self.failure
        return SimpleNamespace(response_future=SimpleNamespace(is_schema_agreed=self.agreed))


PLAN = StorePlan((Step("table a.b", "CREATE TABLE 1"), Step("table a.c", "CREATE TABLE 2")), (), ())


def test_steps_run_in_order_with_the_timeout() -> None:
    session = FakeSession()
    apply_plan(session, PLAN, timeout_s=9)
    assert session.statements == [("CREATE TABLE 1", 9), ("CREATE TABLE 2", 9)]


def test_plan_with_differences_runs_nothing_and_lists_them_all() -> None:
    session = FakeSession()
    differences = (Difference("a", "1", "2", "Mend a."), Difference("b", "3", "4", "Mend b."))
    with pytest.raises(ShapeMismatchError) as caught:
        apply_plan(session, replace(PLAN, differences=differences), timeout_s=9)
    assert session.statements == []
    assert str(caught.value) == (
        "2 differences between what is wanted and what exists; nothing was changed:\n"
        "- a: wanted 1, found 2. Mend a.\n- b: wanted 3, found 4. Mend b."
    )


def test_one_difference_after_creating_says_what_was_created() -> None:
    error = ShapeMismatchError([Difference("a", "1", "2", "Mend a.")], ["topic t", "table k.t"])
    assert str(error).startswith(
        "1 difference between what is wanted and what exists; after creating topic t, table"
    )


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        pytest.param(InvalidRequest("bad type"), "refuses to make table a.b: .*bad type", id="refused"),
        pytest.param(
            Unauthorized("no CREATE"), "may not make table a.b: .*Grant it CREATE", id="not-allowed"
        ),
        pytest.param(OperationTimedOut(), "Making table a.b failed: .*run it again", id="timeout"),
    ],
)
def test_statement_that_fails_names_what_it_makes_and_ends_the_run(failure: Exception, message: str) -> None:
    session = FakeSession(failure)
    with pytest.raises(ProvisionError, match=message):
        apply_plan(session, PLAN, timeout_s=9)
    assert len(session.statements) == 1


def test_nodes_that_do_not_agree_on_the_schema_end_the_run() -> None:
    session = FakeSession(agreed=False)
    with pytest.raises(ProvisionError, match=r"table a\.b is made, but the nodes do not agree"):
        apply_plan(session, PLAN, timeout_s=9)
    assert len(session.statements) == 1


def test_column_that_another_run_added_meanwhile_counts_as_added() -> None:
    step = Step("columns of a.b: up", build_add_columns("a.b", ["up"]))
    session = FakeSession(InvalidRequest("Column with name 'up' already exists"))
    apply_plan(session, StorePlan((step,), (), ()), timeout_s=9)
    assert session.statements == [("ALTER TABLE a.b ADD (up boolean)", 9)]


def test_user_defined_types_come_before_the_tables_that_use_them() -> None:
    steps = plan_store(WANTED, ROLLUP_TABLES, StoreState(nodes=NODES)).steps
    assert [step.subject for step in steps] == [
        "keyspace metrics",
        "type metrics.aggregate",
        "table metrics.system_metrics_5m",
        "table metrics.system_metrics_1h",
        "table metrics.system_metrics_1d",
    ]


def test_user_defined_type_of_another_shape_is_a_difference() -> None:
    plan = plan_store(WANTED, ROLLUP_TABLES, replace(COMPLETE, types={"aggregate": {"count": "int"}}))
    assert [difference.subject for difference in plan.differences] == ["type metrics.aggregate, fields"]
