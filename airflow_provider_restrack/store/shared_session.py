"""One session of a connection for all that wait in one process: hundreds of triggers, a few threads.

Who comes first opens it, who leaves last closes it. Everything here that may take time runs in the session's
own threads, so that an event loop can join and leave.
"""

from __future__ import annotations

import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

    OpenSession = Callable[[], AbstractContextManager[Any]]

log = logging.getLogger(__name__)

# One waits for the network while another evaluates; more would only queue before the interpreter's lock.
MAX_THREADS = 4


def join(key: str, open_session: OpenSession) -> SharedSession:
    """Become a user of the session that the key names; :func:`leave` it when done.

    :param open_session: used when there is no session, or the one there was has failed; of the first who
        joined, so the same key must mean the same server.
    """
    # By process, because a session must not cross a fork. Threads and event loops of one process share it.
    name = (os.getpid(), key)
    with _registry_lock:
        shared = _registry.get(name)
        if shared is None:
            shared = _registry[name] = SharedSession(open_session)
        shared.users += 1
        return shared


def leave(shared: SharedSession) -> Future[None] | None:
    """End one use. The last one closes the session: then a future is returned that is done afterwards."""
    with _registry_lock:
        shared.users -= 1
        if shared.users:
            return None
        for name in [name for name, one in _registry.items() if one is shared]:
            del _registry[name]
    return shared.shut_down()


class SharedSession:
    """A session that is opened at its first use and anew after it has failed.

    :ivar executor: the threads to use it in.
    :ivar users: how many have joined.
    :ivar failures: how many times it could not be opened.
    """

    def __init__(self, open_session: OpenSession) -> None:
        self.executor = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="restrack-cassandra")
        self.users = 0
        self.failures = 0
        self._open_session = open_session
        # Held while connecting: one connects, the others wait for what comes of it.
        self._entering = threading.Lock()
        self._changed = threading.Condition()
        self._current: _Opened | None = None
        self._failure: Exception | None = None
        self._busy = 0
        self._is_shut = False

    @contextmanager
    def use(self, failures_before: int) -> Iterator[Any]:
        """Yield the session, open it if need be; it stays open for the block, whatever others do.

        :param failures_before: ``failures`` when the caller asked for its turn. If connecting has failed
            since, that is its answer too: hundreds that wait would else try one after the other.
        :raises Exception: what opening it raises.
        """
        with self._entering:
            opened = self._enter(failures_before)
        try:
            yield opened.session
        finally:
            self._exit(opened)

    def retire(self, session: Any) -> None:
        """Let nobody begin to use a session that has failed; the next use opens another one for all."""
        with self._changed:
            opened = self._current
            if opened is None or opened.session is not session:
                return  # another user has said so before
            self._current = None
            opened.is_retired = True
            is_idle = not opened.users
        if is_idle:
            opened.close()

    def shut_down(self) -> Future[None]:
        """Close the session, once nobody uses it any more, and end the threads; does not wait."""
        closing = self.executor.submit(self._close_when_idle)
        self.executor.shutdown(wait=False)
        return closing

    def _enter(self, failures_before: int) -> _Opened:
        if self._is_shut:
            raise RuntimeError("this shared session is closed: join again")
        with self._changed:
            if self._current is not None:
                return self._take(self._current)
        if self._failure is not None and self.failures > failures_before:
            raise self._failure.with_traceback(None)
        opened = self._open()
        with self._changed:
            self._current = opened
            return self._take(opened)

    def _take(self, opened: _Opened) -> _Opened:
        opened.users += 1
        self._busy += 1
        return opened

    def _open(self) -> _Opened:
        resources = ExitStack()
        try:
            session = resources.enter_context(self._open_session())
        except Exception as error:
            self._failure = error
            self.failures += 1
            raise
        self._failure = None
        return _Opened(session, resources)

    def _exit(self, opened: _Opened) -> None:
        with self._changed:
            opened.users -= 1
            must_close = opened.is_retired and not opened.users
        if must_close:
            opened.close()
        with self._changed:
            self._busy -= 1
            self._changed.notify_all()

    def _close_when_idle(self) -> None:
        with self._entering:
            self._is_shut = True
        with self._changed:
            self._changed.wait_for(lambda: not self._busy)
        if self._current is not None:
            self._current.close()


@dataclass(slots=True)
class _Opened:
    """A session, what closes it, and how many use it at the moment."""

    session: Any
    resources: ExitStack = field(repr=False)
    users: int = 0
    is_retired: bool = False

    def close(self) -> None:
        try:
            self.resources.close()
        except Exception as error:  # noqa: BLE001 - whoever used it has what it wanted
            log.warning("A shared session did not close well: %s", error)


_registry_lock = threading.Lock()
_registry: dict[tuple[int, str], SharedSession] = {}
