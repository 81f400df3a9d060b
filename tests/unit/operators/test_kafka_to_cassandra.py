from __future__ import annotations

import copy
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, Asset
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_provider_restrack import telemetry
from airflow_provider_restrack.hooks import cassandra as cassandra_hook
from airflow_provider_restrack.load import loader
from airflow_provider_restrack.load.errors import ConfigurationError, DeadLetterLimitError, StoreError
from airflow_provider_restrack.load.formats.registry import parse_format
from airflow_provider_restrack.load.policy import LoadPolicy, LoadResult
from airflow_provider_restrack.operators.kafka_to_cassandra import KafkaToCassandraOperator
from airflow_provider_restrack.store import session
from airflow_provider_restrack.store.session import CassandraPolicy
from airflow_provider_restrack.telemetry import Dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def read_value(value: bytes, _record: Any) -> dict[str, Any]:
    return {"host": value.decode()}


class Core:
    """Stands in for ``load`` and notes what it is given."""

    def __init__(self) -> None:
        self.result = LoadResult(records=3, rows=3)
        self.during: Callable[[], None] = lambda: None
        self.policy: LoadPolicy | None = None

    def load(
        self,
        policy: LoadPolicy,
        config: Any,
        session: Any,
        *,
        stop: Callable[[], bool],
        report: Callable[[LoadResult], None],
    ) -> LoadResult:
        self.policy, self.config, self.session = policy, config, session
        try:
            self.during()
        finally:
            report(self.result)
        self.stopped = stop()
        return self.result


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> Core:
    made = Core()

    class FakeHook:
        def __init__(self, conn_id: str) -> None:
            self.conn_id = conn_id

        def policy(self) -> CassandraPolicy:
            return CassandraPolicy(contact_points=("c1", "c2"), port=9043, origin=self.conn_id)

    @contextmanager
    def open_session(policy: CassandraPolicy) -> Iterator[str]:
        yield f"session of {policy.origin}"

    monkeypatch.setattr(loader, "load", made.load)
    monkeypatch.setattr(session, "open_session", open_session)
    monkeypatch.setattr(cassandra_hook, "CassandraSessionHook", FakeHook)
    monkeypatch.setenv(
        "AIRFLOW_CONN_MY_KAFKA", '{"conn_type": "kafka", "extra": {"bootstrap.servers": "b:1"}}'
    )
    return made


def operator(**changes: Any) -> KafkaToCassandraOperator:
    arguments = {
        "task_id": "load", "topics": ["t"], "tables": ["ks.t"], "kafka_config_id": "my_kafka",
        "cassandra_conn_id": "my_cassandra",
    }  # fmt: skip
    return KafkaToCassandraOperator(**arguments | changes)


def test_the_core_gets_arguments_settings_and_session(core: Core) -> None:
    result = operator(columns={"a": "b"}, ttl=60, dead_letter_topic="dead").execute(
        {"ti": SimpleNamespace(dag_id="a_dag")}
    )

    assert result == LoadResult(records=3, rows=3).as_dict()
    assert core.config == {"bootstrap.servers": "b:1"}
    assert core.session == "session of my_cassandra"
    assert core.policy == LoadPolicy(
        topics=["t"], tables=["ks.t"], columns={"a": "b"}, ttl=60, dead_letter_topic="dead",
        origin="a_dag.load", kafka_connection="my_kafka", cassandra_connection="my_cassandra",
    )  # fmt: skip


def test_numbers_may_come_out_of_templates(core: Core) -> None:
    operator(
        max_records="7", max_seconds="1.5", ttl="", batch_rows="9", retry_seconds="2.5", max_ahead="60"
    ).execute({})

    assert core.policy is not None
    assert (core.policy.max_records, core.policy.max_seconds, core.policy.ttl) == (7, 1.5, None)
    assert (core.policy.batch_rows, core.policy.retry_seconds, core.policy.max_ahead) == (9, 2.5, 60.0)
    with pytest.raises(ValueError, match="retry_seconds is '': it must be a number"):
        operator(retry_seconds="").execute({})
    with pytest.raises(ValueError, match="max_records is 'many'"):
        operator(max_records="many").execute({})


def test_partitions_may_come_out_of_templates(core: Core) -> None:
    operator(partitions="[0, 3]", follow=True, max_seconds="60").execute({})

    assert core.policy is not None
    assert (core.policy.partitions, core.policy.follow) == ((0, 3), True)
    assert operator(partitions=["{{ params.first }}"]).partitions == ["{{ params.first }}"]


def test_wrong_arguments_fail_before_any_connection(core: Core) -> None:
    with pytest.raises(ConfigurationError, match="batch_rows is 0"):
        operator(batch_rows=0, kafka_config_id="no_such_connection").execute({})
    assert core.policy is None


def test_a_kill_stops_the_loop_and_the_task_does_not_claim_success(core: Core) -> None:
    task = operator()
    core.during = task.on_kill
    core.result = LoadResult(stopped=True)

    with pytest.raises(RuntimeError, match="stopped before its end; what was stored is committed"):
        task.execute({})
    assert core.stopped is True


