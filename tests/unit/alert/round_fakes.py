"""A ledger's lease in memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from airflow_provider_restrack.alert.records import Book
from tests.unit.alert.fleet_fakes import at_minute


@dataclass
class MemoryLease:
    """A ledger in memory, and the order of what is done with it."""

    book: Book = field(default_factory=lambda: Book(at_minute(0), MappingProxyType({})))
    calls: list[str] = field(default_factory=list)
    lost: bool = False

    def renew(self) -> None:
        if self.lost:
            raise RuntimeError("the lease has ended")

    def record(
        self, transitions: Any, records: Any, horizon_ms: int | None = None, debts: Any = MappingProxyType({})
    ) -> None:
        self.renew()
        self.calls.append(f"record {len(transitions)}")
        kept = {**self.book.records, **{record.key: record for record in records}}
        for key, owed in debts.items():
            kept[key] = replace(kept[key], told={**kept[key].told, **owed})
        self.book = Book(horizon_ms, MappingProxyType(kept))

    def write_history(self) -> int:
        self.calls.append("history")
        return 7

    def mark_told(self, told: Any) -> None:
        self.renew()
        records = dict(self.book.records)
        for key, news in told.items():
            self.calls.append(f"mark {next(iter(news))}")
            fresh = {name: replace(one, since_ms=records[key].since_ms) for name, one in news.items()}
            records[key] = replace(records[key], told={**records[key].told, **fresh})
        self.book = Book(self.book.horizon_ms, records)
