from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.load.batch import BatchLimits, group_rows, newest_rows
from airflow_provider_restrack.load.encode import EncodedRow


def row(partition: int, clustering: int = 0, write_us: int = 0, size: int = 10) -> EncodedRow:
    key = (bytes([partition]),)
    return EncodedRow(key, (*key, bytes([clustering])), write_us, size, object(), None)


rows = st.lists(
    st.builds(row, st.integers(0, 4), st.integers(0, 5), st.integers(0, 3), st.integers(1, 80)), max_size=60
)


@given(rows, st.integers(1, 7), st.integers(1, 100))
def test_batches_hold_every_row_once_in_order_within_their_bounds(
    made: list[EncodedRow], max_rows: int, size_bytes: int
) -> None:
    batches = group_rows(made, BatchLimits(max_rows, size_bytes))

    assert sorted(id(one) for batch in batches for one in batch) == sorted(map(id, made))
    for batch in batches:
        assert len({one.partition_key for one in batch}) == 1
        assert len(batch) <= max_rows
        assert len(batch) == 1 or sum(one.size for one in batch) <= size_bytes
    for key in {one.partition_key for one in made}:
        grouped = [id(one) for batch in batches for one in batch if one.partition_key == key]
        assert grouped == [id(one) for one in made if one.partition_key == key]


@given(rows)
def test_of_each_key_the_newest_row_is_left_and_of_equally_old_ones_the_last(made: list[EncodedRow]) -> None:
    newest = newest_rows(made)

    assert {one.primary_key for one in newest} == {one.primary_key for one in made}
    assert len({one.primary_key for one in newest}) == len(newest)
    for kept in newest:
        same = [one for one in made if one.primary_key == kept.primary_key]
        latest = max(one.write_us for one in same)
        assert kept is [one for one in same if one.write_us == latest][-1]


def test_a_row_larger_than_a_batch_goes_alone() -> None:
    small, large = row(1), row(1, size=9000)

    assert group_rows([small, large, small], BatchLimits()) == [[small], [large], [small]]
