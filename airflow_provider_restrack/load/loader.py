"""Loads a bounded part of topics into tables: decode, group by partition key, batches in flight, contiguous
offsets.

Delivery is at least once and every write idempotent: rows carry their own write timestamps, and an offset is
committed only when every row before it is acknowledged. A run that dies anywhere is repeated by the next one
to the same effect.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack import clock
from airflow_provider_restrack.load.assembly import Assembly
from airflow_provider_restrack.load.batch import BatchLimits, group_rows, join_batches, newest_rows
from airflow_provider_restrack.load.consume import QUANTUM_S
from airflow_provider_restrack.load.cql_types import EPOCH
from airflow_provider_restrack.load.dead_letter_limit import Rejections, parse_limit
from airflow_provider_restrack.load.dead_letters import DeadLetterPolicy, open_dead_letters
from airflow_provider_restrack.load.errors import (
    DeadLetterLimitError,
    DeliveryError,
    KafkaUnavailableError,
    OffsetResetError,
    PoisonRecordError,
    RejectError,
    SchemaRegistryError,
    StoreError,
)
from airflow_provider_restrack.load.formats.registry import open_format
from airflow_provider_restrack.load.garbage import rare_collections
from airflow_provider_restrack.load.offsets import OffsetTracker, Partition, ends_of
from airflow_provider_restrack.load.open_reader import open_reader
from airflow_provider_restrack.load.partitions import parse_partitions
from airflow_provider_restrack.load.plan import ReadPolicy
from airflow_provider_restrack.load.policy import LoadResult
from airflow_provider_restrack.load.positions import lag_behind
from airflow_provider_restrack.load.progress import Progress, Tally
from airflow_provider_restrack.load.retry import WritePolicy
from airflow_provider_restrack.load.rows import build_row_maker
from airflow_provider_restrack.load.write import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from airflow_provider_restrack.load.consume import Chunk, Reader
    from airflow_provider_restrack.load.dead_letters import DeadLetters
    from airflow_provider_restrack.load.encode import EncodedRow
    from airflow_provider_restrack.load.offsets import Ticket
    from airflow_provider_restrack.load.policy import LoadPolicy
    from airflow_provider_restrack.load.positions import Span
    from airflow_provider_restrack.load.rows import RowMaker
    from airflow_provider_restrack.load.table import TableTarget

log = logging.getLogger(__name__)

SLICE_RECORDS = (
    1000  # between two of them answers are handled and writes sent, so that the servers never wait
)
_BUSY_WAIT_S = 0.005  # for records, while writes are in flight
_OURS = (
    StoreError, DeliveryError, PoisonRecordError, DeadLetterLimitError, OffsetResetError, SchemaRegistryError,
)  # fmt: skip
_COMMIT_EVERY_S = 1.0  # what a killed run repeats at most, beside what was in flight


def load(
    policy: LoadPolicy,
    config: Mapping[str, Any],
    session: Any,
    *,
    stop: Callable[[], bool] = lambda: False,
    report: Callable[[LoadResult], None] = lambda _result: None,
) -> LoadResult:
    """Load what the topics hold beyond the group's committed offsets, up to their ends of now, or for as long
    as ``policy.follow`` lets it.

    :param config: librdkafka settings of the Kafka connection.
    :param session: a connected cassandra-driver session.
    :param stop: asked between chunks; when true, what is read is stored and committed, and the run ends.
    :param report: called once with what was done, however the run ends; after an error its ``lag_after``
        counts to the ends that the topics had at the start.
    :raises ConfigurationError: before anything is read, if a topic, table or column does not fit.
    :raises DeadLetterLimitError: if more is rejected than ``dead_letter_limit`` allows.
    :raises PoisonRecordError: at a record that cannot be stored, without a dead-letter topic.
    :raises StoreError: if Cassandra does not store a row.
    :raises KafkaUnavailableError: if Kafka does not answer, give records or confirm a commit.
    :raises OffsetResetError: if records are missing and the connection sets ``auto.offset.reset=error``.
    :raises DeliveryError: if a dead letter is not acknowledged.
    :raises SchemaRegistryError: if the schema of a record is not to be had now; what precedes the records at
        hand is committed.
    """
    policy.check()
    maker = build_row_maker(policy, session, open_format(policy, config))
    read_policy = ReadPolicy(
        tuple(policy.topics), policy.group_id, policy.kafka_connection,
        partitions=parse_partitions(policy.partitions), follow=policy.follow,
    )  # fmt: skip
    letters = None
    reader = open_reader(read_policy, config, now=clock.monotonic)
    try:
        letters = _open_letters(policy, read_policy, config)
        run = Run(policy, maker, reader, session, letters)
        try:
            with rare_collections():
                return run.execute(stop)
        finally:
            report(run.result)
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
            WritePolicy(
                consistency=policy.consistency,
                retry_seconds=policy.retry_seconds,
                connection=policy.cassandra_connection,
            ),
            on_refused=lambda row, error, ticket: self._bury(row.record, error, ticket),
            tables=[encoder.packed for encoder in maker.encoders],
            while_waiting=self._idle,
            now=clock.monotonic,
        )
        self._assembly = self._new_assembly()
        self._limits = BatchLimits(rows=policy.batch_rows)
        self._tracker = OffsetTracker()
        self._buried: set[tuple[Partition, int]] = set()
        self._rejections = Rejections(parse_limit(policy.dead_letter_limit) if letters is not None else None)
        self._result = LoadResult()
        self._lag_after: int | None = None
        self._finished = False
        self._started = self._last_commit = clock.monotonic()
        self._progress = Progress(self._started)

    def execute(self, stop: Callable[[], bool]) -> LoadResult:
        """Run to the end, the limits or the stop, and return the counts.

        After an error of ours what is settled is still committed; after any other, such as Airflow's timeout,
        which can strike between any two lines, nothing more is.
        """
        try:
            self._reader.start(self)
            while not self._is_done() and not self._over(stop):
                self._advance()
            self._settle()
        except _OURS as error:
            self._commit_after(error)
            raise
        finally:
            self._writer.close()
        self._commit()
        return self._finish()

    def on_assigned(self, spans: Sequence[Span]) -> None:
        """Let a start that is not the group's own offset be committed, whatever is read of it."""
        moved = {span.partition: span.start for span in spans if span.moved}
        if moved:
            self._tracker.open(moved).settle()

    def on_revoked(self, partitions: Collection[Partition], *, settle_s: float) -> None:
        """Commit what is stored of partitions that go to another member, and nothing of them after that."""
        try:
            if settle_s:
                self._settle_until(clock.monotonic() + settle_s)
            self._commit()
        finally:
            self._leave_out(partitions)

    def on_lost(self, partitions: Collection[Partition]) -> None:
        """Commit nothing more of partitions that another member has."""
        self._leave_out(partitions)

    def _leave_out(self, partitions: Collection[Partition]) -> None:
        self._tracker.drop(partitions)
        self._assembly.forget(partitions)
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
        return SLICE_RECORDS if limit is None else min(SLICE_RECORDS, limit - self._result.records)

    def _advance(self) -> None:
        """Read a slice, make its rows, and hand out what is gathered if it is enough, or all there is."""
        busy = self._writer.is_busy
        wanted = self._room()
        chunk = self._reader.read(wanted, _BUSY_WAIT_S if busy else QUANTUM_S)
        self._take(chunk)
        self._writer.pump()
        if self._assembly.is_full or (len(chunk.records) < wanted and not self._writer.is_busy):
            self._hand_out()
        self._idle()

    def _idle(self) -> None:
        """Do what is due between slices, and while the writer waits."""
        self._reader.keep_alive()
        self._commit_sometimes()
        self._tell()

    def _take(self, chunk: Chunk) -> None:
        """Make the rows of a slice and gather them; stop before a record, or a slice, that nothing takes."""
        part = self._new_assembly()
        try:
            made = self._make_rows(chunk.records, part)
        except SchemaRegistryError:
            self._settle()
            raise
        if made < len(chunk.records):
            record, error = part.rejected.pop()
            part.note_read(ends_of(chunk.records[:made]), made)
            self._gather(part)
            self._settle()
            raise PoisonRecordError.of(record, error) from error
        self._rejections.add(made, part.rejected)
        if (excess := self._rejections.excess()) is not None:
            self._settle()
            raise DeadLetterLimitError(excess)
        part.note_read(chunk.ends, made, sum(map(len, chunk.records)))
        self._gather(part)

    def _make_rows(self, records: Sequence[Any], part: Assembly) -> int:
        """Return how many records were made into rows or rejected: all, if there are dead letters."""
        make: Callable[[Any, int], Any] = self._maker.make
        add: Callable[[Any], None] = part.add
        if self._maker.format is not None:
            make, add = self._maker.make_all, partial(self._add_all, part)
        now_us = int((clock.utc_now() - EPOCH).total_seconds() * 1_000_000)
        for index, record in enumerate(records):
            try:
                rows = make(record, now_us)
            except RejectError as error:
                part.reject(record, error)
                if self._letters is None:
                    return index
                continue
            if rows is None:
                self._result.expired += 1
            else:
                add(rows)
        return len(records)

    def _add_all(self, part: Assembly, made: list[list[EncodedRow] | None]) -> None:
        """Add the rows of a record of which a format makes any number."""
        for rows in made:
            if rows is None:
                self._result.expired += 1
            else:
                part.add(rows)

    def _gather(self, part: Assembly) -> None:
        self._assembly.extend(part)
        self._result.records += part.records

    def _hand_out(self) -> None:
        """Hand what is gathered to the writer and the dead letters, once what precedes it is under way."""
        assembly = self._assembly
        if assembly.is_empty:
            return
        self._assembly = self._new_assembly()
        ticket = self._tracker.open(assembly.ends)  # before any wait, in which partitions may be taken
        self._rejections.hand_out(ticket, assembly.records, len(assembly.rejected))
        self._writer.make_room()
        if self._letters is not None:
            for record, error in assembly.rejected:
                self._letters.send(record, error, ticket)
        for encoder, made in zip(self._maker.encoders, assembly.tables, strict=True):
            target = encoder.plan.target
            wanted = newest_rows(made) if target.mode == "replace" else made
            self._writer.counts.superseded += len(made) - len(wanted)
            for batch in self._batches(target, wanted):
                self._writer.submit(target, batch, ticket)
        ticket.settle()
        self._writer.pump()

    def _batches(self, target: TableTarget, rows: list[EncodedRow]) -> list[list[EncodedRow]]:
        replicas_of = partial(self._writer.replicas, target)
        return join_batches(group_rows(rows, self._limits), self._limits, replicas_of)

    def _new_assembly(self) -> Assembly:
        return Assembly([[] for _ in self._maker.encoders])

    def _bury(self, record: Any, error: Exception, ticket: Ticket) -> None:
        """Send a record that Cassandra refused to the dead letters, once however many tables refuse it."""
        if self._letters is None:
            state = "Offsets are committed only up to what is stored"
            raise PoisonRecordError.of(record, error, state) from error
        place = (Partition(record.topic(), record.partition()), record.offset())
        if place not in self._buried:
            self._buried.add(place)
            self._rejections.refuse(ticket, record, error)
            if (excess := self._rejections.excess()) is not None:
                raise DeadLetterLimitError(excess)
            self._letters.send(record, error, ticket)

    def _settle(self) -> None:
        """Hand out all that has been read, and wait until it is stored or delivered."""
        self._hand_out()
        self._writer.drain()
        if self._letters is not None:
            self._letters.flush()

    def _settle_until(self, deadline: float) -> None:
        """Do as ``_settle`` does, as far as it gets: what Cassandra is slow to store stays to be stored."""
        if self._writer.make_room(deadline):
            self._hand_out()
            self._writer.drain(deadline)
        if self._letters is not None:
            self._letters.wait(max(0.0, deadline - clock.monotonic()))

    def _commit_sometimes(self) -> None:
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

    def _tell(self) -> None:
        """Write a line of progress into the log, if one is due."""
        now = clock.monotonic()
        if self._progress.due(now):
            done = self.result
            tally = Tally(done.records, done.rows, self._lag_left(), done.dead_letters, done.retries)
            log.info("%s", self._progress.line(now, tally))

    def _finish(self) -> LoadResult:
        self._lag_after = self._reader.lag_after(self._tracker.committed)
        self._finished = True
        return self.result

    def _lag_left(self) -> int:
        return lag_behind(self._reader.spans, self._tracker.committed)

    @property
    def result(self) -> LoadResult:
        """What is done so far; until the end ``lag_after`` counts to the ends that the topics had at the
        start.
        """
        result, counts = self._result, self._writer.counts
        result.rows, result.tables = sum(counts.rows.values()), dict(counts.rows)
        result.batches, result.retries, result.superseded = counts.batches, counts.retries, counts.superseded
        result.lost, result.lag_before = self._reader.lost, self._reader.lag_before
        result.dead_letters = self._letters.delivered if self._letters is not None else 0
        result.lag_after = self._lag_after if self._finished else self._lag_left()
        result.seconds = round(clock.monotonic() - self._started, 3)
        result.write_p50_ms, result.write_p99_ms = map(self._writer.latency.quantile_ms, (0.5, 0.99))
        return result


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
