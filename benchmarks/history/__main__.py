"""Read 90 days of one metric of one host, an hour a bucket, beside a plain read of the same rows.

Rollups of 40 metrics of some hosts are written into the provider's own tables; both must find the same means,
or the benchmark fails. The Cassandra is the benchmark's own.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_restrack.capacity.history import HistoryReader
from airflow_provider_restrack.capacity.rollup import roll_up
from airflow_provider_restrack.store.columns import Key
from airflow_provider_restrack.store.rollups import RollupWriter
from airflow_provider_restrack.store.schema import TABLES, build_create_table, build_create_type
from airflow_provider_restrack.store.session import CassandraPolicy, open_session
from airflow_provider_restrack.store.tiers import (
    AGGREGATE,
    AGGREGATE_FIELDS,
    METRICS,
    ROLLUP_TABLES,
    TIER_BY_NAME,
    periods_between,
)
from benchmarks import report
from benchmarks.loader.servers import running_servers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

KEYSPACE = "bench_history"
TIER = TIER_BY_NAME["1h"]
DAYS = 90
METRIC = "cpu_usage"
_STEP_S = 600
_METRICS = 40

log = logging.getLogger("benchmarks.history")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 if the reads differ or the server fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history", description=__doc__)
    parser.add_argument("--hosts", type=int, default=20, help="whose rollups are stored (default: 20)")
    parser.add_argument("--runs", type=int, default=50, help="reads of each contender (default: 50)")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("cassandra").setLevel(logging.ERROR)
    try:
        with running_servers(kafka=False) as instance:
            host, port = instance.cassandra.address
            with open_session(CassandraPolicy(contact_points=(host,), port=port)) as session:
                until = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
                fill(session, arguments.hosts, until)
                figures = measure(session, arguments.hosts, until, arguments.runs)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    print(report.show(figures, baseline="rows", figure="median_ms"))
    print(f"written: {report.write('history', figures)}")
    return 0


def fill(session: Any, hosts: int, until: datetime) -> None:
    """Make keyspace and tables, and write every host's rollups of an hour."""
    session.execute(f"DROP KEYSPACE IF EXISTS {KEYSPACE}", timeout=120.0)
    session.execute(
        f"CREATE KEYSPACE {KEYSPACE}"
        " WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
        timeout=120.0,
    )
    session.execute(build_create_type(AGGREGATE, AGGREGATE_FIELDS, KEYSPACE), timeout=120.0)
    for table in (*TABLES, *ROLLUP_TABLES):
        session.execute(build_create_table(table, KEYSPACE), timeout=120.0)
    writer = RollupWriter(session, KEYSPACE, TIER)
    names = [METRIC, *(one.name for one in METRICS if "<" not in one.type and one.name != METRIC)]
    keys = [Key(name) for name in names[:_METRICS]]
    end = round(until.timestamp())
    times = np.arange(end - DAYS * 86400, end, _STEP_S, dtype=np.int64) * 1000
    for number in range(hosts):
        values = np.random.default_rng(number).uniform(0, 100, (len(keys), times.size))
        made = roll_up(times, values, TIER.seconds)
        writer.write(name_host(number), keys, made, until, TIER.ttl_s)
    log.info("%d rollups of %d hosts written", made.starts.size * hosts, hosts)


def name_host(number: int) -> str:
    """Return the name of a host."""
    return f"host-{number:03d}"


def measure(session: Any, hosts: int, until: datetime, runs: int) -> dict[str, dict[str, dict[str, float]]]:
    """Return medians and 95th percentiles in ms of reads that alternate, of one host after the other.

    :raises RuntimeError: if contenders differ.
    """
    reader, since = HistoryReader(session, KEYSPACE), until - timedelta(days=DAYS)
    contenders: dict[str, Callable[[str], Sequence[float]]] = {
        "restrack": lambda host: reader.read(host, METRIC, since, until, "1h").column("avg").to_pylist(),
        "rows": lambda host: read_rows(session, host, since, until),
    }
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for run in range(-3, runs):  # the first warm up
        found = {}
        for name, read in contenders.items():
            began = time.perf_counter()
            found[name] = read(name_host(run % hosts))
            if run >= 0:
                taken[name].append((time.perf_counter() - began) * 1000)
        if len(found["rows"]) != DAYS * 24 or not np.allclose(found["rows"], found["restrack"], rtol=1e-12):
            raise RuntimeError("the two reads find other means")
    return {
        f"1 host, 1 metric, {DAYS} days at 1 h": {
            name: {"median_ms": statistics.median(ms), "p95_ms": float(np.percentile(ms, 95))}
            for name, ms in taken.items()
        }
    }


def read_rows(session: Any, host: str, since: datetime, until: datetime) -> list[float]:
    """Return the means as one reads them with the driver alone: a query a partition, and its rows."""
    query = (
        f"SELECT timestamp, {METRIC} FROM {KEYSPACE}.{TIER.table_name} WHERE host = %s AND period = %s"
        " AND timestamp >= %s AND timestamp < %s ORDER BY timestamp ASC"
    )
    spans = periods_between(TIER, round(since.timestamp()), round(until.timestamp()))
    found = (
        getattr(row, METRIC)
        for period, start, end in spans
        for row in session.execute(query, (host, period, start * 1000, end * 1000))
    )
    return [one.sum / one.count for one in found]


if __name__ == "__main__":
    sys.exit(main())
