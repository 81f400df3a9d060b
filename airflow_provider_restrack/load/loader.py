"""Loads a bounded part of topics into tables: decode, group by partition key, batches in flight, contiguous
offsets.

Delivery is at least once and every write idempotent: rows carry their own write timestamps, and an offset is
committed only when every row before it is acknowledged. A run that dies anywhere is repeated by the next one
to the same effect.
"""

from __future__ import annotations

import gc
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack import clock
from airflow_provider_restrack.load.batch import BatchLimits, group_rows, newest_rows
from airflow_provider_restrack.load.consume import open_reader
from airflow_provider_restrack.load.cql_types import EPOCH
from airflow_provider_restrack.load.dead_letters import DeadLetterPolicy, open_dead_letters
from airflow_provider_restrack.load.errors import (
    DeliveryError,
    KafkaUnavailableError,
    OffsetResetError,
    PoisonRecordError,
    RejectError,
    StoreError,
)
from airflow_provider_restrack.load.offsets import OffsetTracker, Partition
from airflow_provider_restrack.load.partitions import parse_partitions
from airflow_provider_restrack.load.plan import ReadPolicy
from airflow_provider_restrack.load.policy import LoadResult
from airflow_provider_restrack.load.rows import build_row_maker
from airflow_provider_restrack.load.write import WritePolicy, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from airflow_provider_restrack.load.consume import Chunk, Reader
    from airflow_provider_restrack.load.dead_letters import DeadLetters
    from airflow_provider_restrack.load.encode import EncodedRow
    from airflow_provider_restrack.load.offsets import Ticket
    from airflow_provider_restrack.load.policy import LoadPolicy
    from airflow_provider_restrack.load.positions import Span
    from airflow_provider_restrack.load.rows import RowMaker

log = logging.getLogger(__name__)

# Records of one moment are of as many partitions as there are hosts: of 1,000 hosts, chunks of 4,000 gave
# batches of 8 rows and 15k rows/s, chunks of 16,000 give 36k (benchmarks/loader, seed; 143 MB at the peak).
CHUNK_RECORDS = 16000
_COMMIT_EVERY_S = 1.0  # what a killed run repeats at most, beside what was in flight


