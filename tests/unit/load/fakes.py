"""Hand-written stand-ins for the clients of Kafka and Cassandra: they record calls and answer as told."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from cassandra import cqltypes
from cassandra.protocol import ColumnMetadata
from cassandra.query import PreparedStatement
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from airflow_provider_restrack.load.cql_types import CqlType, parse_cql_type
from airflow_provider_restrack.load.table import Column, TableTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_DRIVER_TYPES = {
    "text": "UTF8Type", "varchar": "UTF8Type", "ascii": "AsciiType", "boolean": "BooleanType",
    "int": "Int32Type", "tinyint": "ByteType", "smallint": "ShortType", "bigint": "LongType",
    "varint": "IntegerType",
    "double": "DoubleType", "float": "FloatType", "decimal": "DecimalType", "timestamp": "DateType",
    "date": "SimpleDateType", "time": "TimeType", "uuid": "UUIDType", "timeuuid": "TimeUUIDType",
    "inet": "InetAddressType", "blob": "BytesType", "list": "ListType",
    "duration": "DurationType", "tuple": "TupleType", "set": "SetType", "map": "MapType",
}  # fmt: skip


def driver_type(cql: CqlType) -> Any:
    """Return the driver's type of a CQL type."""
    if cql.name == "vector":
        return cqltypes.VectorType.apply_parameters(
            [driver_type(cql.arguments[0]), int(cql.arguments[1].name)], None
        )
    if cql.fields:
        kinds = [driver_type(one) for one in cql.arguments]
        return cqltypes.UserType.make_udt_class("ks", cql.name, cql.fields, kinds)
    kind = getattr(cqltypes, _DRIVER_TYPES[cql.name])
    return kind.apply_parameters([driver_type(one) for one in cql.arguments]) if cql.arguments else kind


def columns_of(
    types: Mapping[str, str], partition: Iterable[str], clustering: Iterable[str] = ()
) -> list[Column]:
    """Return a table's columns, key first, as ``read_columns`` does."""
    partition, clustering = list(partition), list(clustering)
    kinds = dict.fromkeys(partition, "partition_key") | dict.fromkeys(clustering, "clustering")
    ordered = [*kinds, *(name for name in types if name not in kinds)]
    return [Column(name, parse_cql_type(types[name]), kinds.get(name, "regular")) for name in ordered]


def prepare(columns: Iterable[Column], *, with_ttl: bool = False) -> PreparedStatement:
    """Return a real prepared statement of the driver, made without a server."""
    types = [(column.name, driver_type(column.cql)) for column in columns]
    types.append(("[timestamp]", cqltypes.LongType))
    if with_ttl:
        types.append(("[ttl]", cqltypes.Int32Type))
    metadata = [ColumnMetadata("ks", "t", name, kind) for name, kind in types]
    return PreparedStatement(metadata, b"id", [0], "INSERT", None, 5, None, None)


@dataclass
class FakeMessage:
    """A record, or an event with an error."""

    raw: bytes | None
    at: int = 0
    where: int = 0
    of: str = "t"
    named: bytes | None = b"key"
    extra: list[tuple[str, bytes]] | None = None
    moment: tuple[int, int] = (1, 1_700_000_000_000)
    failure: KafkaError | None = None

    def __len__(self) -> int:
        return len(self.raw or b"")

    def topic(self) -> str:
        return self.of

    def partition(self) -> int:
        return self.where

    def offset(self) -> int:
        return self.at

    def value(self) -> bytes | None:
        return self.raw

    def key(self) -> bytes | None:
        return self.named

    def headers(self) -> list[tuple[str, bytes]] | None:
        return self.extra

    def set_headers(self, headers: list[tuple[str, bytes]]) -> None:
        self.extra = headers

    def timestamp(self) -> tuple[int, int]:
        return self.moment

    def error(self) -> KafkaError | None:
        return self.failure


