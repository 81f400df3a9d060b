"""The task that is killed: one call of ``load``, in a process of its own. Its argument is a JSON object."""

from __future__ import annotations

import json
import logging
import sys

from airflow_provider_restrack.load.loader import load
from airflow_provider_restrack.load.policy import LoadPolicy
from airflow_provider_restrack.store.session import CassandraPolicy, open_session


def main() -> None:
    """Load once and print the result."""
    arguments = json.loads(sys.argv[1])
    logging.basicConfig(level="WARNING", format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("cassandra").setLevel("ERROR")

    with open_session(CassandraPolicy(**arguments["cassandra"])) as session:
        result = load(LoadPolicy(**arguments["policy"]), arguments["kafka"], session)
    print(json.dumps(result.as_dict()), flush=True)


if __name__ == "__main__":
    main()
