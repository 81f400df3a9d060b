"""The task that is killed: one call of ``load``, in a process of its own, with a JSON object as argument.

How many samples are stored goes to a file, at every answer of Cassandra: whoever breaks something amid a load
looks there, which costs the servers nothing.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from functools import partial
from typing import Any

from airflow_provider_restrack.load import loader
from airflow_provider_restrack.load.loader import load
from airflow_provider_restrack.load.policy import LoadPolicy
from airflow_provider_restrack.load.write import Writer
from airflow_provider_restrack.store.session import CassandraPolicy, open_session


class TellingWriter(Writer):
    """Writes into a file how many rows of a table are stored."""

    def __init__(self, table: str, progress: str, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._table = table
        self._file = os.open(progress, os.O_WRONLY | os.O_CREAT)

    def _note_stored(self, batch: Any) -> None:
        super()._note_stored(batch)
        os.pwrite(self._file, b"%d" % self.counts.rows.get(self._table, 0), 0)


def main() -> None:
    """Load once and print the result."""
    arguments = json.loads(sys.argv[1])
    logging.basicConfig(level="WARNING", format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("cassandra").setLevel("ERROR")
    loader.Writer = partial(TellingWriter, arguments["policy"]["tables"][0], arguments["progress"])  # type: ignore[misc]

    with open_session(CassandraPolicy(**arguments["cassandra"])) as session:
        result = load(LoadPolicy(**arguments["policy"]), arguments["kafka"], session)
    print(json.dumps(result.as_dict()), flush=True)


if __name__ == "__main__":
    main()
