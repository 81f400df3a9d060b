"""Results of the driver as bytes: readers that make columns of them spare an object for each cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# The alias of the first column of the queries that are meant to come as bytes.
MARK = "restrack_columns"


@dataclass(frozen=True, slots=True)
class RawRows:
    """One page of a result as it came: the count of rows, and the rows."""

    body: bytes


def use_raw_rows(session: Any) -> bool:
    """Let a session return the bytes of results whose first column is named ``MARK``; others as before.

    Goes through the driver's ``client_protocol_handler``. Returns whether that is possible: a driver that has
    none goes on to return rows.
    """
    from cassandra.protocol import ResultMessage

    base: Any = getattr(session, "client_protocol_handler", None)
    codes = getattr(base, "message_types_by_opcode", None)
    if codes is None or not hasattr(ResultMessage, "recv_results_rows"):
        return False
    result: Any = codes[ResultMessage.opcode]
    if issubclass(result, _RawResult):
        return True
    message = type("RawResultMessage", (_RawResult, result), {})
    codes = {**codes, ResultMessage.opcode: message}
    session.client_protocol_handler = type("RawHandler", (base,), {"message_types_by_opcode": codes})
    return True


class _RawResult:
    """Keeps the body of a marked result; all others are the driver's own."""

    def recv_results_rows(self: Any, f: Any, version: Any, types: Any, known: Any, *rest: Any) -> None:
        start = f.tell()
        self.recv_results_metadata(f, types)
        columns = self.column_metadata or known
        if columns and columns[0][2] == MARK:
            self.column_names = [column[2] for column in columns]
            self.column_types = [column[3] for column in columns]
            self.parsed_rows = [RawRows(f.read())]
            return
        f.seek(start)
        super().recv_results_rows(f, version, types, known, *rest)  # type: ignore[misc]


def keep_rows(_names: Any, rows: Any) -> Any:
    """Row factory of the driver that leaves rows as they are."""
    return rows
