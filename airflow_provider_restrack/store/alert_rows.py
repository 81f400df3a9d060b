"""Rows of the alerts' tables, as values; times are in ms since 1970."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_restrack.store.alert_statements import from_timestamp

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping, Sequence

_INSTANCE = ("rule", "host", "device", "condition")
TRANSITION_COLUMNS = (
    *_INSTANCE, "at", "transition", "alert_id", "severity", "since", "value", "peak", "reason",
)  # fmt: skip
STATE_COLUMNS = (
    "open", "alert_id", "severity", "since", "last_at", "value", "peak", "reason", "flapping", "told",
)  # fmt: skip
INSTANCE_COLUMNS = (*_INSTANCE, *STATE_COLUMNS)


class InstanceRow(NamedTuple):
    """One instance as its last transition left it, in the order of ``INSTANCE_COLUMNS``; times in ms.

    ``told`` is by receiver; what its values mean is the matter of who writes them.
    """

    rule: str
    host: str
    device: str
    condition: str
    open: bool
    alert_id: uuid.UUID
    severity: str
    since_ms: int
    last_at_ms: int
    value: float | None
    peak: float | None
    reason: str
    flapping: bool
    told: Mapping[str, str]

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Which instance it is."""
        return self[:4]

    @classmethod
    def read(cls, row: Sequence[Any]) -> InstanceRow:
        """Return the row that the driver read."""
        found = cls(*row)
        return found._replace(
            since_ms=from_timestamp(row[7]), last_at_ms=from_timestamp(row[8]), told=dict(found.told or {})
        )


class TransitionRow(NamedTuple):
    """One transition of an instance, in the order of ``TRANSITION_COLUMNS``; times in ms."""

    rule: str
    host: str
    device: str
    condition: str
    at_ms: int
    transition: str
    alert_id: uuid.UUID
    severity: str
    since_ms: int
    value: float | None
    peak: float | None
    reason: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Which instance it is of."""
        return self[:4]

    @classmethod
    def read(cls, row: Sequence[Any]) -> TransitionRow:
        """Return the row that the driver read."""
        return cls(*row)._replace(at_ms=from_timestamp(row[4]), since_ms=from_timestamp(row[8]))


class ScopeState(NamedTuple):
    """All that is kept of a scope: how far it was evaluated (None: never), and its instances."""

    horizon_ms: int | None
    instances: tuple[InstanceRow, ...]
