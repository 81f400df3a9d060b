from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Asset
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_provider_restrack import telemetry
from airflow_provider_restrack.load import publish as core
from airflow_provider_restrack.load.publish import PublishPolicy
from airflow_provider_restrack.operators.kafka_publish import KafkaPublishOperator


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replace the core by one that only notes what it is given."""
    calls: list[Any] = []

    def publish(records: Any, policy: PublishPolicy, config: dict[str, Any]) -> int:
        calls.append((records, policy, config))
        return len(records)

    monkeypatch.setattr(core, "publish", publish)
    monkeypatch.setenv(
        "AIRFLOW_CONN_MY_KAFKA", '{"conn_type": "kafka", "extra": {"bootstrap.servers": "b:1"}}'
    )
    return calls


def test_the_core_gets_arguments_and_settings(published: list[Any]) -> None:
    operator = KafkaPublishOperator(
        task_id="publish", topic="t", records=[{"id": 1}], key_field="id", kafka_config_id="my_kafka",
        headers={"a": "b"}, timeout=5,
    )  # fmt: skip

    assert operator.execute({}) == {"topic": "t", "delivered": 1}
    policy = PublishPolicy("t", key_field="id", headers={"a": "b"}, timeout_s=5, connection="my_kafka")
    assert published == [([{"id": 1}], policy, {"bootstrap.servers": "b:1"})]


def test_nothing_to_deliver_is_said(published: list[Any], caplog: Any) -> None:
    operator = KafkaPublishOperator(task_id="publish", topic="t", records=[], kafka_config_id="my_kafka")

    assert operator.execute({}) == {"topic": "t", "delivered": 0}


def test_an_asset_among_the_outlets_gets_what_the_task_returns(published: list[Any]) -> None:
    topic, events = Asset("kafka://b:1/t"), OutletEventAccessors()
    operator = KafkaPublishOperator(
        task_id="publish", topic="t", records=[{}], kafka_config_id="my_kafka", outlets=[topic]
    )

    operator.execute({"outlet_events": events})

    assert events[topic].extra == {"topic": "t", "delivered": 1}


def test_lineage_leads_to_the_topic(published: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "build_lineage", lambda *datasets: datasets)
    operator = KafkaPublishOperator(task_id="publish", topic="t", records=[{}], kafka_config_id="my_kafka")

    assert operator.get_openlineage_facets_on_complete(None) is None
    operator.execute({})
    assert operator.get_openlineage_facets_on_complete(None) == (
        [],
        [telemetry.Dataset("kafka://b:1", "t", 1)],
    )


def test_data_and_connections_are_templates() -> None:
    assert {"topic", "records", "kafka_config_id"} <= set(KafkaPublishOperator.template_fields)


def test_arguments_are_named() -> None:
    with pytest.raises(TypeError):
        KafkaPublishOperator("publish", "t", [])  # type: ignore[misc]
