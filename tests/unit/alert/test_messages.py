"""Who is told what: each case is what is recorded, what was told, and the notices that must come of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from airflow_provider_restrack.alert.messages import Message, Notice, Plan, TellPolicy, plan_messages
from airflow_provider_restrack.alert.records import AlertRecord, AlertTransition, InstanceKey, Told

KEY = InstanceKey("cpu", "db-1")
NOW = 10_000_000
SINCE, AT = 1_000_000, 1_300_000


def record(key: InstanceKey = KEY, **changes: Any) -> AlertRecord:
    values: dict[str, Any] = {
        "open": True,
        "severity": "warning",
        "since_ms": SINCE,
        "at_ms": AT,
        "value": 85.0,
        "peak": 88.0,
    }
    return AlertRecord(key, **values | changes)


def told(what: Any, at_ms: int = NOW - 60_000, since_ms: int = SINCE) -> dict[str, Told]:
    return {"mail": Told(what, at_ms, since_ms)}


def plan(*records: AlertRecord, receivers: tuple[str, ...] = ("mail",), **arguments: Any) -> Plan:
    reasons = arguments.pop("suppressed", {})
    return plan_messages(records, receivers, reasons, arguments.pop("now_ms", NOW), **arguments)


@dataclass(frozen=True)
class Case:
    """``suppressed``: why nothing new is told. ``expect``: what is told, in order."""

    name: str
    record: AlertRecord
    expect: list[str] = field(default_factory=list)
    suppressed: str = ""
    policy: TellPolicy = field(default_factory=TellPolicy)
    reason: str = ""


HOURLY = TellPolicy(repeat_ms=3_600_000)
QUIET = TellPolicy(send_resolved=False)
OPEN, CLOSED, CRITICAL = record(), record(open=False), record(severity="critical")
FLAPS, FLAPS_CLOSED = record(flapping=True), record(flapping=True, open=False)


def after(base: AlertRecord, what: Any, at_ms: int = NOW - 60_000, since_ms: int = SINCE) -> AlertRecord:
    return replace(base, told=told(what, at_ms, since_ms))


EARLIER = SINCE - 500_000
CASES = [
    Case("an alert that nobody was told fires", OPEN, ["firing"]),
    Case("one that was told is not told again", after(OPEN, "warning")),
    Case("a higher severity is told", after(CRITICAL, "warning"), ["escalated"]),
    Case("a lower severity is told", after(OPEN, "critical"), ["deescalated"]),
    Case("from info up is up", after(OPEN, "info"), ["escalated"]),
    Case("without an interval nothing is repeated", after(OPEN, "warning", 0)),
    Case("nor before it has passed", after(OPEN, "warning", NOW - 3_599_999), policy=HOURLY),
    Case("it is repeated when it has", after(OPEN, "warning", NOW - 3_600_000), ["repeat"], policy=HOURLY),
    Case("a change comes before a repeat", after(CRITICAL, "warning", 0), ["escalated"], policy=HOURLY),
    Case("the end is told", after(CLOSED, "warning"), ["resolved"]),
    Case("at whatever severity it was told", after(CLOSED, "critical"), ["resolved"]),
    Case("and not again", after(CLOSED, "resolved")),
    Case("of an end nobody hears who never heard of the alert", CLOSED),
    Case("if ends are not to be told, none is", after(CLOSED, "warning"), policy=QUIET),
    Case("fires again after a told end", after(OPEN, "resolved", since_ms=EARLIER), ["firing"]),
    Case("a told end is no repeat", after(OPEN, "resolved", 0, EARLIER), ["firing"], policy=HOURLY),
    Case(
        "fires again before its end was told",
        after(OPEN, "warning", since_ms=EARLIER),
        ["resolved", "firing"],
    ),
    Case(
        "fires again, ends are not told", after(OPEN, "warning", since_ms=EARLIER), ["firing"], policy=QUIET
    ),
    Case("ended twice before its end was told", after(CLOSED, "warning", since_ms=EARLIER), ["resolved"]),
    Case("suppressed: not told", OPEN, suppressed="silence", reason="silence"),
    Case("suppressed: no escalation", after(CRITICAL, "warning"), suppressed="silence", reason="silence"),
    Case("suppressed: no repeat", after(OPEN, "warning", 0), [], "inhibited", HOURLY, "inhibited"),
    Case("suppressed: the end is told all the same", after(CLOSED, "warning"), ["resolved"], "silence"),
    Case("suppressed: an end nobody waits for is not", CLOSED, suppressed="silence"),
    Case(
        "suppressed: an end is told, the next start is not",
        after(OPEN, "warning", since_ms=EARLIER),
        ["resolved"],
        "maintenance",
        reason="maintenance",
    ),
    Case("flapping is told once", FLAPS, ["flapping"], reason="flapping"),
    Case("flapping is told after firing", after(FLAPS, "warning"), ["flapping"], reason="flapping"),
    Case("flapping is told of one that is closed now", after(FLAPS_CLOSED, "resolved"), ["flapping"]),
    Case("it stays quiet while it flaps", after(FLAPS, "flapping"), reason="flapping"),
    Case("also when it closes", after(FLAPS_CLOSED, "flapping")),
    Case(
        "also when it is another alert", after(FLAPS, "flapping", since_ms=EARLIER), reason="flapping"
    ),
    Case("flapping is not repeated", after(FLAPS, "flapping", 0), policy=HOURLY, reason="flapping"),
    Case("in a silence flapping is not told", FLAPS, suppressed="silence", reason="silence"),
    Case("when flapping is over it fires", after(OPEN, "flapping"), ["firing"]),
    Case(
        "when flapping is over it fires, whatever alert it was", after(OPEN, "flapping", since_ms=EARLIER),
        ["firing"],
    ),
    Case("when flapping is over and it is closed, that is told", after(CLOSED, "flapping"), ["resolved"]),
    Case("owed: it is told as long as it fires", after(OPEN, "owed"), ["firing"]),
    Case("owed: not repeated, as it was never told", after(OPEN, "owed", 0), ["firing"], policy=HOURLY),
    Case("owed: when it is over, that is told", after(CLOSED, "owed"), ["resolved"]),
    Case("owed: also where ends are not to be told", after(CLOSED, "owed"), ["resolved"], policy=QUIET),
    Case("owed: fires again", after(OPEN, "owed", since_ms=EARLIER), ["resolved", "firing"]),
    Case("owed: in a silence not", after(OPEN, "owed"), suppressed="silence", reason="silence"),
    Case("owed: nor that it is over", after(CLOSED, "owed"), suppressed="silence"),
    Case("owed: flapping", after(FLAPS, "owed"), ["flapping"], reason="flapping"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_a_receiver_is_told(case: Case) -> None:
    suppressed = {KEY: case.suppressed} if case.suppressed else {}

    found = plan(case.record, suppressed=suppressed, policy=case.policy)

    assert [notice.what for message in found.messages for notice in message.notices] == case.expect
    assert found.suppressed == ({KEY: case.reason} if case.reason else {})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_was_told_is_not_told_again(case: Case) -> None:
    suppressed = {KEY: case.suppressed} if case.suppressed else {}
    found = plan(case.record, suppressed=suppressed, policy=case.policy)
    marked = mark(case.record, found.messages)

    assert plan(marked, suppressed=suppressed, policy=case.policy).messages == ()


def mark(before: AlertRecord, messages: tuple[Message, ...]) -> AlertRecord:
    """What the store keeps when the messages were sent: Told is of the record's alert."""
    for message in messages:
        for news in message.told(NOW).values():
            fresh = {name: replace(one, since_ms=before.since_ms) for name, one in news.items()}
            before = replace(before, told={**before.told, **fresh})
    return before


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_message_that_was_not_marked_is_planned_again_with_the_same_ids(case: Case) -> None:
    suppressed = {KEY: case.suppressed} if case.suppressed else {}
    first, later = (
        plan(one, suppressed=suppressed, policy=case.policy).messages
        for one in (case.record, replace(case.record, peak=99.9))
    )

    assert [message.id for message in later] == [message.id for message in first]


