"""The loader on real servers: what is sent is stored once, whatever happens in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from airflow_provider_restrack import clock
from airflow_provider_restrack.load.errors import (
    ConfigurationError,
    KafkaUnavailableError,
    PoisonRecordError,
    StoreError,
)
from airflow_provider_restrack.load.loader import load
from airflow_provider_restrack.load.plan import ReadPolicy
from airflow_provider_restrack.load.publish import PublishPolicy, publish

pytestmark = [pytest.mark.kafka, pytest.mark.cassandra]


def test_published_samples_are_stored_as_they_were_sent(pipeline, sample) -> None:
    samples = [sample(f"web-{n % 3}", age_s=60 + n) for n in range(30)]

    publish(samples, PublishPolicy(pipeline.topic), pipeline.config)
    result = pipeline.load()

    rows = pipeline.rows()
    wanted = sorted(samples, key=lambda one: (one["host"], one["timestamp"]))
    assert [clock.format_utc(row["timestamp"].replace(tzinfo=UTC)) for row in rows] == [
        one["timestamp"] for one in wanted
    ]
    for row, one in zip(rows, wanted, strict=True):
        assert str(row["id"]) == one["id"]
        assert str(row["day"]) == one["timestamp"][:10]
        assert dict(row["labels"]) == {"role": "web"}
        assert dict(row["filesystem_usage"]) == {"/": 40.25}
        assert list(row["cpu_core_usage"]) == [10.0, 15.0]
        assert (row["up"], row["cpu_usage"], row["memory_total"], row["error"]) == (True, 12.5, 2**34, None)
        assert row["load_1m"] is None
    assert len(pipeline.rows("latest_metrics")) == 3
    assert (result.records, result.dead_letters, result.lag_before, result.lag_after) == (30, 0, 30, 0)
    # Of a host's rows in one chunk only the newest is written there; how chunks are cut is Kafka's to say.
    latest = result.tables[f"{pipeline.keyspace}.latest_metrics"]
    assert result.tables == {
        f"{pipeline.keyspace}.system_metrics": 30,
        f"{pipeline.keyspace}.latest_metrics": latest,
    }
    assert 3 <= latest < 30
    assert (result.rows, result.superseded) == (30 + latest, 30 - latest)
    json.dumps(result.as_dict())


def test_a_second_run_finds_nothing_to_do(pipeline, sample) -> None:
    pipeline.send(*[sample(age_s=n) for n in range(1, 11)])
    pipeline.load()

    result = pipeline.load()

    assert (result.records, result.rows, result.lag_before, result.lag_after) == (0, 0, 0, 0)
    assert len(pipeline.rows()) == 10


def test_an_empty_topic_ends_at_once(pipeline) -> None:
    result = pipeline.load()

    assert (result.records, result.rows, result.lost) == (0, 0, 0)
    assert result.seconds < 5


def test_a_record_sent_twice_is_stored_once(pipeline, sample) -> None:
    pipeline.send(sample(), sample())
    pipeline.load()
    pipeline.send(sample())
    pipeline.load()

    assert len(pipeline.rows()) == 1


def test_an_older_sample_does_not_overwrite_a_newer_one(pipeline, sample) -> None:
    pipeline.send(sample(age_s=10, cpu_usage=90.0))
    pipeline.load()
    pipeline.send(sample(age_s=500, cpu_usage=10.0, outcome="partial", load_1m=3.0))

    pipeline.load()

    [row] = pipeline.rows("latest_metrics")
    assert (row["cpu_usage"], row["outcome"], row["load_1m"]) == (90.0, "ok", None)
    assert len(pipeline.rows()) == 2


def test_replace_deletes_what_the_newest_sample_lacks_and_merge_keeps_it(pipeline, sample) -> None:
    pipeline.send(sample(age_s=100, cpu_usage=90.0, labels={"a": "b"}))
    pipeline.load()
    pipeline.send(
        {"host": "web-1", "timestamp": sample(age_s=50)["timestamp"], "up": False, "cpu_usage": None}
    )

    pipeline.load()

    [latest] = pipeline.rows("latest_metrics")
    assert latest["up"] is False
    assert {name for name, value in latest.items() if value is not None} == {"host", "timestamp", "day", "up"}
    assert [row["cpu_usage"] for row in pipeline.rows()] == [90.0, None]


def test_a_merged_row_keeps_the_fields_that_a_later_record_lacks(pipeline, sample) -> None:
    pipeline.send(sample(age_s=100), partition=0)
    pipeline.load()
    pipeline.send({"host": "web-1", "timestamp": sample(age_s=100)["timestamp"], "load_1m": 2.0}, partition=0)

    pipeline.load()

    [row] = pipeline.rows()
    assert (row["cpu_usage"], row["load_1m"]) == (12.5, 2.0)


def test_rows_carry_the_time_of_their_sample_and_what_is_left_of_their_ttl(pipeline, sample) -> None:
    pipeline.send(sample(age_s=1000), sample("old", age_s=4000))

    result = pipeline.load(ttl=3600)

    rows = list(
        pipeline.session.execute(
            f"SELECT host, timestamp, writetime(cpu_usage) AS at, ttl(cpu_usage) AS left FROM"
            f" {pipeline.keyspace}.system_metrics"
        )
    )
    assert [row.host for row in rows] == ["web-1"]
    moment = rows[0].timestamp.replace(tzinfo=UTC)
    assert rows[0].at == int(moment.timestamp() * 1_000_000)
    assert 2400 < rows[0].left <= 2600
    assert (result.expired, result.records, result.lag_after) == (1, 2, 0)


POISON = [
    b"not json",
    b'{"host": "web-9"}',
    b'{"host": "x", "timestamp": "2026-01-01T00:00:00Z", "cpu_usage": NaN}',
    None,
]


def test_rejected_records_reach_the_dead_letters_unchanged_with_reason_and_origin(
    pipeline, sample, dead_letter_topic
) -> None:
    pipeline.send(sample(age_s=1), partition=2)
    for value in POISON:
        pipeline.send(
            value, partition=2, key="k", headers=[("own", b"\x00header")], timestamp=1_700_000_000_000
        )
    pipeline.send(sample(age_s=2), partition=2)

    result = pipeline.load(dead_letter_topic=dead_letter_topic)

    assert (result.dead_letters, result.records, result.lag_after) == (4, 6, 0)
    assert len(pipeline.rows()) == 2
    letters = pipeline.read(dead_letter_topic, 4)
    assert [letter.value() for letter in letters] == POISON
    assert {letter.key() for letter in letters} == {b"k"}
    assert {letter.timestamp()[1] for letter in letters} == {1_700_000_000_000}
    headers = [dict(letter.headers()) for letter in letters]
    assert {header["own"] for header in headers} == {b"\x00header"}
    assert [header["__connect.errors.offset"] for header in headers] == [b"1", b"2", b"3", b"4"]
    assert {header["__connect.errors.topic"] for header in headers} == {pipeline.topic.encode()}
    assert {header["__connect.errors.partition"] for header in headers} == {b"2"}
    assert {header["__connect.errors.task.id"] for header in headers} == {b"a_dag.load"}
    assert {header["__connect.errors.exception.class.name"] for header in headers} == {
        b"airflow_provider_restrack.load.errors.RejectError"
    }
    reasons = [header["__connect.errors.exception.message"].decode() for header in headers]
    assert "malformed" in reasons[0]
    assert "timestamp" in reasons[1]
    assert "malformed" in reasons[2]
    assert "tombstone" in reasons[3]


def test_without_dead_letters_the_run_fails_at_the_record_and_goes_on_once_there_are_some(
    pipeline, sample, dead_letter_topic
) -> None:
    pipeline.send(sample(age_s=3), sample(age_s=2), b"poison", sample(age_s=1), partition=1)

    for _ in range(2):
        with pytest.raises(PoisonRecordError) as failure:
            pipeline.load()

        assert f"{pipeline.topic}[1] offset 2" in str(failure.value)
        assert "dead_letter_topic" in str(failure.value)
        assert pipeline.committed()[1] == 2
        assert len(pipeline.rows()) == 2

    result = pipeline.load(dead_letter_topic=dead_letter_topic)

    assert (result.records, result.dead_letters) == (2, 1)
    assert pipeline.committed()[1] == 4
    assert len(pipeline.rows()) == 3


def test_limits_end_a_run_between_records_and_the_next_goes_on(pipeline, sample) -> None:
    pipeline.send(*[sample(age_s=n) for n in range(1, 21)], partition=0)

    first = pipeline.load(max_records=7)
    second = pipeline.load(max_records=7)
    rest = pipeline.load()

    assert (first.records, second.records, rest.records) == (7, 7, 6)
    assert (first.lag_after, second.lag_after, rest.lag_after) == (13, 6, 0)
    assert len(pipeline.rows()) == 20


def test_a_stopped_run_says_so_and_leaves_the_rest(pipeline, sample) -> None:
    pipeline.send(sample())

    result = load(pipeline.policy, pipeline.config, pipeline.session, stop=lambda: True)

    assert (result.stopped, result.records) == (True, 0)
    assert pipeline.load().records == 1


def test_gaps_of_transactions_do_not_hold_the_end_up(pipeline, sample, unique) -> None:
    producer = Producer(pipeline.config | {"transactional.id": unique("tx")})
    producer.init_transactions(30)
    for number in range(3):
        producer.begin_transaction()
        producer.produce(pipeline.topic, value=json.dumps(sample(age_s=number + 1)), partition=3)
        producer.commit_transaction(30)
    producer.begin_transaction()
    producer.produce(pipeline.topic, value=json.dumps(sample(age_s=9)), partition=3)
    producer.flush(10)
    producer.abort_transaction(30)

    started = time.monotonic()
    result = pipeline.load()

    assert time.monotonic() - started < 15
    assert (result.records, result.lag_before, result.lag_after) == (3, 8, 0)
    assert pipeline.load().lag_before == 0


def test_records_deleted_before_they_were_read_are_counted_once(
    pipeline, sample, kafka_admin, caplog
) -> None:
    pipeline.send(*[sample(age_s=n) for n in range(1, 11)], partition=0)
    pipeline.load(max_records=3)
    [done] = kafka_admin.delete_records([TopicPartition(pipeline.topic, 0, 8)]).values()
    done.result(20)

    result = pipeline.load()

    assert (result.lost, result.records) == (5, 2)
    assert "5 offsets" in caplog.text
    assert pipeline.load().lost == 0


def test_a_topic_made_anew_is_read_from_its_start(pipeline, sample, kafka_admin) -> None:
    pipeline.send(*[sample(age_s=n) for n in range(1, 11)], partition=0)
    pipeline.load()
    kafka_admin.delete_topics([pipeline.topic])[pipeline.topic].result(20)
    for _ in range(50):
        if pipeline.topic not in kafka_admin.list_topics(timeout=10).topics:
            break
        time.sleep(0.1)
    kafka_admin.create_topics([NewTopic(pipeline.topic, 4, 1)])[pipeline.topic].result(20)
    pipeline.send(sample("after", age_s=1), partition=0)

    pipeline.load()

    assert "after" in {row["host"] for row in pipeline.rows()}


def test_two_topics_are_loaded_in_one_run(pipeline, sample, dead_letter_topic) -> None:
    pipeline.send(sample("a"))
    pipeline.send(sample("b"), topic=dead_letter_topic)

    result = pipeline.load(topics=[pipeline.topic, dead_letter_topic])

    assert result.records == 2
    assert [row["host"] for row in pipeline.rows()] == ["a", "b"]


def test_two_runs_at_once_lose_and_double_nothing(pipeline, sample) -> None:
    from concurrent.futures import ThreadPoolExecutor

    pipeline.send(*[sample(f"web-{n % 7}", age_s=1 + n) for n in range(2000)])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: pipeline.load(), range(2)))

    assert len(pipeline.rows()) == 2000
    assert pipeline.load().records == 0


ANY_TABLE = """
CREATE TABLE {keyspace}.everything (
    k ascii, n int, t text, a ascii, b boolean, i tinyint, s smallint, l bigint, v varint, d double, f float,
    dec decimal, ts timestamp, da date, ti time, u uuid, tu timeuuid, ip inet, bl blob,
    li list<int>, se set<text>, ma map<text, frozen<list<double>>>, mt map<date, timestamp>,
    fr frozen<set<inet>>,
    "Mixed Case" text, st text static,
    PRIMARY KEY (k, n)) WITH CLUSTERING ORDER BY (n DESC)
