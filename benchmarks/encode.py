"""What a row costs between Kafka and Cassandra's socket: decoding, encoding and batching, in µs of CPU."""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from cassandra.cqltypes import lookup_casstype
from cassandra.protocol import BatchMessage, ColumnMetadata, ProtocolHandler
from cassandra.query import PreparedStatement

from airflow_provider_restrack import clock
from airflow_provider_restrack.load.batch import BatchLimits, group_rows
from airflow_provider_restrack.load.cql_types import parse_cql_type
from airflow_provider_restrack.load.decode import Decoder, plan_fields
from airflow_provider_restrack.load.encode import RowEncoder
from airflow_provider_restrack.load.pack import PackedEncoder, arrange
from airflow_provider_restrack.load.table import Column, TableTarget, plan_table
from airflow_provider_restrack.load.wire import open_packing
from airflow_provider_restrack.load.write import build_statement
from airflow_provider_restrack.store.schema import FIELD_BY_NAME, FIELDS, cql_type
from benchmarks import report

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_restrack.load.table import TablePlan

KEY = ("host", "day", "timestamp")
SEED = (*KEY, "id", "cpu_usage", "memory_usage", "disk_usage", "network_io_recv", "network_io_sent")
WORKS = {"seed": SEED, "full": tuple(field.name for field in FIELDS)}
# As a healthy host outside of a container sends them.
ABSENT = ("error", "container_cpu_usage", "container_memory_usage", "container_memory_limit")
CASS_TYPES = {
    "text": "UTF8Type", "boolean": "BooleanType", "int": "Int32Type", "bigint": "LongType",
    "uuid": "UUIDType", "double": "DoubleType", "timestamp": "TimestampType", "date": "SimpleDateType",
    "map<text,text>": "MapType(UTF8Type, UTF8Type)", "map<text,double>": "MapType(UTF8Type, DoubleType)",
    "list<double>": "ListType(DoubleType)",
}  # fmt: skip
HOSTS = 100


def main(argv: list[str] | None = None) -> int:
    """Measure both works, alternating; print medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encode", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=5000, help="of each run; full samples are a fifth of it")
    arguments = parser.parse_args(argv)
    figures = {}
    for name, columns in WORKS.items():
        rows = arguments.rows if name == "seed" else arguments.rows // 5
        figures[name] = measure(columns, rows, arguments.runs)
    print(report.show(figures, baseline="bind", figure="total_us_per_row"))
    print(f"written: {report.write('encode', figures)}")
    return 0


def measure(columns: tuple[str, ...], rows: int, runs: int) -> dict[str, dict[str, float]]:
    """Return the medians of CPU µs per row of each step, by both encoders."""
    raws = samples(columns, rows)
    pipelines = {"restrack": Pipeline(columns, packs=True), "bind": Pipeline(columns, packs=False)}
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in pipelines}
    for run in range(runs + 1):
        for name, pipeline in pipelines.items():
            times = pipeline.run(raws)
            if run:  # the first one fills the caches
                taken[name].append(times)
    return {
        name: {step: round(statistics.median(run[step] for run in all_runs), 3) for step in all_runs[0]}
        for name, all_runs in taken.items()
    }


class Pipeline:
    """Decoder, encoder and batches of one table, as the loader has them."""

    def __init__(self, columns: tuple[str, ...], *, packs: bool) -> None:
        plan = arrange(plan_of(columns))
        fields = plan_fields([plan], "timestamp")
        prepared = prepare(plan)
        self.session = SimpleNamespace(client_protocol_handler=ProtocolHandler)
        self.decoder = Decoder(fields)
        self.encoder: RowEncoder | PackedEncoder = RowEncoder(plan, prepared, fields, self.decoder.position)
        if packs:
            packed = open_packing(self.session, prepared, plan)
            if packed is None:
                raise RuntimeError("the driver does not take packed rows")
            self.encoder = PackedEncoder(plan, packed, fields, self.decoder.position)

    def run(self, raws: list[bytes]) -> dict[str, float]:
        """Return CPU µs per row of each step."""
        decode, encode = self.decoder.decode, self.encoder.encode
        count, took = len(raws), {}
        values, took["decode_us_per_row"] = timed(count, lambda: [decode(raw) for raw in raws])
        rows, took["encode_us_per_row"] = timed(count, lambda: [encode(one, 1, None, None) for one in values])
        _, took["batch_us_per_row"] = timed(count, lambda: self.send(rows))
        took["total_us_per_row"] = sum(took.values())
        return took

    def send(self, rows: list[Any]) -> None:
        """Make the frames of the rows, as the driver does."""
        encode = self.session.client_protocol_handler.encode_message
        for batch in group_rows(rows, BatchLimits()):
            statement = build_statement(batch, 6)
            queries = statement._statements_and_parameters  # noqa: SLF001 - as Session.execute_async does
            message = BatchMessage(statement.batch_type, queries, 6, None, 1, "ks")
            encode(message, 1, 5, None, allow_beta_protocol_version=False)


def timed(count: int, work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what the work returns, and its CPU time in µs per row."""
    started = time.process_time_ns()
    result = work()
    return result, (time.process_time_ns() - started) / 1000 / count


