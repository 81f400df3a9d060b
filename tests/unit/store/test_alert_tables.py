from __future__ import annotations

import subprocess
import sys

import pytest

from airflow_provider_restrack.store.alert_rows import INSTANCE_COLUMNS, TRANSITION_COLUMNS
from airflow_provider_restrack.store.alert_tables import (
    ALERT_HISTORY,
    ALERT_HISTORY_BY_RULE,
    ALERT_TABLES,
    ALERTS,
    SILENCES,
)
from airflow_provider_restrack.store.schema import Table, build_create_table
from airflow_provider_restrack.store.silences import SilenceRow


@pytest.mark.parametrize(
    ("table", "key"),
    [
        (ALERTS, "((scope), kind, rule, host, device, condition, at, transition)"),
        (ALERT_HISTORY, "((host), at, rule, device, condition, transition, scope)"),
        (ALERT_HISTORY_BY_RULE, "((rule), at, host, device, condition, transition, scope)"),
        (SILENCES, "((scope), id)"),
    ],
    ids=lambda value: value.name if isinstance(value, Table) else "",
)
def test_key_of_a_table(table: Table, key: str) -> None:
    assert f"PRIMARY KEY {key}" in build_create_table(table, "metrics")


def test_every_column_that_is_written_is_one_of_the_table() -> None:
    assert {*INSTANCE_COLUMNS, *TRANSITION_COLUMNS} <= set(ALERTS.columns)
    assert {*TRANSITION_COLUMNS, "scope"} == set(ALERT_HISTORY.columns) == set(ALERT_HISTORY_BY_RULE.columns)
    assert len(SILENCES.columns) == len(SilenceRow._fields)


def test_what_fires_does_not_expire_by_itself() -> None:
    assert ALERTS.options["default_time_to_live"] == SILENCES.options["default_time_to_live"] == "0"
    assert ALERT_HISTORY.options["default_time_to_live"] == str(400 * 86400)


def test_the_tables_are_known_without_a_driver() -> None:
    code = "import sys, airflow_provider_restrack.store.alert_tables; print('cassandra' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False", done.stderr


def test_tables_have_names_of_their_own() -> None:
    assert len({table.name for table in ALERT_TABLES}) == len(ALERT_TABLES) == 4
