from __future__ import annotations

from airflow_provider_restrack.alert.episodes import Stretch, build_episodes, count_flaps, tally
from airflow_provider_restrack.alert.records import AlertRecord, AlertTransition, InstanceKey

KEY = InstanceKey("cpu", "db-1")
OTHER = InstanceKey("cpu", "db-2")
MINUTE = 60_000


def change(kind, minute, since=1, severity="warning", key=KEY, peak=None) -> AlertTransition:
    return AlertTransition(key, kind, minute * MINUTE, since * MINUTE, severity, 95.0, peak)


LONG = [
    change("fired", 5, 1),
    change("escalated", 8, 1, "critical"),
    change("deescalated", 14, 1),
    change("resolved", 20, 1, peak=99.0),
]


def build(transitions, since=0, until=60, records=None):
    return build_episodes(transitions, since * MINUTE, until * MINUTE, records)


def test_an_alert_is_a_stretch_for_each_severity_one_after_the_other() -> None:
    (one,) = build(LONG)

    assert one.stretches == (
        Stretch("warning", 5 * MINUTE, 8 * MINUTE),
        Stretch("critical", 8 * MINUTE, 14 * MINUTE),
        Stretch("warning", 14 * MINUTE, 20 * MINUTE),
    )
    assert (one.fired_ms, one.ended_ms, one.peak) == (5 * MINUTE, 20 * MINUTE, 99.0)
    assert one.seconds == 15 * 60


def test_an_alert_is_cut_to_the_window() -> None:
    (one,) = build(LONG[:3], since=10, until=30)

    assert one.stretches == (
        Stretch("critical", 10 * MINUTE, 14 * MINUTE),
        Stretch("warning", 14 * MINUTE, 30 * MINUTE),
    )
    assert (one.fired_ms, one.ended_ms) == (5 * MINUTE, None)


def test_what_comes_after_the_window_is_not_known_in_it() -> None:
    (one,) = build(LONG, until=10)

    assert one.ended_ms is None
    assert one.stretches[-1] == Stretch("critical", 8 * MINUTE, 10 * MINUTE)


def test_an_alert_that_is_over_at_the_start_is_left_out() -> None:
    assert build(LONG, since=20) == []
    assert len(build(LONG, since=19)) == 1


def test_an_open_alert_has_the_peak_that_its_record_knows() -> None:
    record = AlertRecord(KEY, open=True, severity="warning", since_ms=MINUTE, at_ms=5 * MINUTE, peak=98.0)

    (one,) = build(LONG[:1], records={KEY: record})

    assert one.peak == 98.0


def test_a_tally_counts_alerts_that_fire_and_time_at_each_severity() -> None:
    second = [change("fired", 40, 39), change("resolved", 50, 39)]
    other = [change("fired", 2, 1, "critical", OTHER)]
    episodes = build([*LONG, *second, *other], since=3)

    found = tally(episodes, 3 * MINUTE, 60)

    assert (found.alerts, found.open_at_start, found.open_at_end, found.hosts) == (2, 1, 1, 2)
    assert found.seconds == {"warning": (3 + 6 + 10) * 60, "critical": (6 + 57) * 60}
    assert found.total_seconds == (19 + 63) * 60


def test_no_alerts_are_a_tally_of_nothing() -> None:
    found = tally([], 0, 60)

    assert (found.alerts, found.open_at_end, found.flaps, found.hosts, found.total_seconds) == (0, 0, 0, 0, 0)


def test_flaps_are_alerts_that_end_too_soon_or_come_back_too_soon() -> None:
    episodes = build(
        [
            *(change("fired", 0, 0), change("resolved", 20, 0)),
            *(change("fired", 29, 28), change("resolved", 45, 28)),  # back after 9 minutes
            *(change("fired", 55, 54), change("resolved", 60, 54)),  # over after 5
            *(change("fired", 75, 74), change("resolved", 85, 74)),  # exactly 15 and 10: none
        ],
        since=-1,
        until=100,
    )

    assert count_flaps(episodes, 10 * 60) == 2
    assert count_flaps(episodes, 11 * 60) == 3
    assert count_flaps(episodes, 0) == 0


def test_alerts_of_two_instances_are_no_flaps_of_each_other() -> None:
    transitions = [change("resolved", 20, 0), change("fired", 21, 20, key=OTHER)]
    episodes = build([change("fired", 1, 0), *transitions])

    assert count_flaps(episodes, 600) == 0
