"""The operator over rows and a lease in memory: what it checks, asks, returns, tells, and fails for."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, BaseNotifier
from airflow.sdk import DAG
from structlog.testing import capture_logs

from airflow_provider_restrack import clock
from airflow_provider_restrack.load import lag
from airflow_provider_restrack.load.errors import KafkaUnavailableError
from airflow_provider_restrack.operators.evaluate_alerts import (
    AlertRoundError,
    EvaluateAlertsOperator,
    name_receivers,
)
from tests.unit.alert.fleet_fakes import START, MemoryReader, rows_of
from tests.unit.alert.round_fakes import MemoryLease

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CPU = {
    "name": "cpu",
    "metric": "cpu_usage",
    "op": ">",
    "threshold": {"warning": 80, "critical": 90},
    "for": "2m",
}
BUSY = {"db-1": rows_of([50, 85, 85, 85, 95, 95, 95]), "db-2": rows_of([10] * 7)}
CONTEXT: Any = {
    "ti": SimpleNamespace(dag_id="d", run_id="r", task_id="t", try_number=1, log_url="http://ui/log")
}
Told = list[tuple[str, Any]]


class Notifier(BaseNotifier):
    """Keeps what it is told."""

    template_fields = ("text",)

    def __init__(self, text: str = "{{ alert_title }}", told: Told | None = None) -> None:
        super().__init__()
        self.text = text
        self.told: Told = [] if told is None else told

    def notify(self, context: Any) -> None:
        self.told.append((self.text, context["alerts"]))


class Broken(Notifier):
    def notify(self, context: Any) -> None:
        raise ConnectionError("no mail today")


class Evaluating(EvaluateAlertsOperator):
    lease: Any = None
    reader: Any = None

    @contextmanager
    def _open(self, context: Any) -> Iterator[Any]:
        yield self.lease, (), self.reader


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The clock: six minutes after the first sample; a test may set it."""
    moment = SimpleNamespace(now=START + timedelta(minutes=6))
    monkeypatch.setattr(clock, "utc_now", lambda: moment.now)
    return moment


def make(rows: Any = None, lease: MemoryLease | None = None, **arguments: Any) -> Evaluating:
    given = {"rules": [CPU], "evaluation_delay": 0, **arguments}
    operator = Evaluating(task_id="alerts", **given)
    operator.reader = MemoryReader(BUSY if rows is None else rows)
    operator.lease = lease or MemoryLease()
    return operator


def test_it_returns_what_it_found_and_did() -> None:
    result = make(notifiers=[Notifier()], scope="night").execute(CONTEXT)

    assert json.loads(json.dumps(result)) == result
    moves = result.pop("transitions")
    assert result == {
        "scope": "night",
        "horizon": "2026-05-04T12:06:00.000Z",
        "hosts": 2,
        "samples": 14,
        "states": {"ok": 1, "pending": 0, "firing": 1, "recovering": 0, "stale": 0, "no_data": 0, "error": 0},
        "open": {"critical": 1},
        "changed": {"fired": 1, "escalated": 1},
        "messages": 1,
        "told": {"firing": 1},
        "failed": [],
        "suppressed": {},
        "pipeline": None,
    }
    assert [(move["kind"], move["at"], move["since"]) for move in moves] == [
        ("fired", "2026-05-04T12:03:00.000Z", "2026-05-04T12:01:00.000Z"),
        ("escalated", "2026-05-04T12:06:00.000Z", "2026-05-04T12:01:00.000Z"),
    ]


def test_a_notifier_gets_its_templates_filled_and_stays_as_it_was() -> None:
    notifier = Notifier(
        "{{ alert_severity }}|{{ alert_title }}|{{ alerts[0].host }}|{{ alerts[0].url }}|{{ team }}"
    )
    make(notifiers=[notifier]).execute({**CONTEXT, "team": "ops"})

    assert [text for text, _ in notifier.told] == [
        "critical|[critical] firing: cpu on db-1|db-1|http://ui/log|ops"
    ]
    assert notifier.text.startswith("{{ alert_severity")


def test_nothing_is_told_again(now: Any) -> None:
    notifier, lease = Notifier(), MemoryLease()
    for _ in range(2):
        make(lease=lease, notifiers=[notifier]).execute(CONTEXT)

    assert len(notifier.told) == 1


@pytest.mark.parametrize(("interval", "times"), [("4h", 1), ("1m", 2), (None, 1)])
def test_what_still_fires_is_repeated_after_the_interval(interval: Any, times: int, now: Any) -> None:
    notifier, lease = Notifier(), MemoryLease()
    for minute in (6, 7.5):
        now.now = START + timedelta(minutes=minute)
        make(lease=lease, notifiers=[notifier], repeat_interval=interval).execute(CONTEXT)

    assert len(notifier.told) == times


