"""Asks the brokers for partitions, offsets and commits, and waits out the answers that only mean "not yet".

A group's coordinator moves, loads, and is made at the group's first use; a partition's leader changes. The
client reports these at once, so each question is put again until its time is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from airflow_provider_restrack import clock
from airflow_provider_restrack.load.errors import ConfigurationError, KafkaUnavailableError
from airflow_provider_restrack.load.offsets import Partition

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Answer = TypeVar("Answer")

_AGAIN_S = 0.2
# (The names of librdkafka's local errors begin with an underscore; they are public.)
_NOT_YET = frozenset(
    getattr(KafkaError, name)
    for name in (
        "NOT_COORDINATOR", "COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE", "_WAIT_COORD",
        "LEADER_NOT_AVAILABLE", "NOT_LEADER_FOR_PARTITION", "REQUEST_TIMED_OUT", "UNKNOWN_TOPIC_OR_PART",
        "_UNKNOWN_PARTITION", "_LEADER_UNAVAILABLE" if hasattr(KafkaError, "_LEADER_UNAVAILABLE") else
        "_WAIT_CACHE",
        "_DESTROY_BROKER",  # the broker that was asked is no longer one of the cluster
    )
)  # fmt: skip
# What a broker that restarts is to its clients. A run that starts fails at once at these, one that has stored
# rows waits with its commit.
_AWAY = frozenset(
    getattr(KafkaError, name) for name in ("_TRANSPORT", "_ALL_BROKERS_DOWN", "_TIMED_OUT", "_RESOLVE")
)
_JOINED = frozenset({KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION})


class Brokers:
    """The questions that a run puts to Kafka, each answered within ``timeout_s`` or failed with a name on it.

    :param consumer: a confluent-kafka Consumer.
    :param servers: ``bootstrap.servers``, for messages.
    :param commit_timeout_s: for a commit, which waits for a broker that restarts; its last try may end up to
        ``client_config.COMMIT_TRY_MS`` later.
    """

    def __init__(
        self,
        consumer: Any,
        *,
        servers: str,
        connection: str,
        group_id: str,
        timeout_s: float = 20.0,
        commit_timeout_s: float = 60.0,
    ) -> None:
        self._consumer, self._group_id = consumer, group_id
        self._timeout_s, self._commit_timeout_s = timeout_s, commit_timeout_s
        self.name = f"Kafka {servers} (connection {connection!r})"

    def partitions(self, topics: Sequence[str]) -> list[Partition]:
        """Return all partitions of the topics.

        :raises ConfigurationError: if a topic does not exist.
        :raises KafkaUnavailableError: if the brokers do not answer.
        """
        # All topics and not each by name: asking for one by name creates it where brokers create topics.
        metadata = self._ask("for its topics", lambda left: self._consumer.list_topics(timeout=left))
        found = []
        for topic in topics:
            known = metadata.topics.get(topic)
            if known is None or known.error is not None:
                reason = f": {known.error.str()}" if known else ""
                raise ConfigurationError(
                    f"topic {topic!r} does not exist on {self.name}, or may not be described{reason};"
                    " create it with ProvisionOperator, or correct topics="
                )
            found += [Partition(topic, number) for number in sorted(known.partitions)]
        return found

    def committed(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """Return the group's offsets; a partition without one is left out.

        :raises KafkaUnavailableError: if the brokers do not answer.
        """
        wanted = [TopicPartition(*partition) for partition in partitions]
        entries = self._ask(
            f"for the offsets of group {self._group_id!r}",
            lambda left: _checked(self._consumer.committed(wanted, timeout=left)),
        )
        return {
            Partition(entry.topic, entry.partition): entry.offset for entry in entries if entry.offset >= 0
        }

    def watermarks(self, partition: Partition) -> tuple[int, int]:
        """Return the oldest offset of a partition and the one after its newest.

        :raises KafkaUnavailableError: if the brokers do not answer.
        """
        where = TopicPartition(*partition)
        low, high = self._ask(
            f"for the ends of {partition.topic}[{partition.number}]",
            lambda left: self._consumer.get_watermark_offsets(where, timeout=left) or _time_out(),
            # Only a partition's leader can tell, and where it has died another one takes over.
            waiting_for=_NOT_YET | _AWAY,
        )
        return low, high

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Commit offsets and wait until Kafka has confirmed each.

        :raises KafkaUnavailableError: if it does not; what is stored is then only written again by the next
            run.
        """
        wanted = [TopicPartition(*partition, offset) for partition, offset in offsets.items()]
        self._ask(
            f"to commit offsets of group {self._group_id!r}",
            lambda _left: _checked(self._consumer.commit(offsets=wanted, asynchronous=False) or ()),
            timeout_s=self._commit_timeout_s,
            waiting_for=_NOT_YET | _AWAY,
        )

    def _ask(
        self,
        what: str,
        question: Callable[[float], Answer],
        *,
        timeout_s: float | None = None,
        waiting_for: frozenset[int] = _NOT_YET,
    ) -> Answer:
        limit = self._timeout_s if timeout_s is None else timeout_s
        started = clock.monotonic()
        while True:
            try:
                return question(max(0.1, started + limit - clock.monotonic()))
            except KafkaException as error:
                cause, now = error.args[0], clock.monotonic()
                if cause.code() not in waiting_for or now + _AGAIN_S > started + limit:
                    raise KafkaUnavailableError(
                        f"{self.name} was asked {what} and failed after {now - started:.1f} s:"
                        f" {cause.str()}{_remedy(cause)}"
                    ) from error
            clock.sleep(_AGAIN_S)


def _checked(entries: Sequence[Any]) -> Sequence[Any]:
    """Raise the first partition's own error: the call as a whole succeeds beside it."""
    for entry in entries:
        if entry.error is not None:
            raise KafkaException(entry.error)
    return entries


def _time_out() -> tuple[int, int]:
    raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 - a public name


def _remedy(cause: Any) -> str:
    if cause.code() in _JOINED:
        return "; other consumers have joined this group: give the loader a group_id of its own"
    return ""