"""


def test_any_table_is_filled_by_the_types_of_its_columns(pipeline) -> None:
    pipeline.session.execute(ANY_TABLE.format(keyspace=pipeline.keyspace))
    pipeline.send(
        {
            "k": "key", "n": -1, "t": "te€xt", "a": "ascii", "b": False, "i": -128, "s": 32767, "l": -(2**63),
            "v": 2**80, "d": 1, "f": 0.5, "dec": "1.10", "ts": 1_700_000_000_123, "da": "1969-12-31",
            "ti": "12:34:56.789", "u": "12345678-1234-5678-1234-567812345678",
            "tu": "a4a70900-24e1-11df-8924-001ff3591711", "ip": "::1", "bl": "AAH/", "li": [3, 1, 3],
            "se": ["b", "a", "b"], "ma": {"x": [1, 2.5]}, "mt": {"2026-01-02": "2026-01-02T03:04:05+01:00"},
            "fr": ["127.0.0.1"], "renamed": "mixed", "st": "static",
        },
        {"k": "key", "n": 2, "li": [], "ma": {}},
    )  # fmt: skip

    result = pipeline.load(
        tables=[f"{pipeline.keyspace}.everything"], columns={"Mixed Case": "renamed"}, batch_rows=1
    )

    second, row = pipeline.session.execute(f"SELECT JSON * FROM {pipeline.keyspace}.everything")
    assert result.rows == 2
    assert json.loads(row[0]) == {
        "k": "key", "n": -1, "t": "te€xt", "a": "ascii", "b": False, "i": -128, "s": 32767, "l": -(2**63),
        "v": 2**80, "d": 1.0, "f": 0.5, "dec": 1.1, "ts": "2023-11-14 22:13:20.123Z", "da": "1969-12-31",
        "ti": "12:34:56.789000000", "u": "12345678-1234-5678-1234-567812345678",
        "tu": "a4a70900-24e1-11df-8924-001ff3591711", "ip": "0:0:0:0:0:0:0:1", "bl": "0x0001ff",
        "li": [3, 1, 3], "se": ["a", "b"], "ma": {"x": [1.0, 2.5]},
        "mt": {"2026-01-02": "2026-01-02 02:04:05.000Z"},
        "fr": ["127.0.0.1"], '"Mixed Case"': "mixed", "st": "static",
    }  # fmt: skip
    assert json.loads(second[0])["li"] is None


def test_a_date_column_takes_the_utc_day_of_a_time_field(pipeline) -> None:
    pipeline.session.execute(f"CREATE TABLE {pipeline.keyspace}.events (day date PRIMARY KEY, at timestamp)")
    pipeline.send({"when": "2026-01-01T23:30:00-05:00"})

    pipeline.load(tables=[f"{pipeline.keyspace}.events"], columns={"day": "when", "at": "when"})

    [row] = pipeline.session.execute(f"SELECT day FROM {pipeline.keyspace}.events")
    assert str(row.day) == "2026-01-02"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"topics": ["no_such_topic"]}, ["no_such_topic", "kafka_default", "ProvisionOperator"]),
        ({"dead_letter_topic": "no_such_topic"}, ["no_such_topic", "dead_letter_topic", "ProvisionOperator"]),
        (
            {"tables": ["no_such_keyspace.t"]},
            ["no_such_keyspace.t", "cassandra_default", "ProvisionOperator"],
        ),
        ({"columns": {"no_such_column": "host"}}, ["no_such_column", "columns=", "system_metrics"]),
        ({"columns": {"host": None}}, ["'host'", "primary key", "system_metrics"]),
        ({"columns": {"up": "host"}}, ["'host'", "'up'", "different types"]),
        ({"tables": []}, ["tables"]),
        ({"batch_rows": 0}, ["batch_rows"]),
        ({"consistency": "MOST"}, ["MOST", "LOCAL_QUORUM"]),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_read(pipeline, sample, changes, words) -> None:
    pipeline.send(sample())

    with pytest.raises(ConfigurationError) as failure:
        pipeline.load(**changes)

    assert [word for word in words if word not in str(failure.value)] == []
    assert pipeline.committed() == {}


def test_a_connection_that_commits_by_itself_is_refused(pipeline) -> None:
    with pytest.raises(ConfigurationError, match=r"'kafka_default' sets enable\.auto\.commit=true"):
        load(pipeline.policy, pipeline.config | {"enable.auto.commit": "true"}, pipeline.session)


def test_a_connections_own_group_gives_way(pipeline, sample) -> None:
    pipeline.send(sample())
    config = pipeline.config | {"group.id": "other", "auto.offset.reset": "beginning", "acks": "1"}

    result = load(pipeline.policy, config, pipeline.session)

    assert result.records == 1
    assert sum(pipeline.committed().values()) == 1


def test_an_unreachable_broker_fails_in_bounded_time_and_is_named(pipeline, monkeypatch) -> None:
    from airflow_provider_restrack.load import loader

    monkeypatch.setattr(loader, "ReadPolicy", partial(ReadPolicy, connect_timeout_s=2))
    started = time.monotonic()

    with pytest.raises(KafkaUnavailableError, match=r"127\.0\.0\.1:1 \(connection 'kafka_default'\)"):
        load(pipeline.policy, {"bootstrap.servers": "127.0.0.1:1"}, pipeline.session)

    assert time.monotonic() - started < 8


def test_a_write_that_cannot_reach_its_consistency_fails_the_run_and_commits_nothing(
    pipeline, sample
) -> None:
    pipeline.send(sample(), partition=0)

    with pytest.raises(
        StoreError,
        match=r"'cassandra_default'.*1 rows of .*_metrics at THREE, by .* in [23] tries: .*Unavailable",
    ):
        pipeline.load(consistency="THREE", retry_seconds=0.3)

    assert pipeline.committed().get(0, 0) == 0
    assert pipeline.load().records == 1


def test_a_column_that_is_left_out_is_deleted_where_rows_are_replaced(pipeline, sample) -> None:
    pipeline.send(sample("web-1", age_s=90))
    pipeline.load()
    pipeline.send(sample("web-1"))

    pipeline.load(columns={"cpu_usage": None, "filesystem_usage": None})

    [row] = pipeline.rows("latest_metrics")
    assert (row["cpu_usage"], row["filesystem_usage"], row["memory_total"]) == (None, None, 2**34)
    assert pipeline.rows()[0]["cpu_usage"] == 12.5


def test_a_table_dropped_in_mid_run_fails_the_run_and_fills_no_dead_letters(
    pipeline, sample, dead_letter_topic
) -> None:
    pipeline.send(sample(), partition=0)
    asked = []

    def drop() -> bool:
        if not asked:
            pipeline.session.execute(f"DROP TABLE {pipeline.keyspace}.system_metrics")
            asked.append(True)
        return False

    policy = replace(pipeline.policy, dead_letter_topic=dead_letter_topic)
    with pytest.raises(StoreError, match="system_metrics"):
        load(policy, pipeline.config, pipeline.session, stop=drop)

    assert pipeline.committed().get(0, 0) == 0
    assert (
        pipeline.load(topics=[dead_letter_topic], tables=[f"{pipeline.keyspace}.latest_metrics"]).records == 0
    )


def send_large(pipeline, kafka_admin, dead_letter_topic, value) -> None:
    """Send a record that topics take once they are told to, and Cassandra does not."""
    limit = ConfigEntry("max.message.bytes", "8000000", incremental_operation=AlterConfigOpType.SET)
    for name in (pipeline.topic, dead_letter_topic):
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[limit])
        kafka_admin.incremental_alter_configs([resource])[resource].result(20)
    large = Producer(pipeline.config | {"message.max.bytes": 8_000_000})
    large.produce(pipeline.topic, json.dumps(value | {"error": "x" * 6_000_000}), partition=0)
    assert large.flush(30) == 0


def test_a_record_too_large_for_cassandra_goes_to_the_dead_letters_once(
    pipeline, sample, kafka_admin, dead_letter_topic
) -> None:
    send_large(pipeline, kafka_admin, dead_letter_topic, sample("large"))
    pipeline.send(sample("small"), partition=0)

    result = pipeline.load(dead_letter_topic=dead_letter_topic)

    assert (result.records, result.dead_letters, result.lag_after) == (2, 1, 0)
    assert [row["host"] for row in pipeline.rows()] == ["small"]
    [letter] = pipeline.read(dead_letter_topic, 1)
    assert ("__connect.errors.stage", b"TASK_PUT") in letter.headers()


def test_where_the_newest_row_is_too_large_the_next_newest_is_stored(
    pipeline, sample, kafka_admin, dead_letter_topic
) -> None:
    pipeline.send(sample("web-1", age_s=90, cpu_usage=1.0), sample("web-1", cpu_usage=2.0), partition=0)
    send_large(pipeline, kafka_admin, dead_letter_topic, sample("web-1", age_s=1, cpu_usage=3.0))

    result = pipeline.load(dead_letter_topic=dead_letter_topic)

    assert (result.records, result.dead_letters, result.lag_after) == (3, 1, 0)
    assert [row["cpu_usage"] for row in pipeline.rows("latest_metrics")] == [2.0]
    assert [row["cpu_usage"] for row in pipeline.rows()] == [1.0, 2.0]


KILLED = """
import json, sys
from airflow_provider_restrack.load import loader
from airflow_provider_restrack.load.policy import LoadPolicy
from airflow_provider_restrack.store.session import CassandraPolicy, open_session
arguments = json.loads(sys.argv[1])
loader.SLICE_RECORDS = 500

