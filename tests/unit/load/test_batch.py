from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.load.batch import (
    MAX_BATCH_BYTES,
    MAX_MIXED_BYTES,
    MAX_PARTITIONS,
    BatchLimits,
    group_rows,
    join_batches,
    newest_rows,
    next_newest,
)
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


@given(rows.filter(bool))
def test_rows_that_are_refused_give_way_to_the_next_newest_of_their_key(made: list[EncodedRow]) -> None:
    for kept in newest_rows(made):
        order, found = [], kept
        while found is not None:
            order.append(found)
            found = next_newest(found)  # type: ignore[assignment]

        same = [one for one in made if one.primary_key == kept.primary_key]
        by_age = sorted(enumerate(same), key=lambda pair: (pair[1].write_us, pair[0]), reverse=True)
        assert list(map(id, order)) == [id(one) for _, one in by_age]


def test_a_row_larger_than_a_batch_goes_alone() -> None:
    small, large = row(1), row(1, size=MAX_BATCH_BYTES + 1)

    assert group_rows([small, large, small], BatchLimits()) == [[small], [large], [small]]


batch_lists = st.lists(
    st.lists(st.builds(row, st.integers(0, 200), size=st.integers(1, 900)), min_size=1, max_size=6),
    max_size=60,
).map(lambda made: [[row(one[0].partition_key[0][0], size=each.size) for each in one] for one in made])


def nodes_of(key: tuple[bytes, ...]) -> str | None:
    return (None, "a", "b", "c")[key[0][0] % 4]


@given(batch_lists, st.integers(1, 60))
def test_joined_batches_hold_every_row_once_within_their_bounds(
    batches: list[list[EncodedRow]], max_rows: int
) -> None:
    given_rows = [id(one) for batch in batches for one in batch]
    originals = [[id(one) for one in batch] for batch in batches]
    joined = join_batches(batches, BatchLimits(rows=max_rows), nodes_of)

    assert sorted(id(one) for batch in joined for one in batch) == sorted(given_rows)
    for batch in joined:
        if list(map(id, batch)) in originals:
            continue  # as it was
        assert len(batch) <= max_rows
        assert sum(one.size for one in batch) <= MAX_MIXED_BYTES
        assert len({one.partition_key for one in batch}) <= MAX_PARTITIONS
        assert len({nodes_of(one.partition_key) for one in batch}) == 1
        assert nodes_of(batch[0].partition_key) is not None


@given(batch_lists)
def test_the_rows_of_a_batch_stay_together(batches: list[list[EncodedRow]]) -> None:
    joined = join_batches(batches, BatchLimits(), nodes_of)
    where = {id(one): number for number, batch in enumerate(joined) for one in batch}

    for batch in batches:
        assert len({where[id(one)] for one in batch}) == 1


@given(batch_lists)
def test_where_the_nodes_are_not_known_batches_stay_as_they_are(batches: list[list[EncodedRow]]) -> None:
    assert join_batches(batches, BatchLimits(), lambda _key: None) == batches


def test_single_rows_of_many_partitions_are_joined_by_ten() -> None:
    joined = join_batches([[row(number)] for number in range(25)], BatchLimits(), lambda _key: "node")

    assert [len(batch) for batch in joined] == [10, 10, 5]


def test_what_fills_more_than_half_of_a_joined_batch_is_not_joined() -> None:
    half, more = MAX_MIXED_BYTES // 2, MAX_MIXED_BYTES // 2 + 1
    batches = [[row(number, size=size)] for number, size in enumerate([half, more, half, more])]

    joined = join_batches(batches, BatchLimits(), lambda _key: "node")

    assert [[one.size for one in batch] for batch in joined] == [[half, half], [more], [more]]


def test_partitions_of_other_nodes_are_not_joined() -> None:
    batches = [[row(number)] for number in range(8)]
    joined = join_batches(batches, BatchLimits(), lambda key: key[0][0] % 2)

    assert [[one.partition_key[0][0] for one in batch] for batch in joined] == [[0, 2, 4, 6], [1, 3, 5, 7]]
