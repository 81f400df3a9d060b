"""Sets, extends and ends silences from a DAG: a thin class over ``alert.silences``."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_restrack import clock
from airflow_provider_restrack.store.alert_tables import ALL_SCOPES
from airflow_provider_restrack.store.schema import KEYSPACE, check_identifier
from airflow_provider_restrack.templates import is_literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_restrack.alert.records import Silence

Action = Literal["set", "extend", "end"]
ACTIONS: tuple[Action, ...] = ("set", "extend", "end")
# Names the silences of this provider among all UUIDv5; made once, at random.
_NAMESPACE = uuid.UUID("0b8f7c52-9c06-4f0c-8a57-6f1c0d2f7a3e")


class SilenceOperator(BaseOperator):
    """Set a silence, extend it or end it: alerts that fit it are recorded, but nobody is told of them.

    Around work that is planned, one task sets a silence and another ends it when the work is done; should the
    second never run, the silence ends by itself. A silence that is set again by a retry, or by the same run
    when it is cleared, replaces itself.

    :param action: ``set``, ``extend`` or ``end``. (templated)
    :param scope: whose alerts: that of the EvaluateAlertsOperator; ``*`` for all. (templated)
    :param rule: pattern of the rule's name, as in ``fnmatch``. (templated)
    :param host: pattern of the host. (templated)
    :param device: pattern of the device; empty for alerts without one. (templated)
    :param silence_id: which silence to extend or end: ``id`` of what the task that set it returned. For
        ``set``: a UUID of your own; left out: one that belongs to this task of this run. (templated)
    :param starts: when it begins: an aware time, or ISO 8601; now if left out. (templated)
    :param duration: how long it lasts, in seconds or as ``"2h"``: from its start, or for ``extend`` from now.
        (templated)
    :param ends: when it ends, in place of ``duration``. (templated)
    :param author: who wants it. (templated)
    :param comment: why, for those who look. (templated)
    :param keyspace: of the tables. (templated)
    :param cassandra_conn_id: id of a ``cassandra`` connection. (templated)
    """

    template_fields: Sequence[str] = (
        "action",
        "scope",
        "rule",
        "host",
        "device",
        "silence_id",
        "starts",
        "duration",
        "ends",
        "author",
        "comment",
        "keyspace",
        "cassandra_conn_id",
    )
    ui_color = "#ececec"

    def __init__(
        self,
        *,
        action: Action = "set",
        scope: str = ALL_SCOPES,
        rule: str = "*",
        host: str = "*",
        device: str = "*",
        silence_id: str | None = None,
        starts: datetime | str | None = None,
        duration: float | str | timedelta | None = None,
        ends: datetime | str | None = None,
        author: str = "{{ dag.dag_id }}",
        comment: str = "",
        keyspace: str = KEYSPACE,
        cassandra_conn_id: str = "cassandra_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if is_literal(keyspace):
            check_identifier(keyspace, "keyspace")
        if is_literal(action):
            _check_action(action, silence_id)
        if is_literal([action, duration]) and action != "end" and (duration is None) == (ends is None):
            raise ValueError(f"action {action!r} needs either duration or ends")
        self.action = action
        self.scope = scope
        self.rule = rule
        self.host = host
        self.device = device
        self.silence_id = silence_id
        self.starts = starts
        self.duration = duration
        self.ends = ends
        self.author = author
        self.comment = comment
        self.keyspace = keyspace
        self.cassandra_conn_id = cassandra_conn_id

    def execute(self, context: Context) -> dict[str, str]:
        """Write the silence; return its ``id``, ``scope``, ``starts`` and ``ends``."""
        from airflow_provider_restrack.alert.evaluate import to_ms
        from airflow_provider_restrack.alert.silences import from_silence
        from airflow_provider_restrack.store.silences import write_silence

        _check_action(self.action, self.silence_id)
        now_ms = to_ms(clock.utc_now())
        with self._open() as session:
            if self.action == "set":
                silence = self._make(context, now_ms)
            else:
                silence = self._change(self._find(session), now_ms)
            write_silence(session, self.keyspace, from_silence(self.scope, silence), now_ms)
        result = {
            "id": str(silence.id),
            "scope": self.scope,
            "starts": _format(silence.starts_ms),
            "ends": _format(silence.ends_ms),
        }
        self.log.info("Silence %(id)s of scope %(scope)s: %(starts)s to %(ends)s", result)
        return result

    def _make(self, context: Context, now_ms: int) -> Silence:
        from airflow_provider_restrack.alert.records import Silence
        from airflow_provider_restrack.alert.silences import find_window

        starts_ms, ends_ms = find_window(self.starts, self.duration, self.ends, now_ms)
        return Silence(
            parse_id(self.silence_id) if self.silence_id else name_silence(context["ti"]),
            starts_ms, ends_ms, self.rule, self.host, self.device, self.author, self.comment,
        )  # fmt: skip

    def _change(self, silence: Silence, now_ms: int) -> Silence:
        from airflow_provider_restrack.alert.silences import end, extend, find_end

        if self.action == "end":
            return end(silence, now_ms)
        return extend(silence, find_end(self.duration, self.ends, now_ms), now_ms)

    def _find(self, session: Any) -> Silence:
        """Return the silence that is meant.

        :raises ValueError: if there is none of that id in the scope.
        """
        from airflow_provider_restrack.alert.silences import to_silence
        from airflow_provider_restrack.store.silences import read_silence

        silence_id = parse_id(self.silence_id)
        row = read_silence(session, self.keyspace, self.scope, silence_id)
        if row is None:
            raise ValueError(
                f"no silence {silence_id} in scope {self.scope!r}: it was set in another scope, or has been"
                " over for more than a day"
            )
        return to_silence(row)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        """Open a session. A seam for tests."""
        from airflow_provider_restrack.hooks.cassandra import CassandraSessionHook

        with CassandraSessionHook(self.cassandra_conn_id).session() as session:
            yield session


def name_silence(ti: Any) -> uuid.UUID:
    """Return the id of the silence that a task of a run sets, however often it is tried."""
    parts = (ti.dag_id, ti.run_id, ti.task_id, str(getattr(ti, "map_index", -1)))
    return uuid.uuid5(_NAMESPACE, "\x00".join(parts))


def parse_id(value: object) -> uuid.UUID:
    """Return a silence's id.

    :raises ValueError: if it is no UUID.
    """
    try:
        return uuid.UUID(str(value))
    except ValueError:
        raise ValueError(
            f"silence_id {value!r} is no UUID: take the id that the task that set it returned"
        ) from None


def _check_action(action: str, silence_id: object) -> None:
    if action not in ACTIONS:
        raise ValueError(f"action {action!r} is unknown: use one of {', '.join(ACTIONS)}")
    if action != "set" and not silence_id:
        raise ValueError(f"action {action!r} needs silence_id: the id that the task that set it returned")


def _format(ms: int) -> str:
    return clock.format_utc(datetime.fromtimestamp(ms / 1000, tz=UTC))
