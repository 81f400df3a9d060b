"""The keys of a rule, each with the JSON Schema of its value: what is read, and what editors are told."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from airflow_provider_restrack.alert.expressions import METRIC_FORMS
from airflow_provider_restrack.alert.maintenance import DAYS
from airflow_provider_restrack.alert.presets import PRESETS
from airflow_provider_restrack.alert.rule import AGGREGATES, NO_DATA, OPS, SEVERITIES

Schema = Mapping[str, Any]

_TEXT: Schema = {"type": "string", "pattern": r"\S"}
_NUMBER: Schema = {
    "anyOf": [
        {"type": "number"},
        {"type": "string", "pattern": r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"},
    ]
}
_DURATION: Schema = {
    "description": "such as 10m, 90s, 1h30m or 2d, or a number of seconds",
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": r"^\s*(?=\d)(\d+d)?(\d+h)?(\d+m)?(\d+(\.\d+)?s)?\s*$"},
        {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*$"},
    ],
}
_BY_SEVERITY: Schema = {
    "type": "object",
    "properties": dict.fromkeys(SEVERITIES, _NUMBER),
    "additionalProperties": False,
    "minProperties": 1,
}
_TIME: Schema = {"type": "string", "pattern": r"^\d{4}-?\d\d-?\d\d"}
_CLOCK: Schema = {"type": "string", "pattern": r"^([01]\d|2[0-3]):[0-5]\d$|^24:00$"}
_DAY: Schema = {"enum": list(DAYS)}
_WINDOW: Schema = {
    "anyOf": [
        {
            "type": "object",
            "properties": {"start": _TIME, "end": _TIME, "timezone": _TEXT},
            "required": ["start", "end"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {
                "days": {"anyOf": [_DAY, {"type": "array", "items": _DAY, "minItems": 1}]},
                "from": _CLOCK,
                "to": _CLOCK,
                "timezone": _TEXT,
            },
            "minProperties": 1,
            "additionalProperties": False,
        },
    ]
}


def _texts(least: int, one: str) -> Schema:
    """Return the schema of one text, of a pattern, or a list of texts."""
    return {
        "anyOf": [
            {"type": "string", "pattern": one},
            {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": least},
        ]
    }


RULE_KEYS: Mapping[str, Schema] = MappingProxyType(
    {
        "name": _TEXT,
        "metric": {
            "type": "string",
            "minLength": 1,
            "description": METRIC_FORMS,
        },
        "op": {"enum": list(OPS)},
        "threshold": {"anyOf": [*_NUMBER["anyOf"], {"type": "boolean"}, _BY_SEVERITY]},
        "for": _DURATION,
        "aggregate": {"enum": list(AGGREGATES)},
        "window": _DURATION,
        "above": _NUMBER,
        "hosts": _texts(1, "^[^,]+$"),
        "labels": {"type": "object", "additionalProperties": {"type": "string", "minLength": 1}},
        "min_coverage": {"type": "number", "minimum": 0, "maximum": 1},
        "min_samples": {"type": "integer", "minimum": 1},
        "max_gap": _DURATION,
        "severity": {"enum": list(SEVERITIES)},
        "summary": {"type": "string"},
        "clear_threshold": {"anyOf": [*_NUMBER["anyOf"], _BY_SEVERITY]},
        "clear_for": _DURATION,
        "no_data": {"enum": list(NO_DATA)},
        "no_data_for": _DURATION,
        "inhibited_by": _texts(0, "."),
        "maintenance": {"anyOf": [_WINDOW, {"type": "array", "items": _WINDOW}]},
        "preset": {"enum": list(PRESETS)},
    }
)
