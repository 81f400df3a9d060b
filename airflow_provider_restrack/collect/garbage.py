"""Keeps what closed connections leave behind from piling up.

A connection of Paramiko is a knot of objects that name each other, which only a collection of all generations
frees. Python starts one when a quarter as many objects are new as there are old ones, and Airflow has half a
million: a thousand hosts would leave some 20 MB behind before that.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

SWEEP_EVERY = 32


class Sweeper:
    """For a ``with`` block, frees what was made in it after every so many hosts, and looks at nothing older.

    :param hosts: how many there will be; for a few nothing is done.
    """

    def __init__(self, hosts: int, every: int = SWEEP_EVERY) -> None:
        self._every = every
        self._is_needed = hosts >= every
        self._has_frozen = False
        self._done = 0

    def __enter__(self) -> None:
        """Set aside what is there; unless another has, who will also put it back."""
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
