"""The ``silences`` table: written from a DAG, read by each evaluation; a row ends by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_restrack.store.alert_statements import Statements, from_timestamp
from airflow_provider_restrack.store.alert_tables import ALL_SCOPES, SILENCE_KEPT_S, SILENCES

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence

_COLUMNS = ("scope", "id", "starts", "ends", "rule", "host", "device", "author", "comment")


class SilenceRow(NamedTuple):
    """One silence; times in ms since 1970, patterns as in ``fnmatch``."""

    scope: str
    id: uuid.UUID
    starts_ms: int
    ends_ms: int
    rule: str
    host: str
    device: str
    author: str
    comment: str


def write_silence(session: Any, keyspace: str, row: SilenceRow, now_ms: int) -> None:
    """Write a silence whole, over what is there of its id; it is kept until a day after its end.

    :raises AlertStoreError: if the table is not there or Cassandra does not take it.
    """
    table = _open(session, keyspace, row.scope)
    insert = table.prepare_insert(_COLUMNS, "USING TTL ?")
    left_s = max(0, row.ends_ms - now_ms) // 1000
    table.write(insert, [(*row, left_s + SILENCE_KEPT_S)])


def read_silence(session: Any, keyspace: str, scope: str, silence_id: uuid.UUID) -> SilenceRow | None:
    """Return a silence of a scope; None if it was never set, or was over for more than a day.

    :raises AlertStoreError: as ``write_silence``.
    """
    table = _open(session, keyspace, scope)
    select = table.prepare_select(_COLUMNS, "scope = ? AND id = ?")
    rows = table.read(select, scope, silence_id)
    return _to_row(rows[0]) if rows else None


def read_silences(session: Any, keyspace: str, scope: str) -> list[SilenceRow]:
    """Return the silences of a scope and those of all scopes, the first to start first.

    Also such as have not begun, and for a day such as are over.

    :raises AlertStoreError: as ``write_silence``.
    """
    table = _open(session, keyspace, scope)
    select = table.prepare_select(_COLUMNS, "scope = ?")
    found = [_to_row(row) for one in dict.fromkeys((scope, ALL_SCOPES)) for row in table.read(select, one)]
    return sorted(found, key=lambda row: (row.starts_ms, row.id))


def _open(session: Any, keyspace: str, scope: str) -> Statements:
    return Statements(session, keyspace, SILENCES, f"scope {scope}")


def _to_row(row: Sequence[Any]) -> SilenceRow:
    return SilenceRow(*row)._replace(starts_ms=from_timestamp(row[2]), ends_ms=from_timestamp(row[3]))
