"""How often Python's cyclic garbage collector runs while records are decoded."""

from __future__ import annotations

import gc
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

RARE = (100_000, 20, 20)
"""Thresholds of the three generations while records are decoded."""


class _Users:
    """Who wants rare collections: the first in sets the process's thresholds, the last out restores them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._before = gc.get_threshold()

    def enter(self) -> None:
        with self._lock:
            if self._count == 0:
                self._before = gc.get_threshold()
                gc.set_threshold(*RARE)
            self._count += 1

    def leave(self) -> None:
        with self._lock:
            self._count -= 1
            if self._count == 0:
                gc.set_threshold(*self._before)


_users = _Users()


@contextmanager
def rare_collections() -> Iterator[None]:
    """Let the cyclic garbage collector run rarely: decoded records hold no cycles, and scanning them cost
    more than decoding them.

    The thresholds are the process's: of several users at once, in whatever order they end, the last one
    restores what was before the first.
    """
    _users.enter()
    try:
        yield
    finally:
        _users.leave()
