"""What errors of Paramiko and of sockets mean for the row of a host."""

from __future__ import annotations

import errno
import socket

import paramiko

from airflow_provider_restrack.collect.fleet import TransientError
from airflow_provider_restrack.collect.sample import CollectError, excerpt

RESOLVE = "resolve the name"


def explain_error(error: Exception, step: str, where: str, conn_id: str, *, timed_out: bool) -> CollectError:
    """Decide what an error of Paramiko or of a socket means for the row of a host.

    :param step: what was being done, as a verb.
    :param timed_out: whether the time for it is over: Paramiko then reports whatever it waited for.
    """
    # It can quote what the host sent in the place of a banner.
    said = excerpt(str(error).encode("utf-8", "replace")) or type(error).__name__
    if timed_out:
        return CollectError(
            "timeout", f"{where}: could not {step} in time ({said}): see connect_timeout and host_timeout"
        )
    if isinstance(error, paramiko.AuthenticationException) or "No authentication methods" in said:
        return CollectError(
            "auth_failed",
            f"{where}: login refused ({said}): check the user, key or password of connection {conn_id!r} and"
            " authorized_keys on the host",
        )
    if step == RESOLVE or isinstance(error, socket.gaierror):
        is_passing = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
        return (TransientError if is_passing else CollectError)(
            "unreachable", f"{where}: name not resolved ({said}): check it, or give an address"
        )
    if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
        said += "; it is this worker that has too many: lower concurrency, or raise its limit (ulimit -n)"
    if "banner" in said:
        said += "; a server with too many logins at once does that: see its MaxStartups, or lower concurrency"
    kind = TransientError if _may_pass(error) else CollectError
    return kind("unreachable", f"{where}: could not {step}: {said}")


def _may_pass(error: Exception) -> bool:
    """Whether another attempt may succeed: the connection failed, and not what was said over it."""
    if isinstance(error, OSError | EOFError | paramiko.ChannelException):
        return True
    # Paramiko has no types for these.
    return any(part in str(error) for part in ("banner", "session", "Channel closed"))
