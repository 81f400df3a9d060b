from __future__ import annotations

import gc
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from airflow_provider_restrack.load.garbage import RARE, rare_collections

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def thresholds() -> Iterator[tuple[int, int, int]]:
    """Thresholds of this test's own, whatever the process has."""
    before = gc.get_threshold()
    gc.set_threshold(500, 7, 6)
    yield (500, 7, 6)
    gc.set_threshold(*before)


def test_the_collector_runs_rarely_within_and_as_before_after(thresholds: tuple[int, int, int]) -> None:
    with rare_collections():
        assert gc.get_threshold() == RARE
    assert gc.get_threshold() == thresholds


def test_an_error_within_changes_nothing_after(thresholds: tuple[int, int, int]) -> None:
    with pytest.raises(KeyError), rare_collections():
        raise KeyError
    assert gc.get_threshold() == thresholds


def test_of_two_loaders_at_once_the_last_to_end_restores(thresholds: tuple[int, int, int]) -> None:
    first, second = ExitStack(), ExitStack()
    first.enter_context(rare_collections())
    second.enter_context(rare_collections())

    first.close()
    assert gc.get_threshold() == RARE
    second.close()
    assert gc.get_threshold() == thresholds
