"""The tables of alerts, their history and silences, as data; known without the driver."""

from __future__ import annotations

from types import MappingProxyType

from airflow_provider_restrack.store.schema import GC_GRACE_S, Table
from airflow_provider_restrack.store.tiers import with_ttl

DAY_S = 86400
# An alert that is over stays as the anchor from which evaluation goes on. No evaluation reads back further.
CLOSED_TTL_S = 35 * DAY_S
HISTORY_TTL_S = 400 * DAY_S
# Silences that are over can still be looked up for so long.
SILENCE_KEPT_S = DAY_S
ALL_SCOPES = "*"

_LEVELED = "{'class': 'LeveledCompactionStrategy'}"
_TRANSITION = {
    "alert_id": "uuid",
    "severity": "text",
    "since": "timestamp",
    "value": "double",
    "peak": "double",
    "reason": "text",
}
_INSTANCE_KEY = {"rule": "text", "host": "text", "device": "text", "condition": "text"}
_TRANSITION_KEY = {**_INSTANCE_KEY, "at": "timestamp", "transition": "text"}

ALERTS = Table(
    name="alerts",
    partition_key=("scope",),
    clustering=("kind", *_TRANSITION_KEY),
    write_mode="replace",
    options=MappingProxyType(
        {
            "compaction": _LEVELED,
            # Every row says its own time to live: one that fires must not expire.
            "default_time_to_live": "0",
            # Nothing of an instance is ever deleted, and a row of the outbox that comes back is only written
            # to the history once more: no tombstone has to outlive a repair.
            "gc_grace_seconds": str(GC_GRACE_S),
            "comment": "'alerts by the DAG that evaluates them, and transitions on their way to the history'",
        }
    ),
    meaning=(
        "what is kept of each scope: `kind` is `instance` (one row each, `open` while it fires; `at` and"
        " `transition` of the key are empty) or `outbox` (transitions on their way to the history)"
    ),
    columns=MappingProxyType(
        {
            "scope": "text",
            "kind": "text",
            **_TRANSITION_KEY,
            **_TRANSITION,
            "open": "boolean",
            "last_at": "timestamp",
            "flapping": "boolean",
            "told": "frozen<map<text,text>>",
            "horizon": "timestamp static",
            "lease_owner": "text static",
        }
    ),
)


def _history(name: str, partition: str, meaning: str) -> Table:
    """Return a table of transitions, newest first within its partition."""
    key = {partition: "text", "at": "timestamp", **_TRANSITION_KEY, "scope": "text"}
    table = Table(
        name=name,
        partition_key=(partition,),
        clustering=tuple(column for column in key if column != partition),
        write_mode="replace",
        options=MappingProxyType(
            {
                "compaction": "",
                "gc_grace_seconds": str(GC_GRACE_S),
                "comment": f"'transitions of alerts by {partition}'",
            }
        ),
        meaning=meaning,
        columns=MappingProxyType({**key, **_TRANSITION}),
    )
    return with_ttl(table, HISTORY_TTL_S)


ALERT_HISTORY = _history("alert_history", "host", "transitions of alerts, newest first within a host")
ALERT_HISTORY_BY_RULE = _history(
    "alert_history_by_rule", "rule", "the same transitions, newest first within a rule"
)
SILENCES = Table(
    name="silences",
    partition_key=("scope",),
    clustering=("id",),
    write_mode="replace",
    options=MappingProxyType(
        {
            "compaction": _LEVELED,
            "default_time_to_live": "0",  # every silence lives to its own end, and a day more
            "gc_grace_seconds": str(GC_GRACE_S),
            "comment": "'times in which alerts are not told'",
        }
    ),
    meaning="times in which alerts that fit the patterns are not told; `scope` is `*` for all scopes",
    columns=MappingProxyType(
        {
            "scope": "text",
            "id": "uuid",
            "starts": "timestamp",
            "ends": "timestamp",
            "rule": "text",
            "host": "text",
            "device": "text",
            "author": "text",
            "comment": "text",
        }
    ),
)
HISTORY_TABLES: tuple[Table, ...] = (ALERT_HISTORY, ALERT_HISTORY_BY_RULE)
ALERT_TABLES: tuple[Table, ...] = (ALERTS, *HISTORY_TABLES, SILENCES)
# Their rows each have an end of their own, or none as long as an alert fires.
TABLES_WITHOUT_TTL: tuple[Table, ...] = (ALERTS, SILENCES)
