"""Tables of samples and rollups in a keyspace of their own, filled with samples of any moment."""

from __future__ import annotations

import json
import math
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_restrack.store.schema import SYSTEM_METRICS, TABLES, build_create_table
from airflow_provider_restrack.store.session import CassandraPolicy, open_session
from airflow_provider_restrack.store.tiers import (
    AGGREGATE,
    AGGREGATE_FIELDS,
    COUNTERS,
    METRICS,
    ROLLUP_TABLES,
    TIER_BY_NAME,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Bucket = dict[tuple[str, str | None], tuple[float | None, ...]]


class History:
    """Samples that a test writes, and what its tables of rollups then hold."""

    def __init__(self, session: Any, keyspace: str) -> None:
        self.session, self.keyspace = session, keyspace
        self.chance = random.Random(7)

    def add(self, host: str, moment: datetime, **fields: Any) -> None:
        """Write one sample, as the loader does: with the time stamp of the sample, unknown fields unset."""
        values = {"host": host, "day": moment.date().isoformat(), "timestamp": moment.isoformat(), **fields}
        self.session.execute(
            f"INSERT INTO {self.keyspace}.{SYSTEM_METRICS.name} JSON %s DEFAULT UNSET USING TIMESTAMP %s",
            (json.dumps(values), int(moment.timestamp() * 1e6)),
        )

    def add_many(self, host: str, moments: Iterable[datetime]) -> None:
        for moment in moments:
            self.add(host, moment, **self.sample())

    def sample(self) -> dict[str, Any]:
        """Return fields of a sample: some absent, devices that come and go, or a host that is down."""
        chance = self.chance
        if chance.random() < 0.1:
            return {"up": False, "outcome": "timeout"}
        devices = ["/", "/var", "/srv"][: chance.randrange(4)]
        return {
            "up": True,
            "cpu_usage": chance.random() * 100,
            "memory_total": 8 << 30,
            "cpu_count": 4,
            "network_recv_bytes": chance.randrange(1 << 40),
            "filesystem_usage": {device: chance.random() * 100 for device in devices},
            **({"load_1m": chance.random()} if chance.random() < 0.7 else {}),
        }

    def stored(self, tier: str, host: str) -> dict[datetime, Bucket]:
        """Return the buckets of a host as the plain driver decodes them."""
        found: dict[datetime, Bucket] = {}
        table = TIER_BY_NAME[tier].table_name
        rows = self.session.execute(
            f"SELECT * FROM {self.keyspace}.{table} WHERE host = %s ALLOW FILTERING", (host,)
        )
        for row in rows:
            bucket = found.setdefault(row.timestamp.replace(tzinfo=UTC), {})
            for field in METRICS:
                value = getattr(row, field.name)
                if value is not None:
                    items = value.items() if field.type.startswith("map") else [(None, value)]
                    bucket |= {(field.name, device): tuple(one) for device, one in items}
        return found

    def expected(self, tier: str, host: str) -> dict[datetime, Bucket]:
        """Return the buckets of a host by brute force over what the table of samples holds."""
        rows = self.session.execute(
            f"SELECT * FROM {self.keyspace}.{SYSTEM_METRICS.name} WHERE host = %s ALLOW FILTERING", (host,)
        )
        seconds = TIER_BY_NAME[tier].seconds
        values: dict[datetime, dict[tuple[str, str | None], list[float]]] = {}
        for row in sorted(rows, key=lambda row: row.timestamp):
            moment = row.timestamp.replace(tzinfo=UTC)
            start = datetime.fromtimestamp(int(moment.timestamp()) // seconds * seconds, tz=UTC)
            bucket = values.setdefault(start, {})
            for field in METRICS:
                value = getattr(row, field.name)
                if value is not None:
                    items = value.items() if field.type.startswith("map") else [(None, value)]
                    for device, one in items:
                        bucket.setdefault((field.name, device), []).append(float(one))
        return {
            start: {key: _aggregate(key[0], series) for key, series in bucket.items()}
            for start, bucket in values.items()
        }


def _aggregate(metric: str, values: list[float]) -> tuple[float | None, ...]:
    if metric in COUNTERS:
        return (len(values), None, None, None, values[-1], None)
    ordered = sorted(values)
    rank = 0.95 * (len(values) - 1)
    low = math.floor(rank)
    high = min(low + 1, len(values) - 1)
    p95 = ordered[low] * (low + 1 - rank) + ordered[high] * (rank - low)
    return (len(values), ordered[0], ordered[-1], math.fsum(values), values[-1], p95)


def assert_same(found: dict[datetime, Bucket], expected: dict[datetime, Bucket]) -> None:
    """Compare buckets: the same keys, numbers to the last digits of a sum."""
    assert sorted(found) == sorted(expected)
    for start, bucket in expected.items():
        assert found[start].keys() == bucket.keys(), start
        for key, wanted in bucket.items():
            for one, other in zip(found[start][key], wanted, strict=True):
                assert one == (other if other is None else pytest.approx(other, rel=1e-12)), (start, key)


@pytest.fixture
def history(cassandra_session: Any, keyspace: str) -> History:
    """Return empty tables of samples and rollups, and what fills and reads them."""
    parts = ", ".join(f"{name} {kind}" for name, kind in AGGREGATE_FIELDS.items())
    cassandra_session.execute(f"CREATE TYPE {keyspace}.{AGGREGATE} ({parts})")
    for table in (*TABLES, *ROLLUP_TABLES):
        cassandra_session.execute(build_create_table(table, keyspace))
    return History(cassandra_session, keyspace)


@pytest.fixture
def session(cassandra_address: tuple[str, int]) -> Iterator[Any]:
    """Return a session of the package's own kind."""
    host, port = cassandra_address
    with open_session(CassandraPolicy(contact_points=(host,), port=port)) as opened:
        yield opened


@pytest.fixture
def day() -> datetime:
    """Return the start of the day before yesterday: all its buckets are final, and none has expired."""
    now = datetime.now(tz=UTC) - timedelta(days=2)
    return now.replace(hour=0, minute=0, second=0, microsecond=0)
