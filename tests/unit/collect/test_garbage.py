from __future__ import annotations

import gc
import platform
import subprocess
import sys
import weakref
from typing import TYPE_CHECKING

import pytest

from airflow_provider_restrack.collect import garbage
from airflow_provider_restrack.collect.garbage import Sweeper, limit_arenas

if TYPE_CHECKING:
    from collections.abc import Iterator


# Twelve threads allocate at the same time, and malloc writes what heaps there are.
THREADS = """
import ctypes, threading
from airflow_provider_restrack.collect.garbage import limit_arenas
{}
libc, together = ctypes.CDLL(None), threading.Barrier(13)
def allocate():
    libc.malloc(2000); together.wait(); together.wait()
for _ in range(12):
    threading.Thread(target=allocate).start()
together.wait(); libc.malloc_stats(); together.wait()
"""


class Knot:
    """Names itself, as connections do."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def no_other_collection() -> Iterator[None]:
    """Nothing is collected, or set aside, but by the sweeper."""
    gc.unfreeze()
    gc.disable()
    yield
    gc.enable()


def test_what_was_made_meanwhile_is_freed_after_so_many_hosts() -> None:
    old = weakref.ref(Knot())
    sweeper = Sweeper(10, every=4)
    with sweeper:
        new = weakref.ref(Knot())
        for _ in range(3):
            sweeper.note_done()
        assert new() is not None
        sweeper.note_done()
        assert new() is None
        assert old() is not None  # it is set aside
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0
    gc.collect()
    assert old() is None


def test_for_a_few_hosts_nothing_is_done() -> None:
    sweeper = Sweeper(3, every=4)
    with sweeper:
        knot = weakref.ref(Knot())
        for _ in range(8):
            sweeper.note_done()
        assert gc.get_freeze_count() == 0
        assert knot() is not None


def test_what_another_has_set_aside_stays_set_aside() -> None:
    with Sweeper(9, every=4):
        before = gc.get_freeze_count()
        with Sweeper(9, every=4):
            assert gc.get_freeze_count() == before
        assert gc.get_freeze_count() == before > 0


def test_it_is_put_back_after_an_error_too() -> None:
    with pytest.raises(KeyError), Sweeper(9, every=4):
        raise KeyError
    assert gc.get_freeze_count() == 0


def count_arenas(first: str) -> int:
    command = [sys.executable, "-c", THREADS.format(first)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stderr.count("Arena ")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other mallocs have no arenas")
def test_threads_share_two_heaps() -> None:
    assert count_arenas("") > 2
    assert count_arenas("assert limit_arenas()") <= 2


def test_where_malloc_is_another_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage.ctypes, "CDLL", lambda name: object())
    assert limit_arenas() is False
