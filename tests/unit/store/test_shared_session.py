"""The session that many share: opened once, closed by the last, and never under anybody's hands."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_all
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_restrack.store.shared_session import MAX_THREADS, SharedSession, join, leave

if TYPE_CHECKING:
    from collections.abc import Iterator

WAIT_S = 10


class Server:
    """Hands out sessions and counts them; fails while ``error`` is set, waits at the ``gate``."""

    def __init__(self) -> None:
        self.opened: list[object] = []
        self.closed: list[object] = []
        self.attempts = 0
        self.error: Exception | None = None
        self.connecting = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    @contextmanager
    def session(self) -> Iterator[object]:
        self.attempts += 1
        self.connecting.set()
        assert self.gate.wait(WAIT_S)
        if self.error:
            raise self.error
        session = object()
        self.opened.append(session)
        try:
            yield session
        finally:
            self.closed.append(session)


def finish(closing: Future[None] | None) -> None:
    assert closing is not None
    closing.result(WAIT_S)


def use(shared: SharedSession) -> Any:
    with shared.use(shared.failures) as session:
        return session


def submit(shared: SharedSession) -> Future[Any]:
    """Use it in one of its threads; as a trigger does, count the failures before waiting for a turn."""

    def work(failures: int) -> Any:
        with shared.use(failures) as session:
            return session

    return shared.executor.submit(work, shared.failures)


def test_all_of_one_key_share_one_session_and_the_last_closes_it() -> None:
    server = Server()
    users = [join("c", server.session) for _ in range(200)]
    sessions = {id(future.result(WAIT_S)) for future in [submit(one) for one in users]}

    closings = [leave(one) for one in users]

    assert (len(sessions), len(server.opened)) == (1, 1)
    assert closings[:-1] == [None] * 199
    finish(closings[-1])
    assert server.closed == server.opened


def test_other_keys_have_sessions_of_their_own() -> None:
    server = Server()
    users = [join(key, server.session) for key in ("a", "b")]
    assert len({id(use(one)) for one in users}) == 2
    for one in users:
        finish(leave(one))


def test_who_comes_after_the_last_has_left_gets_a_new_one() -> None:
    server = Server()
    for _ in range(2):
        shared = join("c", server.session)
        use(shared)
        finish(leave(shared))
    assert len(server.opened) == len(server.closed) == 2


def test_no_session_is_opened_for_who_never_uses_it() -> None:
    server = Server()
    finish(leave(join("c", server.session)))
    assert server.attempts == 0


def test_a_session_that_failed_is_opened_anew_for_all() -> None:
    server = Server()
    first, second = join("c", server.session), join("c", server.session)
    failed = use(first)
    first.retire(failed)
    second.retire(failed)
    assert use(second) is use(first) is server.opened[1]
    assert server.closed == [failed]
    leave(first)
    finish(leave(second))
    assert server.closed == server.opened


def test_a_session_that_failed_is_closed_only_when_its_last_use_has_ended() -> None:
    server = Server()
    shared = join("c", server.session)
    with shared.use(0) as session:
        shared.retire(session)
        assert use(shared) is not session
        assert server.closed == []
    assert server.closed == [session]
    finish(leave(shared))


def test_the_session_is_not_closed_while_a_read_that_was_given_up_still_runs() -> None:
    server, reading, go_on = Server(), threading.Event(), threading.Event()
    shared = join("c", server.session)

    def read() -> bool:
        with shared.use(0):
            reading.set()
            assert go_on.wait(WAIT_S)
            return bool(server.closed)

    running = shared.executor.submit(read)
    assert reading.wait(WAIT_S)
    closing = leave(shared)
    go_on.set()
    assert running.result(WAIT_S) is False
    finish(closing)
    assert server.closed == server.opened


def test_a_session_that_is_only_now_being_opened_is_closed_too() -> None:
    server = Server()
    server.gate.clear()
    shared = join("c", server.session)
    opening = submit(shared)
    assert server.connecting.wait(WAIT_S)
    closing = leave(shared)
    server.gate.set()
    finish(closing)
    opening.result(WAIT_S)
    assert server.closed == server.opened
    assert len(server.opened) == 1


def test_hundreds_that_wait_for_a_server_that_is_down_share_one_attempt() -> None:
    server = Server()
    server.error, shared = ConnectionError("down"), join("c", server.session)
    server.gate.clear()
    waiting = [submit(shared) for _ in range(200)]
    server.gate.set()
    wait_all(waiting, WAIT_S)
    assert {str(future.exception()) for future in waiting} == {"down"}
    assert server.attempts == 1

    server.error = None
    assert use(shared) is server.opened[0]
    finish(leave(shared))


def test_a_new_turn_tries_again_after_a_failure() -> None:
    server = Server()
    server.error, shared = ConnectionError("down"), join("c", server.session)
    for _ in range(3):
        with pytest.raises(ConnectionError):
            use(shared)
    assert server.attempts == 3
    finish(leave(shared))


def test_no_more_threads_than_a_few_are_used_and_every_user_has_its_turn() -> None:
    server, lock = Server(), threading.Lock()
    shared = join("c", server.session)
    together, most = 0, 0
    met = threading.Barrier(MAX_THREADS, timeout=WAIT_S)

    def read() -> None:
        nonlocal together, most
        with shared.use(0):
            with lock:
                together += 1
                most = max(most, together)
            met.wait()
            with lock:
                together -= 1

    turns = [shared.executor.submit(read) for _ in range(10 * MAX_THREADS)]
    for turn in turns:
        turn.result(WAIT_S)
    assert most == MAX_THREADS
    finish(leave(shared))


def test_a_session_that_is_closed_is_not_opened_again_by_who_comes_late() -> None:
    server = Server()
    shared = join("c", server.session)
    finish(leave(shared))
    with pytest.raises(RuntimeError, match="closed"):
        use(shared)
    assert server.attempts == 0


def test_a_close_that_fails_harms_nobody() -> None:
    @contextmanager
    def session() -> Iterator[object]:
        yield object()
        raise RuntimeError("the driver's own error")

    shared = join("c", session)
    use(shared)
    finish(leave(shared))


def test_joining_and_leaving_at_once_leaves_nothing_open() -> None:
    server = Server()

    def come_and_go() -> None:
        for _ in range(50):
            shared = join("c", server.session)
            use(shared)
            if (closing := leave(shared)) is not None:
                closing.result(WAIT_S)

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(come_and_go) for _ in range(8)]:
            future.result(60)
    assert set(map(id, server.closed)) == set(map(id, server.opened))
