from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from cassandra import (
    ConsistencyLevel,
    InvalidRequest,
    OperationTimedOut,
    Unauthorized,
    WriteTimeout,
    WriteType,
)
from cassandra.cluster import NoHostAvailable
from cassandra.protocol import ErrorMessage
from cassandra.query import UNSET_VALUE, SimpleStatement

from airflow_provider_restrack.store.alert_statements import (
    BATCH_ROWS,
    REPEATS_S,
    AlertStoreError,
    Statements,
    _chunk,
    from_timestamp,
    unset_nulls,
)
from airflow_provider_restrack.store.alert_tables import ALERTS

if TYPE_CHECKING:
    from collections.abc import Sequence

CAS_TIMEOUT = WriteTimeout("timed out", write_type=WriteType.CAS)
UNKNOWN_CODE = ErrorMessage(0x1700, "CAS operation result is unknown", None)


class FakeSession:
    """Answers with what it is given, in turn; errors are raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.run: list[tuple[Any, Any]] = []

    def execution_profile_clone_update(self, _: Any, **changes: Any) -> Any:
        return changes

    def prepare(self, cql: str) -> Any:
        if self.answers and isinstance(self.answers[0], Exception):
            raise self.answers.pop(0)
        return SimpleNamespace(query_string=cql)

    def execute(self, statement: Any, values: Any, execution_profile: Any) -> Any:
        self.run.append((statement, values))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def answer(*row: Any) -> Any:
    return SimpleNamespace(was_applied=row[0], one=lambda: row)


def make(*answers: Any) -> tuple[Statements, FakeSession, list[float]]:
    session, pauses = FakeSession(*answers), list[float]()
    statements = Statements(session, "metrics", ALERTS, "scope night", sleep=pauses.append)
    return statements, session, pauses


def test_statements_are_decided_and_read_at_a_local_quorum() -> None:
    statements, _, _ = make()

    found = statements.prepare("SELECT x FROM {table}")

    assert found.query_string == "SELECT x FROM metrics.alerts"
    assert found.consistency_level == ConsistencyLevel.LOCAL_QUORUM
    assert found.serial_consistency_level == ConsistencyLevel.LOCAL_SERIAL


def test_a_batch_is_decided_at_a_local_quorum() -> None:
    statements, session, _ = make(answer(True))

    assert statements.apply_batch([(SimpleStatement("UPDATE a"), ()), (SimpleStatement("INSERT b"), ())])

    ((batch, _),) = session.run
    assert batch.consistency_level == ConsistencyLevel.LOCAL_QUORUM
    assert batch.serial_consistency_level == ConsistencyLevel.LOCAL_SERIAL
    assert len(batch._statements_and_parameters) == 2


def test_insert_and_select_are_made_of_their_columns() -> None:
    statements, _, _ = make()

    assert statements.prepare_insert(("a", "b"), "USING TTL ?").query_string == (
        "INSERT INTO metrics.alerts (a, b) VALUES (?, ?) USING TTL ?"
    )
    assert statements.prepare_select(("a", "b"), "a = ?").query_string == (
        "SELECT a, b FROM metrics.alerts WHERE a = ?"
    )


@pytest.mark.parametrize(
    "unknown",
    [CAS_TIMEOUT, OperationTimedOut(), NoHostAvailable("none", {"n1": OSError("gone")}), UNKNOWN_CODE],
    ids=lambda error: type(error).__name__,
)
def test_a_write_whose_outcome_is_not_known_is_repeated(unknown: Exception) -> None:
    statements, session, pauses = make(unknown, unknown, answer(False, "other"))

    assert statements.apply("statement", 1, 2) == (False, "other")
    assert session.run == [("statement", (1, 2))] * 3
    assert pauses == list(REPEATS_S[:2])


def test_an_outcome_that_stays_unknown_is_an_error_that_says_so() -> None:
    statements, session, _ = make(*[CAS_TIMEOUT] * 9)

    with pytest.raises(
        AlertStoreError, match=r"metrics\.alerts \(scope night\) cannot be written.*not known: run again"
    ):
        statements.apply("statement")
    assert len(session.run) == len(REPEATS_S) + 1


@pytest.mark.parametrize("refusal", [InvalidRequest("no such column"), Unauthorized("no MODIFY")])
def test_a_refusal_is_not_repeated_and_says_what_to_do(refusal: Exception) -> None:
    statements, session, pauses = make(refusal)

    with pytest.raises(AlertStoreError, match=r"no .*ProvisionOperator; the login needs SELECT and MODIFY"):
        statements.apply("statement")
    assert (len(session.run), pauses) == (1, [])


def test_repeats_can_be_left_out() -> None:
    statements, session, pauses = make(OperationTimedOut())

    with pytest.raises(AlertStoreError):
        statements.apply("statement", repeats=())
    assert (len(session.run), pauses) == (1, [])


def test_a_missing_table_is_named_with_its_remedy() -> None:
    statements, _, _ = make(InvalidRequest("unconfigured table"))

    with pytest.raises(AlertStoreError, match=r"metrics\.alerts .* cannot be used: .*ProvisionOperator"):
        statements.prepare("SELECT x FROM {table}")


def test_a_read_that_fails_says_where() -> None:
    statements, _, _ = make(NoHostAvailable("none", {"n1": OSError("gone")}))

    with pytest.raises(AlertStoreError, match=r"\(scope night\) cannot be read: n1: gone\. Check the nodes"):
        statements.read("statement")


def test_a_keyspace_that_cannot_stand_in_cql_is_refused() -> None:
    with pytest.raises(ValueError, match="keyspace 'a;b' is no valid name"):
        Statements(FakeSession(), "a;b", ALERTS)


@pytest.mark.parametrize(
    ("values", "expected"), [((1, None, ""), [1, UNSET_VALUE, ""]), ((), [])], ids=["null", "none"]
)
def test_nulls_of_a_new_row_are_unset(values: Sequence[Any], expected: list[Any]) -> None:
    assert list(unset_nulls(values)) == expected


def test_rows_are_written_by_partition_in_batches_that_the_server_takes() -> None:
    rows = [(number, "ab"[number % 2]) for number in range(2 * BATCH_ROWS + 3)]

    chunks = list(_chunk(rows, 1))

    assert [len(chunk) for chunk in chunks] == [BATCH_ROWS, 2, BATCH_ROWS, 1]
    assert [{row[1] for row in chunk} for chunk in chunks] == [{"a"}, {"a"}, {"b"}, {"b"}]
    assert sorted(row for chunk in chunks for row in chunk) == rows


def test_times_are_ms_since_1970() -> None:
    assert from_timestamp(datetime(1970, 1, 1, 0, 1, 0, 5000, tzinfo=UTC).replace(tzinfo=None)) == 60_005
