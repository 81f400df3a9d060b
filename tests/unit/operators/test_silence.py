"""The operator over a table of the tests' own; the real one is in tests/integration/store."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_restrack import clock
from airflow_provider_restrack.operators.silence import SilenceOperator, name_silence
from airflow_provider_restrack.store import silences

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
CONTEXT: Any = {"ti": SimpleNamespace(dag_id="upgrade", run_id="manual__1", task_id="silence", map_index=-1)}
ID = str(uuid.UUID(int=5))


class Silencing(SilenceOperator):
    @contextmanager
    def _open(self) -> Iterator[Any]:
        yield "session"


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> dict[Any, silences.SilenceRow]:
    """Return what is in the table, by scope and id."""
    table: dict[Any, silences.SilenceRow] = {}

    def write(session: Any, keyspace: str, row: silences.SilenceRow, now_ms: int) -> None:
        table[row.scope, row.id] = row

    monkeypatch.setattr(silences, "write_silence", write)
    monkeypatch.setattr(silences, "read_silence", lambda _, __, scope, one: table.get((scope, one)))
    set_clock(monkeypatch, NOW)
    return table


def set_clock(monkeypatch: pytest.MonkeyPatch, now: datetime) -> None:
    monkeypatch.setattr(clock, "utc_now", lambda: now)


def run(**arguments: Any) -> dict[str, str]:
    return Silencing(task_id="silence", **{"author": "me", **arguments}).execute(CONTEXT)


def test_a_silence_is_written_and_its_id_and_times_returned(rows: dict[Any, silences.SilenceRow]) -> None:
    result = run(scope="night", rule="cpu", host="db-*", device="", duration="2h", comment="upgrade")

    (row,) = rows.values()
    assert result == {
        "id": str(row.id),
        "scope": "night",
        "starts": "2026-03-02T12:00:00.000Z",
        "ends": "2026-03-02T14:00:00.000Z",
    }
    assert (row.scope, *row[4:]) == ("night", "cpu", "db-*", "", "me", "upgrade")


def test_a_retry_sets_the_same_silence_and_another_run_another(rows: dict[Any, Any]) -> None:
    assert run(duration="1h")["id"] == run(duration="1h")["id"] == str(name_silence(CONTEXT["ti"]))
    other = SimpleNamespace(**{**vars(CONTEXT["ti"]), "run_id": "manual__2"})
    assert name_silence(other) != name_silence(CONTEXT["ti"])
    assert len(rows) == 1


def test_an_id_of_one_s_own_is_kept(rows: dict[Any, Any]) -> None:
    assert run(duration="1h", silence_id=ID)["id"] == ID


def test_a_silence_is_extended_from_now_and_ended(
    rows: dict[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(duration="1h", silence_id=ID, host="db-*")
    set_clock(monkeypatch, NOW.replace(minute=30))

    assert run(action="extend", silence_id=ID, duration="1h")["ends"] == "2026-03-02T13:30:00.000Z"
    assert run(action="end", silence_id=ID)["ends"] == "2026-03-02T12:30:00.000Z"
    assert [row.host for row in rows.values()] == ["db-*"]


def test_a_silence_of_another_scope_is_not_found(rows: dict[Any, Any]) -> None:
    run(duration="1h", silence_id=ID)
    with pytest.raises(ValueError, match=f"no silence {ID} in scope 'night'"):
        run(action="end", scope="night", silence_id=ID)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"action": "mute"}, "action 'mute' is unknown: use one of set, extend, end"),
        ({}, "needs either duration or ends"),
        ({"duration": "1h", "ends": "2026-03-03T00:00:00Z"}, "needs either duration or ends"),
        ({"action": "extend", "duration": "1h"}, "action 'extend' needs silence_id"),
        ({"action": "end"}, "action 'end' needs silence_id"),
        ({"duration": "1h", "keyspace": "a b"}, "keyspace 'a b' is no valid name"),
    ],
)
def test_literal_that_cannot_work_is_told_when_the_dag_is_parsed(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SilenceOperator(task_id="silence", **arguments)


def test_templates_are_left_until_they_are_rendered(rows: dict[Any, Any]) -> None:
    operator = Silencing(
        task_id="silence", action="{{ what }}", duration="{{ long }}", host="{{ host }}", author="me"
    )
    operator.render_template_fields({"what": "set", "long": "1h", "host": "db-7"})
    operator.execute(CONTEXT)
    assert [row.host for row in rows.values()] == ["db-7"]


def test_rendered_values_are_checked_before_a_server_is_asked() -> None:
    operator = SilenceOperator(task_id="silence", action="{{ what }}", cassandra_conn_id="none", author="me")
    operator.render_template_fields({"what": "mute"})
    with pytest.raises(ValueError, match="action 'mute' is unknown"):
        operator.execute(CONTEXT)


def test_an_id_that_is_no_uuid_is_refused(rows: dict[Any, Any]) -> None:
    with pytest.raises(ValueError, match="silence_id 'None' is no UUID: take the id"):
        run(action="end", silence_id="None")
