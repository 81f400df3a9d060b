from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

import pytest

from airflow_provider_restrack.collect.garbage import Sweeper

if TYPE_CHECKING:
    from collections.abc import Iterator


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
