"""One run: a contender loads a topic into a table of its own, which is then read back and compared."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.loader import contenders, fill, verify
from benchmarks.loader.clients import Task, Usage
from benchmarks.loader.works import KEYSPACE
from services.cassandra import build_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.loader.contenders import Contender
    from benchmarks.loader.fill import Filled
    from benchmarks.loader.works import Work
    from services import Instance


@dataclass(frozen=True, slots=True)
class Bench:
    """The servers at hand, and a scratch directory for what a contender wants to write."""

    instance: Instance
    scratch: Path

    @contextmanager
    def session(self) -> Iterator[Any]:
        """Yield a session of the benchmark's own."""
        cluster = build_cluster(self.instance.cassandra.address, timeout_s=30.0)
        try:
            yield cluster.connect()
        finally:
            cluster.shutdown()

    def run(self, contender: Contender, work: Work, filled: Filled) -> Usage:
        """Run a contender once, into a table of its own, and check what it has stored.

        :raises ContenderError: if it fails, or the table does not hold what the topic does.
        """
        with self.session() as session, fill.fresh_table(session, work.columns) as table:
            task = Task(
                bootstrap=self.instance.kafka.bootstrap,
                cassandra_port=self.instance.cassandra.address[1],
                topic=filled.topic,
                table=table,
                columns=work.columns,
                rows=filled.contents.rows,
                group=f"{contender.name}-{uuid.uuid4().hex[:12]}",
            )
            usage = contenders.run_contender(contender.name, contender.command(task), self.scratch)
            with self.session() as reader:
                found = verify.read_contents(reader, f"{KEYSPACE}.{table}", work.columns)
        wrong = verify.describe_difference(filled.contents, found)
        if wrong or usage.rows != found.rows:
            raise contenders.ContenderError(
                f"{work.name}: after {contender.name} the table {wrong or f'holds {found}'};"
                f" it reports {usage.rows} rows"
            )
        return usage