def plan_of(columns: tuple[str, ...]) -> TablePlan:
    """Return the plan of a table with these columns of a sample."""
    kinds = {"host": "partition_key", "day": "partition_key", "timestamp": "clustering"}
    ordered = [*KEY, *(name for name in columns if name not in KEY)]
    made = [
        Column(name, parse_cql_type(cql_type(FIELD_BY_NAME[name])), kinds.get(name, "regular"))
        for name in ordered
    ]
    return plan_table(TableTarget("ks", "t", "merge"), made, {}, timestamp_field="timestamp")


def prepare(plan: TablePlan) -> PreparedStatement:
    """Return the driver's prepared statement of an INSERT, as Cassandra would answer."""
    kinds = [
        (source.column.name, CASS_TYPES[FIELD_BY_NAME[source.column.name].type]) for source in plan.sources
    ]
    metadata = [
        ColumnMetadata("ks", "t", name, lookup_casstype(kind))
        for name, kind in [*kinds, ("[timestamp]", "LongType")]
    ]
    return PreparedStatement(
        metadata, b"0123456789abcdef", [0, 1], "INSERT", None, 5, None, b"fedcba9876543210"
    )


def samples(columns: tuple[str, ...], rows: int) -> list[bytes]:
    """Return the JSON of samples of a fleet, in the order in which it is collected."""
    chance, start = random.Random(1), datetime(2026, 1, 1, tzinfo=UTC)
    made = []
    for number in range(rows):
        host, timestamp = f"host-{number % HOSTS:05d}", start + number // HOSTS * timedelta(seconds=10)
        sample = {name: value_of(name, chance) for name in columns if name not in KEY}
        sample |= {"host": host, "timestamp": clock.format_utc(timestamp)}
        made.append(json.dumps(sample, separators=(",", ":")).encode())
    return made


def value_of(name: str, chance: random.Random) -> Any:
    """Return a plausible value of a field."""
    if name in ABSENT:
        return None
    number = round(chance.random() * 1000, 2)
    plain = {
        "text": "psutil", "boolean": True, "int": chance.randrange(500),
        "bigint": chance.randrange(1 << 38), "uuid": str(uuid.UUID(int=chance.getrandbits(128))),
        "double": number, "map<text,text>": {"dc": "fra1", "role": "web"},
        "map<text,double>": {"/": number, "/var": number / 2},
        "list<double>": [number, number / 2, number / 3, number / 4],
    }  # fmt: skip
    return plain[FIELD_BY_NAME[name].type]


if __name__ == "__main__":
    sys.exit(main())
