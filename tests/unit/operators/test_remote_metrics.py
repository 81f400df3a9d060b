"""The operator's arguments, its failure rule and its behaviour as a task, on the machine of the tests."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.providers.common.compat import sdk
from airflow.sdk import DAG, task
from airflow.sdk.execution_time.context import VariableAccessor

from airflow_provider_restrack.collect import fleet, frames
from airflow_provider_restrack.collect.inventory import parse_hosts
from airflow_provider_restrack.operators import remote_metrics
from airflow_provider_restrack.operators.remote_metrics import RemoteMetricsOperator, TooManyFailedHostsError
from airflow_provider_restrack.store.schema import FIELDS

FAILS = b"raise SystemExit('on fire')"


class FakeTaskInstance:
    """Records what is pushed."""

    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}

    map_index = -1

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value

    def xcom_pull(self, task_ids: str, key: str, *, include_prior_dates: bool, map_indexes: int) -> Any:
        assert (task_ids, include_prior_dates, map_indexes) == ("collect", True, -1)
        return self.pushed.get(key)


def make(**arguments: Any) -> RemoteMetricsOperator:
    return RemoteMetricsOperator(task_id="collect", **{"window": 0.05, **arguments})


def test_without_hosts_the_machine_of_the_task_is_sampled() -> None:
    (row,) = make(labels={"queue": "gpu"}).execute({})

    assert (row["host"], row["up"], row["labels"]) == (socket.gethostname(), True, {"queue": "gpu"})
    assert set(row) == {field.name for field in FIELDS} - {"day"}


def test_several_samples_are_taken_in_one_task() -> None:
    rows = make(samples=2, interval=1.5).execute({})

    assert len({row["timestamp"] for row in rows}) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"hosts": []}, "hosts is empty"),
        ({"hosts": ""}, "hosts is empty"),
        ({"hosts": ["a", "a"]}, "'a' is given twice"),
        ({"hosts": ["a:0"]}, "port '0'"),
        ({"hosts": [{"name": "a"}]}, "unknown key 'name'"),
        ({"labels": ["a"]}, "labels must be a mapping"),
        ({"window": 0}, "window is 0"),
        ({"window": float("nan")}, "window is nan"),
        ({"window": 30}, "below host_timeout"),
        ({"samples": 2, "window": 10}, "below interval"),
        ({"samples": 0}, "samples is 0"),
        ({"samples": 1.5}, "samples is 1.5"),
        ({"interval": -1}, "interval is -1"),
        ({"window": "5"}, "window is '5': give seconds"),
        ({"host_timeout": float("inf")}, "host_timeout is inf: give seconds above 0, at most 86400"),
        ({"connect_timeout": None}, "connect_timeout is None"),
        ({"max_failed_fraction": "half"}, "max_failed_fraction is 'half'"),
        ({"python": ""}, "python is ''"),
        ({"python": "-c"}, "python is '-c'"),
        ({"python": 3}, "python is 3"),
        ({"collector": "telnet"}, "collector is 'telnet': give one of auto, psutil, procfs, sh"),
        ({"include": ["eth0"]}, "include is "),
        ({"rates": "ever"}, "rates is 'ever': give one of window, since_last_run"),
        ({"exclude": {"disks": "sda"}}, "exclude has the key 'disks'"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"bastion_concurrency": 0}, "bastion_concurrency is 0"),
        ({"connect_timeout": 0}, "connect_timeout is 0"),
        ({"max_failed_fraction": 1.1}, "max_failed_fraction is 1.1"),
        ({"max_failed_fraction": -0.1}, "max_failed_fraction is -0.1"),
    ],
)
def test_what_is_plainly_wrong_fails_when_the_dag_is_parsed(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make(**arguments)


@pytest.mark.parametrize(
    ("rendered", "said"),
    [
        ([], "hosts is empty"),
        ("[]", "hosts is empty"),
        (None, "rendered to None"),
        ("None", "rendered to 'None'"),
    ],
)
def test_a_template_that_gives_no_hosts_fails_the_task_and_does_not_sample_the_worker(
    rendered: Any, said: str
) -> None:
    operator = make(hosts="{{ var.value.restrack_hosts }}")
    operator.hosts = rendered

    with pytest.raises(ValueError, match=said):
        operator.execute({})


def test_a_template_that_gives_no_interpreter_fails_the_task() -> None:
    operator = make(hosts=["db-01"], python="{{ params.python }}")
    operator.python = ""

    with pytest.raises(ValueError, match="python is ''"):
        operator.execute({})


def test_templates_and_upstream_output_are_left_alone_at_parse() -> None:
    with DAG("d", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):

        @task
        def list_hosts() -> list[str]:
            return ["a"]

        upstream = list_hosts()
        operator = make(hosts=upstream, labels="{{ params.labels }}")
        inside = RemoteMetricsOperator(task_id="inside", hosts=["{{ params.host }}", "{{ params.host }}"])
        mapped = RemoteMetricsOperator.partial(task_id="mapped", ssh_conn_id="s").expand(hosts=[["a"], ["b"]])
        by_task = RemoteMetricsOperator.partial(task_id="by_task").expand(hosts=upstream)

    assert operator.upstream_task_ids == {"list_hosts"}
    assert by_task.upstream_task_ids == {"list_hosts"}
    assert inside.hosts == ["{{ params.host }}", "{{ params.host }}"]
    assert mapped.operator_class is RemoteMetricsOperator


def test_templates_are_rendered_in_hosts_labels_connection_and_python() -> None:
    operator = make(
        hosts=[{"host": "{{ name }}", "port": 22}], labels={"a": "{{ name }}"}, ssh_conn_id="{{ name }}"
    )

    operator.render_template_fields({"name": "db-01"})

    assert operator.hosts == [{"host": "db-01", "port": 22}]
    assert (operator.labels, operator.ssh_conn_id) == ({"a": "db-01"}, "db-01")
    assert "python" in operator.template_fields


def test_hosts_that_fail_do_not_fail_the_task_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "read_agent_source", lambda: FAILS)

    (row,) = make().execute({})

    assert (row["up"], row["outcome"]) == (False, "parse_error")


def test_too_many_failed_hosts_fail_the_task_after_their_rows_are_pushed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frames, "read_agent_source", lambda: FAILS)
    ti = FakeTaskInstance()

    with pytest.raises(TooManyFailedHostsError, match=f"1 of 1 hosts .*0.5: {socket.gethostname()}"):
        make(max_failed_fraction=0.5).execute({"ti": ti})

    assert [row["outcome"] for row in ti.pushed["return_value"]] == ["parse_error"]


def test_nothing_is_pushed_where_xcom_is_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "read_agent_source", lambda: FAILS)
    ti = FakeTaskInstance()

    with pytest.raises(TooManyFailedHostsError):
        make(max_failed_fraction=0, do_xcom_push=False).execute({"ti": ti})

    assert ti.pushed == {}


def test_a_kill_before_the_first_connection_keeps_the_task_from_going_on() -> None:
    operator = make()
    operator.on_kill()

    with pytest.raises(fleet.FleetStoppedError):
        operator.execute({})


def test_a_kill_after_the_end_does_nothing() -> None:
    operator = make()
    operator.execute({})
    operator.on_kill()

    assert operator._fleet is None


def test_a_topic_that_renders_to_nothing_fails_the_task() -> None:
    operator = make(topic="{{ params.topic }}")
    operator.topic = ""

    with pytest.raises(ValueError, match="topic was rendered to ''"):
        operator.execute({})


def test_samples_that_are_too_large_for_xcom_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(remote_metrics, "_XCOM_BYTES", 100)
    warned = "more than the 1 MiB that XCom should hold: publish them as they arrive with topic="

    make(do_xcom_push=False).execute({})
    assert warned not in capsys.readouterr().out
    make().execute({})
    assert warned in capsys.readouterr().out


def test_the_counts_of_a_run_go_to_airflows_stats(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, float, dict[str, str]]] = []

    class FakeStats:
        @staticmethod
        def gauge(name: str, value: float, *, tags: dict[str, str]) -> None:
            told.append((name, value, tags))

        incr = timing = gauge

    monkeypatch.setattr(sdk, "Stats", FakeStats)
    with DAG("d", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
        operator = make()
    operator.execute({})

    assert {name: value for name, value, _ in told if "duration" not in name} == {
        "restrack.collect.hosts": 1,
        "restrack.collect.done": 1,
        "restrack.collect.failed": 0,
        "restrack.collect.running": 0,
        "restrack.collect.outcome.ok": 1,
    }
    assert all(tags == {"dag_id": "d", "task_id": "collect"} for _, _, tags in told)


def test_a_file_of_hosts_is_left_alone_when_the_dag_is_parsed() -> None:
    operator = make(hosts="file:/no/such/file.ini")

    with pytest.raises(ValueError, match=r"/no/such/file\.ini cannot be read on this worker"):
        operator.execute({})


def test_rates_cover_the_time_since_the_run_before() -> None:
    ti = FakeTaskInstance()

    (first,) = make(rates="since_last_run").execute({"ti": ti})
    (second,) = make(rates="since_last_run").execute({"ti": ti})

    assert (first["cpu_usage"], first["network_io_recv"], first["window_seconds"]) == (None, None, None)
    assert first["cpu_total_seconds"] > 0
    between = second["uptime"] - first["uptime"]
    assert second["window_seconds"] == pytest.approx(between, abs=0.002)
    assert 0 <= second["cpu_usage"] <= 100
    assert second["interface_recv"].keys() == second["interface_sent"].keys()
    assert "counters" not in second
    assert len(ti.pushed["restrack_counters"]) < 20_000


def test_a_run_that_fails_leaves_no_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "read_agent_source", lambda: FAILS)
    ti = FakeTaskInstance()

    with pytest.raises(TooManyFailedHostsError):
        make(rates="since_last_run", max_failed_fraction=0).execute({"ti": ti})

    assert "restrack_counters" not in ti.pushed


FLEET = [{"host": "web-1", "address": "10.0.0.1", "labels": {"role": "web"}}, "db-1"]


@pytest.mark.parametrize(
    ("template", "value"),
    [
        pytest.param("{{ var.json.fleet }}", json.dumps(FLEET), id="json"),
        pytest.param("{{ var.value.fleet }}", json.dumps(FLEET), id="value-json"),
        pytest.param("{{ var.json.fleet.prod }}", json.dumps({"prod": FLEET}), id="part-of-json"),
    ],
)
def test_hosts_come_from_an_airflow_variable(
    template: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_FLEET", value)
    operator = make(hosts=template)

    operator.render_template_fields(variable_context())

    web, db = parse_hosts(operator.hosts)
    assert (web.host, web.address, web.labels, db.host) == ("web-1", "10.0.0.1", {"role": "web"}, "db-1")


@pytest.mark.parametrize("value", ["7", "true", "null", "[]", '{"web-1": {}}'])
def test_a_variable_without_a_list_of_hosts_fails_before_anything_connects(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_FLEET", value)
    operator = make(hosts="{{ var.json.fleet }}")
    operator.render_template_fields(variable_context())

    with pytest.raises(ValueError, match="host"):
        operator.execute({})


def variable_context() -> Any:
    return {"var": {"json": VariableAccessor(deserialize_json=True), "value": VariableAccessor(False)}}
