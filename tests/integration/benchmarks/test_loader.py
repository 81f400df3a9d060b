from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.loader import fill
from benchmarks.loader.bench import Bench
from benchmarks.loader.contenders import Contender, ContenderError, python_command
from benchmarks.loader.verify import Contents
from benchmarks.loader.works import KEYSPACE, WORKS, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import services

pytestmark = [pytest.mark.kafka, pytest.mark.cassandra]


@pytest.fixture
def work(unique: Callable[[str], str]) -> Work:
    """Return a work of a name that no other run has filled a topic for."""
    return Work(unique("bench"), hosts=20, samples=3, columns=WORKS["full"].columns)


@pytest.fixture
def bench(
    test_instance: services.Instance, cassandra_session: Any, kafka_bootstrap: str, tmp_path: Path
) -> Iterator[Bench]:
    assert kafka_bootstrap == test_instance.kafka.bootstrap
    fill.create_keyspace(cassandra_session)
    yield Bench(test_instance, tmp_path)
    cassandra_session.execute(f"DROP KEYSPACE {KEYSPACE}")


@pytest.fixture
def filled(work: Work, kafka_bootstrap: str, kafka_admin: Any) -> Iterator[fill.Filled]:
    """Return a topic with all samples of the work, deleted afterwards."""
    found = fill.fill_topic(kafka_bootstrap, work, work.rows)
    yield found
    kafka_admin.delete_topics([found.topic])[found.topic].result(30)


@pytest.mark.slow  # each runs in a process of its own, and one imports Airflow
@pytest.mark.parametrize("name", ["restrack", "provider", "execute-concurrent"])
def test_a_contender_stores_exactly_what_was_sent(
    bench: Bench, work: Work, filled: fill.Filled, name: str
) -> None:
    usage = bench.run(Contender(name, python_command(name)), work, filled)

    assert usage.rows == filled.contents.rows == 60
    assert usage.seconds > 0
    assert usage.cpu_seconds > 0


def test_contents_that_are_not_as_sent_are_told(bench: Bench, work: Work, filled: fill.Filled) -> None:
    other = fill.Filled(filled.topic, Contents(60, filled.contents.checksum ^ 1))

    with pytest.raises(ContenderError, match="after restrack the table holds 60 rows with checksum"):
        bench.run(Contender("restrack", python_command("restrack")), work, other)
