from __future__ import annotations

from dataclasses import replace

from airflow_provider_restrack.alert.records import AlertRecord, AlertTransition, InstanceKey
from airflow_provider_restrack.alert.timeline import build_alert_id

KEY = InstanceKey("cpu", "db-1")
RECORD = AlertRecord(KEY, open=True, severity="warning", since_ms=1000, at_ms=4000, value=95.0)


def test_all_transitions_of_an_alert_have_its_id() -> None:
    resolved = AlertTransition(KEY, "resolved", 9000, 1000, "critical")

    assert resolved.alert_id == RECORD.alert_id == build_alert_id("cpu", "db-1", None, 1000)


def test_missing_samples_are_another_alert_than_the_threshold() -> None:
    silent = replace(RECORD, key=KEY._replace(condition="no_data"))

    assert silent.alert_id != RECORD.alert_id
    assert replace(RECORD, key=KEY._replace(device="/")).alert_id != RECORD.alert_id


def test_a_record_is_its_last_transition() -> None:
    closed = replace(RECORD, open=False, reason="removed")

    assert RECORD.as_transition().kind == "fired"
    assert closed.as_transition() == AlertTransition(
        KEY, "resolved", 4000, 1000, "warning", 95.0, None, "removed"
    )