def test_ends_are_told_unless_they_are_not_wanted(now: Any) -> None:
    rows = {"db-1": rows_of([95, 95, 95, 95, 10, 10])}
    wanted, unwanted, lease = Notifier(), Notifier(), MemoryLease()
    for minute in (3, 5):
        now.now = START + timedelta(minutes=minute)
        make(rows, lease, notifiers=[wanted, Notifier()]).execute(CONTEXT)
    other = MemoryLease()
    for minute in (3, 5):
        now.now = START + timedelta(minutes=minute)
        make(rows, other, notifiers=[unwanted], send_resolved=False).execute(CONTEXT)

    (_, (ended,)) = wanted.told[-1]
    assert [alerts[0]["kind"] for _, alerts in wanted.told] == ["firing", "resolved"]
    assert (ended["current"], ended["peak"], ended["duration_seconds"]) == (10, 95, 240)
    assert [alerts[0]["kind"] for _, alerts in unwanted.told] == ["firing"]


def test_a_notifier_that_fails_stops_no_other_and_fails_the_task_at_the_end() -> None:
    good, lease = Notifier(), MemoryLease()

    with pytest.raises(
        AlertRoundError, match="not told, the next run does it: Broken: ConnectionError: no mail"
    ):
        make(lease=lease, notifiers=[Broken(), good]).execute(CONTEXT)

    assert len(good.told) == 1
    (record,) = lease.book.records.values()
    assert {name: told.what for name, told in record.told.items()} == {
        "Broken": "owed",
        "Notifier": "critical",
    }


def test_what_a_notifier_says_is_shown_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.providers.common.compat import sdk

    monkeypatch.setattr(sdk, "redact", lambda text: text.replace("mail", "***"))

    with pytest.raises(AlertRoundError, match=r"Broken: ConnectionError: no \*\*\* today \(alerts") as caught:
        make(notifiers=[Broken()]).execute(CONTEXT)

    assert "mail" not in str(caught.value)


def test_the_next_run_tells_what_failed_and_nothing_else() -> None:
    lease, good, mended = MemoryLease(), Notifier(), Notifier()
    with pytest.raises(AlertRoundError):
        make(lease=lease, notifiers=[Broken(), good]).execute(CONTEXT)

    broken = Broken()
    broken.notify = mended.notify  # type: ignore[method-assign]
    make(lease=lease, notifiers=[broken, good]).execute(CONTEXT)

    assert (len(mended.told), len(good.told)) == (1, 1)


def test_an_alert_that_ends_while_its_notifier_is_down_is_told_all_the_same(now: Any) -> None:
    rows = {"db-1": rows_of([95, 95, 95, 95, 10, 10])}
    lease, broken, mended = MemoryLease(), Broken(), Notifier()
    now.now = START + timedelta(minutes=3)
    with pytest.raises(AlertRoundError):
        make(rows, lease, notifiers=[broken]).execute(CONTEXT)

    broken.notify = mended.notify  # type: ignore[method-assign]
    for minute in (5, 6):
        now.now = START + timedelta(minutes=minute)
        make(rows, lease, notifiers=[broken], send_resolved=False).execute(CONTEXT)

    ((_, (alert,)),) = mended.told
    assert (alert["kind"], alert["told_before"], alert["peak"]) == ("resolved", None, 95)
    assert alert["text"].endswith("; it could not be told before")


STALLED = {"db-1": rows_of([50])}


def test_a_stalled_pipeline_fails_the_task(now: Any) -> None:
    now.now = START + timedelta(hours=1)

    with pytest.raises(AlertRoundError, match="recorded, but the pipeline: the newest sample of 1 hosts"):
        make(STALLED).execute(CONTEXT)


@pytest.mark.parametrize(("how", "warned"), [("warn", True), ("ignore", False)])
def test_or_it_does_not(now: Any, how: Any, warned: bool) -> None:
    now.now = START + timedelta(hours=1)
    with capture_logs() as logs:
        result = make(STALLED, on_pipeline_error=how).execute(CONTEXT)

    assert "the newest sample of 1 hosts" in result["pipeline"]
    assert any(log["event"].startswith("The pipeline") for log in logs) is warned


def test_how_old_is_too_old_can_be_said(now: Any) -> None:
    now.now = START + timedelta(hours=1)

    assert make(STALLED, stale_after="2h").execute(CONTEXT)["pipeline"] is None


LOADER = {"topic": "system_metrics", "group_id": "restrack-loader"}


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    value = json.dumps({"conn_type": "kafka", "extra": {"bootstrap.servers": "127.0.0.1:9"}})
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_DEFAULT", value)


