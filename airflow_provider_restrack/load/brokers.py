"""Asks the brokers for partitions, offsets and commits, and waits out the answers that only mean "not yet".

A group's coordinator moves, loads, and is made at the group's first use; a partition's leader changes. The
client reports these at once, so each question is put again until its time is over.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition

from airflow_provider_restrack import clock
from airflow_provider_restrack.load.errors import ConfigurationError, KafkaUnavailableError
from airflow_provider_restrack.load.offsets import Partition

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

log = logging.getLogger(__name__)

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
# The group has members, and the one that commits is not, or no longer, among them.
_NOT_A_MEMBER = frozenset(
    {KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION, KafkaError.FENCED_INSTANCE_ID}
)
_REBALANCING = frozenset({KafkaError.REBALANCE_IN_PROGRESS})
# What a commit says beside its offset. Other tools' commits say something else, or nothing.
_METADATA = re.compile(r"restrack topic-id=(\S+)")
_NO_TOPIC_ID = "AAAAAAAAAAAAAAAAAAAAAA"  # of brokers that know none


class Committed(NamedTuple):
    """A group's offset, and the id that its topic had when it was committed, if the commit tells."""

    offset: int
    topic_id: str | None = None


class Brokers:
    """The questions that a run puts to Kafka, each answered within ``timeout_s`` or failed with a name on it.

    :param consumer: a confluent-kafka Consumer.
    :param servers: ``bootstrap.servers``, for messages.
    :param topic_ids: id of each topic that has one, which commits carry; ``ask_topic_ids`` finds them.
    :param commit_timeout_s: for a commit, which waits for a broker that restarts; its last try may end
        as much later as the consumer's ``session.timeout.ms`` says.
    """

    def __init__(
        self,
        consumer: Any,
        *,
        servers: str,
        connection: str,
        group_id: str,
        topic_ids: Mapping[str, str] | None = None,
        timeout_s: float = 20.0,
        commit_timeout_s: float = 60.0,
    ) -> None:
        self._consumer, self._group_id = consumer, group_id
        self._timeout_s, self._commit_timeout_s = timeout_s, commit_timeout_s
        self.topic_ids = dict(topic_ids or {})
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

    def committed(self, partitions: Collection[Partition]) -> dict[Partition, Committed]:
        """Return the group's offsets; a partition without one is left out.

        :raises KafkaUnavailableError: if the brokers do not answer.
        """
        wanted = [TopicPartition(*partition) for partition in partitions]
        if not wanted:
            return {}
        entries = self._ask(
            f"for the offsets of group {self._group_id!r}",
            lambda left: _checked(self._consumer.committed(wanted, timeout=left)),
        )
        return {
            Partition(entry.topic, entry.partition): Committed(entry.offset, _topic_id_in(entry.metadata))
            for entry in entries
            if entry.offset >= 0
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

    def commit(self, offsets: Mapping[Partition, int], *, member: bool = False) -> bool:
        """Commit offsets and wait until Kafka has confirmed each; return whether it has.

        :param member: whether the consumer has joined the group. A refusal because the group has moved on is
            then no failure: its next member repeats what is not committed, or the next try succeeds.
        :raises KafkaUnavailableError: if it does not; what is stored is then only written again by the next
            run.
        """
        wanted = [
            TopicPartition(*partition, offset, metadata=self._metadata(partition.topic))
            for partition, offset in offsets.items()
        ]
        refusals = _NOT_A_MEMBER | _REBALANCING if member else frozenset()

        def commit(_left: float) -> bool:
            try:
                _checked(self._consumer.commit(offsets=wanted, asynchronous=False) or ())
            except KafkaException as error:
                if error.args[0].code() not in refusals:
                    raise
                log.warning("%s did not take offsets now: %s", self.name, error.args[0].str())
                return False
            return True

        return self._ask(
            f"to commit offsets of group {self._group_id!r}",
            commit,
            timeout_s=self._commit_timeout_s,
            waiting_for=_NOT_YET | _AWAY,
        )

    def _metadata(self, topic: str) -> str:
        known = self.topic_ids.get(topic)
        return f"restrack topic-id={known}" if known else ""

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


def _topic_id_in(metadata: str | None) -> str | None:
    found = _METADATA.fullmatch(metadata or "")
    return found[1] if found else None


def _remedy(cause: Any) -> str:
    if cause.code() in _NOT_A_MEMBER | _REBALANCING:
        return (
            "; the group has active members, and offsets beside theirs are refused: a task with partitions="
            " needs a group_id that no task without it, and no other consumer, uses at the same time"
        )
    return ""


def ask_topic_ids(admin: Any, topics: Collection[str], *, timeout_s: float) -> dict[str, str]:
    """Return the ids of topics: one that is deleted and made again has another. What has none is left out.

    It raises nothing: older brokers and some permissions do not tell, and the ids only make sure.
    """
    try:
        answers = admin.describe_topics(TopicCollection(list(topics)), request_timeout=timeout_s)
        found = {name: str(answer.result().topic_id) for name, answer in answers.items()}
    except (KafkaException, ValueError) as error:
        log.info("ids of topics are not known, one made anew is seen by its offsets alone: %s", error)
        return {}
    return {name: one for name, one in found.items() if one != _NO_TOPIC_ID}
