"""Dead letters on real servers: put aside, mended, replayed, and put aside again with their first origin."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_restrack.load.errors import DeadLetterLimitError
from airflow_provider_restrack.load.loader import load

pytestmark = [pytest.mark.kafka, pytest.mark.cassandra]
WHERE = ("topic", "partition", "offset")


@pytest.fixture
def second_topic(kafka_admin, unique):
    """Return a fresh topic for what a replay rejects."""
    from confluent_kafka.admin import NewTopic

    name = unique("dead2")
    kafka_admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])[name].result(30)
    yield name
    kafka_admin.delete_topics([name])[name].result(30)


def reasons_of(letter) -> dict[str, str]:
    prefix = "__connect.errors."
    names = [name for name, _ in letter.headers() if name.startswith(prefix)]
    assert len(names) == len(set(names)), "reasons are piled up"
    return {
        name.removeprefix(prefix): raw.decode() for name, raw in letter.headers() if name.startswith(prefix)
    }


def test_mended_letters_are_replayed_and_the_rest_is_put_aside_with_its_first_origin(
    pipeline, sample, dead_letter_topic, second_topic, unique
) -> None:
    table = f"{pipeline.keyspace}.readings"
    pipeline.session.execute(f"CREATE TABLE {table} (host text PRIMARY KEY, level int)")
    good = [{"host": f"h{n}", "level": n, "timestamp": sample(age_s=n + 1)["timestamp"]} for n in range(5)]
    texts = [one | {"host": f"t{n}", "level": f"{n} m"} for n, one in enumerate(good)]
    moment = 1_700_000_000_000
    pipeline.send(
        good[0], *texts, b"not json", *good[1:], partition=3, headers=[("own", b"\x00")], timestamp=moment
    )

    first = pipeline.load(tables=[table], dead_letter_topic=dead_letter_topic)
    pipeline.session.execute(f"DROP TABLE {table}")
    pipeline.session.execute(f"CREATE TABLE {table} (host text PRIMARY KEY, level text)")
    replay = replace(
        pipeline.policy, topics=[dead_letter_topic], tables=[table], group_id=unique("replay"),
        dead_letter_topic=second_topic, dead_letter_limit=None, origin="replay.task",
    )  # fmt: skip
    second = load(replay, pipeline.config, pipeline.session)
    again = load(replay, pipeline.config, pipeline.session)

    assert (first.records, first.rows, first.dead_letters, first.lag_after) == (11, 5, 6, 0)
    assert (second.records, second.rows, second.dead_letters, second.lag_after) == (6, 5, 1, 0)
    assert again.records == 0
    rows = pipeline.session.execute(f"SELECT host, level, writetime(level) FROM {table}")
    stored = {row[0]: (row[1], row[2]) for row in rows}
    assert {name: level for name, (level, _) in stored.items()} == {f"t{n}": f"{n} m" for n in range(5)}
    times = pipeline.session.execute(f"SELECT host, writetime(level) FROM {table}")
    assert {at for _, at in times} == {at for _, at in stored.values()}
    [letter] = pipeline.read(second_topic, 1)
    assert (letter.value(), letter.timestamp()[1]) == (b"not json", moment)
    assert [header for header in letter.headers() if header[0] == "own"] == [("own", b"\x00")]
    reasons = reasons_of(letter)
    assert tuple(reasons[name] for name in WHERE) == (pipeline.topic, "3", "6")
    assert (reasons["connector.name"], reasons["task.id"]) == (replay.group_id, "replay.task")


def test_a_replayed_row_has_the_time_of_its_sample(pipeline, sample, dead_letter_topic, second_topic) -> None:
    old, new = sample(age_s=500, cpu_count="four"), sample(age_s=5, cpu_count=2)
    pipeline.send(old, partition=0)
    pipeline.load(dead_letter_topic=dead_letter_topic)
    pipeline.send(new, partition=0)
    pipeline.load(dead_letter_topic=dead_letter_topic)

    replay = replace(
        pipeline.policy, topics=[dead_letter_topic], columns={"cpu_count": None},
        dead_letter_topic=second_topic,
    )  # fmt: skip
    result = load(replay, pipeline.config, pipeline.session)

    assert (result.rows, result.dead_letters) == (2, 0)
    assert [row["cpu_count"] for row in pipeline.rows()] == [None, 2]
    [latest] = pipeline.rows("latest_metrics")
    assert (latest["cpu_count"], str(latest["id"])) == (2, new["id"])


def test_a_topic_that_is_bad_as_a_whole_stays_where_it_is_until_somebody_decides(
    pipeline, sample, dead_letter_topic, kafka_admin
) -> None:
    pipeline.send(*[sample(age_s=n) for n in range(1, 11)], partition=0)
    pipeline.load(dead_letter_topic=dead_letter_topic)
    pipeline.send(*[sample(age_s=n, cpu_usage="high") for n in range(11, 311)], partition=0)
    limited = {"dead_letter_topic": dead_letter_topic, "dead_letter_limit": {"share": 0.5, "after": 1}}

    for _ in range(2):
        with pytest.raises(DeadLetterLimitError) as failure:
            pipeline.load(**limited)

        assert f"first at {pipeline.topic}[0] offset 10" in str(failure.value)
        assert "$.cpu_usage" in str(failure.value)
        assert pipeline.committed()[0] == 10

    result = pipeline.load(dead_letter_topic=dead_letter_topic, dead_letter_limit=None)

    assert (result.dead_letters, result.lag_after) == (300, 0)
    values = [letter.value() for letter in pipeline.read(dead_letter_topic, 300)]
    assert len(values) == len(set(values)) == 300
    assert len(pipeline.rows()) == 10


def test_what_was_done_is_reported_when_a_run_fails(pipeline, sample) -> None:
    pipeline.send(sample(age_s=3), sample(age_s=2), b"poison", sample(age_s=1), partition=1)
    reports = []

    with pytest.raises(RuntimeError, match="offset 2 cannot be stored"):
        load(pipeline.policy, pipeline.config, pipeline.session, report=reports.append)

    [done] = reports
    assert (done.rows, done.lag_before, done.lag_after) == (3, 4, 2)  # two samples, one host's latest row
    assert 0 < done.write_p50_ms <= done.write_p99_ms
