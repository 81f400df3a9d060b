from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_restrack.load.brokers import Brokers
from airflow_provider_restrack.load.errors import ConfigurationError, OffsetResetError
from airflow_provider_restrack.load.offsets import Partition
from airflow_provider_restrack.load.plan import Plan, ReadPolicy
from airflow_provider_restrack.load.positions import Span
from tests.unit.load.fakes import FakeConsumer, topics

P0, P1, P2 = (Partition("t", number) for number in range(3))


def plan(fake: FakeConsumer, topic_ids: dict[str, str] | None = None, **changes: Any) -> Plan:
    brokers = Brokers(fake, servers="b:1", connection="c", group_id="g", topic_ids=topic_ids)
    return Plan(brokers, ReadPolicy(("t",), "g", **changes))


def consumer(**offsets: int) -> FakeConsumer:
    return FakeConsumer(
        metadata=topics(t=2),
        ends={("t", 0): (2, 9), ("t", 1): (0, 4)},
        offsets={("t", int(name[1:])): offset for name, offset in offsets.items()},
    )


def test_the_ends_are_those_of_the_start_and_the_commits_those_of_now() -> None:
    fake = consumer()
    made = plan(fake)
    fake.ends = {("t", 0): (2, 90), ("t", 1): (0, 40)}
    fake.offsets = {("t", 0): 5}

    assert made.partitions == (P0, P1)
    assert made.spans([P1, P0]) == [Span(P1, 0, 4, moved=True), Span(P0, 5, 9)]
    assert made.spans([]) == []


def test_only_the_chosen_partitions_are_read() -> None:
    assert plan(consumer(), partitions=(1,)).partitions == (P1,)
    with pytest.raises(ConfigurationError, match=r"t\[2\], which does not exist"):
        plan(consumer(), partitions=(2,))


def test_what_another_member_read_past_the_end_of_our_start_is_no_topic_made_anew() -> None:
    fake = consumer()
    made = plan(fake)
    fake.ends[("t", 0)] = (2, 20)
    fake.offsets = {("t", 0): 12}

    assert made.spans([P0]) == [Span(P0, 12, 12)]
    fake.offsets = {("t", 0): 21}
    [span] = made.spans([P0])
    assert (span.start, span.end, span.anew) == (2, 20, True)


def test_a_partition_that_is_added_is_read_to_its_end_of_then() -> None:
    fake = consumer()
    made = plan(fake)
    fake.ends[("t", 2)] = (0, 3)

    assert made.spans([P2]) == [Span(P2, 0, 3, moved=True)]


@pytest.mark.parametrize(
    ("offsets", "reached"),
    [
        ({"p0": 9, "p1": 4}, True),
        ({"p0": 9}, False),
        ({"p0": 8, "p1": 4}, False),
        ({"p0": 9, "p1": 5}, False),
    ],
)
def test_nothing_is_left_once_the_group_is_at_every_end(offsets: dict[str, int], reached: bool) -> None:
    assert plan(consumer(**offsets), reset="error").reached() is reached


def test_another_id_is_another_topic_however_far_it_has_grown(caplog: Any) -> None:
    fake = consumer(p0=5, p1=4)
    fake.metadatas = {("t", 0): "restrack topic-id=old", ("t", 1): "restrack topic-id=new"}
    made = plan(fake, {"t": "new"})

    assert made.spans([P0, P1]) == [Span(P0, 2, 9, moved=True, anew=True), Span(P1, 4, 4)]
    assert "offset 5 of t[0] as it was before the topic was deleted and made anew" in caplog.text
    assert not made.reached()


@pytest.mark.parametrize(("metadata", "ids"), [("", {"t": "new"}), ("restrack topic-id=old", {})])
def test_an_id_that_is_not_known_on_both_sides_says_nothing(metadata: str, ids: dict[str, str]) -> None:
    fake = consumer(p0=5)
    fake.metadatas = {("t", 0): metadata}

    assert plan(fake, ids).spans([P0]) == [Span(P0, 5, 9)]


def test_a_loss_is_logged_with_what_to_do(caplog: Any) -> None:
    plan(consumer(p0=0)).spans([P0])
    assert "2 offsets of t[0] were deleted" in caplog.text
    caplog.clear()
    plan(consumer(p0=0), reset="latest").spans([P0])
    assert "9 offsets of t[0]" in caplog.text
    assert "auto.offset.reset=latest passes over" in caplog.text


def test_without_a_reset_the_missing_offset_is_named() -> None:
    with pytest.raises(OffsetResetError, match=r"the group has no offset of t\[0\]"):
        plan(consumer(), reset="error").spans([P0])
