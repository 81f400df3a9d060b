"""What single values of a rule may be, and how a value that may not is told."""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from difflib import get_close_matches

from airflow_provider_restrack.alert.durations import DURATION_FORMS, parse_duration

PERCENTILES: tuple[str, ...] = tuple(f"p{rank}" for rank in range(50, 100))
# Samples are kept for weeks: a rule over years never fires, and one query a day and host would look for it.
MAX_DURATION_S = 100 * 86400.0

# What a `summary` may name: the keys of the evidence that are not lists.
SUMMARY_FIELDS: tuple[str, ...] = (
    *("rule", "severity", "host", "device", "metric", "aggregate", "unit", "op", "threshold"),
    *("since", "at", "duration_seconds", "current", "peak", "average", "samples", "coverage", "sparkline"),
)

# What other tools call the same thing.
# fmt: off
_ALIASES = {
    "=": "==", "=>": ">=", "=<": "<=", "<>": "!=", "gt": ">", "ge": ">=", "lt": "<", "le": "<=", "eq": "==",
    "mean": "avg", "average": "avg", "median": "p50", "duration": "for", "comparison": "op",
    "value": "threshold",
}
# fmt: on


def is_texts(values: object) -> bool:
    """Whether values are a list of texts, none of them empty."""
    if not isinstance(values, Sequence) or not values:
        return False
    return all(isinstance(value, str) and value for value in values)


def hint(value: object, allowed: Sequence[str]) -> str:
    """Return ``: did you mean …?`` if a known name is close, else nothing."""
    text = str(value).strip().lower()
    alias = _ALIASES.get(text)
    close = [alias] if alias in allowed else get_close_matches(text, allowed, n=1, cutoff=0.6)
    return f": did you mean {close[0]!r}?" if close else ""


def abridge(allowed: Sequence[str]) -> str:
    """Return the allowed names, the percentiles as one."""
    names = [name for name in allowed if name not in PERCENTILES]
    return ", ".join([*names, "p50 to p99"] if len(names) < len(allowed) else names)


def read_number(value: object) -> float | None:
    """Return a finite number, also of its text: a templated threshold is rendered to one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def read_finite(value: object) -> float:
    """Return a finite number, also of its text.

    :raises ValueError: if it is none.
    """
    number = read_number(value)
    if number is None:
        raise ValueError(f"{value!r} must be a finite number")
    return number


def read_share(value: object) -> float:
    """Return a number from 0 to 1.

    :raises ValueError: if it is none.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    raise ValueError(f"{value!r} must be a number from 0 to 1")


def read_count(value: object) -> int:
    """Return a whole number of at least 1.

    :raises ValueError: if it is none.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise ValueError(f"{value!r} must be a whole number, at least 1")


def read_duration(value: object) -> float:
    """Return a duration in seconds.

    :raises ValueError: if it is none, or too long.
    """
    seconds = parse_duration(value)
    if seconds > MAX_DURATION_S:
        raise ValueError(f"{value!r} is longer than {MAX_DURATION_S / 86400:g} days")
    return seconds


def read_positive_duration(value: object) -> float:
    """Return a duration in seconds, above 0.

    :raises ValueError: if it is none, too long or 0.
    """
    seconds = read_duration(value)
    if seconds <= 0:
        raise ValueError(f"{value!r} must be longer than 0: use {DURATION_FORMS}")
    return seconds


def read_summary(value: object) -> str:
    """Return a template of known names.

    :raises ValueError: if it cannot be filled.
    """
    if not isinstance(value, str):
        raise ValueError(f"{value!r} must be a text")  # noqa: TRY004 - one class for all bad values
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(value) if name is not None]
        unknown = [name for name in names if name not in SUMMARY_FIELDS]
        if not unknown:
            # A text as the format of another field fits only while it is empty.
            value.format(**dict.fromkeys(SUMMARY_FIELDS, "text") | dict.fromkeys(_NUMBERS, 0.0))
            return value
    except (ValueError, LookupError) as error:
        raise ValueError(f"{value!r} is no valid template ({error}): write fields as {{host}}") from None
    meant = hint(unknown[0], SUMMARY_FIELDS)
    raise ValueError(f"names {{{unknown[0]}}}{meant}; allowed: {', '.join(SUMMARY_FIELDS)}")


_NUMBERS = ("threshold", "duration_seconds", "current", "peak", "average", "samples", "coverage")
