"""Tells arguments that are final when a DAG file is parsed from those that Airflow fills in at run time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any


def is_literal(value: Any) -> bool:
    """Whether a value is final at parse time: no template, and no output of another task, at any depth.

    What is literal can be checked in a constructor, so that a mistake is an import error of the DAG file;
    anything else has to wait until the task runs.
    """
    if isinstance(value, str):
        return "{{" not in value and "{%" not in value
    if isinstance(value, Mapping):
        return all(is_literal(part) for pair in value.items() for part in pair)
    if isinstance(value, list | tuple):
        return all(is_literal(part) for part in value)
    return value is None or isinstance(value, int | float | timedelta | date)
