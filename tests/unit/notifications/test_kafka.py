"""What a notification holds, and what is left of one that fails; real delivery is an integration test."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from airflow_provider_restrack.load.errors import DeliveryError
from airflow_provider_restrack.notifications.kafka import KafkaNotifier, build_message


class Recorder(KafkaNotifier):
    """Keeps what would be sent; fails with the given error."""

    def __init__(self, error: Exception | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.error = error
        self.sent: list[dict[str, Any]] = []

    def _send(self, record: Any) -> None:
        if self.error:
            raise self.error
        self.sent.append(record)


def task_context(**changes: Any) -> dict[str, Any]:
    ti = SimpleNamespace(
        dag_id="d",
        run_id="r1",
        task_id="t",
        map_index=-1,
        try_number=2,
        state="failed",
        log_url="http://ui/log",
    )
    return {
        "ti": ti,
        "logical_date": datetime(2026, 5, 4, 12, tzinfo=UTC),
        "exception": ValueError("no luck"),
    } | changes


def test_a_message_says_which_task_failed_and_why() -> None:
    notifier = Recorder(topic="alerts")
    notifier(task_context())
    (record,) = notifier.sent
    assert record.pop("id") == build_message(task_context(), None, None)["id"]
    assert record == {
        "dag_id": "d",
        "run_id": "r1",
        "task_id": "t",
        "map_index": -1,
        "try_number": 2,
        "state": "failed",
        "logical_date": "2026-05-04T12:00:00.000Z",
        "log_url": "http://ui/log",
        "reason": None,
        "error": "ValueError: no luck",
    }


def test_another_try_has_another_id_and_the_same_try_the_same() -> None:
    first, again = (build_message(task_context(), None, None)["id"] for _ in range(2))
    context = task_context()
    context["ti"].try_number = 3
    assert first == again
    assert build_message(context, None, None)["id"] != first


def test_a_callback_of_a_whole_run_has_no_task() -> None:
    run = SimpleNamespace(dag_id="d", run_id="r1", state=SimpleNamespace(value="failed"), logical_date=None)
    record = build_message({"dag_run": run, "reason": "task_failure"}, None, None)
    assert (record["dag_id"], record["task_id"], record["state"]) == ("d", None, "failed")
    assert (record["reason"], record["logical_date"]) == ("task_failure", None)


def test_texts_and_dicts_are_rendered_and_put_on_top() -> None:
    text = Recorder(topic="alerts", message="task {{ ti.task_id }} is down")
    fields = Recorder(
        topic="{{ ti.dag_id }}-alerts", message={"severity": "critical", "state": "{{ ti.state }}!"}
    )
    text(task_context())
    fields(task_context())
    assert text.sent[0]["text"] == "task t is down"
    assert (fields.topic, fields.sent[0]["severity"], fields.sent[0]["state"]) == (
        "d-alerts",
        "critical",
        "failed!",
    )


def test_evidence_may_be_data_or_its_json_text() -> None:
    evidence = [{"rule": "cpu", "host": "db-1"}]
    for given in (evidence, json.dumps(evidence)):
        assert build_message({}, None, given)["evidence"] == evidence
    assert build_message({}, None, "free text")["evidence"] == "free text"


def test_a_message_is_json_whatever_the_context_holds() -> None:
    context = task_context(exception="a" * 5000)
    record = build_message(context, {"n": 1}, [{"x": 1.5}])
    assert json.loads(json.dumps(record)) == record
    assert len(record["error"]) == 2000


def test_a_failed_notification_is_logged_with_its_id_counted_and_raised() -> None:
    notifier = Recorder(topic="alerts", error=DeliveryError("1 of 1 records were not delivered"))
    ident = build_message(task_context(), None, None)["id"]
    with capture_logs() as logs, pytest.raises(DeliveryError):
        notifier(task_context())
    assert notifier.failures == 1
    told = [log["event"] for log in logs if ident in log["event"]]
    assert told == [
        f"Notification {ident} to topic alerts failed (failures of this notifier: 1): "
        "1 of 1 records were not delivered"
    ]


def test_a_notifier_can_be_awaited() -> None:
    notifier = Recorder(topic="alerts", message="hello")

    async def send() -> None:
        await notifier

    asyncio.run(send())
    assert [record["text"] for record in notifier.sent] == ["hello"]
