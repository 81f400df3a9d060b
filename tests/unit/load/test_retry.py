from __future__ import annotations

import pytest
from cassandra import (
    InvalidRequest,
    OperationTimedOut,
    Unauthorized,
    Unavailable,
    WriteFailure,
    WriteTimeout,
)
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionException, ConnectionShutdown
from cassandra.protocol import (
    ConfigurationException,
    IsBootstrappingErrorMessage,
    OverloadedErrorMessage,
    ProtocolException,
    ServerError,
    SyntaxException,
)
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.load.retry import (
    Window,
    WritePolicy,
    is_overload,
    is_refusal,
    is_transient,
    retry_delay,
)

SLOW = [
    OperationTimedOut(),
    WriteTimeout("late", write_type=0),
    OverloadedErrorMessage(0x1001, "busy", None),
]
LACKING = [
    WriteFailure("failed", write_type=0),
    Unavailable("down", consistency=6),
    NoHostAvailable("none", {}),
    ConnectionException("broken"),
    ConnectionShutdown("closed"),
    IsBootstrappingErrorMessage(0x1002, "starting", None),
    ServerError(0, "a bug", None),
]
LASTING = [
    InvalidRequest("unconfigured table t"),
    Unauthorized("no"),
    SyntaxException(0x2000, "what?", None),
    ConfigurationException(0x2300, "no", None),
    ProtocolException(0x000A, "no", None),
    ValueError("?"),
    TypeError("?"),
]


def name(error: Exception) -> str:
    return type(error).__name__


@pytest.mark.parametrize("error", SLOW, ids=name)
def test_a_slow_server_is_asked_again_for_less(error: Exception) -> None:
    assert (is_transient(error), is_overload(error), is_refusal(error)) == (True, True, False)


@pytest.mark.parametrize("error", LACKING, ids=name)
def test_a_lack_of_nodes_is_waited_for(error: Exception) -> None:
    assert (is_transient(error), is_overload(error), is_refusal(error)) == (True, False, False)


@pytest.mark.parametrize("error", LASTING, ids=name)
def test_what_another_try_cannot_help_is_not_tried_again(error: Exception) -> None:
    assert (is_transient(error), is_overload(error), is_refusal(error)) == (False, False, False)


@pytest.mark.parametrize(
    "reason",
    [
        "Mutation too large",
        "CQL Message of size 3000359 bytes exceeds allowed maximum of 2621440 bytes",
        "Rejected an oversized mutation (3000359/2621440) for keyspace: ks. Top keys are: t.web-1",
        "Key length of 70000 is longer than maximum of 65535",
        "Key may not be empty",
        "Expected 4 or 0 byte int (8)",
        "Invalid UTF-8 value: not a valid text",
        "String didn't validate: not a valid UTF8 string",
        "Request is too big: length 300000359 exceeds maximum allowed length 268435456.",
        "Guardrail column_value_size violated: Value of column 'error' has size 2MiB, this exceeds the"
        " failure threshold of 1MiB.",
        "Guardrail collection_size violated: Detected collection labels in row web-1 in table ks.t of size"
        " 2MiB, this exceeds the failure threshold of 1MiB.",
        "Guardrail items_per_collection violated: Detected collection labels in row web-1 in table ks.t with"
        " 300 items, this exceeds the failure threshold of 200.",
        "Cannot index value of size 70000 for index i on ks.t(error) (maximum allowed size=65535)",
    ],
)
def test_what_is_said_of_a_rows_content_refuses_it(reason: str) -> None:
    error = InvalidRequest(f'Error from server: code=2200 [Invalid query] message="{reason}"')

    assert (is_refusal(error), is_transient(error)) == (True, False)


@pytest.mark.parametrize(
    "reason",
    [
        "unconfigured table t",
        "Keyspace ks does not exist",
        "Guardrail writes violated",
        "Guardrail tables violated: Cannot have more than 200 tables, aborting the creation of table t",
        "Guardrail write_consistency_levels violated: Provided values [ONE] are not allowed",
        "Guardrail maximum_timestamp violated: The modification to table ks.t has a timestamp 9 after the"
        " maximum allowable 8",
        "Guardrail partition_size violated: Partition ks.t:web-1 has size 2MiB, this exceeds the failure"
        " threshold of 1MiB.",
        "Unknown identifier a",
    ],
)
def test_what_concerns_every_row_refuses_none(reason: str) -> None:
    assert not is_refusal(InvalidRequest(reason))


def test_only_an_invalid_request_speaks_of_content() -> None:
    assert not is_refusal(WriteTimeout("too large", write_type=0))
    assert not is_refusal(ValueError("too large"))


POLICIES = st.builds(
    WritePolicy,
    retry_seconds=st.floats(0.01, 10_000),
    backoff_s=st.floats(0.001, 10),
    max_backoff_s=st.floats(0.001, 60),
)


@given(POLICIES, st.integers(1, 100_000), st.floats(0, 20_000), st.floats(0.75, 1.25))
def test_a_pause_is_bounded_and_ends_with_the_time(
    policy: WritePolicy, tries: int, failing_s: float, jitter: float
) -> None:
    delay = retry_delay(policy, tries, failing_s, jitter)

    if failing_s >= policy.retry_seconds:
        assert delay is None
    else:
        assert delay is not None
        assert 0 < delay <= policy.max_backoff_s * jitter
        assert failing_s + delay <= policy.retry_seconds * (1 + 1e-9)


@given(POLICIES)
def test_however_a_batch_fails_its_tries_end(policy: WritePolicy) -> None:
    failing_s, tries = 0.0, 1
    while tries < 50 and (delay := retry_delay(policy, tries, failing_s, 1.0)) is not None:
        backoff = min(policy.max_backoff_s, policy.backoff_s * 2 ** (tries - 1))
        assert delay == min(backoff, policy.retry_seconds - failing_s)
        failing_s, tries = failing_s + delay, tries + 1
    assert tries == 50 or failing_s == pytest.approx(policy.retry_seconds)


def test_pauses_double_up_to_the_longest() -> None:
    policy = WritePolicy(retry_seconds=1000, backoff_s=0.25, max_backoff_s=5)

    assert [retry_delay(policy, tries, 0, 1.0) for tries in range(1, 8)] == [0.25, 0.5, 1, 2, 4, 5, 5]
    assert retry_delay(policy, 7, 998.5, 1.0) == 1.5
    assert retry_delay(policy, 7, 1000, 1.0) is None


def test_a_window_is_halved_once_for_what_fails_together() -> None:
    window = Window(32)
    for moment in (10.0, 10.1, 10.4):
        window.note_trouble(moment)
    assert window.size == 16

    window.note_trouble(10.5)
    assert window.size == 8


def test_a_window_is_never_shut() -> None:
    window = Window(4)
    for moment in range(10):
        window.note_trouble(float(moment))

    assert window.size == 1


def test_a_window_grows_by_one_for_each_round_up_to_its_maximum() -> None:
    window = Window(4)
    window.note_trouble(0.0)
    sizes = []
    for _ in range(20):
        window.note_success()
        sizes.append(window.size)

    assert sizes[:6] == [2, 3, 3, 3, 4, 4]
    assert set(sizes[5:]) == {4}


def test_trouble_starts_the_round_anew() -> None:
    window = Window(4)
    window.note_trouble(0.0)
    window.note_success()
    window.note_trouble(1.0)
    window.note_success()

    assert window.size == 2
