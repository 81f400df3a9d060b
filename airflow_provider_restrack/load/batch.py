"""Groups rows into the batches that Cassandra takes at the least cost: pure, so that bounds can be tested."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from airflow_provider_restrack.load.encode import EncodedRow

# A batch of one partition is a single mutation, which the server's batch_size_warn_threshold (5 KiB) does not
# concern (CASSANDRA-10876); it stays below the 50 KiB that batch_size_fail_threshold refuses all the same.
MAX_BATCH_BYTES = 48 * 1024
# Of several partitions the server warns from 5 KiB on, and of more than 10 partitions.
MAX_MIXED_BYTES = 4608
MAX_PARTITIONS = 10


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How large an UNLOGGED batch may grow; a single larger row goes alone, outside of any batch."""

    rows: int = 50
    size_bytes: int = MAX_BATCH_BYTES


def group_rows(rows: Iterable[EncodedRow], limits: BatchLimits) -> list[list[EncodedRow]]:
    """Return batches of rows of one partition each, in the order in which the rows came.

    A batch of one partition is one mutation on one replica set.
    """
    batches: list[list[EncodedRow]] = []
    open_batches: dict[tuple[bytes, ...], tuple[list[EncodedRow], int]] = {}
    for row in rows:
        batch, size = open_batches.get(row.partition_key, (None, 0))
        if batch is None or len(batch) >= limits.rows or size + row.size > limits.size_bytes:
            batch, size = [], 0
            batches.append(batch)
        batch.append(row)
        open_batches[row.partition_key] = (batch, size + row.size)
    return batches


def join_batches(
    batches: Iterable[list[EncodedRow]],
    limits: BatchLimits,
    replicas_of: Callable[[tuple[bytes, ...]], Hashable | None],
) -> list[list[EncodedRow]]:
    """Return fewer batches: small ones of partitions on the same nodes become one of several partitions.

    A request costs the server more than a further mutation in it: rows that are each of another partition are
    written 2.5 times as fast by ten.

    :param replicas_of: what is equal for partition keys on the same nodes; None where that is not known.
    """
    joined: list[list[EncodedRow]] = []
    open_batches: dict[Hashable, tuple[list[EncodedRow], int, int]] = {}
    for batch in batches:
        size = sum(row.size for row in batch)
        nodes = replicas_of(batch[0].partition_key) if 2 * size <= MAX_MIXED_BYTES else None
        if nodes is None:
            joined.append(batch)
            continue
        target, filled, partitions = open_batches.get(nodes, (None, 0, 0))
        full = partitions >= MAX_PARTITIONS or filled + size > MAX_MIXED_BYTES
        if target is None or full or len(target) + len(batch) > limits.rows:
            target, filled, partitions = [], 0, 0
            joined.append(target)
        target.extend(batch)
        open_batches[nodes] = (target, filled + size, partitions + 1)
    return joined


def newest_rows(rows: Iterable[EncodedRow]) -> list[EncodedRow]:
    """Return only the newest row of each primary key; of rows equally old, the one that came last.

    In ``replace`` mode an older row of the same chunk would be overwritten whole at once. It is kept with the
    newest, which Cassandra may refuse.
    """
    newest: dict[tuple[bytes, ...], EncodedRow] = {}
    older: dict[tuple[bytes, ...], list[EncodedRow]] = {}
    for row in rows:
        key = row.primary_key
        known = newest.setdefault(key, row)
        if known is row:
            continue
        if row.write_us >= known.write_us:
            newest[key], row = row, known  # noqa: PLW2901 - what is left over is the older one
        older.setdefault(key, []).append(row)
    for key, others in older.items():
        newest[key].older = others
    return list(newest.values())


def next_newest(refused: EncodedRow) -> EncodedRow | None:
    """Return the row that is to be written in place of one that is refused, with what is older still."""
    if not refused.older:
        return None
    [found] = newest_rows(refused.older)
    return found
