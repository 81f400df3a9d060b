"""A trial of the benchmark of reading history: both contenders read the same, and every figure is there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_restrack.store.session import CassandraPolicy, open_session
from benchmarks.history.__main__ import KEYSPACE, TIER, fill, measure, name_host

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


@pytest.fixture
def filled(cassandra_address: tuple[str, int]) -> Iterator[Any]:
    """Return a session to a Cassandra that holds the rollups of a host."""
    host, port = cassandra_address
    with open_session(CassandraPolicy(contact_points=(host,), port=port)) as session:
        fill(session, 1, NOW)
        yield session
        session.execute(f"DROP KEYSPACE {KEYSPACE}", timeout=120.0)


@pytest.mark.cassandra
@pytest.mark.slow
def test_both_read_the_same_and_a_difference_is_an_error(filled: Any) -> None:
    (figures,) = measure(filled, 1, NOW, 2).values()

    assert {name: sorted(found) for name, found in figures.items()} == {
        "restrack": ["median_ms", "p95_ms"],
        "rows": ["median_ms", "p95_ms"],
    }

    table = f"{KEYSPACE}.{TIER.table_name}"
    filled.execute(f"DELETE FROM {table} WHERE host = %s AND period = %s", (name_host(0), f"{NOW:%Y-%m}"))
    with pytest.raises(RuntimeError, match="other means"):
        measure(filled, 1, NOW, 2)