@pytest.mark.usefixtures("kafka")
def test_the_loader_is_asked_how_far_it_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def find(question: Any, config: Any) -> int:
        asked.append((question.topics, question.group_id, question.connection, config["bootstrap.servers"]))
        return int(datetime(2026, 5, 4, 12, 1, tzinfo=UTC).timestamp() * 1000)

    monkeypatch.setattr(lag, "find_oldest_waiting", find)
    with pytest.raises(AlertRoundError, match="the loader lags"):
        make(loader=LOADER, stale_after="1m").execute(CONTEXT)

    assert asked == [(("system_metrics",), "restrack-loader", "kafka_default", "127.0.0.1:9")]


def test_alerts_are_told_also_without_a_connection_to_kafka() -> None:
    notifier = Notifier()
    loader = {**LOADER, "kafka_config_id": "there_is_none"}
    with pytest.raises(AlertRoundError, match=r"loader has come is not known: .*there_is_none"):
        make(loader=loader, notifiers=[notifier]).execute(CONTEXT)

    assert len(notifier.told) == 1


@pytest.mark.usefixtures("kafka")
@pytest.mark.parametrize("error", [KafkaUnavailableError, ValueError, AirflowException])
def test_alerts_are_told_also_if_kafka_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(question: Any, config: Any) -> int:
        raise error("nobody is there")

    monkeypatch.setattr(lag, "find_oldest_waiting", fail)
    notifier = Notifier()
    with pytest.raises(AlertRoundError, match="how far the loader has come is not known: nobody is there"):
        make(loader=LOADER, notifiers=[notifier]).execute(CONTEXT)

    assert len(notifier.told) == 1


def test_each_transition_and_a_summary_are_logged() -> None:
    with capture_logs() as logs:
        make().execute(CONTEXT)

    lines = [log["event"] for log in logs if "Task Runner" not in log["event"]]
    assert [line.partition(" at ")[0] for line in lines[:2]] == ["cpu/db-1 fired", "cpu/db-1 escalated"]
    assert lines[2].startswith(
        "Evaluated 2 hosts up to 2026-05-04T12:06:00.000Z: 1 ok, 1 firing; open: 1 critical;"
    )


def test_only_the_hosts_that_are_given_are_evaluated() -> None:
    assert make(hosts=["db-2"]).execute(CONTEXT)["changed"] == {}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"rules": [{**CPU, "metric": "cpu"}]}, "metric 'cpu' is not known"),
        ({"evaluation_delay": "soon"}, "evaluation_delay: 'soon'"),
        ({"evaluation_delay": None}, "evaluation_delay: None"),
        ({"repeat_interval": -1}, "repeat_interval: -1"),
        ({"stale_after": "x"}, "stale_after: 'x'"),
        ({"lease_wait": "x"}, "lease_wait: 'x'"),
        ({"on_pipeline_error": "shout"}, "on_pipeline_error is 'shout'"),
        ({"loader": {"topic": "t"}}, "loader is {'topic': 't'}"),
        ({"loader": {**LOADER, "group": "g"}}, "group_id and, if it is not"),
        ({"scope": "*"}, "scope is"),
        ({"keyspace": "No Keyspace"}, "keyspace"),
    ],
)
def test_a_mistake_is_told_when_the_dag_is_parsed(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make(**arguments)


def test_a_mistake_of_a_template_fails_without_retry() -> None:
    operator = make(rules="{{ var.value.rules }}")
    operator.rules = "[]"
    with pytest.raises(AirflowFailException, match="Task alerts: rules are empty"):
        operator.execute(CONTEXT)


def test_rules_of_a_file_beside_the_dag(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(json.dumps({"rules": [CPU]}))
    code = tmp_path / "dag.py"
    code.write_text(
        "from airflow.sdk import DAG\n"
        "from airflow_provider_restrack.operators.evaluate_alerts import EvaluateAlertsOperator\n"
        "with DAG('d'):\n    found = EvaluateAlertsOperator(task_id='t', rules='file:rules.yaml')\n"
    )
    names: dict[str, Any] = {"__name__": "dag", "__file__": str(code)}
    exec(compile(code.read_text(), str(code), "exec"), names)
    assert names["found"].rules == "file:rules.yaml"
    (tmp_path / "rules.yaml").write_text("rules: []")
    with pytest.raises(ValueError, match="empty"):
        exec(compile(code.read_text(), str(code), "exec"), names)


def test_the_scope_of_a_task_is_its_own() -> None:
    with DAG("night") as dag:
        operator = make(rules=[CPU])
    operator.render_template_fields({"dag": dag, "task": operator})

    assert operator.scope == "night.alerts"


def test_notifiers_are_known_by_class_and_order() -> None:
    assert name_receivers([Notifier(), Broken(), Notifier()]) == ("Notifier", "Broken", "Notifier#2")
