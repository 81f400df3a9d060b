"""Writes ``docs/metrics.md`` from the field list, so that the page cannot say something else than the code.

``python -m docs.metrics_reference`` writes it; with ``--check`` it only says whether the page is out of date.
"""

from __future__ import annotations

import argparse
import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_restrack.store.schema import FIELDS, KEYSPACE, TABLES, cql_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_provider_restrack.store.schema import Field, Table

PAGE = Path(__file__).with_name("metrics.md")
COMMAND = "python -m docs.metrics_reference"
# What a heading says beyond the group's name.
TITLES = {
    "identity": "Identity",
    "outcome": "Outcome of the collection",
    "cpu": "CPU",
    "memory": "Memory and swap",
    "disk": "Filesystems",
    "disk_io": "Disk I/O",
    "network": "Network",
    "processes": "Processes",
    "pressure": "Pressure stall information",
    "container": "Container limits",
    "counters": "Counters",
}
INTRODUCTION = f"""\
# Metrics reference

<!-- Written by `{COMMAND}` from airflow_provider_restrack/store/schema.py: change it there. -->

A sample is a flat JSON object. A field's name is the same everywhere: in Kafka, as Cassandra column, as the
metric of a rule. Every percentage is 0–100, every size is in bytes, every rate per second, every duration in
seconds. A value that could not be read is absent: null in JSON and in Cassandra, never 0. The unit of a map
or list is that of its values. "Rule" marks the metrics that a threshold can be set on; of a map, every value
is compared.
"""


def build_page() -> str:
    """Return the whole page."""
    groups = [(name, list(fields)) for name, fields in groupby(FIELDS, key=lambda field: field.group)]
    sections = [INTRODUCTION, *(_build_group(name, fields) for name, fields in groups), _build_tables()]
    return "\n".join(sections)


def main(arguments: Sequence[str] | None = None, page: Path = PAGE) -> int:
    """Write the page, or with ``--check`` compare it; return the exit code."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Write docs/metrics.md from the field list.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if the page is out of date"
    )
    wanted = build_page()
    if not parser.parse_args(arguments).check:
        page.write_text(wanted, encoding="utf-8")
        return 0
    if page.exists() and page.read_text(encoding="utf-8") == wanted:
        return 0
    sys.stderr.write(f"docs/{page.name} is out of date: run `{COMMAND}` (make docs) and commit it.\n")
    return 1


def _build_group(name: str, fields: Iterable[Field]) -> str:
    rows = [
        (f"`{field.name}`", f"`{field.type}`", field.unit, "yes" if field.is_metric else "", field.meaning)
        for field in fields
    ]
    return f"## {TITLES[name]}\n\n" + _build_table(("field", "type", "unit", "rule", "meaning"), rows)


def _build_tables() -> str:
    rows = [
        (f"`{KEYSPACE}.{table.name}`", f"`{_build_key(table)}`", _build_ttl(table), table.meaning)
        for table in TABLES
    ]
    frozen = next(field for field in FIELDS if cql_type(field) != field.type)
    note = (
        "Each table has one column a field, of the type above; maps and lists are frozen, such as\n"
        f"`{frozen.name} {cql_type(frozen)}`. `ProvisionOperator` creates them; its argument `ttl`\n"
        "sets another lifetime of rows.\n"
    )
    head = ("table", "primary key", "rows live", "holds")
    return "## Tables in Cassandra\n\n" + _build_table(head, rows) + "\n" + note


def _build_key(table: Table) -> str:
    clustering = "".join(f", {name}" for name in table.clustering)
    order = "".join(f" {name} DESC" for name in table.clustering)
    key = f"({', '.join(table.partition_key)})"
    return f"({key}{clustering}), ordered by{order}" if clustering else key


def _build_ttl(table: Table) -> str:
    days, rest = divmod(int(table.options["default_time_to_live"]), 86400)
    return f"{days} days" if not rest else f"{days * 86400 + rest} s"


def _build_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


if __name__ == "__main__":
    sys.exit(main())
