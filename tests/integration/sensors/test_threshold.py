"""The sensor over samples in a real Cassandra, poked and deferred, and over one that is not there."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowSkipException, TaskDeferred

from airflow_provider_restrack import clock
from airflow_provider_restrack.clock import format_utc
from airflow_provider_restrack.sensors.threshold import ThresholdSensor, ThresholdSensorError
from airflow_provider_restrack.store.schema import TABLES, build_create_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from cassandra.cluster import Session

    Insert = Callable[..., None]

pytestmark = pytest.mark.cassandra

RULE = {"name": "cpu high", "metric": "cpu_usage", "op": ">", "threshold": 90, "for": "10m"}


@pytest.fixture(autouse=True)
def connection(cassandra_address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    host, port = cassandra_address
    value = json.dumps({"conn_type": "cassandra", "host": host, "port": port})
    monkeypatch.setenv("AIRFLOW_CONN_CASSANDRA_DEFAULT", value)


@pytest.fixture
def insert(cassandra_session: Session, keyspace: str) -> Insert:
    """Create the tables; return a function that stores one sample a minute, the newest of them now."""
    for table in TABLES:
        cassandra_session.execute(build_create_table(table, keyspace))

    def store(
        host: str, *values: float | None, metric: str = "cpu_usage", step_s: int = 60, **columns: Any
    ) -> None:
        newest = clock.utc_now()
        for index, value in enumerate(values):
            time = newest - timedelta(seconds=step_s * (len(values) - 1 - index))
            row = {"host": host, "timestamp": time, metric: value, **columns}
            names = ", ".join(row)
            marks = ", ".join(["%s"] * len(row))
            cassandra_session.execute(
                f"INSERT INTO {keyspace}.latest_metrics ({names}) VALUES ({marks})", list(row.values())
            )
            cassandra_session.execute(
                f"INSERT INTO {keyspace}.system_metrics (day, {names}) VALUES (%s, {marks})",
                [time.date(), *row.values()],
            )

    return store


def make(keyspace: str, **arguments: Any) -> ThresholdSensor:
    table = f"{keyspace}.system_metrics"
    return ThresholdSensor(task_id="t", **{"rules": [RULE], "table": table, "timeout": 0} | arguments)


def test_a_breach_in_cassandra_ends_the_sensor_with_its_evidence(keyspace: str, insert: Insert) -> None:
    insert("db-1", *[50] * 20, 95, 99.5, *[95] * 9, 96)
    insert("db-2", *[50] * 30)
    insert("db-3", *[50] * 20, *[95] * 5)

    (evidence,) = make(keyspace).execute({})

    assert (evidence["host"], evidence["rule"], evidence["samples"]) == ("db-1", "cpu high", 12)
    assert (evidence["current"], evidence["peak"], evidence["duration_seconds"]) == (96.0, 99.5, 660.0)
    assert evidence["text"].startswith("db-1: cpu_usage is 96 % (> 90 % for 11 min since ")
    assert [point["value"] for point in evidence["series"]] == [95.0, 99.5, *[95.0] * 9, 96.0]
    assert evidence["series"][0]["timestamp"] == evidence["since"]


def test_the_start_of_a_run_that_began_hours_ago_is_found(keyspace: str, insert: Insert) -> None:
    insert("db-1", *[50] * 3, *[95] * 100, step_s=300)
    (evidence,) = make(keyspace).execute({})
    assert (evidence["samples"], evidence["since_is_exact"]) == (100, True)
    assert evidence["duration_seconds"] == 99 * 300


def test_maps_labels_and_hosts_that_are_down_are_read_as_they_are_stored(
    keyspace: str, insert: Insert
) -> None:
    insert(
        "db-1", *[{"/": 50.0, "/var": 95.0}] * 15, metric="filesystem_usage", labels={"role": "db"}, up=True
    )
    insert("web-1", *[{"/": 95.0}] * 15, metric="filesystem_usage", labels={"role": "web"}, up=True)
    insert("db-2", *[False] * 15, metric="up", labels={"role": "db"})
    rules = [
        {
            "name": "full",
            "metric": "filesystem_usage",
            "op": ">",
            "threshold": 90,
            "for": "10m",
            "labels": {"role": "db"},
        },
        {"name": "down", "metric": "up", "op": "==", "threshold": False, "for": "10m"},
    ]
    evidence = make(keyspace, rules=rules).execute({})
    assert [(one["rule"], one["host"], one["device"], one["current"]) for one in evidence] == [
        ("full", "db-1", "/var", 95.0),
        ("down", "db-2", None, False),
    ]


def test_lost_samples_do_not_reset_the_run(keyspace: str, insert: Insert) -> None:
    insert("db-1", *[50] * 10, *[95, None, 95, None, None] * 3)
    assert [one["since_is_exact"] for one in make(keyspace, rules=[RULE | {"for": "12m"}]).execute({})] == [
        True
    ]


@pytest.mark.parametrize(
    ("soft_fail", "outcome"), [(False, AirflowSensorTimeout), (True, AirflowSkipException)]
)
def test_a_breach_that_is_too_short_times_out_or_skips(
    soft_fail: bool, outcome: type[Exception], keyspace: str, insert: Insert
) -> None:
    insert("db-1", *[50] * 20, *[95] * 10)
    with pytest.raises(outcome):
        make(keyspace, soft_fail=soft_fail).execute({})


def test_a_sample_that_arrives_while_it_pokes_ends_it(keyspace: str, insert: Insert) -> None:
    insert("db-1", *[95] * 10)
    sensor = make(
        keyspace, rules=[RULE | {"for": "9m"}], timeout=60, poke_interval=0.05, hosts=["db-1", "late"]
    )
    pokes = 0
    poke = sensor.poke

    def count(context: Any) -> Any:
        nonlocal pokes
        pokes += 1
        if pokes == 2:
            insert("late", *[95] * 12)
        return poke(context)

    sensor.poke = count  # type: ignore[method-assign]
    sensor.rules = [RULE | {"hosts": "late"}]
    assert [one["host"] for one in sensor.execute({})] == ["late"]
    assert pokes == 2


@pytest.mark.parametrize("soft_fail", [False, True])
def test_a_table_that_does_not_exist_fails_and_says_how_to_make_it(soft_fail: bool, keyspace: str) -> None:
    with pytest.raises(ThresholdSensorError, match=rf"{keyspace}.*ProvisionOperator"):
        make(keyspace, soft_fail=soft_fail).execute({})


def test_a_cassandra_that_is_not_there_fails_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    value = json.dumps(
        {"conn_type": "cassandra", "host": "127.0.0.1", "port": 9, "extra": {"connect_timeout": 1}}
    )
    monkeypatch.setenv("AIRFLOW_CONN_NOWHERE", value)
    with pytest.raises(ThresholdSensorError, match=r"127\.0\.0\.1.*nowhere"):
        make("metrics", cassandra_conn_id="nowhere").execute({})


def test_a_deferred_sensor_returns_what_its_trigger_finds(keyspace: str, insert: Insert) -> None:
    insert("db-1", *[50] * 20, *[95] * 5)
    sensor = make(keyspace, deferrable=True, timeout=600, poke_interval=0.1)
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute({})
    insert("db-2", *[95] * 15)

    events = asyncio.run(collect(deferred.value.trigger))

    (evidence,) = sensor.resume_execution(deferred.value.method_name, {"event": events[0]}, {})
    assert (len(events), evidence["host"]) == (1, "db-2")
    assert evidence["at"] <= format_utc(clock.utc_now())


ENDING = RULE | {"for": "5m", "clear_threshold": 70, "clear_for": "3m"}


def test_the_end_of_a_breach_in_cassandra_ends_the_sensor(keyspace: str, insert: Insert) -> None:
    insert("db-1", *[50] * 20, *[95] * 9, 99, *[60] * 6)
    insert("db-2", *[50] * 36)

    evidence = make(keyspace, rules=[ENDING], until="clear").execute({})

    assert (evidence["hosts"], evidence["instances"], evidence["rules"]) == (2, 2, ["cpu high"])
    assert [(one["host"], one["peak"], one["current"]) for one in evidence["ended"]] == [("db-1", 99.0, 60.0)]
    assert evidence["since"] == evidence["ended"][0]["ended"] < evidence["at"]
    assert json.loads(json.dumps(evidence)) == evidence


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([*[50] * 20, *[95] * 10], id="in breach"),
        pytest.param([*[50] * 20, *[95] * 10, *[60] * 2], id="recovering"),
        pytest.param([*[95] * 10, *[80] * 300], id="between the thresholds for hours"),
        pytest.param([], id="no sample"),
    ],
)
def test_what_is_not_over_times_out(values: list[float], keyspace: str, insert: Insert) -> None:
    insert("db-1", *values)
    with pytest.raises(AirflowSensorTimeout):
        make(keyspace, rules=[ENDING], until="clear").execute({})


def test_a_host_that_fell_silent_in_breach_is_not_over(keyspace: str, insert: Insert) -> None:
    insert("db-1", *[95] * 10, *[None] * 60)
    insert("db-2", *[50] * 30)
    with pytest.raises(AirflowSensorTimeout):
        make(keyspace, rules=[ENDING], until="clear").execute({})


def test_a_deferred_sensor_is_resumed_with_the_end_that_its_trigger_finds(
    keyspace: str, insert: Insert
) -> None:
    insert("db-1", *[50] * 20, *[95] * 10)
    sensor = make(
        keyspace, rules=[RULE | {"for": "5m"}], until="clear", deferrable=True, timeout=600, poke_interval=0.1
    )
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute({})
    insert("db-1", 40)

    events = asyncio.run(collect(deferred.value.trigger))

    found = sensor.resume_execution(deferred.value.method_name, {"event": events[0]}, {})
    assert (len(events), [one["host"] for one in found["ended"]]) == (1, ["db-1"])


async def collect(trigger: Any) -> list[dict[str, Any]]:
    return [event.payload async for event in trigger.run()]
