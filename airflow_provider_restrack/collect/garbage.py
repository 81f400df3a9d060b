"""Keeps what connections use and leave behind from piling up.

A connection of Paramiko is a knot of objects that name each other, which only a collection of all generations
frees. Python starts one when a quarter as many objects are new as there are old ones, and Airflow has half a
million: a thousand hosts would leave some 20 MB behind before that. And glibc's malloc gives threads
heaps of their own, up to eight for each core, none of which uses what another has free.
"""

from __future__ import annotations

import ctypes
import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

SWEEP_EVERY = 32

_M_ARENA_MAX = -8  # malloc.h
_ARENAS = 2


def limit_arenas(most: int = _ARENAS) -> bool:
    """Have all threads share so many heaps from now on; False where malloc is not glibc's.

    Python's threads hold the GIL when they allocate, so that they do not wait for each other here.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, most))
    except (AttributeError, OSError, TypeError):
        return False


class Sweeper:
    """For a ``with`` block, frees what was made in it after every so many hosts, and looks at nothing older.

    From the first on, threads share heaps until the process ends, which for a task is soon.

    :param hosts: how many there will be; for a few nothing is done.
    """

    def __init__(self, hosts: int, every: int = SWEEP_EVERY) -> None:
        self._every = every
        self._is_needed = hosts >= every
        self._has_frozen = False
        self._done = 0

    def __enter__(self) -> None:
        """Set aside what is there; unless another has, who will also put it back."""
        if self._is_needed:
            limit_arenas()
        if self._is_needed and gc.get_freeze_count() == 0:
            gc.freeze()
            self._has_frozen = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put back what was set aside."""
        if self._has_frozen:
            gc.unfreeze()

    def note_done(self) -> None:
        """Take note of a host that has answered."""
        self._done += 1
        if self._is_needed and self._done % self._every == 0:
            gc.collect()