def ids(*records: AlertRecord, **arguments: Any) -> set[str]:
    return {str(notice.id) for message in plan(*records, **arguments).messages for notice in message.notices}


def test_each_thing_that_is_told_has_an_id_of_its_own() -> None:
    different = [
        ids(OPEN),
        ids(after(CRITICAL, "warning")),
        ids(replace(after(CRITICAL, "warning"), at_ms=AT + 1)),
        ids(after(OPEN, "critical")),
        ids(after(CLOSED, "warning")),
        ids(after(OPEN, "warning", 0), policy=HOURLY),
        ids(after(OPEN, "warning", 1), policy=HOURLY),
        ids(FLAPS),
        ids(after(FLAPS, "warning")),
        ids(record(since_ms=SINCE + 1)),
        ids(record(InstanceKey("cpu", "db-2"))),
    ]
    assert len(set.union(*different)) == len(different)


def test_while_it_flaps_the_notice_keeps_its_id_whatever_the_record_becomes() -> None:
    later = replace(FLAPS_CLOSED, since_ms=SINCE + 9, at_ms=AT + 9)
    assert ids(after(FLAPS, "warning")) == ids(after(later, "warning"))


def test_a_message_for_each_severity_the_most_severe_first() -> None:
    records = [
        record(InstanceKey("swap", "db-1"), severity="info"),
        record(InstanceKey("cpu", "db-2"), severity="critical"),
        record(InstanceKey("cpu", "db-1")),
        record(InstanceKey("disk", "db-1", "/"), severity="critical"),
        after(record(InstanceKey("cpu", "db-0"), severity="critical", open=False), "critical"),
    ]

    messages = plan(*records).messages

    assert [
        (message.severity, [(notice.record.key.rule, notice.record.key.host) for notice in message.notices])
        for message in messages
    ] == [
        ("critical", [("cpu", "db-0"), ("cpu", "db-2"), ("disk", "db-1")]),
        ("warning", [("cpu", "db-1")]),
        ("info", [("swap", "db-1")]),
    ]


