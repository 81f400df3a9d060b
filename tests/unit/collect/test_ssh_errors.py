"""What errors of Paramiko and sockets mean for the row of a host."""

from __future__ import annotations

import socket

import paramiko
import pytest

from airflow_provider_restrack.collect.fleet import TransientError
from airflow_provider_restrack.collect.ssh_errors import explain_error


@pytest.mark.parametrize(
    ("error", "timed_out", "outcome", "said"),
    [
        pytest.param(socket.gaierror(-2, "unknown"), False, "unreachable", "name not resolved", id="name"),
        pytest.param(
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
            False,
            "unreachable",
            "could not connect",
            id="bytes-of-the-host-that-are-no-text",
        ),
        pytest.param(ConnectionRefusedError(111, "refused"), False, "unreachable", "refused", id="refused"),
        pytest.param(OSError(113, "No route to host"), False, "unreachable", "No route", id="no-route"),
        pytest.param(
            OSError(24, "Too many open files"), False, "unreachable", "lower concurrency", id="files"
        ),
        pytest.param(EOFError(), False, "unreachable", "EOFError", id="end-without-text"),
        pytest.param(
            paramiko.SSHException("Error reading SSH protocol banner"),
            False,
            "unreachable",
            "MaxStartups",
            id="dropped-before-the-banner",
        ),
        pytest.param(
            paramiko.SSHException("Error reading SSH protocol banner"),
            True,
            "timeout",
            "connect_timeout",
            id="no-banner-in-time",
        ),
        pytest.param(
            paramiko.AuthenticationException("no"), False, "auth_failed", "connection 'c'", id="login"
        ),
        pytest.param(
            paramiko.BadAuthenticationType("no", ["publickey"]),
            False,
            "auth_failed",
            "publickey",
            id="login-kind",
        ),
        pytest.param(
            paramiko.SSHException("No authentication methods available"),
            False,
            "auth_failed",
            "key or password",
            id="nothing-to-log-in-with",
        ),
        pytest.param(
            paramiko.SSHException("Incompatible ssh peer"), False, "unreachable", "Incompatible", id="peer"
        ),
    ],
)
def test_an_error_becomes_the_outcome_that_says_what_to_do(
    error: Exception, timed_out: bool, outcome: str, said: str
) -> None:
    found = explain_error(error, "connect", "ops@h", "c", timed_out=timed_out)

    assert found.outcome == outcome
    assert said in str(found)
    assert "ops@h" in str(found)


def test_a_host_that_answers_with_something_else_is_quoted_in_one_short_line() -> None:
    error = paramiko.SSHException("Indecipherable protocol version \x1b[31m" + "x" * 5000)

    said = str(explain_error(error, "log in", "ops@h", "c", timed_out=False))

    assert said.isprintable()
    assert len(said) < 300


@pytest.mark.parametrize(
    ("error", "step", "timed_out", "expected"),
    [
        pytest.param(ConnectionRefusedError(111, "refused"), "connect", False, True, id="refused"),
        pytest.param(
            paramiko.SSHException("Error reading SSH protocol banner"), "log in", False, True, id="banner"
        ),
        pytest.param(paramiko.SSHException("No existing session"), "log in", False, True, id="dropped"),
        pytest.param(EOFError(), "log in", False, True, id="end"),
        pytest.param(
            socket.gaierror(socket.EAI_AGAIN, "later"), "resolve the name", False, True, id="resolver"
        ),
        pytest.param(socket.gaierror(socket.EAI_NONAME, "none"), "resolve the name", False, False, id="name"),
        pytest.param(TimeoutError(), "connect", True, False, id="no-time-is-left"),
        pytest.param(paramiko.AuthenticationException("no"), "log in", False, False, id="login"),
        pytest.param(paramiko.SSHException("Incompatible ssh peer"), "log in", False, False, id="peer"),
        pytest.param(UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), "log in", False, False, id="no-text"),
    ],
)
def test_only_a_connection_that_failed_is_worth_another_attempt(
    error: Exception, step: str, timed_out: bool, expected: bool
) -> None:
    found = explain_error(error, step, "ops@h", "c", timed_out=timed_out)

    assert isinstance(found, TransientError) is expected
