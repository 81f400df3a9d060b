"""Decides which failed writes are tried again, when, and how many are in flight meanwhile; time is given."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cassandra import InvalidRequest, OperationTimedOut, Unavailable, WriteFailure, WriteTimeout
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionException
from cassandra.protocol import IsBootstrappingErrorMessage, OverloadedErrorMessage, ServerError

# Answers that another try can change: the cluster is slow, busy, or lacks nodes for now.
_TRANSIENT = (
    OperationTimedOut, WriteTimeout, WriteFailure, Unavailable, NoHostAvailable, ConnectionException,
    OverloadedErrorMessage, IsBootstrappingErrorMessage, ServerError,
)  # fmt: skip
_SLOW = (OperationTimedOut, WriteTimeout, OverloadedErrorMessage)
# What an InvalidRequest says of a row's content; any other (a dropped table, a guardrail that is not about a
# value) concerns every row, and must not empty a topic into the dead letters.
_CONTENT = re.compile(
    r"too large|too long|longer than|exceeds allowed maximum|oversized mutation"
    r"|request is too big|cannot index value of size"
    r"|(value of column|detected collection) .*exceeds the failure threshold"
    r"|key may not be empty|invalid \w+ (value|data)|expected \d+|not a valid",
    re.IGNORECASE | re.DOTALL,
)
_TROUBLE_S = 0.5  # errors within it count as one: all that was in flight fails together


@dataclass(frozen=True, slots=True)
class WritePolicy:
    """How rows are written.

    :ivar consistency: a name such as ``LOCAL_QUORUM``; None leaves it to the session's execution profile.
    :ivar in_flight: batches sent to a node and not yet acknowledged; more only queue up in the server.
    :ivar retry_seconds: how long a batch is tried again after its first failure.
    :ivar backoff_s: the first pause between two tries; each is twice as long, up to ``max_backoff_s``.
    """

    consistency: str | None = None
    in_flight: int = 32
    retry_seconds: float = 60.0
    backoff_s: float = 0.25
    max_backoff_s: float = 5.0
    connection: str = "cassandra_default"


def is_refusal(error: Exception) -> bool:
    """Whether Cassandra refuses a row for its content: another try cannot help, other rows are not hit."""
    return isinstance(error, InvalidRequest) and _CONTENT.search(str(error)) is not None


def is_transient(error: Exception) -> bool:
    """Whether another try can help."""
    return isinstance(error, _TRANSIENT)


def is_overload(error: Exception) -> bool:
    """Whether a smaller request, or fewer of them, can help."""
    return isinstance(error, _SLOW)


def retry_delay(policy: WritePolicy, tries: int, failing_s: float, jitter: float) -> float | None:
    """Return the seconds until a batch's next try, None if its time is over.

    The pauses double; the last one ends with the time, so that what comes back just before it is used.

    :param failing_s: time since the batch's first failure.
    :param jitter: a factor around 1, so that batches that failed together do not come back together.
    """
    left = policy.retry_seconds - failing_s
    if left <= 0:
        return None
    backoff: float = min(policy.max_backoff_s, policy.backoff_s * 2 ** min(tries - 1, 30))
    return min(backoff * jitter, left)


class Window:
    """How many writes may be in flight: halved at trouble, raised by one for each round that went well.

    This is TCP's additive increase, multiplicative decrease (RFC 5681).
    """

    def __init__(self, maximum: int) -> None:
        self.size = self._maximum = maximum
        self._acknowledged = 0
        self._last_trouble: float | None = None

    def note_success(self) -> None:
        """Note an acknowledged write."""
        self._acknowledged += 1
        if self._acknowledged >= self.size:
            self._acknowledged = 0
            self.size = min(self._maximum, self.size + 1)

    def note_trouble(self, now: float) -> None:
        """Note a write that was too slow or too much for the server."""
        if self._last_trouble is None or now - self._last_trouble >= _TROUBLE_S:
            self.size = max(1, self.size // 2)
            self._acknowledged = 0
            self._last_trouble = now
