"""Creates the topics, the keyspace and the tables of the pipeline, or says exactly what is different."""

from __future__ import annotations

import json
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator

from airflow_provider_restrack.store.alert_tables import ALERT_TABLES, HISTORY_TABLES, TABLES_WITHOUT_TTL
from airflow_provider_restrack.store.forecasts import FORECASTS
from airflow_provider_restrack.store.schema import (
    ALERT_TOPIC,
    DEAD_LETTER_TOPIC,
    KEYSPACE,
    TABLES,
    TOPIC,
    check_identifier,
    with_life,
)
from airflow_provider_restrack.store.tiers import ROLLUP_TABLES, with_ttl
from airflow_provider_restrack.templates import is_literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import timedelta

    from airflow_provider_restrack.load.topics import TopicPlan, TopicSpec
    from airflow_provider_restrack.store.provision import KeyspaceSpec, StorePlan
    from airflow_provider_restrack.store.schema import Table

# Four partitions spread a busy topic over four brokers. A dead letter or an alert is read by people, so they
# stay longer; a dead letter is its record and the reason, so it may be larger than any record.
DEFAULT_TOPICS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        TOPIC: {"partitions": 4, "retention": "7d"},
        DEAD_LETTER_TOPIC: {"partitions": 1, "retention": "30d", "config": {"max.message.bytes": "2097152"}},
        ALERT_TOPIC: {"partitions": 1, "retention": "30d"},
    }
)
_TABLES: Mapping[str, Table] = MappingProxyType(
    {table.name: table for table in (*TABLES, *ROLLUP_TABLES, FORECASTS, *ALERT_TABLES)}
)
_TOPIC_KEYS = frozenset({"name", "partitions", "replication", "retention", "config"})
DEFAULT_PARTITIONS = 4
DEFAULT_RETENTION = "7d"
MAX_TTL_S = 630_720_000


