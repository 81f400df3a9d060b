"""The trigger: what it fires and how often, that it blocks no loop, and that it closes its session."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.models.trigger import Trigger
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.sdk import DAG, Asset, AssetWatcher
from airflow.serialization.encoders import encode_trigger
from airflow.serialization.serialized_objects import BaseSerialization, DagSerialization
from airflow.triggers.base import BaseEventTrigger

from airflow_provider_restrack import clock
from airflow_provider_restrack.alert import evidence
from airflow_provider_restrack.alert.rules import RuleError
from airflow_provider_restrack.store.session import CassandraUnreachableError
from airflow_provider_restrack.triggers.threshold import ThresholdTrigger

if TYPE_CHECKING:
    from collections.abc import Callable

START = datetime(2026, 5, 4, 12, tzinfo=UTC)
RULE = {"name": "cpu high", "metric": "cpu_usage", "op": ">", "threshold": 90, "for": "2m"}


class Scenario:
    """Minute by minute: each poll sees the samples up to its minute, or an error in place of them."""

    def __init__(self, values: list[float | Exception], monkeypatch: pytest.MonkeyPatch) -> None:
        self.values = values
        self.minute = -1
        self.opened = self.closed = 0
        self.threads: set[int] = set()
        self.block: Callable[[], None] = lambda: None
        monkeypatch.setattr(clock, "utc_now", self.tick)
        monkeypatch.setattr(clock, "monotonic", lambda: 60.0 * self.minute)

    def tick(self) -> datetime:
        self.minute += 1
        return START + timedelta(minutes=self.minute)

    def hosts(self) -> list[str]:
        return ["db-1"]

    def fetch(self, hosts, since, until, columns):
        self.threads.add(threading.get_ident())
        self.block()
        now = self.values[self.minute]
        if isinstance(now, Exception):
            raise now
        return {
            host: [
                {"timestamp": START + timedelta(minutes=n), "cpu_usage": value}
                for n, value in enumerate(self.values[: self.minute + 1])
                if not isinstance(value, Exception)
            ]
            for host in hosts
        }

    def close(self) -> None:
        self.closed += 1


class ScenarioTrigger(ThresholdTrigger):
    """Reads from a scenario; everything else is real."""

    scenario: Scenario

    @contextmanager
    def _open_session(self):
        self.scenario.opened += 1
        yield object()
        self.scenario.close()

    def _make_reader(self, session):
        return self.scenario


def make(scenario: Scenario, **arguments: Any) -> ScenarioTrigger:
    trigger = ScenarioTrigger(**{"rules": [RULE], "poll_interval": 0} | arguments)
    trigger.scenario = scenario
    return trigger


def run(scenario: Scenario, **arguments: Any) -> list[tuple[int, dict[str, Any]]]:
    """Run a trigger that ends by itself; return minute and payload of each event."""
    trigger = make(scenario, once=True, **arguments)

    async def collect() -> list[tuple[int, dict[str, Any]]]:
        return [(scenario.minute, event.payload) async for event in trigger.run()]

    return asyncio.run(collect())


def watch(scenario: Scenario, **arguments: Any) -> list[tuple[int, dict[str, Any]]]:
    """Poll once a minute, as a watcher does, until the scenario is over; return minute and payload."""
    trigger = make(scenario, **arguments)

    async def collect() -> list[tuple[int, dict[str, Any]]]:
        events = []
        for minute in range(len(scenario.values)):
            payload = await trigger._poll()
            if payload is not None:
                events.append((minute, payload))
        await trigger.cleanup()
        return events

    return asyncio.run(collect())


def test_a_breach_fires_once_with_its_evidence_and_ends_a_deferred_task_s_trigger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scenario = Scenario([50, 95, 97, 96, 99], monkeypatch)
    ((minute, payload),) = run(scenario)
    assert (minute, payload["status"]) == (3, "breach")
    assert [(one["host"], one["since"], one["peak"]) for one in payload["evidence"]] == [
        ("db-1", "2026-05-04T12:01:00.000Z", 97.0)
    ]
    assert (scenario.opened, scenario.closed) == (1, 1)


def test_no_poll_reads_in_the_event_loop_s_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = Scenario([50, 50, 95, 97, 96], monkeypatch)
    run(scenario)
    assert scenario.threads
    assert threading.get_ident() not in scenario.threads


def test_a_watcher_tells_a_run_once_and_the_next_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = Scenario([50, 95, 95, 95, 95, 95, 50, 95, 95, 95, 95], monkeypatch)
    events = watch(scenario)
    assert [(minute, payload["evidence"][0]["since"][11:16]) for minute, payload in events] == [
        (3, "12:01"),
        (9, "12:07"),
    ]
    assert (scenario.opened, scenario.closed) == (1, 1)


def test_a_watcher_does_not_tell_a_run_again_after_an_outage_within_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = CassandraUnreachableError("no answer")
    events = watch(Scenario([95, 95, 95, 95, lost, lost, 95, 95], monkeypatch))
    assert [minute for minute, _ in events] == [2]


def test_a_watcher_goes_on_after_its_first_event(monkeypatch: pytest.MonkeyPatch) -> None:
    trigger = make(Scenario([95, 95, 95, 50, 95, 95, 95, 95], monkeypatch))

    async def two_events() -> list[int]:
        stream = trigger.run()
        minutes = []
        for _ in range(2):
            await anext(stream)
            minutes.append(trigger.scenario.minute)
        await stream.aclose()
        await trigger.cleanup()
        return minutes

    assert asyncio.run(two_events()) == [2, 6]


def test_a_watcher_tells_a_run_again_when_it_becomes_more_severe(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = {"threshold": {"warning": 80, "critical": 95}, "for": 0}
    events = watch(Scenario([50, 85, 85, 97, 97, 85], monkeypatch), rules=[RULE | levels])
    assert [(minute, payload["evidence"][0]["severity"]) for minute, payload in events] == [
        (1, "warning"),
        (3, "critical"),
    ]


ENDING = RULE | {"clear_threshold": 70, "clear_for": "2m"}


def test_a_task_that_waits_for_the_end_is_told_what_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = Scenario([50, 95, 97, 96, 80, 60, 60, 60], monkeypatch)
    # Every poll moves the clock by a minute: the first ones see no breach yet.
    scenario.minute = 2
    ((minute, payload),) = run(scenario, until="clear", rules=[ENDING])
    assert (minute, payload["status"]) == (7, "clear")
    assert [
        (one["host"], one["since"][11:16], one["ended"][11:16]) for one in payload["evidence"]["ended"]
    ] == [("db-1", "12:01", "12:07")]
    assert json.loads(json.dumps(payload, allow_nan=False)) == payload
    assert (scenario.opened, scenario.closed) == (1, 1)


def test_a_watcher_of_the_end_tells_each_end_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = Scenario([50, 50, 95, 95, 95, 50, 50, 95, 95, 95, 50], monkeypatch)
    events = watch(scenario, until="clear")
    assert [(minute, payload["evidence"]["ended_count"]) for minute, payload in events] == [(5, 1), (10, 1)]


def test_an_outage_is_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = CassandraUnreachableError("no answer")
    events = watch(Scenario([95, 95, 95, lost, lost, lost, 95, 50], monkeypatch), until="clear", retry_for=60)
    assert [(minute, payload["status"]) for minute, payload in events] == [(4, "error"), (7, "clear")]


def test_a_short_outage_is_bridged_with_a_new_session(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = CassandraUnreachableError("no answer")
    scenario = Scenario([50, lost, lost, 95, 95, 95], monkeypatch)
    ((minute, payload),) = run(scenario, retry_for=180)
    assert (minute, payload["status"]) == (5, "breach")
    assert (scenario.opened, scenario.closed) == (3, 3)


def test_an_outage_that_lasts_is_an_error_event_that_ends_a_deferred_task_s_trigger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = CassandraUnreachableError("Cassandra at 127.0.0.1:9 cannot be reached")
    scenario = Scenario([50, *[lost] * 9], monkeypatch)
    ((minute, payload),) = run(scenario, retry_for=180)
    assert (minute, payload) == (
        4,
        {
            "status": "error",
            "message": "Samples of metrics.system_metrics cannot be read (connection cassandra_default): "
            "CassandraUnreachableError: Cassandra at 127.0.0.1:9 cannot be reached",
        },
    )
    assert scenario.opened == scenario.closed


def test_a_watcher_tells_an_outage_once_and_the_next_one_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = CassandraUnreachableError("no answer")
    events = watch(Scenario([lost] * 5 + [50] + [lost] * 4, monkeypatch), retry_for=120)
    assert [(minute, payload["status"]) for minute, payload in events] == [(2, "error"), (8, "error")]


@pytest.mark.parametrize(
    "error",
    [ValueError("extra port must be a number"), AirflowNotFoundException("connection is not defined")],
)
def test_settings_that_no_retry_mends_are_told_at_once(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((minute, payload),) = run(Scenario([error], monkeypatch))
    assert (minute, payload["status"]) == (0, "error")
    assert str(error) in payload["message"]


def test_even_an_unknown_error_never_leaves_the_trigger(monkeypatch: pytest.MonkeyPatch) -> None:
    ((_, payload),) = run(Scenario([KeyError("bug")], monkeypatch), retry_for=0)
    assert payload["status"] == "error"


def test_evidence_that_cannot_be_described_is_an_error_event(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def fail(breaches: Any) -> None:
        threads.append(threading.get_ident())
        raise KeyError("bug")

    monkeypatch.setattr(evidence, "build_evidence", fail)
    ((_, payload),) = run(Scenario([95], monkeypatch), rules=[RULE | {"for": 0}], retry_for=0)
    assert payload["status"] == "error"
    assert threads != [threading.get_ident()]


def test_a_session_that_does_not_close_loses_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = Scenario([95], monkeypatch)

    def fail() -> None:
        raise RuntimeError("the driver's own error")

    monkeypatch.setattr(scenario, "close", fail)
    ((_, payload),) = run(scenario, rules=[RULE | {"for": 0}])
    assert payload["status"] == "breach"


def test_the_event_loop_goes_on_while_a_read_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = Scenario([95], monkeypatch)
    ticked = threading.Event()

    def wait_for_the_loop() -> None:
        if not ticked.wait(5):
            raise TimeoutError("the event loop stood still during the read")

    scenario.block = wait_for_the_loop
    trigger = make(scenario, once=True, rules=[RULE | {"for": 0}])

    async def tick() -> None:
        for _ in range(100):
            await asyncio.sleep(0)
        ticked.set()

    async def both() -> dict[str, Any]:
        ticking = asyncio.ensure_future(tick())
        events = [event.payload async for event in trigger.run()]
        await ticking
        return events[0]

    assert asyncio.run(both())["status"] == "breach"


def test_a_trigger_that_is_cancelled_while_it_opens_its_session_closes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scenario = Scenario([50], monkeypatch)
    reading, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        reading.set()
        go_on.wait(5)

    scenario.block = hang
    trigger = make(scenario)

    async def cancel_in_the_middle() -> None:
        task = asyncio.ensure_future(anext(trigger.run()))
        await asyncio.to_thread(reading.wait, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert scenario.closed == 0
        go_on.set()
        await trigger.cleanup()

    asyncio.run(cancel_in_the_middle())
    assert (scenario.opened, scenario.closed) == (1, 1)


def test_cleanup_of_a_trigger_that_never_ran_does_nothing() -> None:
    asyncio.run(ThresholdTrigger(rules=[RULE]).cleanup())


ARGUMENTS: dict[str, Any] = {
    "rules": [RULE | {"for": timedelta(minutes=2), "labels": {"role": "db*"}, "summary": "{host} burns"}],
    "hosts": ["db-1"],
    "cassandra_conn_id": "c",
    "table": "other.system_metrics",
    "poll_interval": 5,
    "retry_for": 7,
    "once": True,
    "until": "clear",
}


def test_it_comes_back_from_airflow_s_trigger_table_as_it_was() -> None:
    trigger = ThresholdTrigger(**ARGUMENTS)
    classpath, kwargs = trigger.serialize()
    stored = Trigger(classpath=classpath, kwargs=kwargs)
    back = ThresholdTrigger(**stored.kwargs)
    assert classpath == "airflow_provider_restrack.triggers.threshold.ThresholdTrigger"
    assert back.serialize() == trigger.serialize()
    assert back.rules == trigger.rules
    assert json.loads(json.dumps(kwargs)) == kwargs


def test_serialize_names_every_argument() -> None:
    assert set(ThresholdTrigger(**ARGUMENTS).serialize()[1]) == set(ARGUMENTS)


def test_it_watches_an_asset_and_survives_the_dag_s_serialization() -> None:
    trigger = ThresholdTrigger(rules=[RULE])
    watched = Asset("hot_hosts", watchers=[AssetWatcher(name="cpu", trigger=trigger)])
    with DAG("handle_hot_hosts", schedule=[watched]) as dag:
        pass
    data = json.dumps(DagSerialization.to_dict(dag))
    encoded = encode_trigger(trigger)
    kwargs = {key: BaseSerialization.deserialize(value) for key, value in encoded["kwargs"].items()}
    assert encoded["classpath"] in data
    assert ThresholdTrigger(**kwargs).serialize() == trigger.serialize()


def test_airflow_takes_it_for_the_same_watcher_at_every_parse() -> None:
    """Airflow compares the hash of what a parse gives with that of what it stored, and drops what differs."""
    parsed = encode_trigger(ThresholdTrigger(**ARGUMENTS))
    stored = Trigger(classpath=parsed["classpath"], kwargs=parsed["kwargs"])
    again = encode_trigger(encode_trigger(parsed))
    hashes = {BaseEventTrigger.hash(one["classpath"], one["kwargs"]) for one in (parsed, again)}
    assert hashes == {BaseEventTrigger.hash(stored.classpath, stored.kwargs)}
    assert ThresholdTrigger(**stored.kwargs).serialize() == ThresholdTrigger(**ARGUMENTS).serialize()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"hosts": "db-1"}, "hosts 'db-1' must be a list of names"),
        ({"hosts": []}, "hosts .* must be a list of names that is not empty"),
        ({"hosts": [{"host": "db-1"}]}, "must be a list of names"),
        ({"table": "metrics.system_metrics_5m"}, "is no table of samples"),
        ({"until": "over"}, "until 'over' is not known"),
    ],
)
def test_what_would_never_fire_is_told_when_the_dag_file_is_parsed(
    argument: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ThresholdTrigger(rules=[RULE], **argument)


def test_a_wrong_rule_is_told_when_the_dag_file_is_parsed() -> None:
    with pytest.raises(RuleError, match="did you mean 'cpu_usage'"):
        ThresholdTrigger(rules=[RULE | {"metric": "cpu_usge"}])
