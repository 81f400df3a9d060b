"""Decides when a run rejects too much to go on, so that a topic that is bad as a whole, or a table that has
changed, does not move all of its records to the dead letters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.load.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_restrack.load.offsets import Ticket

DEFAULT_AFTER = 1000
_MAX_REASONS = 5  # kinds of reasons that the error lists
_MAX_REASON = 200
_KEYS = ("count", "share", "after")
_FORMS = (
    "give a number of records such as 1000, a share of them such as 0.5, both as"
    ' {"count": 1000, "share": 0.5, "after": 1000}, or None'
)


@dataclass(frozen=True, slots=True)
class DeadLetterLimit:
    """How much a run may reject; None for no limit.

    :ivar count: records in all.
    :ivar share: part of the records, judged over stretches of at least ``after`` records.
    """

    count: int | None = None
    share: float | None = None
    after: int = DEFAULT_AFTER


def parse_limit(value: Any) -> DeadLetterLimit | None:
    """Read ``dead_letter_limit``: a count, a share, an object of both, or text that a template made of one.

    :raises ConfigurationError: if it is none of these.
    """
    given = _read_text(value) if isinstance(value, str) else value
    if given is None:
        return None
    if isinstance(given, Mapping):
        limit = _parse_mapping(given)
    elif isinstance(given, float):
        limit = DeadLetterLimit(share=given)
    else:
        limit = DeadLetterLimit(count=given)
    if not _is_whole(limit.count, 0) or not _is_share(limit.share) or not _is_whole(limit.after, 1):
        raise ConfigurationError(f"dead_letter_limit is {value!r}: {_FORMS}")
    return limit


def _read_text(text: str) -> Any:
    if not text.strip() or text.strip() == "None":
        return None
    try:
        return json.loads(text)
    except ValueError:
        raise ConfigurationError(f"dead_letter_limit is {text!r}: {_FORMS}") from None


def _parse_mapping(given: Mapping[str, Any]) -> DeadLetterLimit:
    if set(given) - set(_KEYS):
        raise ConfigurationError(f"dead_letter_limit is {given!r}: its keys are {', '.join(_KEYS)}; {_FORMS}")
    after = given.get("after")
    return DeadLetterLimit(given.get("count"), given.get("share"), DEFAULT_AFTER if after is None else after)


def _is_whole(value: Any, least: int) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= least)


def _is_share(value: Any) -> bool:
    return value is None or (isinstance(value, float) and 0 < value < 1)


@dataclass(slots=True)
class _Stretch:
    """Records that are judged together, and how many of them are rejected."""

    records: int = 0
    bad: int = 0


class Rejections:
    """Counts what a run rejects, in all and in the stretch of records at hand.

    What Cassandra refuses is told of when its answer comes: long after the record was read, and of up to
    48,000 records at once. It is judged against the records that were handed out with it.

    :param limit: None for no limit.
    """

    def __init__(self, limit: DeadLetterLimit | None) -> None:
        self._limit = limit or DeadLetterLimit()
        self._records = self._total = 0
        self._read, self._handed = _Stretch(), _Stretch()
        self._written: dict[Ticket, _Stretch] = {}
        self._first = ""
        self._reasons: dict[str, tuple[int, str]] = {}

    def add(self, records: int, rejected: Sequence[tuple[Any, BaseException]]) -> None:
        """Note records that were read, and those of them that no row can be made of."""
        if self._read.records >= self._limit.after:
            self._read = _Stretch()
        self._records += records
        self._read.records += records
        self._read.bad += len(rejected)
        for record, error in rejected:
            self._count(record, error)

    def hand_out(self, ticket: Ticket, records: int, rejected: int) -> None:
        """Note records whose rows are to be written under a ticket, and how many are rejected already."""
        if self._handed.records >= self._limit.after:
            self._handed = _Stretch()
        self._written = {one: stretch for one, stretch in self._written.items() if not one.finished}
        self._written[ticket] = self._handed
        self._handed.records += records
        self._handed.bad += rejected

    def refuse(self, ticket: Ticket, record: Any, error: BaseException) -> None:
        """Note a record of a ticket that Cassandra has refused."""
        self._written[ticket].bad += 1
        self._count(record, error)

    def excess(self) -> str | None:
        """Return why the run has to end, with counts and reasons; None while it may go on."""
        count, share = self._limit.count, f"share {self._limit.share}"
        written = next(filter(self._is_over, self._written.values()), None)
        if count is not None and self._total > count:
            what, limit = f"{self._total} of {self._records} records", f"count {count}"
        elif self._is_over(self._read):
            what, limit = f"{self._read.bad} of the last {self._read.records} records", share
        elif written is not None:
            what = f"{written.bad} of {written.records} records that were written together"
            limit = share
        else:
            return None
        return (
            f"{what} cannot be stored, over dead_letter_limit ({limit}); first at {self._first}."
            f" Reasons: {self._describe_reasons()}. The records at hand are neither committed nor put aside"
            " for good: mend what writes them or the table, or load them with dead_letter_limit=None, which"
            " sends those that still cannot be stored to the dead letters"
        )

    def _is_over(self, stretch: _Stretch) -> bool:
        share = self._limit.share
        return (
            share is not None
            and stretch.records >= self._limit.after
            and stretch.bad > share * stretch.records
        )

    def _count(self, record: Any, error: BaseException) -> None:
        self._total += 1
        self._first = self._first or f"{record.topic()}[{record.partition()}] offset {record.offset()}"
        self._note(str(error)[:_MAX_REASON])

    def _note(self, reason: str) -> None:
        """Count reasons that differ in numbers only, such as a byte's position, as one."""
        kind = re.sub(r"\d+", "0", reason)
        count, example = self._reasons.get(kind, (0, reason))
        if count or len(self._reasons) < _MAX_REASONS:
            self._reasons[kind] = (count + 1, example)

    def _describe_reasons(self) -> str:
        known = sorted(self._reasons.values(), key=lambda one: -one[0])
        others = self._total - sum(count for count, _ in known)
        listed = [f"{count} times {example!r}" for count, example in known]
        return "; ".join(listed + ([f"{others} times others"] if others else []))