class ProvisionOperator(BaseOperator):
    """Create topics, keyspace and tables where they are missing; change nothing that exists.

    Everything is compared before anything is created. If something of a wanted name exists with another
    shape, the task fails without a retry, having changed nothing, and its error lists all differences with
    the statement or command that mends each. Running it again is free. Two runs at once do no harm to a
    cluster of one node; with more nodes let one finish before the next (``max_active_tis_per_dag=1``),
    because Cassandra before 6 can make two tables of one name if two nodes are asked at the same moment.

    :param topics: topics as ``{name: {"partitions", "replication", "retention", "config"}}`` or as a list of
        such objects with ``name``; retention in seconds, as ``"7d"``, or None for ever. Left out:
        ``system_metrics`` (4 partitions, 7 days), its dead letters and ``system_alerts`` (1 partition, 30
        days). Empty: none, and Kafka is not asked.
    :param keyspace: the keyspace of the tables.
    :param replication: copies of every row: a number for the connection's local data centre, or
        ``{data centre: number}``. A topic that names no replication takes the same number (the largest of
        several).
    :param tables: names of tables, all of the schema if left out.
    :param ttl: how long samples live, in seconds or as ``"14d"``, or by table as
        ``{"system_metrics_5m": "60d"}``. What is left out lives as long as the schema says: samples 14 days,
        rollups 90 days, 2 and 5 years, forecasts 35 days, the history of alerts 400 days. Rows of ``alerts``
        and ``silences`` have ends of their own.
    :param add_missing_columns: add the columns that a table of an older version lacks, which is a difference
        otherwise.
    :param kafka_config_id: Airflow connection of Kafka.
    :param cassandra_conn_id: Airflow connection of Cassandra.
    :param timeout: seconds that a server may take for one request.
    """

    template_fields = (
        "topics",
        "keyspace",
        "replication",
        "tables",
        "ttl",
        "kafka_config_id",
        "cassandra_conn_id",
    )
    ui_color = "#e6f2ea"

    def __init__(
        self,
        *,
        topics: Mapping[str, Mapping[str, Any]] | Sequence[Mapping[str, Any]] | str | None = None,
        keyspace: str = KEYSPACE,
        replication: int | Mapping[str, int] | str = 3,
        tables: Sequence[str] | str | None = None,
        ttl: float | str | timedelta | Mapping[str, float | str | timedelta] | None = None,
        add_missing_columns: bool = False,
        kafka_config_id: str = "kafka_default",
        cassandra_conn_id: str = "cassandra_default",
        timeout: float = 60.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if timeout <= 0:
            raise ValueError(f"timeout must be more than 0 s, it is {timeout}")
        if is_literal(keyspace):
            check_identifier(keyspace, "keyspace")
        if is_literal(replication):
            parse_replication(replication)
        if is_literal([tables, ttl]):
            parse_tables(tables, ttl)
        if is_literal(topics):
            _read_topics(topics, 1)
        self.topics = topics
        self.keyspace = keyspace
        self.replication = replication
        self.tables = tables
        self.ttl = ttl
        self.add_missing_columns = add_missing_columns
        self.kafka_config_id = kafka_config_id
        self.cassandra_conn_id = cassandra_conn_id
        self.timeout = timeout

    def execute(self, context: Any) -> dict[str, list[str]]:  # noqa: ARG002 - Airflow's signature
        """Compare, then create; return what was created and what was there."""
        from airflow_provider_restrack.hooks.cassandra import CassandraSessionHook
        from airflow_provider_restrack.store.provision import KeyspaceSpec, ShapeMismatchError
        from airflow_provider_restrack.store.session import find_local_dc, open_session

        copies = parse_replication(self.replication)
        topics = parse_topics(self.topics, copies if isinstance(copies, int) else max(copies.values()))
        tables = parse_tables(self.tables, self.ttl)
        kafka = _Kafka(self.kafka_config_id, topics, self.timeout)
        # Without the connection's schema as default keyspace: it may be the one to create.
        policy = replace(CassandraSessionHook(self.cassandra_conn_id).policy(), keyspace=None)
        with open_session(policy) as session:
            by_dc = {find_local_dc(session, policy): copies} if isinstance(copies, int) else copies
            keyspace = KeyspaceSpec(self.keyspace, by_dc)
            store = _Store(session, keyspace, tables, self.timeout, self.add_missing_columns)
            try:
                result = provision(kafka, store)
            except ShapeMismatchError as error:
                raise AirflowFailException(str(error)) from error
        for note in store.notes:
            self.log.info(note)
        self.log.info(
            "Created: %s; unchanged: %s", *(", ".join(names) or "none" for names in result.values())
        )
        return result


class _Kafka:
    """The topics that are wanted, and the brokers that shall have them; without topics no broker is asked."""

    def __init__(self, kafka_config_id: str, topics: Sequence[TopicSpec], timeout_s: float) -> None:
        self._topics = topics
        if not topics:
            return
        from airflow_provider_restrack.hooks.kafka import KafkaClientHook
        from airflow_provider_restrack.load.client_config import bootstrap_servers
        from airflow_provider_restrack.load.topics import build_admin

        config = KafkaClientHook(kafka_config_id).config()
        origin = f"Kafka at {bootstrap_servers(config)} (connection {kafka_config_id})"
        self._admin = build_admin(config)
        self._limits: dict[str, Any] = {"origin": origin, "timeout_s": timeout_s}

    def plan(self) -> TopicPlan:
        from airflow_provider_restrack.load.topics import TopicPlan, check_topics, plan_topics, read_topics

        if not self._topics:
            return TopicPlan((), (), ())
        found = read_topics(self._admin, [spec.name for spec in self._topics], **self._limits)
        plan = plan_topics(self._topics, found)
        check_topics(self._admin, plan, **self._limits)
        return plan

    def apply(self, plan: TopicPlan) -> None:
        from airflow_provider_restrack.load.topics import create_topics

        if plan.create:
            create_topics(self._admin, plan, **self._limits)


class _Store:
    """The keyspace and tables that are wanted, and the session of the cluster that shall have them."""

    def __init__(
        self,
        session: Any,
        keyspace: KeyspaceSpec,
        tables: Sequence[Table],
        timeout_s: float,
        add_missing_columns: bool,
    ) -> None:
        self._session = session
        self._keyspace = keyspace
        self._tables = tables
        self._timeout_s = timeout_s
        self._add_missing_columns = add_missing_columns
        self.notes: tuple[str, ...] = ()

    def plan(self) -> StorePlan:
        from airflow_provider_restrack.store.provision import plan_store, read_state

        found = read_state(self._session, self._keyspace.name, timeout_s=self._timeout_s)
        plan = plan_store(self._keyspace, self._tables, found, add_missing_columns=self._add_missing_columns)
        self.notes = plan.notes
        return plan

    def apply(self, plan: StorePlan) -> None:
        from airflow_provider_restrack.store.provision import apply_plan

        apply_plan(self._session, plan, timeout_s=self._timeout_s)


def provision(kafka: _Kafka, store: _Store) -> dict[str, list[str]]:
    """Look at both engines, refuse if anything differs, create what is missing, and look again.

    The second look finds what another run made at the same moment in another shape.

    :raises ShapeMismatchError: with all differences of both engines.
    """
    from airflow_provider_restrack.store.provision import ShapeMismatchError

    topics, tables = kafka.plan(), store.plan()
    if differences := topics.differences + tables.differences:
        raise ShapeMismatchError(differences)
    created = [*(f"topic {spec.name}" for spec in topics.create), *(step.subject for step in tables.steps)]
    unchanged = [*topics.unchanged, *tables.unchanged]
    if created:
        store.apply(tables)
        kafka.apply(topics)
        if differences := kafka.plan().differences + store.plan().differences:
            raise ShapeMismatchError(differences, created)
    return {"created": created, "unchanged": unchanged}


def parse_replication(value: int | Mapping[str, int] | str) -> int | dict[str, int]:
    """Return a number of copies, or numbers by data centre; text is what a template or JSON makes of them.

    :raises ValueError: if it is neither.
    """
    data = _parse_text(value, "replication")
    if isinstance(data, dict) and data:
        return {str(name): _parse_count(count, f"replication of {name!r}") for name, count in data.items()}
    return _parse_count(data, "replication")


def parse_tables(value: Sequence[str] | str | None, ttl: Any) -> tuple[Table, ...]:
    """Return tables of the schema by name, with rows that live as long as ``ttl`` says.

    :raises ValueError: if a name is no table of the schema, or the time to live makes no sense.
    """
    data = _TABLES if value is None else _parse_text(value, "tables")
    names = [data] if isinstance(data, str) else list(data)
    _check_tables("tables", names)
    lives = _parse_ttl(ttl)
    return tuple(_live(_TABLES[name], lives.get(name)) for name in dict.fromkeys(names))


def _parse_ttl(ttl: Any) -> dict[str, int]:
    """Return seconds by table: one number is for the tables of samples, a mapping says which it is for."""
    from airflow_provider_restrack.alert.durations import parse_duration

    given = _parse_text(ttl, "ttl")
    if given is None:
        return {}
    by_table = given if hasattr(given, "items") else {table.name: given for table in TABLES}
    _check_tables("ttl", by_table)
    if fixed := [table.name for table in TABLES_WITHOUT_TTL if table.name in by_table]:
        raise ValueError(f"ttl of {', '.join(fixed)} cannot be chosen: each row has an end of its own")
    lives = {name: round(_parse(parse_duration, life, "ttl")) for name, life in by_table.items()}
    for seconds in lives.values():
        if not 0 < seconds <= MAX_TTL_S:
            raise ValueError(f"ttl must be from 1 s to {MAX_TTL_S} s, Cassandra's limit: it is {seconds} s")
    return lives


def _check_tables(what: str, names: Iterable[Any]) -> None:
    if unknown := [str(name) for name in names if name not in _TABLES]:
        known = ", ".join(_TABLES)
        raise ValueError(f"{what} names none of the schema: {', '.join(unknown)}; there are {known}")


def _live(table: Table, seconds: int | None) -> Table:
    if seconds is None:
        return table
    if table in ROLLUP_TABLES or table in HISTORY_TABLES:
        return with_ttl(table, seconds)
    return with_life(table, seconds)


def parse_topics(value: Any, replication: int) -> tuple[TopicSpec, ...]:
    """Return the topics that are wanted.

    :param replication: copies of a topic that names none.
    :raises ValueError: if an entry has no name, an unknown key or a value that makes no sense.
    """
    from airflow_provider_restrack.load.topics import TopicSpec

    return tuple(TopicSpec(**topic) for topic in _read_topics(value, replication))


def _read_topics(value: Any, replication: int) -> list[dict[str, Any]]:
    """Return the arguments of each topic, without Kafka's client, which a DAG file must not import."""
    entries: Any = DEFAULT_TOPICS if value is None else _parse_text(value, "topics")
    if hasattr(entries, "items"):
        entries = [
            {"name": name, **entry} if hasattr(entry, "items") else entry for name, entry in entries.items()
        ]
    if not isinstance(entries, list | tuple) or not all(
        hasattr(entry, "items") and "name" in entry for entry in entries
    ):
        raise ValueError(f"topics must be an object by name, or a list of objects with name: it is {value!r}")
    names = [entry["name"] for entry in entries]
    if len(names) != len(set(names)):
        raise ValueError(f"topics names one twice: {', '.join(map(str, names))}")
    return [_read_topic(entry, replication) for entry in entries]


def _read_topic(entry: Mapping[str, Any], replication: int) -> dict[str, Any]:
    from airflow_provider_restrack.alert.durations import parse_duration

    what = f"topic {entry['name']}"
    if unknown := sorted(entry.keys() - _TOPIC_KEYS):
        raise ValueError(f"{what}: unknown keys {', '.join(unknown)}; use {', '.join(sorted(_TOPIC_KEYS))}")
    retention, config = entry.get("retention", DEFAULT_RETENTION), entry.get("config") or {}
    if not hasattr(config, "items"):
        raise ValueError(f"{what}: config must be an object of settings, it is {config!r}")
    return {
        "name": str(entry["name"]),
        "partitions": _parse_count(entry.get("partitions", DEFAULT_PARTITIONS), f"{what}: partitions"),
        "replication": _parse_count(entry.get("replication", replication), f"{what}: replication"),
        "retention_s": None if retention is None else _parse(parse_duration, retention, f"{what}: retention"),
        "config": {
            key: str(item).lower() if isinstance(item, bool) else str(item) for key, item in config.items()
        },
    }


def _parse_text(value: Any, what: str) -> Any:
    """Return what a text stands for, when a template or a Variable gave JSON; leave all else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        if value.strip().startswith(("{", "[")):
            raise ValueError(f"{what} is no valid JSON: {value!r}") from None
        return value


def _parse_count(value: Any, what: str) -> int:
    text = str(value).strip()
    if isinstance(value, bool | float) or not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{what} must be a whole number from 1 up, it is {value!r}")
    return int(text)


def _parse(parser: Callable[[object], float], value: Any, what: str) -> float:
    try:
        return parser(value)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error
