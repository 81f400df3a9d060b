from __future__ import annotations

from typing import TYPE_CHECKING, Any

from confluent_kafka import TopicPartition

from airflow_provider_restrack.load.membership import Membership, Others, Share
from airflow_provider_restrack.load.offsets import Partition
from tests.unit.load.fakes import Clock, FakeConsumer, gives, loses, takes

if TYPE_CHECKING:
    from collections.abc import Collection


def test_a_share_is_complete_once_it_is_given() -> None:
    share = Share(15)
    assert not share.is_complete(100)
    share.given(2, 100)

    assert share.is_complete(100)
    assert not share.is_empty_handed


def test_empty_hands_are_waited_with_and_no_longer_than_patience() -> None:
    share = Share(15)
    share.given(0, 100)
    share.given(0, 110)

    assert share.is_empty_handed
    assert not share.is_complete(114)
    assert share.is_complete(115)
    share.given(1, 112)
    assert share.is_complete(112)


def test_after_a_taking_the_next_assignment_is_waited_for() -> None:
    share = Share(15)
    share.given(2, 100)
    share.taken()

    assert not share.is_complete(1000)
    share.given(0, 1000)
    assert share.is_complete(1000)


def test_who_was_left_behind_begins_anew() -> None:
    share = Share(15)
    share.given(2, 100)
    share.lost()

    assert not share.is_complete(1000)
    assert not share.is_empty_handed
    share.given(0, 1000)
    assert not share.is_complete(1014)


def test_others_are_settled_once_each_partition_has_moved_or_is_done() -> None:
    one, two = Partition("t", 1), Partition("t", 2)
    others = Others(15)
    assert not others.are_settled(100)
    others.look({one: 5, two: 0}, 100)
    assert not others.are_settled(114)
    others.look({one: 4, two: 0}, 114)

    assert others.are_settled(114)
    assert others.neglected == {}


def test_what_does_not_move_is_waited_for_from_the_first_look_on() -> None:
    one, two = Partition("t", 1), Partition("t", 2)
    others = Others(15)
    others.look({one: 5, two: 5}, 100)
    others.look({one: 5, two: 5}, 114)
    assert not others.are_settled(114.9)

    assert others.are_settled(115)
    assert others.neglected == {one: 5, two: 5}
    others.look({two: 5}, 116)  # the first has become our own
    assert others.neglected == {two: 5}


class Desk:
    def __init__(self) -> None:
        self.told: list[tuple[str, list[Partition]]] = []

    def take_in(self, partitions: Collection[Partition]) -> list[TopicPartition]:
        self.told.append(("take in", list(partitions)))
        return [TopicPartition(*partition, 7) for partition in partitions]

    def begin(self, partitions: Collection[Partition]) -> None:
        self.told.append(("begin", list(partitions)))

    def hand_over(self, partitions: Collection[Partition]) -> None:
        self.told.append(("hand over", list(partitions)))

    def let_go(self, partitions: Collection[Partition]) -> None:
        self.told.append(("let go", list(partitions)))


def member(desk: Desk) -> tuple[Any, FakeConsumer]:
    fake = FakeConsumer()
    made = Membership(fake, desk, patience_s=15, now=Clock())
    made.join(("t",))
    return made, fake


def test_events_reach_the_desk_and_the_client() -> None:
    desk = Desk()
    made, fake = member(desk)
    for event in (gives(0, 1), takes(0), loses(1), gives()):
        event(fake)

    p0, p1 = Partition("t", 0), Partition("t", 1)
    assert desk.told == [
        ("take in", [p0, p1]), ("begin", [p0, p1]), ("hand over", [p0]), ("let go", [p1]),
        ("take in", []), ("begin", []),
    ]  # fmt: skip
    assert fake.calls == [
        ("subscribe", ["t"]),
        ("gained", {("t", 0): 7, ("t", 1): 7}),
        ("given up", [("t", 0)]),
        ("given up", [("t", 1)]),
        ("gained", {}),
    ]
    assert made.is_member


def test_who_leaves_takes_nothing_in_and_hands_nothing_over() -> None:
    desk = Desk()
    made, fake = member(desk)
    made.leaving = True
    for event in (gives(0, 1), takes(0), loses(1)):
        event(fake)

    assert desk.told == []
    assert fake.named("given up") == [[("t", 0)], [("t", 1)]]