def test_a_second_run_of_the_same_object_starts_unstopped(core: Core) -> None:
    task = operator()
    task.on_kill()
    task.execute({})

    assert core.stopped is False


def test_too_many_dead_letters_fail_without_a_retry(core: Core) -> None:
    def fail() -> None:
        raise DeadLetterLimitError("9 of 10 records cannot be stored")

    core.during = fail
    with pytest.raises(AirflowFailException, match="9 of 10 records cannot be stored"):
        operator().execute({})


@pytest.mark.parametrize("fails", [False, True])
def test_what_was_done_is_logged_and_counted_however_the_run_ends(
    core: Core, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fails: bool
) -> None:
    counted: list[Any] = []
    monkeypatch.setattr(telemetry, "count_load", lambda *arguments: counted.append(arguments))

    def during() -> None:
        if fails:
            raise StoreError("no")

    core.during = during
    task = operator()
    with suppress(StoreError):
        task.execute({"ti": SimpleNamespace(dag_id="a_dag", map_index=-1)})

    assert counted == [(core.result, {"dag_id": "a_dag", "task_id": "load"})]
    assert "Loaded 3 records as 3 rows" in capsys.readouterr().out


def test_an_asset_among_the_outlets_gets_what_the_task_returns(core: Core) -> None:
    rows, events = Asset("rows"), OutletEventAccessors()

    result = operator(outlets=[rows]).execute({"outlet_events": events})

    assert events[rows].extra == result


def test_a_run_that_was_stopped_notes_nothing_on_its_outlets(core: Core) -> None:
    core.result, events = LoadResult(stopped=True), OutletEventAccessors()

    with pytest.raises(RuntimeError, match="stopped"):
        operator(outlets=[Asset("rows")]).execute({"outlet_events": events})
    assert len(events) == 0


def test_lineage_leads_from_topics_to_tables_and_dead_letters(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "build_lineage", lambda *datasets: datasets)
    core.result = LoadResult(tables={"ks.t": 3}, dead_letters=2)
    task = operator(tables=["ks.t", {"table": "ks.u", "mode": "merge"}], dead_letter_topic="dead")

    assert task.get_openlineage_facets_on_complete(None) is None
    task.execute({})
    inputs, outputs = task.get_openlineage_facets_on_complete(None)
    assert inputs == [Dataset("kafka://b:1", "t")]
    assert outputs == [
        Dataset("cassandra://c1:9043", "ks.t", 3),
        Dataset("cassandra://c1:9043", "ks.u", 0),
        Dataset("kafka://b:1", "dead", 2),
    ]


def test_airflow_can_copy_it(core: Core) -> None:
    assert copy.deepcopy(operator()).topics == ["t"]


def test_data_and_connections_are_templates() -> None:
    assert {"topics", "tables", "kafka_config_id", "cassandra_conn_id", "dead_letter_topic"} <= set(
        KafkaToCassandraOperator.template_fields
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"topics": "system_metrics"}, "topics is 'system_metrics'"),
        ({"topics": []}, "topics is"),
        ({"tables": ["system_metrics"]}, "keyspace"),
        ({"tables": [{"table": "ks.t", "mode": "append"}]}, "append"),
        ({"ttl": -1}, "ttl is -1"),
        ({"partitions": [-1]}, r"partitions is \[-1\]"),
        ({"follow": True}, "follow needs max_seconds"),
        ({"max_records": "many"}, "max_records is 'many'"),
        ({"consistency": "MOST"}, "consistency is 'MOST'"),
        ({"dead_letter_topic": "t"}, "dead_letter_topic is one of topics"),
        ({"dead_letter_limit": 2.0}, r"dead_letter_limit is 2\.0"),
        ({"format": "xml"}, "format is 'xml'"),
        ({"format": read_value, "ttl": -1}, "ttl is -1"),
    ],
)
def test_what_is_plainly_wrong_fails_when_the_dag_is_parsed(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        operator(**wrong)


def test_templates_and_upstream_output_are_left_alone_at_parse() -> None:
    made = operator(topics="{{ params.topics }}", tables=["{{ params.keyspace }}.t"], ttl="{{ params.ttl }}")

    assert made.topics == "{{ params.topics }}"


@pytest.mark.parametrize(
    "value", ["telegraf", {"name": "influx", "precision": "s"}, "my.module.parse", read_value]
)
def test_a_format_reaches_the_core_by_name_with_options_or_as_a_function(core: Core, value: Any) -> None:
    task = operator(format=value)
    task.render_template_fields({})
    task.execute({})

    assert core.policy is not None
    assert parse_format(core.policy.format) == parse_format(value)


def test_a_dag_with_a_function_as_format_is_serialized() -> None:
    from airflow.sdk import DAG
    from airflow.serialization.serialized_objects import DagSerialization

    with DAG("d", schedule=None) as dag:
        KafkaToCassandraOperator(task_id="load", topics=["t"], tables=["m.t"], format=read_value)

    text = str(DagSerialization.to_dict(dag))
    assert "read_value" in text
    assert " at 0x" not in text
