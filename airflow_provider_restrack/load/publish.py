"""Sends records to a topic as JSON: all are checked before the first is sent, all acknowledged at the end."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from confluent_kafka import KafkaError, KafkaException, Producer

from airflow_provider_restrack import clock
from airflow_provider_restrack.load.client_config import bootstrap_servers, build_producer_config
from airflow_provider_restrack.load.errors import (
    ConfigurationError,
    DeliveryError,
    KafkaUnavailableError,
    RecordError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

log = logging.getLogger(__name__)

_DEFAULT_MAX_BYTES = 1_000_000  # librdkafka's message.max.bytes
ID_HEADER = "message_id"
_OVERHEAD_BYTES = 512  # of the record's framing, above what librdkafka and the broker add


@dataclass(frozen=True, slots=True)
class PublishPolicy:
    """Where records go and how long that may take.

    :ivar key_field: field whose text is the Kafka key, so that one host's records stay in order in one
        partition.
    :ivar headers: sent with every record.
    :ivar id_field: field whose text a record carries as its header ``ID_HEADER`` too; None: no such header.
    :ivar timeout_s: for the whole call, from the first question to the broker to the last acknowledgement.
    """

    topic: str
    key_field: str = "host"
    headers: Mapping[str, str] | None = None
    timeout_s: float = 60.0
    connection: str = "kafka_default"
    id_field: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A record as it is sent; ``name`` says which one it is, in errors."""

    name: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, str], ...] = ()


def publish(records: object, policy: PublishPolicy, config: Mapping[str, Any]) -> int:
    """Send records and return how many Kafka has acknowledged: all of them.

    Delivery is at least once: a call that fails may have delivered some, and its retry sends them again.
    Loaders of the rows by their key, as that of this package, store them once.

    :param records: a list of dicts, one dict, or a list of lists of dicts as mapped tasks give.
    :param config: librdkafka settings of the Kafka connection.
    :raises RecordError: before anything is sent, if a record is none that JSON or Kafka can take.
    :raises ConfigurationError: if the topic does not exist, or the connection asks for what loses data.
    :raises KafkaUnavailableError: if the broker does not answer in time.
    :raises DeliveryError: if any record is not acknowledged in time.
    """
    settings = build_producer_config(config, connection=policy.connection, timeout_s=policy.timeout_s)
    messages = encode_records(records, policy, max_bytes=max_message_bytes(settings))
    if not messages:
        return 0
    deadline = clock.monotonic() + policy.timeout_s
    return open_delivery(policy, settings).send(messages, deadline)


def open_delivery(policy: PublishPolicy, settings: dict[str, Any]) -> Delivery:
    """Connect to Kafka and make sure of the topic.

    :param settings: those of ``build_producer_config``.
    :raises ConfigurationError: if the topic does not exist, or a setting is not valid.
    :raises KafkaUnavailableError: if the broker does not answer in time.
    """
    try:
        producer = Producer(settings, logger=log)
    except (KafkaException, TypeError, ValueError) as error:
        raise ConfigurationError(f"Kafka connection {policy.connection!r} is not valid: {error}") from error
    servers = bootstrap_servers(settings)
    check_topic(producer, policy, servers)
    return Delivery(producer, policy, servers)


def max_message_bytes(settings: Mapping[str, Any]) -> int:
    """Return the size up to which a producer of these settings takes a message."""
    return int(settings.get("message.max.bytes", _DEFAULT_MAX_BYTES))


def flatten_records(records: object) -> Iterator[Any]:
    """Yield the records of a list, of one dict, or of a list of lists.

    :raises RecordError: if it is none of these.
    """
    if isinstance(records, Mapping):
        yield records
        return
    if records is None or isinstance(records, (str, bytes)) or not isinstance(records, Iterable):
        raise RecordError(
            f"records is a {type(records).__name__}:"
            " give a list of dicts, such as the output of an upstream task"
        )
    for item in records:
        if isinstance(item, Iterable) and not isinstance(item, (Mapping, str, bytes)):
            yield from item
        else:
            yield item


def encode_records(records: object, policy: PublishPolicy, *, max_bytes: int) -> list[Message]:
    """Return the messages of all records, or refuse the first that cannot be sent.

    :raises RecordError: naming the record's index, host and field.
    """
    encoder = msgspec.json.Encoder()
    header_bytes = sum(len(name) + len(str(text)) for name, text in (policy.headers or {}).items())
    messages = []
    for index, record in enumerate(flatten_records(records)):
        message = _encode(index, record, policy, encoder)
        size = len(message.key) + len(message.value) + header_bytes + _OVERHEAD_BYTES
        if size > max_bytes:
            raise RecordError(
                f"{message.name} has {size} bytes as JSON with its framing, more than the {max_bytes} that"
                " message.max.bytes of the connection lets through: raise it there and on the topic"
            )
        messages.append(message)
    return messages


def _encode(index: int, record: object, policy: PublishPolicy, encoder: msgspec.json.Encoder) -> Message:
    if not isinstance(record, Mapping):
        raise RecordError(f"record {index} is a {type(record).__name__}, not a dict")
    name = f"record {index} (host {record.get('host')!r})" if "host" in record else f"record {index}"
    key = record.get(policy.key_field)
    if isinstance(key, bool) or not isinstance(key, (str, int)) or key == "":
        what = "lacks" if key is None else f"has {key!r} as"
        raise RecordError(f"{name} {what} its key field {policy.key_field!r}: it must be a text or an int")
    try:
        bad = find_not_finite(record)
        if bad is not None:
            raise RecordError(f"{name}: field {bad} is NaN or infinite, which JSON does not have; send null")
        return Message(name, str(key).encode(), encoder.encode(record), _identify(name, record, policy))
    except (TypeError, OverflowError, RecursionError, UnicodeEncodeError, msgspec.MsgspecError) as error:
        raise RecordError(f"{name} cannot be written as JSON: {error}") from error


