"""Sends records to a topic one by one, as they come: nothing is kept, and all are acknowledged at the end."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack import clock
from airflow_provider_restrack.load.client_config import build_producer_config
from airflow_provider_restrack.load.publish import encode_records, max_message_bytes, open_delivery

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_provider_restrack.load.publish import Delivery, PublishPolicy


# For what was made just before the end; a task that is killed has two seconds in all.
_LAST_S = 0.3


class RecordStream:
    """Records on their way to a topic; the client sends them by itself while more are made."""

    def __init__(self, delivery: Delivery, policy: PublishPolicy, max_bytes: int) -> None:
        self._delivery, self._policy, self._max_bytes = delivery, policy, max_bytes
        self.sent = 0

    def send(self, record: Mapping[str, Any]) -> None:
        """Hand on one record; it may be acknowledged later.

        :raises RecordError: if it is none that JSON or Kafka can take.
        :raises DeliveryError: if it or an earlier one was refused: those that follow would be, too.
        """
        (message,) = encode_records(record, self._policy, max_bytes=self._max_bytes)
        self.sent += 1
        taken = self._delivery.put(message, clock.monotonic() + self._policy.timeout_s)
        if not taken or self._delivery.failed:
            raise self._delivery.error(self.sent)

    def finish(self) -> int:
        """Wait for all acknowledgements, and return how many there are.

        :raises DeliveryError: if one is missing after the policy's time.
        """
        return self._delivery.finish(self.sent, clock.monotonic() + self._policy.timeout_s)


@contextmanager
def open_stream(policy: PublishPolicy, config: Mapping[str, Any]) -> Iterator[RecordStream]:
    """Open a stream for a ``with`` block, which calls ``finish`` itself.

    When the block fails, what Kafka has not taken in a moment is dropped, so that nothing holds the task up.

    :param config: librdkafka settings of the Kafka connection.
    :raises ConfigurationError: if the topic does not exist, or the connection asks for what loses data.
    :raises KafkaUnavailableError: if the broker does not answer in time.
    """
    settings = build_producer_config(config, connection=policy.connection, timeout_s=policy.timeout_s)
    delivery = open_delivery(policy, settings)
    try:
        yield RecordStream(delivery, policy, max_message_bytes(settings))
    except BaseException:
        delivery.abandon(_LAST_S)
        raise
