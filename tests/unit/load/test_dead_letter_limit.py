from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_restrack.load.dead_letter_limit import DeadLetterLimit, Rejections, parse_limit
from airflow_provider_restrack.load.errors import ConfigurationError, RejectError
from airflow_provider_restrack.load.offsets import Ticket
from tests.unit.load.fakes import FakeMessage


def bad(count: int, reason: str = "no JSON", at: int = 0) -> list[tuple[FakeMessage, RejectError]]:
    return [(FakeMessage(b"", at + number), RejectError(reason)) for number in range(count)]


@pytest.mark.parametrize(
    ("value", "limit"),
    [
        (None, None),
        (0, DeadLetterLimit(count=0)),
        (1000, DeadLetterLimit(count=1000)),
        (0.5, DeadLetterLimit(share=0.5)),
        ({"share": 0.1, "after": 50}, DeadLetterLimit(share=0.1, after=50)),
        ({"count": 7, "share": None, "after": None}, DeadLetterLimit(count=7)),
        ("", None),
        (" None ", None),
        ("null", None),
        ("25", DeadLetterLimit(count=25)),
        ("0.25", DeadLetterLimit(share=0.25)),
        ('{"count": 3}', DeadLetterLimit(count=3)),
    ],
)
def test_a_limit_is_a_count_a_share_or_both(value: Any, limit: DeadLetterLimit | None) -> None:
    assert parse_limit(value) == limit


@pytest.mark.parametrize(
    "value",
    [
        -1, 0.0, 1.0, 1.5, float("nan"), True, "half", "[1]", [1], {"share": 1}, {"count": 0.5},
        {"count": True}, {"after": 0}, {"share": "0.5"}, {"limit": 3}, "true",
    ],
)  # fmt: skip
def test_anything_else_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"dead_letter_limit is .*a share of them such as 0\.5"):
        parse_limit(value)


def test_without_limit_anything_may_be_rejected() -> None:
    rejections = Rejections(None)
    rejections.add(5000, bad(5000))

    assert rejections.excess() is None


@pytest.mark.parametrize(("rejected", "ends"), [(10, False), (11, True)])
def test_a_count_is_of_the_whole_run(rejected: int, ends: bool) -> None:
    rejections = Rejections(DeadLetterLimit(count=10))
    for number in range(rejected):
        assert rejections.excess() is None
        rejections.add(100_000, bad(1, at=number))

    assert (rejections.excess() is not None) is ends


@pytest.mark.parametrize(
    ("chunks", "ends"),
    [
        ([(999, 999)], False),  # too few to judge
        ([(1000, 500)], False),
        ([(1000, 501)], True),
        ([(400, 400), (599, 599)], False),
        ([(400, 400), (600, 101)], True),
        ([(1_000_000, 0), (1000, 501)], True),  # what was good before does not excuse a stretch
        ([(1000, 499), (1000, 499), (1000, 499)], False),
        ([(16_000, 8_000)], False),
    ],
)
def test_a_share_is_judged_over_stretches(chunks: list[tuple[int, int]], ends: bool) -> None:
    rejections = Rejections(DeadLetterLimit(share=0.5))
    for records, rejected in chunks:
        assert rejections.excess() is None
        rejections.add(records, bad(rejected))

    assert (rejections.excess() is not None) is ends


def refuse(rejections: Rejections, ticket: Ticket, count: int) -> list[bool]:
    """Refuse records one by one, and return whether the run had to end after each."""
    found = []
    for record, error in bad(count, "value too large"):
        rejections.refuse(ticket, record, error)
        found.append(rejections.excess() is not None)
    return found


def handed(rejections: Rejections, records: int, rejected: int = 0) -> Ticket:
    """Read records in slices, as the loader does, hand them out together, and return their ticket."""
    for _ in range(0, records, 1000):
        rejections.add(min(records, 1000), bad(rejected * 1000 // records))
    ticket = Ticket({})
    rejections.hand_out(ticket, records, rejected)
    return ticket


@pytest.mark.parametrize(
    ("records", "rejected", "may"), [(1000, 0, 500), (48_000, 0, 24_000), (4000, 1600, 400)]
)
def test_what_cassandra_refuses_later_is_judged_against_what_was_handed_out_with_it(
    records: int, rejected: int, may: int
) -> None:
    rejections = Rejections(DeadLetterLimit(share=0.5))
    ticket = handed(rejections, records, rejected)

    found = refuse(rejections, ticket, may + 1)

    assert found == [False] * may + [True]
    assert f"{rejected + may + 1} of {records} records that were written" in str(rejections.excess())


def test_refusals_that_come_after_the_next_records_are_of_their_own() -> None:
    rejections = Rejections(DeadLetterLimit(share=0.5))
    first, second = handed(rejections, 48_000), handed(rejections, 1000)

    assert not any(refuse(rejections, first, 20_000))
    assert refuse(rejections, second, 501) == [False] * 500 + [True]


def test_small_gatherings_are_judged_together() -> None:
    rejections = Rejections(DeadLetterLimit(share=0.5))
    tickets = [handed(rejections, 400) for _ in range(2)]
    for ticket in tickets:
        assert not any(refuse(rejections, ticket, 300))  # too few to judge

    last = handed(rejections, 400)

    assert rejections.excess() is None
    assert refuse(rejections, last, 1) == [True]


def test_tickets_that_are_settled_are_forgotten() -> None:
    rejections = Rejections(DeadLetterLimit(share=0.5))
    for _ in range(5):
        handed(rejections, 1000).settle()

    assert len(rejections._written) == 1


def test_the_words_name_counts_place_reasons_and_remedy() -> None:
    rejections = Rejections(DeadLetterLimit(share=0.5))
    rejections.add(400, bad(300, "malformed (byte 12)", at=7) + bad(1, "malformed (byte 13)"))
    rejections.add(600, bad(250, "Expected `float`, got `str` - at `$.cpu_usage`"))

    assert rejections.excess() == (
        "551 of the last 1000 records cannot be stored, over dead_letter_limit (share 0.5); first at t[0]"
        " offset 7. Reasons: 301 times 'malformed (byte 12)'; 250 times 'Expected `float`, got `str` - at"
        " `$.cpu_usage`'. The records at hand are neither committed nor put aside for good: mend what writes"
        " them or the table, or load them with dead_letter_limit=None, which sends those that still cannot"
        " be stored to the dead letters"
    )


def test_endless_kinds_of_reasons_take_no_memory() -> None:
    rejections = Rejections(DeadLetterLimit(count=10))
    rejections.add(20, [one for name in "abcdefghij" for one in bad(2, name * 5000)])

    words = rejections.excess()

    assert words is not None
    assert words.startswith("20 of 20 records cannot be stored, over dead_letter_limit (count 10)")
    assert "10 times others" in words
    assert len(words) < 2000
