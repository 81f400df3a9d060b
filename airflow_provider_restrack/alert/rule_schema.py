"""The JSON Schema of a rule file, for editors and checks before a DAG is parsed."""

from __future__ import annotations

from typing import Any

from airflow_provider_restrack.alert.rule_keys import RULE_KEYS

# What a rule needs that is not made from a preset.
_WHOLE: dict[str, Any] = {
    "required": ["name", "metric", "op", "threshold"],
    "allOf": [
        {
            "if": {"required": ["aggregate"]},
            "then": {"anyOf": [{"required": ["window"]}, {"required": ["for"]}]},
            "else": {"not": {"required": ["window"]}},
        },
        {
            "if": {"properties": {"aggregate": {"const": "fraction_above"}}, "required": ["aggregate"]},
            "then": {"required": ["above"]},
            "else": {"not": {"required": ["above"]}},
        },
        {
            "if": {"properties": {"no_data": {"enum": ["alert", "ok"]}}, "required": ["no_data"]},
            "then": {"required": ["no_data_for"]},
            "else": {"not": {"required": ["no_data_for"]}},
        },
        {
            "if": {"properties": {"threshold": {"type": "object"}}},
            "then": {"not": {"required": ["severity"]}},
        },
    ],
}


def build_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a file of rules.

    What it accepts may still be refused: it does not read expressions, nor compare thresholds.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Alert rules of airflow-provider-restrack",
        "type": "object",
        "properties": {
            "rules": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/rule"}},
            "tests": {"type": "array", "description": "tests of the rules, for the command `test`"},
        },
        "required": ["rules"],
        "additionalProperties": False,
        "$defs": {
            "rule": {
                "type": "object",
                "properties": {key: dict(schema) for key, schema in RULE_KEYS.items()},
                "additionalProperties": False,
                "anyOf": [{"required": ["preset"]}, _WHOLE],
            }
        },
    }