class UnreadableHeaders(FakeMessage):
    """A record with a header whose name is no UTF-8 text, as confluent-kafka 2.16 gives it."""

    calls = 0

    def headers(self) -> list[tuple[str, bytes]] | None:
        if self.extra is not None:
            return self.extra
        self.calls += 1
        assert self.calls == 1, "the list that comes now ends the process"
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")


def record(at: int = 0, where: int = 0, **fields: Any) -> FakeMessage:
    """Return a record with JSON of these fields."""
    return FakeMessage(json.dumps(fields).encode(), at, where)


def end_of_partition(at: int, where: int = 0) -> FakeMessage:
    """Return the event that a partition has no more records."""
    return FakeMessage(None, at, where, failure=KafkaError(KafkaError._PARTITION_EOF))


def topics(**partitions: int) -> SimpleNamespace:
    """Return cluster metadata with topics of so many partitions."""
    found = {
        name: SimpleNamespace(error=None, partitions=dict.fromkeys(range(count)))
        for name, count in partitions.items()
    }
    return SimpleNamespace(topics=found)


@dataclass
class FakeConsumer:
    """Gives prepared batches of messages; ``failures`` are raised first, one a question.

    ``events`` are what the group does within each call of consume: see ``gives``, ``takes`` and ``loses``.
    """

    batches: list[list[FakeMessage]] = field(default_factory=list)
    metadata: Any = field(default_factory=lambda: topics(t=1))
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)
    ends: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    failures: list[KafkaException] = field(default_factory=list)
    metadatas: dict[tuple[str, int], str] = field(default_factory=dict)
    events: list[list[Callable[[FakeConsumer], None]]] = field(default_factory=list)
    member: str = "member-1"
    calls: list[tuple[str, Any]] = field(default_factory=list)

    def _ask(self, name: str, argument: Any) -> None:
        self.calls.append((name, argument))
        if self.failures:
            raise self.failures.pop(0)

    def list_topics(self, timeout: float) -> Any:
        self._ask("list_topics", timeout)
        return self.metadata

    def committed(self, wanted: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        self._ask("committed", timeout)
        return [
            TopicPartition(*place, self.offsets.get(place, -1001), metadata=self.metadatas.get(place, ""))
            for place in ((one.topic, one.partition) for one in wanted)
        ]

    def get_watermark_offsets(self, where: TopicPartition, timeout: float) -> tuple[int, int] | None:
        self._ask("watermarks", timeout)
        return self.ends.get((where.topic, where.partition))

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition]:
        assert asynchronous is False
        self._ask("commit", {(one.topic, one.partition): one.offset for one in offsets})
        self.offsets |= {(one.topic, one.partition): one.offset for one in offsets}
        self.metadatas |= {(one.topic, one.partition): one.metadata or "" for one in offsets}
        return offsets

    def consume(self, count: int, timeout: float) -> list[FakeMessage]:
        self.calls.append(("consume", count))
        for event in self.events.pop(0) if self.events else []:
            event(self)
        return self.batches.pop(0) if self.batches else []

    def assign(self, wanted: list[TopicPartition]) -> None:
        self.calls.append(("assign", {(one.topic, one.partition): one.offset for one in wanted}))

    def subscribe(self, topics: list[str], **callbacks: Any) -> None:
        self.calls.append(("subscribe", topics))
        self.callbacks = callbacks

    def memberid(self) -> str:
        return self.member

    def incremental_assign(self, wanted: list[TopicPartition]) -> None:
        self.calls.append(("gained", {(one.topic, one.partition): one.offset for one in wanted}))

    def incremental_unassign(self, wanted: list[TopicPartition]) -> None:
        self.calls.append(("given up", [(one.topic, one.partition) for one in wanted]))

    def resume(self, wanted: list[TopicPartition]) -> None:
        self.calls.append(("resume", sorted((one.topic, one.partition) for one in wanted)))

    def pause(self, wanted: list[TopicPartition]) -> None:
        self.calls.append(("pause", [(one.topic, one.partition) for one in wanted]))

    def seek(self, where: TopicPartition) -> None:
        self.calls.append(("seek", (where.topic, where.partition, where.offset)))

    def close(self) -> None:
        self.calls.append(("close", None))

    @property
    def paused(self) -> set[tuple[str, int]]:
        """What is paused: as in librdkafka, to lose a partition and to get it again changes nothing of it."""
        found: set[tuple[str, int]] = set()
        for name, argument in self.calls:
            if name == "pause":
                found |= set(argument)
            elif name == "resume":
                found -= set(argument)
        return found

    def named(self, name: str) -> list[Any]:
        """Return the arguments of the calls of a name."""
        return [argument for called, argument in self.calls if called == name]


