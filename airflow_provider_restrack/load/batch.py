"""Groups rows into batches that Cassandra applies as one mutation: pure, so that its bounds can be tested."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_restrack.load.encode import EncodedRow

# Below the 5 KiB from which the server warns of batches over several partitions. It does not check those of
# one, which are a single mutation (measured with 5.0): the bound keeps a retry, and what a timeout leaves
# open, small.
MAX_BATCH_BYTES = 4608


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How large an UNLOGGED batch may grow; a single larger row goes alone, outside of any batch."""

    rows: int = 50
    size_bytes: int = MAX_BATCH_BYTES


def group_rows(rows: Iterable[EncodedRow], limits: BatchLimits) -> list[list[EncodedRow]]:
    """Return batches of rows of one partition each, in the order in which the rows came.

    A batch of one partition is one mutation on one replica set; over several partitions it would only add a
    coordinator's work.
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


def newest_rows(rows: Iterable[EncodedRow]) -> list[EncodedRow]:
    """Return only the newest row of each primary key; of rows equally old, the one that came last.

    In ``replace`` mode an older row of the same chunk would be overwritten whole at once.
    """
    newest: dict[tuple[bytes, ...], EncodedRow] = {}
    for row in rows:
        known = newest.get(row.primary_key)
        if known is None or row.write_us >= known.write_us:
            newest[row.primary_key] = row
    return list(newest.values())
