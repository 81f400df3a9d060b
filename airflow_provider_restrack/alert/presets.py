"""Rules for what every fleet is watched for, with thresholds that others have found to be right.

The figures are those of Prometheus' node-mixin, Zabbix' template "Linux by Zabbix agent" and Netdata's stock
alerts; which is whose, and what is ours, stands in ``docs/rules.md``. Times are for samples every 5 minutes
or more often.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from types import MappingProxyType
from typing import Any

from airflow_provider_restrack.alert.rule_values import hint

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "cpu_high": {
            "metric": "cpu_usage",
            "op": ">",
            "threshold": {"warning": 85, "critical": 95},
            "aggregate": "avg",
            "window": "10m",
            "clear_threshold": {"warning": 75, "critical": 85},
        },
        "load_high": {
            "metric": "load_5m / cpu_count",
            "op": ">",
            "threshold": {"warning": 2, "critical": 4},
            "for": "15m",
            "clear_threshold": {"warning": 1.75, "critical": 3.5},
        },
        "memory_high": {
            "metric": "memory_usage",
            "op": ">",
            "threshold": {"warning": 90, "critical": 98},
            "for": "15m",
            "clear_threshold": {"warning": 80, "critical": 90},
        },
        "swap_high": {
            "metric": "swap_usage",
            "op": ">",
            "threshold": {"warning": 90, "critical": 98},
            "for": "15m",
            "clear_threshold": {"warning": 80, "critical": 90},
        },
        "disk_full": {
            "metric": "filesystem_usage",
            "op": ">",
            "threshold": {"warning": 90, "critical": 97},
            "for": "10m",
        },
        "disk_filling": {
            "metric": "days_to_limit(filesystem_usage)",
            "op": "<",
            "threshold": {"warning": 7, "critical": 1},
        },
        "inodes_full": {
            "metric": "inode_usage",
            "op": ">",
            "threshold": {"warning": 90, "critical": 97},
            "for": "10m",
        },
        "network_errors": {
            "metric": "network_errors",
            "op": ">",
            "threshold": 2,
            "for": "5m",
            "clear_threshold": 1.6,
        },
        "clock_skew": {
            "metric": "abs(clock_skew)",
            "op": ">",
            "threshold": {"warning": 1, "critical": 60},
            "for": "10m",
        },
        "host_down": {
            "metric": "up",
            "op": "==",
            "threshold": False,
            "for": "10m",
            "severity": "critical",
        },
        # A count of samples is never below 1: what tells is `no_data`.
        "stale": {
            "metric": "up",
            "aggregate": "count",
            "window": "15m",
            "op": "<",
            "threshold": 1,
            "no_data": "alert",
            "no_data_for": "15m",
        },
    }
)


def preset(name: str, /, **changes: Any) -> dict[str, Any]:
    """Return a preset as a rule of its own, with some keys changed.

    Another ``threshold`` takes the preset's ``clear_threshold`` away, as that belongs to its thresholds.

    :param changes: keys of a rule, ``None`` to leave one out; ``for_`` stands for ``for``, a word of Python.
    :raises ValueError: if there is no such preset.
    """
    return expand_preset({"preset": name} | {key.removesuffix("_"): value for key, value in changes.items()})


def presets(*names: str) -> list[dict[str, Any]]:
    """Return presets as rules: those named, or all.

    :raises ValueError: as :func:`preset`.
    """
    return [preset(name) for name in names or PRESETS]


def expand_preset(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a rule that names a ``preset``, with the preset's keys where it has none of its own.

    :raises ValueError: if there is no such preset.
    """
    name = data["preset"]
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(f"{name!r} is not known{hint(name, tuple(PRESETS))}; allowed: {', '.join(PRESETS)}")
    base = {"name": name} | deepcopy(dict(PRESETS[name]))
    if "threshold" in data:
        base.pop("clear_threshold", None)
    if isinstance(data.get("threshold"), Mapping):
        base.pop("severity", None)
    return base | {key: value for key, value in data.items() if key != "preset"}