def _identify(name: str, record: Mapping[str, Any], policy: PublishPolicy) -> tuple[tuple[str, str], ...]:
    """Return the header that tells a record's identity, if the policy asks for it."""
    if policy.id_field is None:
        return ()
    if not record.get(policy.id_field):
        raise RecordError(f"{name} lacks its id field {policy.id_field!r}")
    return ((ID_HEADER, str(record[policy.id_field])),)


def find_not_finite(value: object, path: str = "") -> str | None:
    """Return the path of the first number that is NaN or infinite: msgspec would write null."""
    if isinstance(value, float):
        return None if math.isfinite(value) else (path or "value")
    if isinstance(value, Mapping):
        for name, item in value.items():
            found = find_not_finite(item, f"{path}.{name}" if path else str(name))
            if found is not None:
                return found
    elif isinstance(value, (list, tuple, set, frozenset)):
        for index, item in enumerate(value):
            found = find_not_finite(item, f"{path}[{index}]")
            if found is not None:
                return found
    return None


def check_topic(producer: Any, policy: PublishPolicy, servers: str) -> None:
    """Refuse a topic that does not exist, at once: librdkafka itself would wait for it to appear.

    :raises KafkaUnavailableError: if the broker does not answer in time.
    :raises ConfigurationError: if there is no such topic.
    """
    try:
        # All topics and not this one by name: asking for it creates it where brokers create topics by
        # themselves.
        known = producer.list_topics(timeout=policy.timeout_s).topics
    except KafkaException as error:
        raise KafkaUnavailableError(
            f"Kafka {servers} (connection {policy.connection!r}) did not answer in {policy.timeout_s:g} s:"
            f" {error.args[0].str()}"
        ) from error
    if policy.topic not in known:
        raise ConfigurationError(
            f"topic {policy.topic!r} does not exist on Kafka {servers} (connection {policy.connection!r}),"
            " or may not be described: create it with ProvisionOperator, or correct topic="
        )


class Delivery:
    """One call's messages on their way: counts the acknowledged and keeps the first reason of the others."""

    def __init__(self, producer: Any, policy: PublishPolicy, servers: str) -> None:
        self._producer, self._policy, self._servers = producer, policy, servers
        self._headers = [(name, str(text)) for name, text in (policy.headers or {}).items()]
        self._delivered = 0
        self._first_reason = ""

    @property
    def failed(self) -> bool:
        """Whether a message was refused or not acknowledged in time, as far as is known."""
        return bool(self._first_reason)

    def send(self, messages: Sequence[Message], deadline: float) -> int:
        """Send messages and wait for all acknowledgements until ``deadline`` on the monotonic clock.

        :raises DeliveryError: if one is missing.
        """
        try:
            for message in messages:
                if not self.put(message, deadline):
                    break
            return self.finish(len(messages), deadline)
        except BaseException:
            self.abandon()
            raise

    def put(self, message: Message, deadline: float) -> bool:
        """Hand a message to the producer, which sends it by itself; return whether it was taken."""
        report = partial(self._report, message.name)
        while True:
            try:
                self._producer.produce(
                    self._policy.topic,
                    value=message.value,
                    key=message.key,
                    headers=[*self._headers, *message.headers],
                    on_delivery=report,
                )
            except BufferError:  # the local queue is full: serve delivery reports until there is room
                self._producer.poll(0.1)
                if clock.monotonic() > deadline:
                    self._first_reason = self._first_reason or "the producer's queue stayed full"
                    return False
            except KafkaException as error:
                self._report(message.name, error.args[0], None)
                return False
            else:
                self._producer.poll(0)
                return True

    def finish(self, total: int, deadline: float) -> int:
        """Wait until all of ``total`` messages are acknowledged, and return how many that are.

        :raises DeliveryError: if one is missing.
        """
        queued = self._producer.flush(max(0.0, deadline - clock.monotonic()))
        if queued:
            # Without this the producer would go on sending after the task has failed.
            self._producer.purge()
            self._producer.flush(1.0)
        if self._delivered != total:
            raise self.error(total)
        return self._delivered

    def abandon(self, wait_s: float = 0.0) -> None:
        """Drop what is not sent after ``wait_s``."""
        if wait_s:
            self._producer.flush(wait_s)
        self._producer.purge()

    def _report(self, name: str, error: KafkaError | None, _message: Any) -> None:
        if error is None:
            self._delivered += 1
        elif not self._first_reason:
            self._first_reason = f"{name}: {error.str()}"

    def error(self, total: int) -> DeliveryError:
        """Return the error that says how many of ``total`` messages are not acknowledged, and why."""
        reason = self._first_reason or "no acknowledgement came"
        return DeliveryError(
            f"{total - self._delivered} of {total} records were not delivered to topic {self._policy.topic!r}"
            f" on Kafka {self._servers} (connection {self._policy.connection!r})"
            f" in {self._policy.timeout_s:g} s; first reason: {reason}"
        )