def load(
    policy: LoadPolicy,
    config: Mapping[str, Any],
    session: Any,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> LoadResult:
    """Load what the topics hold beyond the group's committed offsets, up to their ends of now, or for as long
    as ``policy.follow`` lets it.

    :param config: librdkafka settings of the Kafka connection.
    :param session: a connected cassandra-driver session.
    :param stop: asked between chunks; when true, what is read is stored and committed, and the run ends.
    :raises ConfigurationError: before anything is read, if a topic, table or column does not fit.
    :raises PoisonRecordError: at a record that cannot be stored, without a dead-letter topic.
    :raises StoreError: if Cassandra does not store a row.
    :raises KafkaUnavailableError: if Kafka does not answer, give records or confirm a commit.
    :raises OffsetResetError: if records are missing and the connection sets ``auto.offset.reset=error``.
    :raises DeliveryError: if a dead letter is not acknowledged.
    """
    policy.check()
    maker = build_row_maker(policy, session)
    read_policy = ReadPolicy(
        tuple(policy.topics), policy.group_id, policy.kafka_connection,
        partitions=parse_partitions(policy.partitions), follow=policy.follow,
    )  # fmt: skip
    letters = None
    reader = open_reader(read_policy, config, now=clock.monotonic)
    try:
        letters = _open_letters(policy, read_policy, config)
        run = Run(policy, maker, reader, session, letters)
        with _rare_collections():
            return run.execute(stop)
    finally:
        reader.close()
        if letters is not None:
            letters.close()


class Run:
    """One run over a reader: reads chunks, hands out their work and commits what is settled."""

    def __init__(
        self, policy: LoadPolicy, maker: RowMaker, reader: Reader, session: Any, letters: DeadLetters | None
    ) -> None:
        self._policy, self._maker, self._reader, self._letters = policy, maker, reader, letters
        self._writer = Writer(
            session,
            WritePolicy(consistency=policy.consistency, connection=policy.cassandra_connection),
            on_refused=lambda row, error, ticket: self._bury(row.record, error, ticket),
            while_waiting=reader.keep_alive,
            now=clock.monotonic,
        )
        self._limits = BatchLimits(rows=policy.batch_rows)
        self._tracker = OffsetTracker()
        self._buried: set[tuple[Partition, int]] = set()
        self._result = LoadResult()
        self._started = self._last_commit = clock.monotonic()

    def execute(self, stop: Callable[[], bool]) -> LoadResult:
        """Run to the end, the limits or the stop, and return the counts.

        After an error of ours what is settled is still committed; after any other, such as Airflow's timeout,
        which can strike between any two lines, nothing more is.
        """
        try:
            self._reader.start(self)
            while not self._is_done() and not self._over(stop):
                self._process(self._reader.read(self._room()))
                self._commit_sometimes()
            self._settle()
        except (StoreError, DeliveryError, PoisonRecordError, OffsetResetError) as error:
            self._commit_after(error)
            raise
        self._commit()
        return self._finish()

    def on_assigned(self, spans: Sequence[Span]) -> None:
        """Let a start that is not the group's own offset be committed, whatever is read of it."""
        moved = {span.partition: span.start for span in spans if span.moved}
        if moved:
            self._tracker.open(moved).settle()

    def on_revoked(self, partitions: Collection[Partition], *, settle: bool) -> None:
        """Commit what is stored of partitions that go to another member, and nothing of them after that."""
        try:
            if settle:
                self._settle()
            self._commit()
        finally:
            self._leave_out(partitions)

    def on_lost(self, partitions: Collection[Partition]) -> None:
        """Commit nothing more of partitions that another member has."""
        self._leave_out(partitions)

    def _leave_out(self, partitions: Collection[Partition]) -> None:
        self._tracker.drop(partitions)
        self._buried = {place for place in self._buried if place[0] not in partitions}

    def _is_done(self) -> bool:
        """Whether all is read, stored and committed: a commit that the group refuses is tried again."""
        if not self._reader.finished:
            return False
        self._settle()
        self._commit()
        return not self._tracker.committable()

    def _over(self, stop: Callable[[], bool]) -> bool:
        if stop():
            self._result.stopped = True
            return True
        limit = self._policy.max_seconds
        return self._room() <= 0 or (limit is not None and clock.monotonic() - self._started >= limit)

    def _room(self) -> int:
        limit = self._policy.max_records
        return CHUNK_RECORDS if limit is None else min(CHUNK_RECORDS, limit - self._result.records)

    def _process(self, chunk: Chunk) -> None:
        """Make the rows of a chunk and hand them to the writer; stop before a record that nothing takes."""
        rows: list[list[EncodedRow]] = [[] for _ in self._maker.encoders]
        rejected: list[tuple[Any, RejectError]] = []
        ends, poison = chunk.ends, None
        now_us = int((clock.utc_now() - EPOCH).total_seconds() * 1_000_000)
        for index, record in enumerate(chunk.records):
            try:
                made = self._maker.make(record, now_us)
            except RejectError as error:
                rejected.append((record, error))
                if self._letters is None:
                    poison, ends = error, _ends_of(chunk.records[:index])
                    break
                continue
            if made is None:
                self._result.expired += 1
            else:
                for table, row in zip(rows, made, strict=True):
                    table.append(row)
        self._hand_out(ends, rows, rejected)
        self._result.records += len(chunk.records)
        if poison is not None:
            self._settle()
            raise self._poison(rejected[-1][0], poison) from poison

    def _hand_out(
        self,
        ends: Mapping[Partition, int],
        rows: list[list[EncodedRow]],
        rejected: list[tuple[Any, RejectError]],
    ) -> None:
        if not ends:
            return
        ticket = self._tracker.open(ends)
        if self._letters is not None:
            for record, error in rejected:
                self._letters.send(record, error, ticket)
        for encoder, made in zip(self._maker.encoders, rows, strict=True):
            target = encoder.plan.target
            wanted = newest_rows(made) if target.mode == "replace" else made
            self._result.superseded += len(made) - len(wanted)
            for batch in group_rows(wanted, self._limits):
                self._writer.submit(target, batch, ticket)
        ticket.settle()

    def _bury(self, record: Any, error: Exception, ticket: Ticket) -> None:
        """Send a record that Cassandra refused to the dead letters, once however many tables refuse it."""
        if self._letters is None:
            raise self._poison(record, error, "Offsets are committed only up to what is stored") from error
        place = (Partition(record.topic(), record.partition()), record.offset())
        if place not in self._buried:
            self._buried.add(place)
            self._letters.send(record, error, ticket)

    def _settle(self) -> None:
        """Wait until all that was handed out is stored or delivered."""
        self._writer.drain()
        if self._letters is not None:
            self._letters.flush()

    def _commit_sometimes(self) -> None:
        self._writer.poll()
        if self._letters is not None:
            self._letters.poll()
        if clock.monotonic() - self._last_commit >= _COMMIT_EVERY_S:
            self._commit()

    def _commit(self) -> None:
        self._last_commit = clock.monotonic()
        offsets = self._tracker.committable()
        if offsets:
            offsets = self._reader.commit(offsets)
            self._tracker.note_committed(offsets)
            # What is committed is settled: none of its rows can be refused any more.
            self._buried = {place for place in self._buried if place[1] >= offsets.get(place[0], 0)}

    def _commit_after(self, error: BaseException) -> None:
        """Commit what is settled after an error; that error is the one to report."""
        try:
            self._commit()
        except KafkaUnavailableError as failure:
            log.warning("offsets were not committed after %s: %s", type(error).__name__, failure)

    def _finish(self) -> LoadResult:
        result, counts = self._result, self._writer.counts
        result.rows, result.tables = sum(counts.rows.values()), dict(counts.rows)
        result.batches, result.retries = counts.batches, counts.retries
        result.lost, result.lag_before = self._reader.lost, self._reader.lag_before
        result.dead_letters = self._letters.delivered if self._letters is not None else 0
        result.lag_after = self._reader.lag_after(self._tracker.committed)
        result.seconds = round(clock.monotonic() - self._started, 3)
        return result

    @staticmethod
    def _poison(
        record: Any, error: Exception, state: str = "What precedes it is stored and committed"
    ) -> PoisonRecordError:
        return PoisonRecordError(
            f"record {record.topic()}[{record.partition()}] offset {record.offset()} cannot be stored:"
            f" {error}. {state}; set dead_letter_topic to put such records aside"
        )


def _open_letters(
    policy: LoadPolicy, read_policy: ReadPolicy, config: Mapping[str, Any]
) -> DeadLetters | None:
    if policy.dead_letter_topic is None:
        return None
    wanted = DeadLetterPolicy(
        policy.dead_letter_topic, policy.group_id, origin=policy.origin, connection=policy.kafka_connection
    )
    return open_dead_letters(
        wanted, config, now=clock.monotonic, connect_timeout_s=read_policy.connect_timeout_s
    )


def _ends_of(records: Sequence[Any]) -> dict[Partition, int]:
    return {Partition(record.topic(), record.partition()): record.offset() + 1 for record in records}


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Let the cyclic garbage collector run rarely: decoded records hold no cycles, and scanning them cost
    more than decoding them.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(100_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