def tell() -> bool:
    print("chunk", flush=True)
    return False

policy = LoadPolicy(**arguments["policy"])
with open_session(CassandraPolicy(contact_points=(arguments["host"],), port=arguments["port"])) as session:
    loader.load(policy, {"bootstrap.servers": arguments["bootstrap"]}, session, stop=tell)
print("ended", flush=True)
"""


@pytest.mark.slow
def test_a_run_killed_in_the_middle_is_repeated_to_the_same_effect(
    pipeline, sample, cassandra_address
) -> None:
    samples = [sample(f"web-{n % 20}", age_s=1 + n / 10, load_1m=float(n)) for n in range(20_000)]
    pipeline.send(*samples)
    arguments = {
        "policy": {
            "topics": list(pipeline.policy.topics),
            "tables": list(pipeline.policy.tables),
            "group_id": pipeline.policy.group_id,
            "partitions": [0, 1, 2, 3],  # a member's successor would wait for its session to end each time
        },
        "host": cassandra_address[0],
        "port": cassandra_address[1],
        "bootstrap": pipeline.bootstrap,
    }
    command = [sys.executable, "-c", KILLED, json.dumps(arguments)]
    for chunks in (2, 5, 9):  # of the 40 that the topic holds, however fast they are loaded
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as killed:
            assert killed.stdout is not None
            assert [killed.stdout.readline() for _ in range(chunks)] == [b"chunk\n"] * chunks
            os.kill(killed.pid, signal.SIGKILL)
            assert killed.wait(20) == -signal.SIGKILL

    pipeline.load()

    rows = pipeline.rows()
    assert sorted(str(row["id"]) for row in rows) == sorted(one["id"] for one in samples)
    assert sorted(row["load_1m"] for row in rows) == [float(n) for n in range(20_000)]
    assert sum(pipeline.committed().values()) == 20_000
