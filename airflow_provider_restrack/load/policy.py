"""What a load is asked to do and what it has done: the values between an operator and the loader."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.load.dead_letter_limit import parse_limit
from airflow_provider_restrack.load.errors import ConfigurationError
from airflow_provider_restrack.load.partitions import check_topics_named, parse_partitions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_restrack.load.formats.registry import FormatChoice
    from airflow_provider_restrack.load.partitions import Choice

_MAX_TTL_S = 20 * 365 * 24 * 3600  # Cassandra's own limit
_CONSISTENCIES = frozenset(
    {"ANY", "ONE", "TWO", "THREE", "QUORUM", "ALL", "LOCAL_QUORUM", "EACH_QUORUM", "LOCAL_ONE"}
)


@dataclass(frozen=True, slots=True)
class LoadPolicy:
    """What to load from where to where, and how.

    :ivar tables: names ``keyspace.table``, or mappings with ``table`` and ``mode``.
    :ivar columns: column → what ``sources.parse_source`` reads: a field of another name, None to leave the
        column out, Kafka's metadata, a constant, an epoch time, a day, or what is derived of these.
    :ivar max_records: ends the run after so many records.
    :ivar max_seconds: ends the run after so long; what is read by then is still stored and committed.
    :ivar partitions: numbers, of every topic or by topic, to read by hand; None joins the group, and shares
        the partitions with its other members.
    :ivar follow: whether to go on past the ends of the start, until ``max_seconds``.
    :ivar batch_rows: rows of one partition that are written as one batch.
    :ivar consistency: such as ``LOCAL_QUORUM``; None takes the connection's.
    :ivar ttl: seconds for which a row is kept from its write timestamp on, so that a late one does not live
        longer. Older rows are counted and not written. None writes no TTL: the table's default counts from
        the write.
    :ivar dead_letter_limit: what ``parse_limit`` reads: how much a run may reject before it fails.
    :ivar timestamp_field: field with the time that the row was true, which is its write timestamp; a record
        without it takes Kafka's.
    :ivar format: what ``parse_format`` reads: the form of the records' values.
    :ivar retry_seconds: how long a write is tried again while Cassandra is down, busy or lacks nodes.
    :ivar max_ahead: seconds that a write time may be ahead of the worker's clock; a record further ahead is
        rejected, as later ones would never overwrite it. None is no limit.
    :ivar origin: names the task in dead letters.
    """

    topics: Sequence[str]
    tables: Sequence[str | Mapping[str, str]]
    group_id: str = "restrack-loader"
    columns: Mapping[str, str | Mapping[str, Any] | None] = field(default_factory=dict)
    max_records: int | None = None
    max_seconds: float | None = None
    partitions: Choice | Sequence[int] | Mapping[str, Sequence[int]] | None = None
    follow: bool = False
    batch_rows: int = 50
    consistency: str | None = None
    ttl: int | None = None
    dead_letter_topic: str | None = None
    dead_letter_limit: float | str | Mapping[str, Any] | None = 0.5
    timestamp_field: str = "timestamp"
    format: str | Mapping[str, Any] | Callable[..., Any] | FormatChoice = "json"
    retry_seconds: float = 60.0
    max_ahead: float | None = 3600.0
    origin: str = ""
    kafka_connection: str = "kafka_default"
    cassandra_connection: str = "cassandra_default"

    def check(self) -> None:
        """Refuse values that cannot work.

        :raises ConfigurationError: naming the argument.
        """
        if isinstance(self.topics, str) or not self.topics or not all(self.topics):
            raise ConfigurationError(f"topics is {self.topics!r}: give a list such as ['system_metrics']")
        if len(set(self.topics)) != len(self.topics):
            raise ConfigurationError("topics names a topic twice")
        if not self.group_id:
            raise ConfigurationError("group_id is empty")
        if self.dead_letter_topic in self.topics:
            raise ConfigurationError(
                "dead_letter_topic is one of topics: rejected records would be read for ever"
            )
        self._check_limits()
        check_topics_named(parse_partitions(self.partitions), self.topics)
        if self.consistency is not None and self.consistency not in _CONSISTENCIES:
            raise ConfigurationError(
                f"consistency is {self.consistency!r}: it must be one of {sorted(_CONSISTENCIES)}"
            )
        from airflow_provider_restrack.load.formats.registry import parse_format
        from airflow_provider_restrack.load.paths import split_name
        from airflow_provider_restrack.load.sources import parse_source
        from airflow_provider_restrack.load.table import parse_targets

        parse_targets(self.tables)
        for column, given in self.columns.items():
            parse_source(column, given)
        split_name(self.timestamp_field)
        parse_limit(self.dead_letter_limit)
        parse_format(self.format)

    def _check_limits(self) -> None:
        for name in ("max_records", "max_seconds", "batch_rows", "ttl", "retry_seconds", "max_ahead"):
            value = getattr(self, name)
            if value is not None and not value > 0:  # so that NaN, a limit that is never reached, is none
                raise ConfigurationError(f"{name} is {value}: it must be positive")
        if self.follow and self.max_seconds is None:
            raise ConfigurationError("follow needs max_seconds: without it the run would never end")
        if self.ttl is not None and self.ttl > _MAX_TTL_S:
            raise ConfigurationError(f"ttl is {self.ttl} s: Cassandra takes at most {_MAX_TTL_S}")


@dataclass(slots=True)
class LoadResult:
    """What a run has done.

    :ivar rows: rows that Cassandra acknowledged, over all tables.
    :ivar superseded: rows of ``replace`` tables that a newer one of the same chunk made needless.
    :ivar expired: records older than ``ttl``, or rows where a record gives several; not written.
    :ivar lost: records that the topic's retention deleted before the group read them.
    :ivar lag_before: offsets between the group's own and the topics' ends, when the run started; of the
        partitions that it read.
    :ivar lag_after: the same when it ended, records included that have come since; None if Kafka did not
        tell.
    :ivar write_p50_ms: half of the writes were acknowledged within so many milliseconds; None without writes.
    :ivar write_p99_ms: the same of 99 in 100.
    :ivar stopped: whether it was asked to stop before its end.
    """

    records: int = 0
    rows: int = 0
    tables: dict[str, int] = field(default_factory=dict)
    batches: int = 0
    superseded: int = 0
    expired: int = 0
    dead_letters: int = 0
    lost: int = 0
    retries: int = 0
    lag_before: int = 0
    lag_after: int | None = 0
    seconds: float = 0.0
    write_p50_ms: float | None = None
    write_p99_ms: float | None = None
    stopped: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return it as XCom takes it."""
        return asdict(self)

    def summary(self) -> str:
        """Return it as the line for the task's log."""
        rate = self.records / self.seconds if self.seconds else 0.0
        lag_after = "unknown" if self.lag_after is None else self.lag_after
        tables = ", ".join(f"{name} {rows}" for name, rows in self.tables.items()) or "none"
        return (
            f"Loaded {self.records} records as {self.rows} rows ({tables}) in {self.batches} batches and"
            f" {self.seconds:.1f} s ({rate:.0f} records/s); dead letters {self.dead_letters},"
            f" expired {self.expired}, superseded {self.superseded}, lost {self.lost},"
            f" retries {self.retries}; lag {self.lag_before} before, {lag_after} after{self._writes()}"
        )

    def _writes(self) -> str:
        if self.write_p50_ms is None:
            return ""
        return f"; writes p50 {self.write_p50_ms:g} ms, p99 {self.write_p99_ms:g} ms"
