"""What can go wrong between Kafka and Cassandra: a bad argument, a bad record and a bad server stay apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_restrack.load.offsets import Partition


class ConfigurationError(ValueError):
    """An argument, a connection or a schema that cannot work; a retry does not help."""


class RecordError(ValueError):
    """A record that is refused before anything is sent."""


class RejectError(ValueError):
    """A record that no row can be made of; the loader sends it to the dead letters, or ends at it."""


class KafkaUnavailableError(RuntimeError):
    """Kafka does not answer, or refuses what was asked, within the time allowed."""


class OffsetResetError(RuntimeError):
    """A group has no offset that its topic still holds, and ``auto.offset.reset`` forbids to choose one."""

    def __init__(self, partition: Partition, committed: int | None, low: int, high: int) -> None:
        state = "has no offset" if committed is None else f"is at offset {committed}"
        super().__init__(
            f"the group {state} of {partition.topic}[{partition.number}], which holds {low} to {high}, and"
            " the connection sets auto.offset.reset=error: set the group's offset with"
            " kafka-consumer-groups.sh, or auto.offset.reset to earliest or latest"
        )


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

    @classmethod
    def of(
        cls, record: Any, error: Exception, state: str = "What precedes it is stored and committed"
    ) -> PoisonRecordError:
        """Return the error of a Kafka record, with its place, the reason and what can be done."""
        return cls(
            f"record {record.topic()}[{record.partition()}] offset {record.offset()} cannot be stored:"
            f" {error}. {state}; set dead_letter_topic to put such records aside"
        )
