"""Sends records that cannot be stored to a topic of their own, unchanged, with the reason in Connect's
headers.

The header names are those of Kafka Connect's sinks, so that the tools which read and replay its dead letters
do so here.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException, Producer

from airflow_provider_restrack.load.client_config import bootstrap_servers, build_dead_letter_config
from airflow_provider_restrack.load.errors import ConfigurationError, DeliveryError, RejectError
from airflow_provider_restrack.load.headers import headers_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_restrack.load.offsets import Ticket

log = logging.getLogger(__name__)

_PREFIX = "__connect.errors."
_MAX_REASON = 2000
_ORIGIN = (_PREFIX + "topic", _PREFIX + "partition", _PREFIX + "offset")


@dataclass(frozen=True, slots=True)
class DeadLetterPolicy:
    """Where rejected records go, and who rejected them.

    :ivar origin: names the task, such as ``dag.task``.
    :ivar timeout_s: how long one dead letter may take to be acknowledged.
    """

    topic: str
    group_id: str
    origin: str = ""
    connection: str = "kafka_default"
    timeout_s: float = 60.0


def build_headers(
    record: Any, error: BaseException, policy: DeadLetterPolicy
) -> list[tuple[str, bytes | None]]:
    """Return the record's own headers, then where it comes from and why it was rejected.

    A dead letter that is rejected again keeps the topic, partition and offset that it first had; the rest
    tells of this time. Names and stages are those of Kafka Connect's ``DeadLetterQueueReporter``. Its
    ``exception.stacktrace`` is left out: it says nothing of the record, and took 0.3 ms of each.
    """
    kind, in_row = type(error), isinstance(error, RejectError)
    added = {
        "connector.name": policy.group_id,
        "task.id": policy.origin,
        "stage": "VALUE_CONVERTER" if in_row else "TASK_PUT",
        "class.name": f"airflow_provider_restrack.load.{'rows.RowMaker' if in_row else 'write.Writer'}",
        "exception.class.name": f"{kind.__module__}.{kind.__qualname__}",
        "exception.message": str(error)[:_MAX_REASON],
    }
    given = headers_of(record)
    own = [header for header in given if not header[0].startswith(_PREFIX)]
    reasons = [(_PREFIX + name, text.encode("utf-8", "replace")) for name, text in added.items()]
    return own + _origin(record, given) + reasons


def _origin(record: Any, given: Sequence[tuple[str, bytes | None]]) -> list[tuple[str, bytes | None]]:
    """Return the headers that say where a record was before it first was a dead letter."""
    first = dict(reversed(given))
    if all(first.get(name) is not None for name in _ORIGIN):
        return [(name, first[name]) for name in _ORIGIN]
    place = (record.topic(), str(record.partition()), str(record.offset()))
    return [(name, text.encode()) for name, text in zip(_ORIGIN, place, strict=True)]


class DeadLetters:
    """The producer of dead letters; ``delivered`` counts only what Kafka has acknowledged."""

    def __init__(
        self, producer: Any, policy: DeadLetterPolicy, *, servers: str, now: Callable[[], float]
    ) -> None:
        self._producer, self._policy, self._servers, self._now = producer, policy, servers, now
        self.delivered = 0
        self._pending = 0
        self._failed: str | None = None

    def send(self, record: Any, error: BaseException, ticket: Ticket) -> None:
        """Send a record; its chunk is held until Kafka has acknowledged it.

        :raises DeliveryError: if this or an earlier one was refused.
        """
        ticket.hold()
        self._pending += 1
        kind, moment = record.timestamp()
        arguments = {"timestamp": moment} if kind and moment > 0 else {}
        headers = build_headers(record, error, self._policy)

        def report(failure: Any, _message: Any) -> None:
            self._settle(failure, record, ticket)

        deadline = self._now() + self._policy.timeout_s
        while True:
            try:
                self._producer.produce(
                    self._policy.topic, value=record.value(), key=record.key(), headers=headers,
                    on_delivery=report, **arguments,
                )  # fmt: skip
                break
            except BufferError:  # the queue is full: serve delivery reports until there is room
                self._producer.poll(0.1)
                if self._now() > deadline:
                    raise self._error("its queue stayed full") from None
            except KafkaException as failure:
                raise self._error(failure.args[0].str()) from failure
        self.poll()

    def poll(self) -> None:
        """Serve delivery reports.

        :raises DeliveryError: if a dead letter was refused: its record must not count as settled.
        """
        self._producer.poll(0)
        if self._failed is not None:
            raise self._error(self._failed)

    def flush(self) -> None:
        """Wait until every dead letter is acknowledged.

        :raises DeliveryError: if one is not, within the timeout.
        """
        if self._pending:
            self._producer.flush(self._policy.timeout_s + 5)
        self.poll()
        if self._pending:
            raise self._error(f"{self._pending} were not acknowledged in time")

    def wait(self, seconds: float) -> None:
        """Wait until every dead letter is acknowledged, for so long at most.

        :raises DeliveryError: if a dead letter was refused.
        """
        if self._pending:
            self._producer.flush(seconds)
        self.poll()

    def close(self) -> None:
        """Drop what is unsent, so that the end of a failed run does not wait for it."""
        self._producer.purge()
        self._producer.poll(0)

    def _settle(self, failure: Any, record: Any, ticket: Ticket) -> None:
        self._pending -= 1
        if failure is None:
            self.delivered += 1
            ticket.settle()
        elif self._failed is None:
            self._failed = (
                f"{failure.str()}, for {record.topic()}[{record.partition()}] offset {record.offset()}"
            )

    def _error(self, reason: str) -> DeliveryError:
        return DeliveryError(
            f"dead letters could not be delivered to topic {self._policy.topic!r} on Kafka {self._servers}"
            f" (connection {self._policy.connection!r}): {reason}"
        )


def open_dead_letters(
    policy: DeadLetterPolicy, config: Mapping[str, Any], *, now: Callable[[], float], connect_timeout_s: float
) -> DeadLetters:
    """Return the dead letters' producer, after a look whether their topic exists.

    :raises ConfigurationError: if it does not, or the connection asks for what loses data.
    :raises DeliveryError: if Kafka does not answer.
    """
    settings = build_dead_letter_config(config, connection=policy.connection, timeout_s=policy.timeout_s)
    servers = bootstrap_servers(config)
    try:
        producer = Producer(settings, logger=log)
    except (KafkaException, TypeError, ValueError) as error:
        raise ConfigurationError(f"Kafka connection {policy.connection!r} is not valid: {error}") from error
    letters = DeadLetters(producer, policy, servers=servers, now=now)
    try:
        known = producer.list_topics(timeout=connect_timeout_s).topics
    except KafkaException as error:
        raise letters._error(error.args[0].str()) from error  # noqa: SLF001 - same module
    if policy.topic not in known:
        raise ConfigurationError(
            f"dead-letter topic {policy.topic!r} does not exist on Kafka {servers}"
            f" (connection {policy.connection!r}): create it with ProvisionOperator,"
            " or correct dead_letter_topic="
        )
    return letters
