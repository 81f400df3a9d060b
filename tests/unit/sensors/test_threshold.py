"""The sensor in all its modes, over rows in memory: success, timeouts, skips, errors and deferral."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowRescheduleException
from structlog.testing import capture_logs

from airflow_provider_restrack import clock
from airflow_provider_restrack.alert.rules import RuleError
from airflow_provider_restrack.sensors.threshold import ThresholdSensor, ThresholdSensorError
from airflow_provider_restrack.store.session import CassandraUnreachableError

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
RULE = {"name": "cpu high", "metric": "cpu_usage", "op": ">", "threshold": 90, "for": "10m"}


class MemoryReader:
    """Rows of a dict; raises the given error at a read."""

    def __init__(self, rows: dict[str, list[dict[str, Any]]], error: Exception | None = None) -> None:
        self.rows, self.error = rows, error
        self.asked: list[list[str]] = []

    def hosts(self) -> list[str]:
        return list(self.rows)

    def fetch(self, hosts, since, until, columns):
        self.asked.append(list(hosts))
        if self.error:
            raise self.error
        return {host: [row for row in self.rows.get(host, []) if row["timestamp"] >= since] for host in hosts}

    def fetch_days_to_limit(self, metrics, hosts, now):
        return {}


def minutes(*values: float) -> list[dict[str, Any]]:
    """Rows of one value a minute, the newest at NOW."""
    count = len(values)
    return [
        {"timestamp": NOW - timedelta(minutes=count - 1 - n), "cpu_usage": v} for n, v in enumerate(values)
    ]


HOT = minutes(*[50] * 20, *[97] * 12)
WARM = minutes(*[50] * 20, *[97] * 5)


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "utc_now", lambda: NOW)


def make_sensor(
    rows: dict[str, list[dict[str, Any]]], error: Exception | None = None, **kwargs: Any
) -> ThresholdSensor:
    sensor = ThresholdSensor(task_id="t", **{"rules": [RULE], "timeout": 0} | kwargs)
    reader = MemoryReader(rows, error)

    @contextmanager
    def open_reader():
        yield reader

    sensor._open_reader = open_reader
    sensor._reader = reader
    return sensor


def test_a_breach_ends_it_with_the_evidence() -> None:
    evidence = make_sensor({"db-1": HOT, "db-2": WARM}).execute({})
    assert [(one["host"], one["rule"], one["samples"], one["since"]) for one in evidence] == [
        ("db-1", "cpu high", 12, "2026-05-04T11:49:00.000Z")
    ]
    assert json.loads(json.dumps(evidence, allow_nan=False)) == evidence


def test_a_rule_of_several_severities_is_told_at_the_highest_that_holds() -> None:
    levels = RULE | {"threshold": {"warning": 80, "critical": 96}}
    evidence = make_sensor({"db-1": HOT, "db-2": minutes(*[85] * 20)}, rules=levels).execute({})
    assert [(one["host"], one["severity"]) for one in evidence] == [("db-1", "critical"), ("db-2", "warning")]


def test_the_evidence_links_to_the_run() -> None:
    context = {"ti": SimpleNamespace(log_url="http://127.0.0.1:8080/dags/d/runs/r/tasks/t")}
    urls = [make_sensor({"db-1": HOT}).execute(run)[0]["run_url"] for run in (context, {})]
    assert urls == [context["ti"].log_url, None]


def test_a_breach_that_is_too_short_times_out() -> None:
    with pytest.raises(AirflowSensorTimeout):
        make_sensor({"db-1": WARM}).execute({})


def test_soft_fail_skips_at_the_timeout() -> None:
    with pytest.raises(AirflowSkipException):
        make_sensor({"db-1": WARM}, soft_fail=True).execute({})


def test_each_poke_says_how_near_each_rule_is() -> None:
    sensor = make_sensor({"db-1": WARM, "db-2": minutes(10)})
    with capture_logs() as logs, pytest.raises(AirflowSensorTimeout):
        sensor.execute({})
    why = "nearest of 2 is db-1, pending: breaches (97), but for 4 min of 10 min"
    assert f"rule 'cpu high' (cpu_usage > 90.0): {why}" in [log["event"] for log in logs]


def test_named_hosts_without_samples_are_named_in_the_log() -> None:
    sensor = make_sensor({"db-1": WARM}, hosts=["db-1", {"host": "db-9"}, "ops@db-8:2222"])
    with capture_logs() as logs, pytest.raises(AirflowSensorTimeout):
        sensor.execute({})
    assert "2 hosts have no sample of the last day: db-8, db-9" in [log["event"] for log in logs]
    assert sensor._reader.asked[0] == ["db-1", "db-8", "db-9"]


def test_an_empty_store_is_said_so() -> None:
    with capture_logs() as logs, pytest.raises(AirflowSensorTimeout):
        make_sensor({}).execute({})
    assert "No host is known in latest_metrics: has anything been loaded?" in [log["event"] for log in logs]


def test_reschedule_mode_gives_the_slot_back_until_the_next_poke() -> None:
    sensor = make_sensor({"db-1": WARM}, mode="reschedule", timeout=600, poke_interval=60)
    context = {"ti": SimpleNamespace(get_first_reschedule_date=lambda _: None)}
    with pytest.raises(AirflowRescheduleException):
        sensor.execute(context)


@pytest.mark.parametrize("soft_fail", [False, True])
def test_samples_that_cannot_be_read_fail_the_poke_with_the_reason(soft_fail: bool) -> None:
    error = CassandraUnreachableError("Cassandra at 127.0.0.1:9 (connection c) cannot be reached")
    with pytest.raises(
        ThresholdSensorError, match=r"metrics.system_metrics cannot be read.*connection c"
    ) as caught:
        make_sensor({"db-1": HOT}, error, soft_fail=soft_fail).execute({})
    assert isinstance(caught.value, AirflowException)


@pytest.mark.parametrize(
    "change", [{"metric": "cpu_usge"}, {"op": "=>"}, {"threshold": float("nan")}, {"for": "soon"}]
)
def test_a_wrong_rule_that_is_written_in_the_dag_is_told_when_it_is_parsed(change: dict[str, Any]) -> None:
    with pytest.raises(RuleError, match=f"rule 'cpu high': {next(iter(change))}"):
        ThresholdSensor(task_id="t", rules=[RULE | change])


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"hosts": []}, "hosts is empty"),
        ({"hosts": ["a b"]}, "host 'a b' is no host name"),
        ({"table": "metrics.other"}, "is no table of samples"),
        ({"table": "system_metrics"}, "lacks its keyspace"),
    ],
)
def test_wrong_hosts_and_tables_are_told_when_the_dag_is_parsed(
    argument: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ThresholdSensor(task_id="t", rules=[RULE], **argument)


def test_a_templated_rule_is_checked_when_it_is_rendered() -> None:
    sensor = make_sensor({"db-1": HOT}, rules=[RULE | {"threshold": "{{ limit }}"}])
    with DAG("d"):
        sensor.render_template_fields({"limit": 96})
    assert [one["threshold"] for one in sensor.execute({})] == [96.0]


@pytest.mark.parametrize("flag", ["soft_fail", "never_fail", "silent_fail"])
@pytest.mark.parametrize("deferrable", [False, True])
def test_a_wrong_templated_rule_fails_the_task_for_good_and_is_never_skipped(
    flag: str, deferrable: bool
) -> None:
    sensor = make_sensor({}, rules="{{ rules }}", deferrable=deferrable, timeout=60, **{flag: True})
    sensor.render_template_fields({"rules": json.dumps([RULE | {"op": "=>"}])})
    with pytest.raises(AirflowFailException, match=r"Task t: rule 'cpu high': op '=>' is not known"):
        sensor.execute({})


def test_the_output_of_another_task_is_not_looked_at_when_the_dag_is_parsed() -> None:
    with DAG("d"):
        upstream = ThresholdSensor(task_id="first", rules=RULE)
        sensor = ThresholdSensor(task_id="second", rules=upstream.output, hosts=upstream.output)
    assert sensor.upstream_task_ids == {"first"}


def test_a_deferrable_sensor_looks_once_before_it_defers() -> None:
    evidence = make_sensor({"db-1": HOT}, deferrable=True, timeout=600).execute({})
    assert [one["host"] for one in evidence] == ["db-1"]


def test_a_deferrable_sensor_defers_to_a_trigger_that_ends_after_one_event() -> None:
    sensor = make_sensor({"db-1": WARM}, deferrable=True, timeout=600, poke_interval=30, hosts="db-1, db-2")
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute({})
    classpath, arguments = deferred.value.trigger.serialize()
    assert classpath == "airflow_provider_restrack.triggers.threshold.ThresholdTrigger"
    assert [(one["name"], one["for"]) for one in json.loads(arguments["rules"])] == [("cpu high", 600.0)]
    assert {
        key: arguments[key] for key in ("hosts", "poll_interval", "once", "table", "cassandra_conn_id")
    } == {
        "hosts": ["db-1", "db-2"],
        "poll_interval": 30.0,
        "once": True,
        "table": "metrics.system_metrics",
        "cassandra_conn_id": "cassandra_default",
    }
    assert deferred.value.timeout == timedelta(seconds=600)


NO_ANSWER = CassandraUnreachableError("no answer")


def test_an_error_at_the_first_look_fails_a_deferrable_sensor_at_once() -> None:
    with pytest.raises(ThresholdSensorError, match="no answer"):
        make_sensor({}, NO_ANSWER, deferrable=True, timeout=600, hosts="db-1").execute({})


def test_never_fail_skips_a_deferrable_sensor_at_an_error_of_the_first_look() -> None:
    sensor = make_sensor({}, NO_ANSWER, deferrable=True, timeout=600, hosts="db-1", never_fail=True)
    with pytest.raises(AirflowSkipException, match="no answer"):
        sensor.execute({})


def test_silent_fail_defers_in_spite_of_an_error_and_retries_reads_until_the_timeout() -> None:
    sensor = make_sensor({}, NO_ANSWER, deferrable=True, timeout=600, hosts="db-1", silent_fail=True)
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute({})
    assert deferred.value.trigger.retry_for == 600


def test_a_deferrable_sensor_without_time_looks_once_and_ends() -> None:
    with pytest.raises(AirflowSkipException):
        make_sensor({"db-1": WARM}, deferrable=True, timeout=0, soft_fail=True).execute({})


def test_the_trigger_s_evidence_is_the_result() -> None:
    evidence = [{"text": "db-1: hot"}]
    event = {"status": "breach", "evidence": evidence}
    context = {"ti": SimpleNamespace(log_url="http://127.0.0.1:8080/r")}
    found = make_sensor({}).resume_execution("execute_complete", {"event": event}, context)
    assert found == [{"text": "db-1: hot", "run_url": "http://127.0.0.1:8080/r"}]


@pytest.mark.parametrize("event", [{"status": "error", "message": "no answer"}, None, {"status": "odd"}])
def test_a_trigger_that_could_not_look_fails_the_task(event: dict[str, Any] | None) -> None:
    with pytest.raises(ThresholdSensorError, match=(event or {}).get("message", "no breach")):
        make_sensor({}).resume_execution("execute_complete", {"event": event}, {})


def test_soft_fail_skips_a_deferred_sensor_at_an_error_as_airflow_documents() -> None:
    with pytest.raises(AirflowSkipException):
        make_sensor({}, soft_fail=True).resume_execution("execute_complete", {"event": None}, {})


@pytest.mark.parametrize(
    ("soft_fail", "outcome"), [(False, AirflowSensorTimeout), (True, AirflowSkipException)]
)
def test_a_deferral_that_times_out_is_a_sensor_timeout(soft_fail: bool, outcome: type[Exception]) -> None:
    with pytest.raises(outcome):
        make_sensor({}, soft_fail=soft_fail).resume_execution("__fail__", {"error": "Trigger timeout"}, {})


COOLED = minutes(*[50] * 10, *[97] * 12, *[40] * 3)
STILL_HOT = minutes(*[50] * 10, *[97] * 12, 40)
ENDING = RULE | {"clear_for": "2m"}


def make_ending(rows: list[dict[str, Any]], **kwargs: Any) -> ThresholdSensor:
    return make_sensor({"db-1": rows}, **{"rules": [ENDING], "until": "clear"} | kwargs)


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
@pytest.mark.parametrize("deferrable", [False, True])
def test_the_end_of_all_breaches_ends_it_with_what_was_watched(mode: str, deferrable: bool) -> None:
    run = SimpleNamespace(get_first_reschedule_date=lambda _: None, log_url="http://127.0.0.1:8080/r")
    sensor = make_ending(COOLED, mode=mode, deferrable=deferrable, timeout=600)
    evidence = sensor.execute({"ti": run})
    assert (evidence["since"], evidence["rules"], evidence["instances"], evidence["run_url"]) == (
        "2026-05-04T12:00:00.000Z",
        ["cpu high"],
        1,
        "http://127.0.0.1:8080/r",
    )
    assert [(one["host"], one["peak"]) for one in evidence["ended"]] == [("db-1", 97.0)]
    assert json.loads(json.dumps(evidence, allow_nan=False)) == evidence


def test_nothing_in_breach_is_clear_at_once() -> None:
    evidence = make_ending(minutes(*[50] * 20)).execute({})
    assert evidence["text"] == "clear: cpu high on 1 host; no breach in the samples that were read"


@pytest.mark.parametrize(
    ("soft_fail", "outcome"), [(False, AirflowSensorTimeout), (True, AirflowSkipException)]
)
def test_what_is_not_over_in_time_times_out_or_skips(soft_fail: bool, outcome: type[Exception]) -> None:
    sensor = make_ending(STILL_HOT, soft_fail=soft_fail)
    with capture_logs() as logs, pytest.raises(outcome):
        sensor.execute({})
    why = "not over: rule 'cpu high', db-1: is clear, but not yet for 2 min (newest value 40)"
    assert why in [log["event"] for log in logs]


def test_what_is_not_over_gives_the_slot_back_in_reschedule_mode() -> None:
    context = {"ti": SimpleNamespace(get_first_reschedule_date=lambda _: None)}
    with pytest.raises(AirflowRescheduleException):
        make_ending(STILL_HOT, mode="reschedule", timeout=600).execute(context)


def test_what_is_not_over_is_deferred_until_it_is() -> None:
    sensor = make_ending(STILL_HOT, deferrable=True, timeout=600)
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute({})
    assert deferred.value.trigger.serialize()[1]["until"] == "clear"

    evidence = {"text": "clear", "ended": [], "run_url": None}
    context = {"ti": SimpleNamespace(log_url="http://127.0.0.1:8080/r")}
    event = {"status": "clear", "evidence": evidence}
    found = sensor.resume_execution("execute_complete", {"event": event}, context)
    assert found == evidence | {"run_url": "http://127.0.0.1:8080/r"}


def test_samples_that_stop_are_no_end() -> None:
    old = [row | {"timestamp": row["timestamp"] - timedelta(hours=1)} for row in HOT]
    for rows in (old, []):
        with pytest.raises(AirflowSensorTimeout):
            make_ending(rows).execute({})


def test_a_breach_is_no_answer_to_who_waits_for_its_end() -> None:
    event = {"status": "breach", "evidence": []}
    with pytest.raises(ThresholdSensorError, match="sent no clear"):
        make_ending(HOT).resume_execution("execute_complete", {"event": event}, {})


@pytest.mark.parametrize("until", ["breach", "clear"])
@pytest.mark.parametrize("flag", ["soft_fail", "never_fail"])
@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("__fail__", {"error": "Trigger timeout"}),
        ("__fail__", {"error": "Trigger failure", "traceback": ["lost"]}),
        ("execute_complete", {"event": {"status": "error", "message": "no answer"}}),
    ],
)
def test_a_deferral_that_fails_is_skipped_if_the_dag_says_so(
    until: str, flag: str, method: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(AirflowSkipException):
        make_sensor({}, until=until, **{flag: True}).resume_execution(method, arguments, {})


@pytest.mark.parametrize("flag", ["soft_fail", "never_fail"])
@pytest.mark.parametrize("deferrable", [False, True])
def test_the_task_s_own_timeout_is_skipped_as_airflow_s_loop_does(flag: str, deferrable: bool) -> None:
    sensor = make_sensor({}, AirflowTaskTimeout("60 s"), deferrable=deferrable, timeout=60, **{flag: True})
    sensor.hosts = ["db-1"]
    with pytest.raises(AirflowSkipException):
        sensor.execute({})


@pytest.mark.parametrize("deferrable", [False, True])
def test_never_fail_skips_even_an_unknown_error(deferrable: bool) -> None:
    sensor = make_sensor({}, KeyError("bug"), deferrable=deferrable, timeout=60, never_fail=True)
    sensor.hosts = ["db-1"]
    with pytest.raises(AirflowSkipException):
        sensor.execute({})


def test_an_end_that_is_not_known_is_refused_when_the_dag_is_parsed() -> None:
    with pytest.raises(ValueError, match="until 'over' is not known"):
        ThresholdSensor(task_id="t", rules=[RULE], until="over")


def test_every_argument_that_a_dag_may_template_is_a_template_field() -> None:
    assert set(ThresholdSensor.template_fields) == {"rules", "hosts", "cassandra_conn_id", "table"}