def test_each_receiver_has_a_memory_of_its_own() -> None:
    one = record(told=told("warning"))

    messages = plan(one, receivers=("mail", "pager")).messages

    assert [(message.receiver, message.notices[0].what) for message in messages] == [("pager", "firing")]
    assert messages[0].told(NOW) == {KEY: {"pager": Told("warning", NOW)}}


DEBTS = [
    ("nobody was told", OPEN, "", {"mail": Told("owed", NOW, SINCE)}),
    (
        "the one before is over",
        after(OPEN, "resolved", since_ms=EARLIER),
        "",
        {"mail": Told("owed", NOW, SINCE)},
    ),
    ("it is told already", after(OPEN, "warning"), "", {}),
    ("it is owed already", after(OPEN, "owed", 1), "", {}),
    ("one before is told and its end is not", after(OPEN, "warning", since_ms=EARLIER), "", {}),
    ("one before is owed", after(OPEN, "owed", since_ms=EARLIER), "", {}),
    ("it is over", CLOSED, "", {}),
    ("in a silence", OPEN, "silence", {}),
    ("owed, and in a silence", after(OPEN, "owed"), "silence", {}),
    ("owed, and over in a silence", after(CLOSED, "owed"), "silence", {"mail": Told("resolved", NOW, SINCE)}),
]


@pytest.mark.parametrize(("name", "given", "suppressed", "debts"), DEBTS, ids=[debt[0] for debt in DEBTS])
def test_what_is_owed_to_a_receiver(
    name: str, given: AlertRecord, suppressed: Any, debts: dict[str, Told]
) -> None:
    found = plan(given, suppressed={KEY: suppressed} if suppressed else {})

    assert found.debts == ({KEY: debts} if debts else {}), name


@pytest.mark.parametrize(
    ("name", "given", "is_owed"),
    [
        ("the end of one before is not told", after(OPEN, "warning", since_ms=EARLIER), True),
        ("it is told already", after(OPEN, "warning"), False),
        ("one before is owed", after(OPEN, "owed", since_ms=EARLIER), False),
        ("nobody was told", OPEN, True),
    ],
)
def test_where_ends_are_not_told_each_alert_is_owed(name: str, given: AlertRecord, is_owed: bool) -> None:
    found = plan(given, policy=QUIET)

    assert found.debts == ({KEY: {"mail": Told("owed", NOW, SINCE)}} if is_owed else {}), name


def test_without_receivers_nothing_is_planned() -> None:
    assert plan(OPEN, receivers=()).messages == ()


def test_an_end_that_comes_with_a_new_start_is_told_as_it_was() -> None:
    earlier = AlertTransition(KEY, "resolved", SINCE - 9, EARLIER, "critical", 12.0, 99.0)

    notices = plan(after(OPEN, "critical", since_ms=EARLIER), transitions=[earlier]).messages[0].notices

    ended, fires = (notice.record for notice in notices)
    assert (ended.open, ended.since_ms, ended.at_ms, ended.value, ended.peak) == (
        False, EARLIER, SINCE - 9, 12.0, 99.0,
    )  # fmt: skip
    assert ended.alert_id == earlier.alert_id
    assert fires == after(OPEN, "critical", since_ms=EARLIER)


def test_an_end_that_was_not_told_in_time_is_known_to_lie_before_the_new_start() -> None:
    ended = plan(after(OPEN, "critical", since_ms=EARLIER)).messages[0].notices[0].record

    assert (ended.since_ms, ended.at_ms, ended.value, ended.peak) == (EARLIER, SINCE, None, None)


def test_a_receiver_is_told_the_end_of_the_alert_that_it_knows() -> None:
    ended = plan(after(CLOSED, "warning", since_ms=EARLIER)).messages[0].notices[0].record

    assert (ended.since_ms, ended.at_ms) == (EARLIER, AT)


def test_the_reasons_are_counted() -> None:
    records = [record(InstanceKey("cpu", host)) for host in ("a", "b", "c")]
    reasons = {records[0].key: "silence", records[1].key: "silence"}

    found = plan(*records, suppressed=reasons)

    assert found.reasons == {"silence": 2}
    assert [notice.record.key.host for notice in found.messages[0].notices] == ["c"]


def test_a_closed_record_that_a_silence_fits_is_not_counted() -> None:
    assert plan(CLOSED, suppressed={KEY: "silence"}).suppressed == {}


def test_the_ids_of_a_message_are_those_of_its_notices() -> None:
    notices = (Notice(OPEN, "firing"), Notice(CLOSED, "resolved"))
    assert Message("mail", "warning", notices).id == Message("pager", "critical", notices).id
    assert Message("mail", "warning", notices).id != Message("mail", "warning", notices[:1]).id