def _happens(name: str, numbers: tuple[int, ...]) -> Callable[[FakeConsumer], None]:
    return lambda fake: fake.callbacks[name](fake, [TopicPartition("t", number) for number in numbers])


def gives(*numbers: int) -> Callable[[FakeConsumer], None]:
    """Return the event that the group gives partitions of topic ``t``."""
    return _happens("on_assign", numbers)


def takes(*numbers: int) -> Callable[[FakeConsumer], None]:
    """Return the event that the group takes partitions for another member."""
    return _happens("on_revoke", numbers)


def loses(*numbers: int) -> Callable[[FakeConsumer], None]:
    """Return the event that partitions turn out to be another member's."""
    return _happens("on_lost", numbers)


class FakeProducer:
    """Takes messages; delivers them at ``poll`` and ``flush`` unless told to fail, refuse or lose them."""

    def __init__(self, metadata: Any = None) -> None:
        self.metadata = metadata or topics(t=1, dead=1)
        self.sent: list[dict[str, Any]] = []
        self.queue: deque[Callable[[Any, Any], None]] = deque()
        self.fail_with: KafkaError | None = None
        self.refuse_with: list[Exception] = []
        self.deliver = True
        self.purged = False

    def list_topics(self, timeout: float) -> Any:
        return self.metadata

    def produce(self, topic: str, *, on_delivery: Callable[[Any, Any], None], **message: Any) -> None:
        if self.refuse_with:
            raise self.refuse_with.pop(0)
        self.sent.append({"topic": topic} | message)
        self.queue.append(on_delivery)

    def poll(self, timeout: float) -> int:
        while self.deliver and self.queue:
            self.queue.popleft()(self.fail_with, None)
        return 0

    def flush(self, timeout: float) -> int:
        self.poll(timeout)
        return len(self.queue)

    def purge(self) -> None:
        self.purged = True
        self.deliver = False


class FakeFuture:
    """Answers when told to; ``coordinator_host`` as the driver's."""

    coordinator_host = "10.0.0.1:9042"

    def __init__(self, statement: Any) -> None:
        self.statement = statement

    def add_callbacks(self, callback: Callable[[Any], None], errback: Callable[[Exception], None]) -> None:
        self.callback, self.errback = callback, errback


class FakeSession:
    """Takes statements; ``answer`` says of each: stored (None), an error, or open (Ellipsis)."""

    def __init__(self, answer: Callable[[Any], Any] = lambda _statement: None) -> None:
        self.answer = answer
        self.futures: list[FakeFuture] = []

    def execute_async(self, statement: Any) -> FakeFuture:
        future = FakeFuture(statement)
        self.futures.append(future)
        reply = self.answer(statement)
        add = future.add_callbacks

        def add_and_answer(callback: Any, errback: Any) -> None:
            add(callback, errback)
            if reply is None:
                callback(None)
            elif reply is not ...:
                errback(reply)

        future.add_callbacks = add_and_answer  # type: ignore[method-assign]
        return future


class Clock:
    """A monotonic clock that moves only when told to."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


TARGET = TableTarget("ks", "t", "merge")
