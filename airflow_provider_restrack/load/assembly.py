"""Gathers the rows of records that are read in slices, until there are enough for well-filled batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_provider_restrack.load.encode import EncodedRow
    from airflow_provider_restrack.load.errors import RejectError
    from airflow_provider_restrack.load.offsets import Partition

# Records of one moment are of as many partitions as there are hosts: only many of them hold several rows of
# each. Of 1,000 hosts 48,000 fill batches of 48 rows.
MAX_RECORDS = 48_000
# Of rows and of the records that they were made of, which are kept for the dead letters until the rows are
# stored: of full samples into both of their tables these are some 12,000.
MAX_BYTES = 72_000_000


@dataclass(slots=True)
class Assembly:
    """The rows of a part of the topics, and the offsets that may be committed once all of them are stored.

    :ivar tables: the rows for each table.
    :ivar rejected: records that no row can be made of, and why.
    :ivar ends: the next offset after it, of each partition that it touches.
    :ivar size: bytes of the rows, and of the values of all records.
    """

    tables: list[list[EncodedRow]]
    rejected: list[tuple[Any, RejectError]] = field(default_factory=list)
    ends: dict[Partition, int] = field(default_factory=dict)
    records: int = 0
    size: int = 0

    @property
    def is_full(self) -> bool:
        """Whether it is large enough, or too large to grow."""
        return self.records >= MAX_RECORDS or self.size >= MAX_BYTES

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been read."""
        return not self.ends and not self.records

    def add(self, rows: Sequence[EncodedRow]) -> None:
        """Add the rows of a record, one for each table."""
        for table, row in zip(self.tables, rows, strict=True):
            table.append(row)
            self.size += row.size

    def reject(self, record: Any, error: RejectError) -> None:
        """Add a record that no row can be made of."""
        self.rejected.append((record, error))

    def note_read(self, ends: Mapping[Partition, int], records: int, size: int = 0) -> None:
        """Note how far was read, and how many bytes the values of the records have."""
        self.ends.update(ends)
        self.records += records
        self.size += size

    def extend(self, part: Assembly) -> None:
        """Add all of a part that was read after it."""
        for table, rows in zip(self.tables, part.tables, strict=True):
            table.extend(rows)
        self.rejected.extend(part.rejected)
        self.size += part.size
        self.note_read(part.ends, part.records)

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Leave partitions out of what is to be committed; their rows may still be written."""
        for partition in partitions:
            self.ends.pop(partition, None)
