"""Loads records of Kafka topics into Cassandra tables, in micro-batches, losing none and doubling none."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator

from airflow_provider_restrack.templates import is_literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_restrack.load.policy import LoadPolicy, LoadResult
    from airflow_provider_restrack.store.session import CassandraPolicy


class KafkaToCassandraOperator(BaseOperator):
    """Load what topics hold beyond the group's committed offsets, up to their ends when the task starts.

    A table's columns and types are read from Cassandra; each takes the JSON field of its name, unknown fields
    are ignored, and a null or absent one leaves the column unset. Rows are written at the sample's own time
    (``USING TIMESTAMP``), so that an older record never overwrites a newer one, whatever the order of
    arrival.

    Offsets are committed synchronously, only after every row before them is acknowledged by every table, and
    every dead letter by Kafka. A task that dies anywhere leaves nothing lost; its retry writes some rows
    again, to the same effect. Tasks that run at once with one group share its partitions and lose nothing;
    with ``partitions`` each reads its own.

    A group without committed offsets starts at the oldest record, unless the connection sets
    ``auto.offset.reset``. Offsets that the topic's retention has deleted before they were read are logged and
    counted as ``lost``.

    :param topics: topics to read.
    :param tables: ``keyspace.table``, or ``{"table": …, "mode": "merge" | "replace"}``. ``merge`` leaves the
        columns of absent fields as they are; ``replace`` deletes them, so that a row is the newest record
        whole, and writes only the newest row of a key in a chunk. The default is the mode of
        ``store/schema.py`` (``latest_metrics``: replace), else merge.
    :param group_id: consumer group that holds the offsets; it overrides that of the connection.
    :param kafka_config_id: id of a ``kafka`` connection. One with ``enable.auto.commit=true`` is refused.
    :param cassandra_conn_id: id of a ``cassandra`` connection.
    :param columns: column → field where the names differ; None leaves a column out. Also Kafka's metadata
        (``__key``, ``__topic``, ``__partition``, ``__offset``, ``__timestamp``, ``header.NAME``), constants
        (``{"value": …}``), epoch times (``{"field": "ts", "unit": "s" | "ms" | "us" | "ns"}``) the UTC day
        of a time (``{"day_of": "ts"}``), the first that is not null (``{"first_of": ["a", "b.c"]}``) and
        UUIDs (``{"uuid5_of": ["a", "b"]}``). Dotted names lead into nested objects. A ``date`` column of a
        time field takes its UTC day; a key column ``day`` does so by itself.
    :param max_records: end after so many records.
    :param max_seconds: end after so many seconds; what has been read is stored and committed first.
    :param partitions: numbers such as ``[0, 3]``, of every topic, or a mapping of topics to them; for
        ``.expand(partitions=[[0], [1]])``. None: the group shares them out among the tasks that run.
    :param follow: go on past the ends of the start, with records and partitions that come, until
        ``max_seconds``, which it needs.
    :param batch_rows: rows of one partition that are written as one UNLOGGED batch; batches also stay below
        4.5 KiB.
    :param consistency: of the writes, such as ``LOCAL_QUORUM``; None takes the connection's.
    :param ttl: seconds that a row is kept, counted from its write time; older records are counted as
        ``expired`` and not written. None: the table's default TTL, counted from the write.
    :param dead_letter_topic: takes records that cannot be stored, unchanged, with the reason and origin in
        ``__connect.errors.*`` headers. None: the task fails at such a record, with what precedes it stored
        and committed.
    :param dead_letter_limit: rejected records that end the run: a count, a share (judged over stretches of at
        least 1,000 records), or ``{"count": …, "share": …, "after": …}``. Over it the task fails, without a
        retry, before the records at hand; None lets any number through.
    :param timestamp_field: field with the write time; a record without it takes Kafka's.
    :param format: form of the values: ``json``, ``telegraf``, ``influx`` (line protocol) or ``avro``; a
        mapping for options, such as ``{"name": "influx", "precision": "s"}``; or a function
        ``(value: bytes, record) -> dict | list[dict] | None``, or the dotted path of one.
    :param retry_seconds: how long a write is tried again while Cassandra is down, busy or lacks nodes; then
        the task fails, with nothing committed beyond what is stored.
    :param max_ahead: seconds that a record's write time may be ahead of the worker's clock; one further ahead
        is rejected, as later records would never overwrite it. None: no limit.
    """

    template_fields: Sequence[str] = (
        "topics", "tables", "group_id", "kafka_config_id", "cassandra_conn_id", "columns", "max_records",
        "max_seconds", "partitions", "consistency", "ttl", "dead_letter_topic", "dead_letter_limit",
        "timestamp_field", "batch_rows", "retry_seconds", "max_ahead", "format",
    )  # fmt: skip
    ui_color = "#d9e8f5"

    def __init__(
        self,
        *,
        topics: Sequence[str],
        tables: Sequence[str | Mapping[str, str]],
        group_id: str = "restrack-loader",
        kafka_config_id: str = "kafka_default",
        cassandra_conn_id: str = "cassandra_default",
        columns: Mapping[str, str | Mapping[str, Any] | None] | None = None,
        max_records: int | None = None,
        max_seconds: float | None = None,
        partitions: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
        follow: bool = False,
        batch_rows: int = 50,
        consistency: str | None = None,
        ttl: int | None = None,
        dead_letter_topic: str | None = None,
        dead_letter_limit: float | str | Mapping[str, Any] | None = 0.5,
        timestamp_field: str = "timestamp",
        format: str | Mapping[str, Any] | Callable[..., Any] = "json",  # noqa: A002 - the field's own word
        retry_seconds: float = 60.0,
        max_ahead: float | None = 3600.0,
        **kwargs: Any,
    ) -> None:
        from airflow_provider_restrack.load.formats.registry import parse_format

        super().__init__(**kwargs)
        self.topics = topics
        self.tables = tables
        self.group_id = group_id
        self.kafka_config_id = kafka_config_id
        self.cassandra_conn_id = cassandra_conn_id
        self.columns = columns
        self.max_records = max_records
        self.max_seconds = max_seconds
        self.partitions = partitions
        self.follow = follow
        self.batch_rows = batch_rows
        self.consistency = consistency
        self.ttl = ttl
        self.dead_letter_topic = dead_letter_topic
        self.dead_letter_limit = dead_letter_limit
        self.timestamp_field = timestamp_field
        # Airflow calls a function that stands in a template field.
        self.format = parse_format(format) if callable(format) else format
        self.retry_seconds = retry_seconds
        self.max_ahead = max_ahead
        given = {name: getattr(self, name) for name in self.template_fields}
        if is_literal({**given, "format": None if callable(format) else format}):
            self._policy({}).check()
        self._moved: tuple[str, str, LoadResult] | None = None
        # Made in execute: an Event holds a lock, which Airflow's copies of an operator cannot take along.
        self._stop: threading.Event | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Load, and return the counts of ``LoadResult``.

        :raises AirflowFailException: if more is rejected than ``dead_letter_limit`` allows.
        """
        from airflow_provider_restrack.hooks.cassandra import CassandraSessionHook
        from airflow_provider_restrack.hooks.kafka import KafkaClientHook
        from airflow_provider_restrack.load.errors import DeadLetterLimitError
        from airflow_provider_restrack.load.loader import load
        from airflow_provider_restrack.store.session import open_session
        from airflow_provider_restrack.telemetry import note_outlets

        self._stop = threading.Event()
        policy = self._policy(context)
        policy.check()
        config = KafkaClientHook(self.kafka_config_id).config()
        cassandra = CassandraSessionHook(self.cassandra_conn_id).policy()
        report = partial(self._report, context, config, cassandra)
        with open_session(cassandra) as session:
            try:
                result = load(policy, config, session, stop=self._stop.is_set, report=report)
            except DeadLetterLimitError as error:  # a retry would meet the same records
                raise AirflowFailException(str(error)) from error
        if result.stopped:
            raise RuntimeError(
                f"the load was stopped before its end; what was stored is committed: {result.summary()}"
            )
        note_outlets(context, self.outlets, result.as_dict())
        return result.as_dict()

    def on_kill(self) -> None:
        """Let the loop end after the chunk at hand: it stores and commits what it has read."""
        if self._stop is not None:
            self._stop.set()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002 - OpenLineage's
        """Return the topics that were read and what was written: tables and dead letters.

        It is asked after a failure too; None if nothing was read, or without the OpenLineage provider.
        """
        from airflow_provider_restrack.load.table import parse_targets
        from airflow_provider_restrack.telemetry import Dataset, build_lineage

        if self._moved is None:
            return None
        kafka, cassandra, result = self._moved
        tables = [target.full_name for target in parse_targets(self.tables)]
        written = [Dataset(cassandra, name, result.tables.get(name, 0)) for name in tables]
        if self.dead_letter_topic:
            written.append(Dataset(kafka, self.dead_letter_topic, result.dead_letters))
        return build_lineage([Dataset(kafka, topic) for topic in self.topics], written)

    def _report(
        self, context: Context, config: Mapping[str, Any], cassandra: CassandraPolicy, result: LoadResult
    ) -> None:
        """Tell what was done, however the run ended."""
        from airflow_provider_restrack.load.client_config import bootstrap_servers
        from airflow_provider_restrack.telemetry import (
            cassandra_namespace,
            count_load,
            kafka_namespace,
            task_tags,
        )

        tables = cassandra_namespace(cassandra.contact_points, cassandra.port)
        self._moved = (kafka_namespace(bootstrap_servers(config)), tables, result)
        self.log.info("%s", result.summary())
        count_load(result, task_tags(context, self.task_id))

    def _policy(self, context: Context | Mapping[str, Any]) -> LoadPolicy:
        from airflow_provider_restrack.load.partitions import parse_partitions
        from airflow_provider_restrack.load.policy import LoadPolicy

        task_instance = context.get("ti")
        dag_id = getattr(task_instance, "dag_id", "")
        return LoadPolicy(
            topics=self.topics,
            tables=self.tables,
            group_id=self.group_id,
            columns=self.columns or {},
            max_records=_number("max_records", self.max_records, int),
            max_seconds=_number("max_seconds", self.max_seconds, float),
            partitions=parse_partitions(self.partitions),
            follow=self.follow,
            batch_rows=_needed("batch_rows", self.batch_rows, int),
            consistency=self.consistency,
            ttl=_number("ttl", self.ttl, int),
            dead_letter_topic=self.dead_letter_topic,
            dead_letter_limit=self.dead_letter_limit,
            timestamp_field=self.timestamp_field,
            format=self.format,
            retry_seconds=_needed("retry_seconds", self.retry_seconds, float),
            max_ahead=_number("max_ahead", self.max_ahead, float),
            origin=f"{dag_id}.{self.task_id}" if dag_id else self.task_id,
            kafka_connection=self.kafka_config_id,
            cassandra_connection=self.cassandra_conn_id,
        )


def _needed(name: str, value: Any, kind: type[int] | type[float]) -> Any:
    number = _number(name, value, kind)
    if number is None:
        raise ValueError(f"{name} is {value!r}: it must be a number")
    return number


def _number(name: str, value: Any, kind: type[int] | type[float]) -> Any:
    """Return a number that a template may have rendered as text; empty text counts as None."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        return kind(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {value!r}: it must be a number or None") from None
