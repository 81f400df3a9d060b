"""Whether an alert comes and goes too often to be told each time: Icinga 2's measure.

Of the last 21 states the 20 changes between them are weighted, the newest most
(https://icinga.com/docs/icinga-2/latest/doc/08-advanced-topics/#check-flapping). A state is that of the
alert at one sample. An instance flaps from over 30 % on, until it falls under 25 %.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FLAPPING_CHANGES = 20
START_PERCENT = 30.0
END_PERCENT = 25.0
_WEIGHTS = tuple(0.8 + 0.02 * n for n in range(FLAPPING_CHANGES))


def measure_flapping(changes: Sequence[bool]) -> float:
    """Return the weighted share of changes in percent.

    :param changes: whether the state changed, oldest first; of fewer than 20 the missing ones are none.
    """
    newest = changes[-FLAPPING_CHANGES:]
    weights = _WEIGHTS[FLAPPING_CHANGES - len(newest) :]
    changed = sum(weight for weight, changed in zip(weights, newest, strict=True) if changed)
    return 100.0 * changed / FLAPPING_CHANGES


def follow_flapping(
    times: Sequence[int], changed_ms: Iterable[int], after_ms: int, *, flapping: bool
) -> bool:
    """Return whether an instance flaps at its newest sample.

    :param times: of all its samples, ascending.
    :param changed_ms: when its state changed; between two samples that counts for the later one.
    :param after_ms: time at which ``flapping`` was found.
    """
    bits = [False] * len(times)
    for changed in changed_ms:
        index = bisect_left(times, changed)
        if index < len(bits):
            bits[index] = True
    for end in range(bisect_right(times, after_ms) + 1, len(bits) + 1):
        share = measure_flapping(bits[max(0, end - FLAPPING_CHANGES) : end])
        flapping = share > START_PERCENT or (flapping and share >= END_PERCENT)
    return flapping
