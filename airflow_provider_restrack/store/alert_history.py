"""The transitions of alerts by host and by rule, for people and reports: written twice, read by either."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.store.alert_rows import TRANSITION_COLUMNS
from airflow_provider_restrack.store.alert_statements import Statements, unset_nulls
from airflow_provider_restrack.store.alert_tables import ALERT_HISTORY, ALERT_HISTORY_BY_RULE, HISTORY_TABLES
from airflow_provider_restrack.store.read import check_window

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from airflow_provider_restrack.store.alert_rows import TransitionRow

_COLUMNS = (*TRANSITION_COLUMNS, "scope")


class HistoryWriter:
    """Writes transitions of a scope to both tables; writing them again changes nothing.

    :raises AlertStoreError: if a table is not there.
    """

    def __init__(self, session: Any, keyspace: str, scope: str) -> None:
        self._scope = scope
        self._tables = []
        for table in HISTORY_TABLES:
            statements = Statements(session, keyspace, table, f"scope {scope}")
            partition = _COLUMNS.index(table.partition_key[0])
            self._tables.append((statements, statements.prepare_insert(_COLUMNS), partition))

    def write(self, rows: Sequence[TransitionRow]) -> None:
        """Write transitions to both tables.

        :raises AlertStoreError: if one is not acknowledged; all may be written again.
        """
        values = [(*unset_nulls(row), self._scope) for row in rows]
        for statements, insert, partition in self._tables:
            statements.write(insert, values, partition)


def read_history(
    session: Any,
    keyspace: str,
    *,
    host: str | None = None,
    rule: str | None = None,
    since: datetime,
    until: datetime,
) -> list[dict[str, Any]]:
    """Return the transitions of one host or of one rule in a window, its ends included, oldest first.

    With both, those of the rule on the host. Each is a dict of the table's columns; times are aware and in
    UTC, ``alert_id`` is a string, a value that is not known is None.

    :raises ValueError: if neither host nor rule is given, or the window makes no sense.
    :raises AlertStoreError: if the table is not there or Cassandra does not answer.
    """
    check_window(since, until)
    if host is None and rule is None:
        raise ValueError("read_history needs a host or a rule: the tables are made for these")
    table, by, name = (ALERT_HISTORY, "host", host) if host else (ALERT_HISTORY_BY_RULE, "rule", rule)
    statements = Statements(session, keyspace, table, f"{by} {name}")
    select = statements.prepare_select(_COLUMNS, f"{by} = ? AND at >= ? AND at <= ?")
    entries = map(_to_entry, reversed(statements.read(select, name, since, until)))
    return [entry for entry in entries if rule is None or entry["rule"] == rule]


def _to_entry(row: Sequence[Any]) -> dict[str, Any]:
    entry = dict(zip(_COLUMNS, row, strict=True))
    times = {name: entry[name].replace(tzinfo=UTC) for name in ("at", "since")}
    return {**entry, **times, "alert_id": str(entry["alert_id"])}
