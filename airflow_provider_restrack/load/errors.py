"""What can go wrong between Kafka and Cassandra: a bad argument, a bad record and a bad server stay apart."""

from __future__ import annotations


class ConfigurationError(ValueError):
    """An argument, a connection or a schema that cannot work; a retry does not help."""


class RecordError(ValueError):
    """A record that is refused before anything is sent."""


class RejectError(ValueError):
    """A record that no row can be made of; the loader sends it to the dead letters, or ends at it."""


class KafkaUnavailableError(RuntimeError):
    """Kafka does not answer, or refuses what was asked, within the time allowed."""


class SchemaRegistryError(RuntimeError):
    """The schema registry does not answer, or not with a schema; records that need one stay unread."""


class DeliveryError(RuntimeError):
    """Kafka did not acknowledge some of the records."""


class StoreError(RuntimeError):
    """Cassandra did not acknowledge a write within the retries allowed, or refuses it."""


class DeadLetterLimitError(RuntimeError):
    """More records are rejected than ``dead_letter_limit`` allows; what precedes them is committed."""


class PoisonRecordError(RuntimeError):
    """A record cannot be stored and no dead-letter topic takes it; what precedes it is committed."""
