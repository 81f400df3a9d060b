"""The table of keys and the rule that is made of them agree."""

from __future__ import annotations

from dataclasses import fields

from airflow_provider_restrack.alert.rule import AlertRule
from airflow_provider_restrack.alert.rule_keys import RULE_KEYS

# What a field of the rule is called in its data, where that is not its own name.
NAMES = {
    "for_seconds": "for",
    "window_seconds": "window",
    "max_gap_seconds": "max_gap",
    "clear_for_seconds": "clear_for",
    "no_data_seconds": "no_data_for",
    "clear_thresholds": "clear_threshold",
    "thresholds": "threshold",
}


def test_every_field_of_a_rule_has_a_key_and_every_key_but_preset_a_field() -> None:
    keys = {NAMES.get(field.name, field.name) for field in fields(AlertRule)}

    assert keys == RULE_KEYS.keys() - {"preset"}
