"""What a sensor or trigger waits for: a breach of its rules, or the end of all breaches."""

from __future__ import annotations

from typing import Literal, get_args

Until = Literal["breach", "clear"]

UNTILS: tuple[Until, ...] = get_args(Until)


def check_until(until: str) -> Until:
    """Return what to wait for, or refuse it.

    :raises ValueError: if it is neither ``breach`` nor ``clear``.
    """
    for known in UNTILS:
        if until == known:
            return known
    raise ValueError(f"until {until!r} is not known: use {' or '.join(map(repr, UNTILS))}")
