"""Publishes records, such as the samples of ``RemoteMetricsOperator``, to a Kafka topic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context


class KafkaPublishOperator(BaseOperator):
    """Send records as JSON and wait until Kafka has acknowledged every one of them.

    All records are checked before the first is sent: a NaN, a record that is no dict, that lacks its key
    field or is larger than the connection lets through fails the task with the record's index, host and
    field. A record that is not acknowledged by all in-sync replicas within ``timeout`` fails it with the
    count and the first reason.

    .. note::
        Delivery is at least once. A retry sends the records again; ``KafkaToCassandraOperator`` stores them
        once, as the same sample has the same key and write time.

    :param topic: an existing topic, such as one that ``ProvisionOperator`` has made.
    :param records: a list of dicts, one dict, or the output of a mapped task: a sequence of such lists. An
        empty list delivers nothing and succeeds.
    :param key_field: field whose text is the Kafka key: records of one key stay in order in one partition.
    :param kafka_config_id: id of a ``kafka`` connection; its extra holds librdkafka's settings. ``acks``
        other than ``all`` and ``enable.idempotence=false`` are refused.
    :param headers: headers of every record.
    :param timeout: seconds for the whole call; an unreachable broker fails the task within it.
    """

    template_fields: Sequence[str] = ("topic", "records", "key_field", "kafka_config_id", "headers")
    ui_color = "#e8d9f5"

    def __init__(
        self,
        *,
        topic: str,
        records: Any,
        key_field: str = "host",
        kafka_config_id: str = "kafka_default",
        headers: Mapping[str, str] | None = None,
        timeout: float = 60,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.topic = topic
        self.records = records
        self.key_field = key_field
        self.kafka_config_id = kafka_config_id
        self.headers = headers
        self.timeout = timeout
        self._moved: tuple[str, int] | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Send the records and return ``{"topic", "delivered"}``."""
        from airflow_provider_restrack.hooks.kafka import KafkaClientHook
        from airflow_provider_restrack.load.client_config import bootstrap_servers
        from airflow_provider_restrack.load.publish import PublishPolicy, publish
        from airflow_provider_restrack.telemetry import kafka_namespace, note_outlets

        policy = PublishPolicy(
            topic=self.topic,
            key_field=self.key_field,
            headers=self.headers,
            timeout_s=self.timeout,
            connection=self.kafka_config_id,
        )
        config = KafkaClientHook(self.kafka_config_id).config()
        delivered = publish(self.records, policy, config)
        self._moved = (kafka_namespace(bootstrap_servers(config)), delivered)
        if delivered:
            self.log.info("Delivered %d records to topic %s", delivered, self.topic)
        else:
            self.log.warning("No records to deliver to topic %s", self.topic)
        result = {"topic": self.topic, "delivered": delivered}
        note_outlets(context, self.outlets, result)
        return result

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002 - OpenLineage's
        """Return the topic; None if nothing was sent, or without the OpenLineage provider."""
        from airflow_provider_restrack.telemetry import Dataset, build_lineage

        if self._moved is None:
            return None
        cluster, delivered = self._moved
        return build_lineage([], [Dataset(cluster, self.topic, delivered)])
