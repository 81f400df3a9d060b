"""What can be waited for."""

from __future__ import annotations

import pytest

from airflow_provider_restrack.alert.until import UNTILS, check_until


@pytest.mark.parametrize("until", UNTILS)
def test_what_is_known_is_returned(until: str) -> None:
    assert check_until(until) == until


@pytest.mark.parametrize("until", ["cleared", "Clear", "", None])
def test_anything_else_is_refused_with_what_is_allowed(until: str) -> None:
    with pytest.raises(ValueError, match="is not known: use 'breach' or 'clear'"):
        check_until(until)
