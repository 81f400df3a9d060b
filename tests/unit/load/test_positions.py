from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.load.errors import OffsetResetError
from airflow_provider_restrack.load.offsets import Partition
from airflow_provider_restrack.load.positions import Positions, Span, plan_span

P = Partition("t", 0)


@pytest.mark.parametrize(
    ("committed", "low", "high", "span"),
    [
        pytest.param(None, 0, 0, Span(P, 0, 0, moved=True), id="new-group-on-an-empty-topic"),
        pytest.param(None, 4, 9, Span(P, 4, 9, moved=True), id="new-group-starts-at-the-oldest"),
        pytest.param(6, 4, 9, Span(P, 6, 9), id="goes-on-at-its-commit"),
        pytest.param(9, 4, 9, Span(P, 9, 9), id="nothing-new"),
        pytest.param(1, 4, 9, Span(P, 4, 9, lost=3, moved=True), id="retention-was-faster"),
        pytest.param(1, 9, 9, Span(P, 9, 9, lost=8, moved=True), id="retention-took-all"),
        pytest.param(12, 0, 9, Span(P, 0, 9, moved=True, anew=True), id="topic-made-anew"),
    ],
)
def test_a_partition_is_read_from_its_commit_to_its_end(
    committed: int | None, low: int, high: int, span: Span
) -> None:
    assert plan_span(P, committed, low, high) == span


@pytest.mark.parametrize(
    ("committed", "span"),
    [
        pytest.param(None, Span(P, 9, 9, moved=True), id="a-new-group-begins-with-what-comes"),
        pytest.param(1, Span(P, 9, 9, lost=8, moved=True), id="what-is-passed-over-is-lost"),
        pytest.param(6, Span(P, 6, 9), id="a-good-commit-stays"),
        pytest.param(12, Span(P, 4, 9, moved=True, anew=True), id="made-anew-nothing-is-read-of-it-yet"),
    ],
)
def test_with_latest_what_the_group_cannot_have_is_passed_over(committed: int | None, span: Span) -> None:
    assert plan_span(P, committed, 4, 9, reset="latest") == span


@pytest.mark.parametrize(
    ("committed", "words"), [(None, "has no offset"), (1, "offset 1"), (12, "offset 12")]
)
def test_with_error_a_commit_that_cannot_be_used_is_an_error(committed: int | None, words: str) -> None:
    with pytest.raises(OffsetResetError, match=rf"{words} of t\[0\], which holds 4 to 9"):
        plan_span(P, committed, 4, 9, reset="error")
    assert plan_span(P, 9, 4, 9, reset="error") == Span(P, 9, 9)


def test_a_commit_of_another_topic_of_that_name_is_none() -> None:
    assert plan_span(P, 6, 4, 9, anew=True) == Span(P, 4, 9, moved=True, anew=True)


def test_endless_partitions_are_never_closed() -> None:
    positions = Positions([Span(P, 3, 5)], endless=True)

    assert positions.accept(P, 5)
    positions.note_end(P, 9)
    assert positions.open == {P}
    assert positions.next_of(P) == 9
    assert positions.remaining > 1000


def test_partitions_come_and_go() -> None:
    positions = Positions()
    positions.add([Span(P, 3, 5)])
    assert positions.held == positions.open == {P}
    positions.drop([P, Partition("t", 1)])

    assert positions.held == positions.open == frozenset()
    assert positions.remaining == 0


def test_a_record_that_comes_twice_is_taken_once() -> None:
    positions = Positions([Span(P, 3, 9)])

    assert positions.accept(P, 4)
    assert not positions.accept(P, 4)
    assert not positions.accept(P, 3)
    assert positions.next_of(P) == 5


def test_a_partition_ends_with_its_last_record() -> None:
    positions = Positions([Span(P, 3, 5)])

    assert positions.accept(P, 3)
    assert positions.remaining == 1
    assert positions.accept(P, 4)
    assert positions.open == frozenset()
    assert positions.next_of(P) == 5


def test_a_record_past_the_end_closes_the_partition_and_belongs_to_the_next_run() -> None:
    positions = Positions([Span(P, 3, 5)])

    assert not positions.accept(P, 7)
    assert positions.open == frozenset()
    assert positions.next_of(P) == 5


def test_the_brokers_word_closes_a_partition_whose_end_lies_in_a_gap() -> None:
    positions = Positions([Span(P, 3, 9)])
    positions.accept(P, 6)

    positions.note_end(P, 10)

    assert positions.open == frozenset()
    assert positions.next_of(P) == 10


def test_an_empty_span_is_never_open() -> None:
    positions = Positions([Span(P, 5, 5)])

    assert positions.open == frozenset()
    assert positions.remaining == 0


@pytest.mark.parametrize(
    ("low", "lost", "next_offset", "is_open"), [(6, 3, 6, True), (20, 6, 9, False), (2, 0, 3, True)]
)
def test_deleted_records_are_skipped_and_counted_up_to_the_end(
    low: int, lost: int, next_offset: int, is_open: bool
) -> None:
    positions = Positions([Span(P, 3, 9)])

    assert positions.skip_to(P, low) == lost
    assert positions.next_of(P) == next_offset
    assert positions.is_open(P) == is_open


@given(st.sets(st.integers(0, 60)), st.integers(0, 20), st.integers(0, 40))
def test_every_offset_of_the_span_is_taken_once_whatever_the_gaps(
    offsets: set[int], start: int, size: int
) -> None:
    positions = Positions([Span(P, start, start + size)])
    taken = []
    for offset in sorted(offset for offset in offsets if offset >= start):
        if not positions.is_open(P):
            break
        if positions.accept(P, offset):
            taken.append(offset)

    assert taken == sorted(offset for offset in offsets if start <= offset < start + size)
    assert start <= positions.next_of(P) <= start + size
