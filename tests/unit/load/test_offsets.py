from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.load.offsets import OffsetTracker, Partition

P0, P1 = Partition("t", 0), Partition("t", 1)


def test_nothing_is_committable_while_the_first_chunk_is_open() -> None:
    tracker = OffsetTracker()
    first, second = tracker.open({P0: 5}), tracker.open({P0: 9, P1: 3})
    second.settle()

    assert tracker.committable() == {}
    first.settle()
    assert tracker.committable() == {P0: 9, P1: 3}


def test_what_is_committed_is_not_offered_again() -> None:
    tracker = OffsetTracker()
    tracker.open({P0: 5}).settle()
    tracker.note_committed(tracker.committable())

    assert tracker.committable() == {}
    assert tracker.committed == {P0: 5}


def test_a_ticket_holds_itself_until_its_work_is_handed_out() -> None:
    ticket = OffsetTracker().open({P0: 1})
    ticket.hold()
    ticket.settle()

    assert not ticket.finished


def test_a_finished_ticket_takes_no_more_work_and_no_more_answers() -> None:
    ticket = OffsetTracker().open({P0: 1})
    ticket.settle()

    with pytest.raises(RuntimeError, match="finished"):
        ticket.hold()
    with pytest.raises(RuntimeError, match="more often"):
        ticket.settle()


@given(st.data())
def test_a_commit_never_passes_an_unsettled_record_and_loses_no_settled_one(data: st.DataObject) -> None:
    chunks = data.draw(
        st.lists(st.dictionaries(st.sampled_from([P0, P1]), st.integers(1, 5), min_size=1), max_size=8)
    )
    tracker, next_offset, tickets = OffsetTracker(), {P0: 0, P1: 0}, []
    for chunk in chunks:
        for partition, count in chunk.items():
            next_offset[partition] += count
        ends = {partition: next_offset[partition] for partition in chunk}
        ticket = tracker.open(ends)
        work = data.draw(st.integers(0, 3))
        ticket.hold(work)
        tickets.append([ticket, work + 1, ends])
    committed: dict[Partition, int] = {}
    while any(left for _, left, _ in tickets):
        chosen = data.draw(st.sampled_from([entry for entry in tickets if entry[1]]))
        chosen[0].settle()
        chosen[1] -= 1
        committed |= tracker.committable()
        prefix: dict[Partition, int] = {}
        for _, left, ends in tickets:
            if left:
                break
            prefix |= ends
        assert committed == prefix
        tracker.note_committed(tracker.committable())
    assert tracker.unsettled == 0


def test_partitions_that_are_taken_away_are_left_out_of_all_commits_to_come() -> None:
    tracker = OffsetTracker()
    tracker.open({P0: 3, P1: 3}).settle()
    tracker.note_committed(tracker.committable())
    settled = tracker.open({P0: 5, P1: 5})
    settled.settle()
    late = tracker.open({P0: 9, P1: 9})

    tracker.drop([P1])
    late.settle()

    assert tracker.committable() == {P0: 9}
    assert tracker.committed == {P0: 3}
    tracker.open({P1: 4}).settle()
    assert tracker.committable() == {P0: 9, P1: 4}
