from __future__ import annotations

import copy
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_restrack.hooks import cassandra as cassandra_hook
from airflow_provider_restrack.load import loader
from airflow_provider_restrack.load.errors import ConfigurationError
from airflow_provider_restrack.load.policy import LoadPolicy, LoadResult
from airflow_provider_restrack.operators.kafka_to_cassandra import KafkaToCassandraOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Core:
    """Stands in for ``load`` and notes what it is given."""

    def __init__(self) -> None:
        self.result = LoadResult(records=3, rows=3)
        self.during: Callable[[], None] = lambda: None
        self.policy: LoadPolicy | None = None

    def load(self, policy: LoadPolicy, config: Any, session: Any, *, stop: Callable[[], bool]) -> LoadResult:
        self.policy, self.config, self.session = policy, config, session
        self.during()
        self.stopped = stop()
        return self.result


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> Core:
    made = Core()

    class FakeHook:
        def __init__(self, conn_id: str) -> None:
            self.conn_id = conn_id

        @contextmanager
        def session(self) -> Iterator[str]:
            yield f"session of {self.conn_id}"

    monkeypatch.setattr(loader, "load", made.load)
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
    operator(max_records="7", max_seconds="1.5", ttl="").execute({})

    assert core.policy is not None
    assert (core.policy.max_records, core.policy.max_seconds, core.policy.ttl) == (7, 1.5, None)
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
    ],
)
def test_what_is_plainly_wrong_fails_when_the_dag_is_parsed(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        operator(**wrong)


def test_templates_and_upstream_output_are_left_alone_at_parse() -> None:
    made = operator(topics="{{ params.topics }}", tables=["{{ params.keyspace }}.t"], ttl="{{ params.ttl }}")

    assert made.topics == "{{ params.topics }}"
